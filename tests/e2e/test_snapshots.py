"""Snapshots, checkpoints and reverts: the content of the disks, the records, and what is left when something fails or
is killed in the middle."""
import os
import signal
import time

from harness import Failure, eventually
from test_storage import holds, write
from test_vm_lifecycle import Case as Life

MIB = 1 << 20
NULL = "OpaqueRef:NULL"
A, B, C = 0xA1, 0xB2, 0xC3


class Case(Life):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.attach()

    @classmethod
    def attach(cls):
        cls.pool = cls.call("pool.get_all")[0]
        cls.sr = cls.call("pool.get_default_SR", cls.pool)
        pbd = cls.call("SR.get_PBDs", cls.sr)[0]
        eventually(lambda: cls.call("PBD.get_currently_attached", pbd), 20)
        cls.location = cls.call("PBD.get_device_config", pbd)["location"]

    def clear(self, vm):
        """With its snapshots and disks."""
        try:
            vms = self.call("VM.get_snapshots", vm) + [vm]
        except Failure:
            return
        for v in vms:
            disks = self.disks(v)
            if self.call("VM.get_power_state", v) != "Halted":
                self.call("VM.hard_shutdown", v)
            self.call("VM.destroy", v)
            for d in disks:
                self.call("VDI.destroy", d)

    def disks(self, vm):
        vbds = [self.call("VBD.get_record", b) for b in self.call("VM.get_VBDs", vm)]
        return [b["VDI"] for b in sorted(vbds, key=lambda b: int(b["userdevice"])) if b["type"] == "Disk"]

    def path(self, vdi):
        record = self.call("VDI.get_record", vdi)
        return os.path.join(self.location, f'{record["uuid"]}.{record["sm_config"]["type"]}')

    def write(self, vm, pattern, size=MIB, offset=0):
        for d in self.disks(vm):
            write(self.path(d), pattern, size, offset)

    def check(self, vm, pattern, size=MIB, offset=0):
        for d in self.disks(vm):
            self.assertTrue(holds(self.path(d), pattern, size, offset), (d, hex(pattern)))

    def guest_with(self, *types, **more):
        """A VM with a disk of each type, a drive and an interface."""
        vm = self.vm(**more)
        for i, t in enumerate(types):
            vdi = self.call("VDI.create", {"name_label": f"disk {i}", "SR": self.sr, "virtual_size": 8 * MIB,
                                           "type": "user", "sm_config": {"type": t}, "other_config": {}})
            self.call("VBD.create", {"VM": vm, "VDI": vdi, "userdevice": str(i), "bootable": i == 0, "mode": "RW",
                                     "type": "Disk", "empty": False, "other_config": {"owner": ""}})
        self.call("VBD.create", {"VM": vm, "VDI": NULL, "userdevice": "5", "bootable": False, "mode": "RO", "type": "CD",
                                 "empty": True, "other_config": {}})
        self.call("VIF.create", {"VM": vm, "network": self.call("network.get_all")[0], "device": "0", "MAC": "",
                                 "MTU": 1500, "other_config": {}})
        return vm

    def agree(self):
        """Records and files are the same, before a scan and after it."""
        def records():
            return {r["uuid"]: (r["name_label"], r["missing"]) for r in self.call("VDI.get_all_records").values()
                    if r["SR"] == self.sr}
        before = records()
        files = {n.split(".")[0] for n in os.listdir(self.location)
                 if n.endswith((".raw", ".qcow2")) and ".base." not in n}
        self.assertEqual(set(before), files)
        self.call("SR.scan", self.sr)
        self.assertEqual(records(), before)
        self.assertFalse(any(missing for _, missing in before.values()))
        left = [n for n in os.listdir(self.location) if "tmp" in n]
        self.assertEqual(left, [])

    def state_of_all(self):
        return (set(self.call("VM.get_all")), set(self.call("VDI.get_all")), set(self.call("VBD.get_all")),
                set(self.call("VIF.get_all")))

    def slow_disks(self, server=None):
        pass


class Records(Case):
    def test_a_snapshot_of_a_halted_VM(self):
        vm = self.guest_with("qcow2", "raw", tags=["a"], name_description="text")
        before = time.time()
        snapshot = self.call("VM.snapshot", vm, "one", [])
        r, s = self.call("VM.get_record", vm), self.call("VM.get_record", snapshot)
        self.assertEqual((s["is_a_snapshot"], s["is_a_template"], s["is_default_template"], s["snapshot_of"],
                          s["power_state"], s["name_label"], s["parent"], s["transportable_snapshot_id"]),
                         (True, True, False, vm, "Halted", "one", NULL, ""))
        self.assertEqual(s["snapshot_info"], {"power-state-at-snapshot": "Halted",
                                              "disk-snapshot-type": "crash_consistent"})
        self.assertGreaterEqual(s["snapshot_time"], time.strftime("%Y%m%dT%H:%M:%SZ", time.gmtime(before)))
        self.assertEqual((r["parent"], r["snapshots"], s["children"], r["children"]), (snapshot, [snapshot], [vm], []))
        self.assertEqual((s["tags"], s["name_description"], s["memory_static_max"]),
                         (r["tags"], "text", r["memory_static_max"]))
        self.assertEqual(len(s["VBDs"]), 3)
        self.assertEqual(len(self.disks(snapshot)), 2)
        for d, copy in zip(self.disks(vm), self.disks(snapshot)):
            record = self.call("VDI.get_record", copy)
            self.assertEqual((record["is_a_snapshot"], record["snapshot_of"], record["name_label"]),
                             (True, d, self.call("VDI.get_name_label", d)))
            self.assertEqual(self.call("VDI.get_snapshots", d), [copy])
        mac = [self.call("VIF.get_MAC", v["VIFs"][0]) for v in (r, s)]
        self.assertEqual(*mac)
        self.assertEqual(self.call("VM.get_current_operations", vm), {})
        self.agree()

    def test_the_tree(self):
        vm = self.guest_with("qcow2")
        one = self.call("VM.snapshot", vm, "1", [])
        two = self.call("VM.snapshot", vm, "2", [])
        self.call("VM.revert", one)
        three = self.call("VM.snapshot", vm, "3", [])
        parents = {v: self.call("VM.get_parent", v) for v in (one, two, three, vm)}
        self.assertEqual(parents, {one: NULL, two: one, three: one, vm: three})
        self.assertEqual(set(self.call("VM.get_children", one)), {two, three})
        disks = self.disks(one)
        self.call("VM.destroy", one)
        for d in disks:
            self.call("VDI.destroy", d)
        self.assertEqual([self.call("VM.get_parent", v) for v in (two, three)], [NULL, NULL])
        self.assertEqual(set(self.call("VM.get_snapshots", vm)), {two, three})
        self.agree()

    def test_disks_to_ignore(self):
        vm = self.guest_with("qcow2", "qcow2")
        first, second = self.disks(vm)
        snapshot = self.call("VM.snapshot", vm, "s", [first])
        self.assertEqual([self.call("VDI.get_snapshot_of", d) for d in self.disks(snapshot)], [second])
        self.call("VM.revert", snapshot)
        self.assertEqual(len(self.disks(vm)), 1)
        self.fails(["HANDLE_INVALID", "VDI", second], "VDI.get_record", second)
        self.call("VDI.destroy", first)  # what the snapshot does not know is kept

    def test_a_snapshot_of_a_running_and_of_a_suspended_VM(self):
        vm = self.guest_with("qcow2")
        self.call("VM.start", vm, False, False)
        running = self.call("VM.snapshot", vm, "running", [])
        self.call("VM.suspend", vm)
        image = self.call("VM.get_suspend_VDI", vm)
        suspended = self.call("VM.snapshot", vm, "suspended", [])
        for s, state in ((running, "Running"), (suspended, "Suspended")):
            r = self.call("VM.get_record", s)
            self.assertEqual((r["power_state"], r["suspend_VDI"], r["domid"], r["snapshot_info"]["power-state-at-snapshot"]),
                             ("Halted", NULL, -1, state))
            self.assertEqual([self.call("VBD.get_currently_attached", b) for b in r["VBDs"]], [False, False])
        self.call("VM.revert", running)
        self.assertEqual((self.state(vm), self.call("VM.get_suspend_VDI", vm)), ("Halted", NULL))
        self.fails(["HANDLE_INVALID", "VDI", image], "VDI.get_record", image)
        self.agree()

    def test_a_disk_that_a_VM_writes_to_can_be_snapshotted(self):
        vm = self.guest_with("qcow2")
        self.call("VM.start", vm, False, False)
        vdi = self.call("VDI.snapshot", self.disks(vm)[0], {})
        self.assertEqual(self.call("VDI.get_snapshot_of", vdi), self.disks(vm)[0])
        self.call("VDI.destroy", vdi)

    def test_quiesced_snapshots_are_refused(self):
        vm = self.running()
        self.fails(["VM_SNAPSHOT_WITH_QUIESCE_NOT_SUPPORTED", vm, None], "VM.snapshot_with_quiesce", vm, "q")

    def test_what_only_snapshots_can(self):
        vm = self.guest_with("qcow2")
        snapshot = self.call("VM.snapshot", vm, "s", [])
        self.fails(["OPERATION_NOT_ALLOWED", None], "VM.revert", vm)
        self.fails(["VM_IS_TEMPLATE", snapshot], "VM.snapshot", snapshot, "t", [])
        self.fails(["OPERATION_NOT_ALLOWED", None], "VM.set_is_a_template", snapshot, False)
        self.allows(snapshot, {"revert", "clone", "copy", "destroy", "export"}, {"start", "provision", "snapshot"})

    def test_a_snapshot_without_its_VM_stays_and_can_be_cloned(self):
        vm = self.guest_with("qcow2")
        self.write(vm, A)
        snapshot = self.call("VM.snapshot", vm, "s", [])
        disks = self.disks(vm)
        self.call("VM.destroy", vm)
        for d in disks:
            self.call("VDI.destroy", d)
        self.assertEqual(self.call("VM.get_snapshot_of", snapshot), NULL)
        self.fails(["HANDLE_INVALID", "VM", NULL], "VM.revert", snapshot)
        twin = self.call("VM.clone", snapshot, "again")
        self.addCleanup(self.clear, twin)
        self.addCleanup(self.clear, snapshot)
        self.assertEqual((self.call("VM.get_is_a_snapshot", twin), self.call("VM.get_parent", twin)), (False, snapshot))
        self.check(twin, A)

    def test_blocked_operations(self):
        vm = self.guest_with("qcow2")
        snapshot = self.call("VM.snapshot", vm, "s", [])
        for op, target, args in (("snapshot", vm, ("x", [])), ("checkpoint", vm, ("x",)), ("clone", vm, ("x",)),
                                 ("copy", vm, ("x", NULL)), ("revert", snapshot, ()), ("destroy", snapshot, ()),
                                 ("start", vm, (False, False))):
            self.call("VM.add_to_blocked_operations", target, op, "because")
            self.assertNotIn(op, self.call("VM.get_allowed_operations", target))
            self.fails(["OPERATION_BLOCKED", target, "because"], f"VM.{op}", target, *args)
            self.call("VM.remove_from_blocked_operations", target, op)
        self.call("VM.add_to_blocked_operations", vm, "reverting", "not now")
        self.fails(["OPERATION_BLOCKED", vm, "not now"], "VM.revert", snapshot)
        self.call("VM.remove_from_blocked_operations", vm, "reverting")
        self.call("VM.add_to_blocked_operations", vm, "snapshot", "kept")
        self.call("VM.revert", snapshot)
        self.assertEqual(self.call("VM.get_blocked_operations", vm), {"snapshot": "kept"})


class Content(Case):
    def test_revert_brings_the_first_data_back(self):
        for types in (("qcow2",), ("raw",), ("qcow2", "raw", "qcow2")):
            vm = self.guest_with(*types)
            self.write(vm, A)
            old = self.disks(vm)
            snapshot = self.call("VM.snapshot", vm, "A", [])
            self.write(vm, B)
            self.write(vm, C, offset=4 * MIB)
            self.check(snapshot, A)
            self.call("VM.revert", snapshot)
            self.check(vm, A)
            self.check(vm, 0, offset=4 * MIB)
            self.check(snapshot, A)
            for d in old:
                self.fails(["HANDLE_INVALID", "VDI", d], "VDI.get_record", d)
            self.assertEqual([self.call("VDI.get_snapshot_of", d) for d in self.disks(snapshot)], self.disks(vm))
            self.write(vm, B)
            self.check(snapshot, A)
            self.call("VM.revert", snapshot)
            self.check(vm, A)
            self.agree()

    def test_back_and_forth_between_snapshots(self):
        vm = self.guest_with("qcow2")
        self.write(vm, A)
        a = self.call("VM.snapshot", vm, "A", [])
        self.write(vm, B)
        b = self.call("VM.snapshot", vm, "B", [])
        for s, pattern in ((a, A), (b, B), (a, A), (a, A), (b, B)):
            self.call("VM.revert", s)
            self.check(vm, pattern)
            self.assertEqual(self.call("VM.get_parent", vm), s)
            disk, = self.disks(vm)
            self.assertEqual(set(self.call("VDI.get_snapshots", disk)), set(self.disks(a) + self.disks(b)))
        self.agree()

    def test_clones_of_a_snapshot_go_their_own_ways(self):
        vm = self.guest_with("qcow2", "raw")
        self.write(vm, A)
        snapshot = self.call("VM.snapshot", vm, "A", [])
        clone, copy = self.call("VM.clone", snapshot, "clone"), self.call("VM.copy", snapshot, "copy", NULL)
        self.addCleanup(self.clear, clone)
        self.addCleanup(self.clear, copy)
        self.call("VM.provision", clone)  # what stems from a snapshot is a template first
        self.write(clone, B)
        self.write(copy, C)
        for v, pattern in ((vm, A), (snapshot, A), (clone, B), (copy, C)):
            self.check(v, pattern)
        self.call("VM.start", vm, False, False)
        self.call("VM.start", clone, False, False)
        self.agree()

    def test_a_snapshot_is_exported_and_imported_by_itself(self):
        vm = self.guest_with("raw")
        self.write(vm, 0x11)
        snapshot = self.call("VM.snapshot", vm, "s", [])
        self.write(vm, 0x22)
        query = f"session_id={self.s.ref}"
        status, _, data = self.server.request("GET", f"/export?{query}&ref={snapshot}", timeout=60)
        self.assertEqual(status, 200)
        before, task = set(self.call("VM.get_all")), self.call("task.create", "import", "")
        status, _, answer = self.server.request("PUT", f"/import?{query}&task_id={task}", data, timeout=60)
        self.assertEqual(status, 200, answer)
        [copy] = set(self.call("VM.get_all")) - before
        self.addCleanup(self.clear, copy)
        record = self.call("VM.get_record", copy)
        self.assertEqual((record["is_a_template"], record["is_a_snapshot"], record["snapshot_of"], record["name_label"]),
                         (True, False, NULL, "s"))
        self.check(copy, 0x11)
        self.call("VM.set_is_a_template", copy, False)
        self.call("VM.start", copy, False, False)

    def test_settings_and_devices_come_back(self):
        vm = self.guest_with("qcow2", name_description="then")
        snapshot = self.call("VM.snapshot", vm, "s", [])
        self.call("VM.set_VCPUs_max", vm, 4)
        self.call("VM.set_memory_limits", vm, 0, 128 * MIB, 128 * MIB, 128 * MIB)
        self.call("VM.add_to_platform", vm, "x", "y")
        mac = self.call("VIF.get_MAC", self.call("VM.get_VIFs", vm)[0])
        self.call("VIF.destroy", self.call("VM.get_VIFs", vm)[0])
        extra = self.call("VDI.create", {"name_label": "later", "SR": self.sr, "virtual_size": MIB, "type": "user"})
        self.call("VBD.create", {"VM": vm, "VDI": extra, "userdevice": "3", "bootable": False, "mode": "RW", "type": "Disk",
                                 "empty": False, "other_config": {}})
        self.call("VM.revert", snapshot)
        r = self.call("VM.get_record", vm)
        self.assertEqual((r["VCPUs_max"], r["memory_static_max"], r["platform"].get("x"), r["name_label"]),
                         (2, 64 * MIB, None, "guest"))
        self.assertEqual([self.call("VIF.get_MAC", v) for v in r["VIFs"]], [mac])
        self.assertEqual(sorted(self.call("VBD.get_userdevice", b) for b in r["VBDs"]), ["0", "5"])
        self.call("VDI.destroy", extra)  # no snapshot has it: it is kept

    def test_a_disk_that_another_VM_uses_too_stays(self):
        vm, other = self.guest_with("qcow2"), self.vm()
        disk, = self.disks(vm)
        self.call("VBD.create", {"VM": other, "VDI": disk, "userdevice": "0", "bootable": False, "mode": "RO",
                                 "type": "Disk", "empty": False, "other_config": {}})
        snapshot = self.call("VM.snapshot", vm, "s", [])
        self.call("VM.revert", snapshot)
        self.assertEqual(self.disks(other), [disk])
        self.assertNotEqual(self.disks(vm), [disk])


class Checkpoints(Case):
    def test_a_checkpoint_of_a_running_VM(self):
        vm = self.guest_with("qcow2")
        self.write(vm, A)
        self.call("VM.start", vm, False, False)
        checkpoint = self.call("VM.checkpoint", vm, "live")
        r, s = self.call("VM.get_record", vm), self.call("VM.get_record", checkpoint)
        self.assertEqual((r["power_state"], r["suspend_VDI"], r["parent"]), ("Running", NULL, checkpoint))
        self.assertEqual((s["power_state"], s["is_a_snapshot"], s["snapshot_info"]["power-state-at-snapshot"]),
                         ("Suspended", True, "Running"))
        self.assertEqual(self.call("VDI.get_type", s["suspend_VDI"]), "suspend")
        self.agree()
        self.call("VM.hard_shutdown", vm)
        self.write(vm, B)
        self.call("VM.revert", checkpoint)
        r = self.call("VM.get_record", vm)
        self.assertEqual(r["power_state"], "Suspended")
        self.assertNotIn(r["suspend_VDI"], (NULL, s["suspend_VDI"]))
        self.check(vm, A)
        for _ in range(2):
            self.call("VM.resume", vm, False, False)
            self.assertEqual(self.state(vm), "Running")
            self.assertEqual([self.call("VBD.get_currently_attached", b) for b in self.call("VM.get_VBDs", vm)], [True, True])
            self.call("VM.revert", checkpoint)  # also from Running
        image = self.call("VM.get_suspend_VDI", vm)
        self.call("VM.hard_shutdown", vm)
        self.fails(["HANDLE_INVALID", "VDI", image], "VDI.get_record", image)
        self.call("VM.destroy", vm) if not self.disks(vm) else None
        self.agree()

    def test_a_checkpoint_of_a_suspended_VM(self):
        vm = self.guest_with("qcow2", "raw")
        self.call("VM.start", vm, False, False)
        self.call("VM.suspend", vm)
        checkpoint = self.call("VM.checkpoint", vm, "c")
        images = [self.call("VM.get_suspend_VDI", v) for v in (vm, checkpoint)]
        self.assertEqual(len(set(images) - {NULL}), 2)
        self.assertEqual(self.state(vm), "Suspended")
        self.call("VM.resume", vm, False, False)
        self.assertEqual(self.call("VM.get_suspend_VDI", checkpoint), images[1])
        self.call("VM.revert", checkpoint)
        self.call("VM.resume", vm, False, False)
        self.agree()

    def test_a_paused_VM_stays_paused(self):
        vm = self.guest_with("qcow2")
        self.call("VM.start", vm, True, False)
        checkpoint = self.call("VM.checkpoint", vm, "c")
        self.assertEqual((self.state(vm), self.state(checkpoint)), ("Paused", "Suspended"))

    def test_destroying_a_checkpoint_takes_its_memory_along(self):
        vm = self.guest_with("qcow2")
        self.call("VM.start", vm, False, False)
        checkpoint = self.call("VM.checkpoint", vm, "c")
        image, disks = self.call("VM.get_suspend_VDI", checkpoint), self.disks(checkpoint)
        self.call("VM.destroy", checkpoint)
        self.fails(["HANDLE_INVALID", "VDI", image], "VDI.get_record", image)
        for d in disks:
            self.call("VDI.destroy", d)
        self.assertEqual(self.state(vm), "Running")
        self.agree()

    def test_a_halted_VM_has_no_memory(self):
        vm = self.guest_with("qcow2")
        self.fails(["VM_BAD_POWER_STATE", vm, "paused, suspended, running", "halted"], "VM.checkpoint", vm, "c")

    def test_a_guest_that_does_not_suspend(self):
        vm = self.guest_with("qcow2", other_config={"sim:suspend": "hang"})
        self.call("VM.start", vm, False, False)
        before = self.state_of_all()
        self.fails(["VM_CHECKPOINT_SUSPEND_FAILED", vm], "VM.checkpoint", vm, "c")
        self.assertEqual((self.state(vm), self.state_of_all()), ("Running", before))
        self.agree()

    def test_a_disk_that_cannot_be_snapshotted(self):
        vm = self.guest_with("qcow2", "qcow2")
        self.call("VM.start", vm, False, False)
        before = self.state_of_all()
        self.sim("fault", method="vdi.snapshot", kind="slow", ms="1")
        self.sim("fault", method="vdi.snapshot", kind="fail", code="SR_FULL", params='["1", "0"]')
        self.fails(["SR_FULL", "1", "0"], "VM.checkpoint", vm, "c")
        self.assertEqual((self.state(vm), self.state_of_all()), ("Running", before))
        self.agree()

    def test_a_resume_that_fails_leaves_the_VM_suspended(self):
        vm = self.guest_with("qcow2")
        self.call("VM.start", vm, False, False)
        self.sim("fault", method="domain.resume", kind="fail", code="HOST_NOT_ENOUGH_FREE_MEMORY", params='["2", "1"]')
        self.fails(["VM_CHECKPOINT_RESUME_FAILED", vm], "VM.checkpoint", vm, "c")
        checkpoint, = self.call("VM.get_snapshots", vm)
        image = self.call("VM.get_suspend_VDI", checkpoint)
        self.assertEqual((self.state(vm), self.call("VM.get_suspend_VDI", vm)), ("Suspended", image))
        self.call("VM.resume", vm, False, False)
        self.assertEqual(self.call("VDI.get_type", image), "suspend")  # still the checkpoint's
        self.call("VM.revert", checkpoint)
        self.call("VM.resume", vm, False, False)
        self.agree()

    def test_no_repository_for_the_memory(self):
        vm = self.guest_with("qcow2")
        self.call("VM.start", vm, False, False)
        host = self.call("host.get_all")[0]
        self.call("pool.set_default_SR", self.pool, NULL)
        self.call("pool.set_suspend_image_SR", self.pool, NULL)
        self.call("host.set_suspend_image_sr", host, NULL)
        try:
            self.fails(["VM_NO_SUSPEND_SR", vm], "VM.checkpoint", vm, "c")
            self.assertEqual(self.state(vm), "Running")
            self.call("VM.suspend", vm)  # into a file of the daemon's own
            self.assertEqual((self.state(vm), self.call("VM.get_suspend_VDI", vm)), ("Suspended", NULL))
            self.fails(["VM_HAS_NO_SUSPEND_VDI", vm], "VM.checkpoint", vm, "c")
            self.call("VM.resume", vm, False, False)
            self.call("VM.set_suspend_SR", vm, self.sr)
            self.call("VM.suspend", vm)
            self.assertEqual(self.call("VDI.get_SR", self.call("VM.get_suspend_VDI", vm)), self.sr)
        finally:
            self.call("pool.set_default_SR", self.pool, self.sr)
            self.call("pool.set_suspend_image_SR", self.pool, self.sr)
        self.call("VM.hard_shutdown", vm)
        self.agree()


class Failures(Case):
    allow_crash = True

    def both(self):
        vm = self.guest_with("qcow2", "qcow2", "raw")
        self.write(vm, A)
        snapshot = self.call("VM.snapshot", vm, "A", [])
        self.write(vm, B)
        return vm, snapshot

    def test_a_snapshot_that_fails_midway_leaves_nothing(self):
        vm, _ = self.both()
        before = self.state_of_all()
        self.sim("fault", method="vdi.snapshot", kind="slow", ms="1")
        self.sim("fault", method="vdi.snapshot", kind="fail", code="SR_FULL", params='["1", "0"]')
        self.fails(["SR_FULL", "1", "0"], "VM.snapshot", vm, "s", [])
        self.assertEqual(self.state_of_all(), before)
        self.assertEqual(self.call("VM.get_current_operations", vm), {})
        self.check(vm, B)
        self.agree()

    def test_a_full_repository(self):
        sr = self.call("SR.create", self.host, {"location": self.server.state_dir + "/small", "quota": str(40 * MIB)}, 0,
                       "small", "", "file", "user", False, {})
        vm = self.vm()
        for i in range(2):
            vdi = self.call("VDI.create", {"name_label": "d", "SR": sr, "virtual_size": 16 * MIB, "type": "user",
                                           "sm_config": {"type": "raw"}})
            self.call("VBD.create", {"VM": vm, "VDI": vdi, "userdevice": str(i), "bootable": False, "mode": "RW",
                                     "type": "Disk", "empty": False, "other_config": {}})
            write(f"{self.server.state_dir}/small/{self.call('VDI.get_uuid', vdi)}.raw", A, 15 * MIB)
        before = self.state_of_all()
        with self.assertRaises(Failure) as f:  # where the file system shares blocks, there is room
            self.call("VM.snapshot", vm, "s", [])
            raise Failure(["SR_FULL"])
        self.assertEqual(f.exception.code, "SR_FULL")
        if not self.call("VM.get_snapshots", vm):
            self.assertEqual(self.state_of_all(), before)
            self.call("SR.scan", sr)
            self.assertEqual(self.state_of_all(), before)

    def test_a_revert_that_fails_midway_changes_nothing(self):
        vm, snapshot = self.both()
        self.call("VM.start", vm, False, False)
        before = self.state_of_all()
        self.sim("fault", method="vdi.clone", kind="slow", ms="1")
        self.sim("fault", method="vdi.clone", kind="fail", code="SR_FULL", params='["1", "0"]')
        self.fails(["SR_FULL", "1", "0"], "VM.revert", snapshot)
        self.assertEqual((self.state_of_all(), self.state(vm)), (before, "Running"))
        self.assertEqual(self.call("VM.get_current_operations", vm), {})
        self.check(vm, B)
        self.agree()

    def test_cancelled_in_the_middle(self):
        vm, snapshot = self.both()
        before = self.state_of_all()
        for method, args, request in (("VM.snapshot", (vm, "s", []), "vdi.snapshot"), ("VM.revert", (snapshot,), "vdi.clone")):
            self.sim("fault", method=request, kind="slow", ms="1")
            self.sim("fault", method=request, kind="hang", ms="20000")
            task = self.call("Async." + method, *args)
            eventually(lambda: len(self.call("VDI.get_all")) > len(before[1]))
            self.call("task.cancel", task)
            with self.assertRaises(Failure) as f:
                self.s.wait(task)
            self.assertEqual(f.exception.code, "TASK_CANCELLED")
            self.assertEqual(self.state_of_all(), before)
            self.check(vm, B)
            self.agree()

    def backend_dies(self, request, when, method, *args):
        old = self.server.pid_of("xenapid-sim")
        self.sim("fault", method=request, kind="slow", ms="1")
        self.sim("fault", method=request, kind="die", when=when)
        with self.assertRaises(Failure):
            self.call(method, *args)
        pbd = self.call("SR.get_PBDs", self.sr)[0]

        def back():
            try:
                return self.server.pid_of("xenapid-sim") != old and self.call("PBD.get_currently_attached", pbd)
            except LookupError:
                return False
        eventually(back, 30)
        self.call("SR.scan", self.sr)

    def test_the_backend_dies_in_the_middle(self):
        vm, snapshot = self.both()
        for when in ("before", "after"):
            before = self.state_of_all()
            self.backend_dies("vdi.snapshot", when, "VM.snapshot", vm, "s", [])
            self.assertEqual(self.state_of_all(), before)
            self.check(vm, B)
            self.agree()
            self.backend_dies("vdi.clone", when, "VM.revert", snapshot)
            self.assertEqual(self.state_of_all(), before)
            self.check(vm, B)
            self.check(snapshot, A)
            self.agree()
        self.call("VM.revert", snapshot)
        self.check(vm, A)


class Together(Case):
    """Several clients at once."""

    def at_once(self, *calls):
        """Results (references without their XML), or Failures."""
        results = []
        for task in [self.call("Async." + method, *args) for method, *args in calls]:
            try:
                results.append(self.s.wait(task)["result"][len("<value>"):-len("</value>")])
            except Failure as f:
                results.append(f)
        return results

    def test_snapshots_of_one_VM(self):
        vm = self.guest_with("qcow2", "raw")
        self.write(vm, A)
        results = self.at_once(*[("VM.snapshot", vm, f"s{i}", []) for i in range(3)])
        made = [r for r in results if not isinstance(r, Failure)]
        self.assertTrue(made)
        self.assertLessEqual({r.code for r in results if isinstance(r, Failure)}, {"OTHER_OPERATION_IN_PROGRESS"})
        self.assertEqual(set(self.call("VM.get_snapshots", vm)), set(made))
        for s in made:
            self.check(s, A)
        line, v = [], self.call("VM.get_parent", vm)
        while v != NULL:
            line.append(v)
            v = self.call("VM.get_parent", v)
        self.assertEqual(set(line), set(made))
        self.agree()

    def test_reverts_and_snapshots_cross(self):
        vm = self.guest_with("qcow2", "raw")
        self.write(vm, A)
        a = self.call("VM.snapshot", vm, "a", [])
        self.write(vm, B)
        b = self.call("VM.snapshot", vm, "b", [])
        for _ in range(5):
            results = self.at_once(("VM.revert", a), ("VM.revert", b), ("VM.snapshot", vm, "c", []), ("VM.start", vm, False, False))
            self.assertLessEqual({r.code for r in results if isinstance(r, Failure)},
                                 {"OTHER_OPERATION_IN_PROGRESS", "VM_BAD_POWER_STATE", "VM_REVERT_FAILED"})
            if self.state(vm) == "Running":
                self.call("VM.hard_shutdown", vm)
            self.assertEqual(len(self.disks(vm)), 2)
            self.assertEqual(len({holds(self.path(d), A, MIB) for d in self.disks(vm)}), 1)
            self.assertEqual(self.call("VM.get_current_operations", vm), {})
            self.check(a, A)
            self.check(b, B)
            self.agree()

    def test_a_hard_shutdown_during_a_checkpoint(self):
        vm = self.guest_with("qcow2")
        self.call("VM.start", vm, False, False)
        before = self.state_of_all()
        self.sim("fault", method="vdi.snapshot", kind="slow", ms="500")
        task = self.call("Async.VM.checkpoint", vm, "c")
        eventually(lambda: self.state(vm) == "Suspended")
        self.call("VM.hard_shutdown", vm)
        with self.assertRaises(Failure) as f:
            self.s.wait(task)
        self.assertEqual(f.exception.code, "VM_CHECKPOINT_SUSPEND_FAILED")
        self.assertEqual(self.state(vm), "Halted")
        self.assertEqual([now - then for now, then in zip(self.state_of_all(), before)], [set()] * 4)
        self.agree()


class Killed(Case):
    """SIGKILL of everything, or of the front alone, at any moment of a snapshot or a revert."""

    def again(self):
        self.server.start()
        cls = type(self)
        cls.s = self.server.login()
        cls.attach()
        eventually(lambda: not any(r["status"] == "pending" for r in self.call("task.get_all_records").values()), 20)

    def in_the_middle(self, kill, method, args, request):
        self.sim("fault", method=request, kind="slow", ms="1", count="1")
        self.sim("fault", method=request, kind="slow", ms="600", count="1")
        images = len(self.call("VDI.get_all"))
        self.call("Async." + method, *args)
        eventually(lambda: len(self.call("VDI.get_all")) > images)
        kill()

    def kill_front(self):
        old = self.server.pid_of("xenapid-front")
        os.kill(old, signal.SIGKILL)
        self.server._connections.clear()

        def back():
            try:
                new = self.server.pid_of("xenapid-front") != old
                type(self).s = self.server.login()
                return new
            except (OSError, LookupError, Exception):  # whatever a dying server says
                return False
        eventually(back, 30)
        self.attach()
        time.sleep(0.7)  # the backend goes on with what the dead front asked for
        self.call("SR.scan", self.sr)

    def test_SIGKILL_in_the_middle(self):
        self.server.allow_crash = True
        vm = self.guest_with("qcow2", "qcow2", "raw")
        self.write(vm, A)
        snapshot = self.call("VM.snapshot", vm, "A", [])
        self.write(vm, B)
        for kill in (lambda: (self.server.kill(), self.again()), self.kill_front):
            for method, args, request in (("VM.snapshot", (vm, "s", []), "vdi.snapshot"),
                                          ("VM.revert", (snapshot,), "vdi.clone")):
                before = self.state_of_all()
                self.in_the_middle(kill, method, args, request)
                eventually(lambda: self.state_of_all() == before, 10)
                self.check(vm, B)
                self.check(snapshot, A)
                self.agree()
        self.call("VM.revert", snapshot)
        self.check(vm, A)
        self.agree()

    def test_SIGKILL_in_the_middle_of_a_checkpoint(self):
        """The VM goes on or can be resumed, whether or not there is a checkpoint."""
        self.server.allow_crash = True
        for kill in (lambda: (self.server.kill(), self.again()), self.kill_front):
            for request in ("vdi.snapshot", "domain.suspend", "domain.resume"):
                vm = self.guest_with("qcow2")
                self.call("VM.start", vm, False, False)
                self.sim("fault", method=request, kind="slow", ms="600")
                self.call("Async.VM.checkpoint", vm, "c")
                eventually(lambda: self.call("VM.get_suspend_VDI", vm) != NULL)
                time.sleep(0.15)
                kill()
                eventually(lambda: self.state(vm) != "Paused" and not self.call("VM.get_current_operations", vm), 20)
                if self.state(vm) == "Suspended":  # its memory was saved, and who would have gone on was killed
                    self.call("VM.resume", vm, False, False)
                    self.assertEqual(self.state(vm), "Running")
                if self.state(vm) == "Halted":  # domains do not survive if the machine's memory did not
                    self.assertEqual(kill.__name__, "<lambda>")
                self.call("SR.scan", self.sr)
                self.assertLessEqual(len(self.call("VM.get_snapshots", vm)), 1)
                self.agree()

    def test_SIGKILL_at_random(self):
        vm = self.guest_with("qcow2", "raw")
        self.write(vm, A)
        snapshot = self.call("VM.snapshot", vm, "A", [])
        self.write(vm, B)
        others = len(self.call("VDI.get_all"))
        for i in range(6):
            pattern = A if holds(self.path(self.disks(vm)[0]), A, MIB) else B
            self.call("Async.VM.revert" if i % 2 else "Async.VM.snapshot", *((snapshot,) if i % 2 else (vm, f"s{i}", [])))
            time.sleep(0.02 * i)
            self.server.kill()
            self.again()
            self.call("SR.scan", self.sr)
            self.agree()
            count = len(self.call("VM.get_snapshots", vm))
            self.assertEqual(len(self.disks(vm)), 2)
            self.assertEqual(len(self.call("VDI.get_all")), others + 2 * (count - 1))
            now = A if holds(self.path(self.disks(vm)[0]), A, MIB) else B
            self.check(vm, now)
            if i % 2 == 0:
                self.assertEqual(now, pattern)
            self.check(snapshot, A)


del Life
