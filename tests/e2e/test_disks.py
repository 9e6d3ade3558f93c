"""Disks while VMs have them: copies of what differs, growing and moving under a running guest, several VMs on one disk,
figures, and where a disk stands in its VM."""
import json
import os
import signal
import unittest

from harness import Failure
from test_storage import MIB, NULL, Storage, holds, virtual_size, write

BLOCK = 65536


class Disks(Storage):
    conf = {"sim": {"vms": 4, "start-ms": 20, "shutdown-ms": 20, "plug-ms": 5}}

    def vm(self):
        vm = type(self).vms.pop()
        self.addCleanup(self.drop, vm)
        return vm

    def drop(self, vm):
        if self.call("VM.get_power_state", vm) != "Halted":
            self.call("VM.hard_shutdown", vm)
        for v in self.call("VM.get_VBDs", vm):
            self.call("VBD.destroy", v)
        type(self).vms.append(vm)

    def vbd(self, vm, vdi, device="autodetect", **more):
        return self.call("VBD.create", {"VM": vm, "VDI": vdi, "userdevice": device, "bootable": False, "mode": "RW",
                                        "type": "Disk", "empty": False, "other_config": {}, "qos_algorithm_type": "",
                                        "qos_algorithm_params": {}, **more})

    def running(self, vdi, **more):
        vm = self.vm()
        if self.call("VM.get_power_state", vm) == "Running":
            self.call("VM.hard_shutdown", vm)
        vbd = self.vbd(vm, vdi, "0", **more)
        self.call("VM.start", vm, False, False)
        return vm, vbd

    def io(self, vm, **args):
        args = {"uuid": self.call("VM.get_uuid", vm), **{k: str(v) for k, v in args.items()}}
        return json.loads(self.call("host.call_plugin", self.host, "xenapid-sim", "guest", args))

    def outcome(self, task):
        try:
            return self.s.wait(task)["status"]
        except Failure as f:
            return f.code


class Copies(Disks):
    def test_a_copy_into_a_disk_takes_the_place_of_its_content(self):
        for kind in ("qcow2", "raw"):
            with self.subTest(kind):
                vdi, into = self.new_vdi(), self.new_vdi(size=16 * MIB, sm_config={"type": kind})
                write(self.path(vdi), 1, MIB, MIB)
                write(self.path(into), 9, MIB, 12 * MIB)
                self.assertEqual(self.call("VDI.copy", vdi, NULL, NULL, into), into)
                self.assertTrue(holds(self.path(into), 1, MIB, MIB))
                self.assertTrue(holds(self.path(into), 0, MIB, 12 * MIB))
                self.assertEqual(virtual_size(self.path(into)), 16 * MIB)

    def test_a_copy_with_a_base_into_a_copy_of_the_base_is_the_disk(self):
        base = self.new_vdi()
        write(self.path(base), 1, MIB, 0)
        into = self.call("VDI.copy", base, self.new_sr(), NULL, NULL)
        write(self.path(base), 2, BLOCK, 3 * MIB)
        self.call("VDI.copy", base, NULL, self.call("VDI.clone", base, {}), into)
        self.assertTrue(holds(self.path(into), 1, MIB, 0) and holds(self.path(into), 2, BLOCK, 3 * MIB))

    def test_a_copy_with_a_base_alone_holds_what_differs(self):
        for kind in ("qcow2", "raw"):
            with self.subTest(kind):
                base = self.new_vdi(sm_config={"type": kind})
                write(self.path(base), 1, 2 * MIB, 0)
                vdi = self.call("VDI.clone", base, {})
                write(self.path(vdi), 2, 1000, MIB + 5)
                write(self.path(vdi), 3, MIB, 6 * MIB)
                delta = self.call("VDI.copy", vdi, self.new_sr(), base, NULL)
                path = self.path(delta)
                self.assertTrue(holds(path, 2, 1000, MIB + 5) and holds(path, 3, MIB, 6 * MIB))
                self.assertTrue(holds(path, 0, MIB, 0) and holds(path, 0, MIB - BLOCK, MIB + BLOCK))
                self.assertTrue(holds(path, 1, 5, MIB))  # the rest of the block

    def test_a_copy_of_a_disk_that_grew_since_its_base(self):
        base = self.new_vdi()
        vdi = self.call("VDI.clone", base, {})
        self.call("VDI.resize", vdi, 12 * MIB)
        write(self.path(vdi), 4, MIB, 10 * MIB)
        delta = self.call("VDI.copy", vdi, self.local, base, NULL)
        self.assertEqual(virtual_size(self.path(delta)), 12 * MIB)
        self.assertTrue(holds(self.path(delta), 4, MIB, 10 * MIB))

    def test_what_cannot_be_written_to_is_refused(self):
        vdi = self.new_vdi(size=16 * MIB)
        small, fixed = self.new_vdi(), self.new_vdi(size=16 * MIB, read_only=True)
        self.assertEqual(self.fails("VDI_TOO_SMALL", "VDI.copy", vdi, NULL, NULL, small), [small, str(16 * MIB)])
        self.assertEqual(self.fails("VDI_READONLY", "VDI.copy", vdi, NULL, NULL, fixed), [fixed])
        self.fails("HANDLE_INVALID", "VDI.copy", vdi, NULL, NULL, "OpaqueRef:none")
        self.fails("HANDLE_INVALID", "VDI.copy", vdi, self.local, "OpaqueRef:none", NULL)
        self.fails("VDI_IN_USE", "VDI.copy", vdi, NULL, NULL, vdi)
        used = self.new_vdi(size=16 * MIB)
        self.running(used)
        self.assertEqual(self.fails("VDI_IN_USE", "VDI.copy", vdi, NULL, NULL, used), [used, "blocked"])

    def test_a_cancelled_copy_of_what_differs_leaves_nothing(self):
        base, sr = self.new_vdi(size=1 << 30), self.new_sr()
        vdi = self.call("VDI.clone", base, {})
        write(self.path(vdi), 8, 512 * MIB, 0)
        task = self.call("Async.VDI.copy", vdi, sr, base, NULL)
        self.call("task.cancel", task)
        self.assertEqual(self.outcome(task), "TASK_CANCELLED")
        self.until(lambda: not [n for n in os.listdir(self.location(sr)) if n.endswith((".qcow2", ".raw", ".tmp"))])
        self.assertEqual(self.call("SR.get_VDIs", sr), [])


class Growing(Disks):
    def test_a_disk_grows_under_its_guest(self):
        for kind in ("qcow2", "raw"):
            with self.subTest(kind):
                vdi = self.new_vdi(sm_config={"type": kind})
                vm, _ = self.running(vdi)
                self.assertIn("resize", self.call("VDI.get_allowed_operations", vdi))
                self.call("VDI.resize", vdi, 32 * MIB)
                self.assertEqual(int(self.call("VDI.get_virtual_size", vdi)), 32 * MIB)
                self.io(vm, do="write", device="xvda", offset=30 * MIB, length=4096, pattern=5)
                self.assertTrue(holds(self.path(vdi), 5, 4096, 30 * MIB))
                self.until(lambda: self.disks(vm).get("xvda") == str(32 * MIB))
                self.drop(vm)

    def disks(self, vm):
        metrics = self.call("VM.get_guest_metrics", vm)
        return {} if metrics == NULL else self.call("VM_guest_metrics.get_disks", metrics)

    def test_it_never_shrinks(self):
        vdi = self.new_vdi()
        self.running(vdi)
        self.assertEqual(self.fails("VDI_TOO_SMALL", "VDI.resize", vdi, MIB), [vdi, str(8 * MIB)])

    def test_the_message_that_the_API_has_dropped(self):
        self.fails("MESSAGE_REMOVED", "VDI.resize_online", self.new_vdi(), 16 * MIB)


class Moving(Disks):
    def test_the_disk_of_a_running_VM_moves(self):
        for kind in ("qcow2", "raw"):
            with self.subTest(kind):
                vdi = self.new_vdi(sm_config={"type": kind}, name_label="mover", other_config={"a": "b"})
                sr = self.new_sr()
                vm, vbd = self.running(vdi)
                self.io(vm, do="write", offset=0, length=MIB, pattern=1)
                snapshot, old = self.call("VDI.snapshot", vdi, {}), self.path(vdi)
                moved = self.call("VDI.pool_migrate", vdi, sr, {})
                record = self.call("VDI.get_record", moved)
                self.assertEqual((record["SR"], record["name_label"], record["other_config"], record["VBDs"],
                                  record["snapshots"]), (sr, "mover", {"a": "b"}, [vbd], [snapshot]))
                self.assertEqual(self.call("VBD.get_VDI", vbd), moved)
                self.fails("HANDLE_INVALID", "VDI.get_record", vdi)
                self.assertFalse(os.path.exists(old))
                self.io(vm, do="write", offset=2 * MIB, length=MIB, pattern=2)
                self.assertTrue(self.io(vm, do="read", offset=0, length=MIB, pattern=1)["matches"])
                self.assertTrue(holds(self.path(moved), 1, MIB, 0) and holds(self.path(moved), 2, MIB, 2 * MIB))
                self.drop(vm)

    def test_what_is_written_while_it_moves_moves_with_it(self):
        vdi, sr = self.new_vdi(size=512 * MIB), self.new_sr()
        write(self.path(vdi), 3, 256 * MIB, 0)
        vm, _ = self.running(vdi)
        task = self.call("Async.VDI.pool_migrate", vdi, sr, {})
        for i in range(1, 9):
            self.io(vm, do="write", offset=300 * MIB + i * MIB, length=4096, pattern=i)
        moved = self.s.wait(task)["result"][len("<value>"):-len("</value>")]
        for i in range(1, 9):
            self.assertTrue(self.io(vm, do="read", offset=300 * MIB + i * MIB, length=4096, pattern=i)["matches"], i)
            self.assertTrue(holds(self.path(moved), i, 4096, 300 * MIB + i * MIB), i)

    def test_the_disk_of_a_halted_VM_moves(self):
        vdi, sr, vm = self.new_vdi(), self.new_sr(), self.vm()
        if self.call("VM.get_power_state", vm) != "Halted":
            self.call("VM.hard_shutdown", vm)
        vbd = self.vbd(vm, vdi)
        write(self.path(vdi), 6, MIB, 0)
        moved = self.call("VDI.pool_migrate", vdi, sr, {})
        self.assertEqual(self.call("VBD.get_VDI", vbd), moved)
        self.assertTrue(holds(self.path(moved), 6, MIB, 0))
        self.assertEqual(self.call("VDI.pool_migrate", moved, sr, {}), moved)

    def test_a_cancelled_move_leaves_the_disk_where_it_is(self):
        vdi, sr = self.new_vdi(size=1 << 30), self.new_sr()
        write(self.path(vdi), 3, 512 * MIB, 0)
        vm, vbd = self.running(vdi)
        task = self.call("Async.VDI.pool_migrate", vdi, sr, {})
        self.until(lambda: float(self.call("task.get_progress", task)) > 0 or
                   self.call("task.get_status", task) != "pending")
        self.call("task.cancel", task)
        self.assertEqual(self.outcome(task), "TASK_CANCELLED")
        self.assertEqual(self.call("VBD.get_VDI", vbd), vdi)
        self.until(lambda: not self.call("SR.get_VDIs", sr))
        self.assertTrue(self.io(vm, do="write", offset=0, length=4096, pattern=7)["matches"])
        self.assertTrue(holds(self.path(vdi), 7, 4096, 0))

    def test_a_front_that_is_killed_before_it_knows_finds_the_disk_where_it_is(self):
        vdi, sr = self.new_vdi(), self.new_sr()
        vm, vbd = self.running(vdi)
        old = self.path(vdi)
        self.call("host.call_plugin", self.host, "xenapid-sim", "fault",
                  {"method": "domain.vbd_pivot", "kind": "slow", "when": "after", "ms": "4000"})
        self.call("Async.VDI.pool_migrate", vdi, sr, {})
        uuid = self.call("VM.get_uuid", vm)
        self.until(lambda: self.image(uuid) not in (None, self.call("VDI.get_uuid", vdi)))
        moved = self.image(uuid)
        old_front = self.server.pid_of("xenapid-front")
        self.server.allow_crash = True
        os.kill(old_front, signal.SIGKILL)
        self.server._connections.clear()
        self.until(lambda: self.back(old_front), 60)
        self.assertEqual(self.call("VDI.get_uuid", self.call("VBD.get_VDI", vbd)), moved)
        self.until(lambda: self.attached(self.local) and self.attached(sr) and not os.path.exists(old))
        self.io(vm, do="write", offset=0, length=4096, pattern=9)
        self.assertTrue(holds(self.path(self.call("VBD.get_VDI", vbd)), 9, 4096, 0))

    def back(self, old):
        try:
            type(self).s = self.server.login()
            return self.server.pid_of("xenapid-front") != old
        except Exception:  # whatever a dying server says
            return False

    def image(self, vm):
        state = json.loads(self.call("host.call_plugin", self.host, "xenapid-sim", "state", {}))
        domain = next(d for d in state["domains"] if d["uuid"] == vm)
        return next(iter(domain["images"].values()), None)

    def test_what_cannot_move_is_refused(self):
        vdi, sr = self.new_vdi(), self.new_sr()
        self.assertEqual(self.fails("VDI_NEEDS_VM_FOR_MIGRATE", "VDI.pool_migrate", vdi, sr, {}), [vdi])
        vm, _ = self.running(vdi)
        self.fails("HANDLE_INVALID", "VDI.pool_migrate", vdi, "OpaqueRef:none", {})
        shot = self.call("VDI.snapshot", vdi, {})
        self.fails("VDI_NEEDS_VM_FOR_MIGRATE", "VDI.pool_migrate", shot, sr, {})
        self.call("VM.suspend", vm)
        self.assertEqual(self.fails("VM_BAD_POWER_STATE", "VDI.pool_migrate", vdi, sr, {}),
                         [vm, "halted, running", "suspended"])


class Sharing(Disks):
    def test_a_disk_that_is_sharable_is_written_by_two_VMs(self):
        vdi = self.new_vdi(sharable=True, sm_config={"type": "raw"})
        (a, _), (b, _) = self.running(vdi), self.running(vdi)
        self.io(a, do="write", offset=0, length=4096, pattern=1)
        self.assertTrue(self.io(b, do="read", offset=0, length=4096, pattern=1)["matches"])
        self.io(b, do="write", offset=4096, length=4096, pattern=2)
        self.assertTrue(self.io(a, do="read", offset=4096, length=4096, pattern=2)["matches"])

    def test_others_are_one_VM_s_unless_nobody_writes(self):
        vdi = self.new_vdi()
        self.running(vdi)
        second = self.vm()
        if self.call("VM.get_power_state", second) != "Halted":
            self.call("VM.hard_shutdown", second)
        vbd = self.vbd(second, vdi, "0")
        self.assertEqual(self.fails("VDI_IN_USE", "VM.start", second, False, False)[0], vdi)
        self.call("VBD.destroy", vbd)
        shared = self.new_vdi()
        (a, _), (b, _) = self.running(shared, mode="RO"), self.running(shared, mode="RO")
        self.assertFalse(self.io(a, do="read", offset=0, length=4096, pattern=1)["matches"])
        self.assertTrue(self.io(b, do="read", offset=0, length=4096, pattern=0)["matches"])

    def test_a_guest_cannot_write_to_what_it_may_only_read(self):
        vdi = self.new_vdi()
        vm, _ = self.running(vdi, mode="RO")
        uuid = self.call("VM.get_uuid", vm)
        self.fails("VDI_READONLY", "host.call_plugin", self.host, "xenapid-sim", "guest", {"uuid": uuid, "do": "write"})


class Figures(Disks):
    def test_a_disk_s_rates_are_those_of_its_guest(self):
        vdi = self.new_vdi()
        vm, vbd = self.running(vdi)
        self.io(vm, do="write", offset=0, length=4 * MIB, pattern=1)
        self.until(lambda: self.rate(vm, "write"))
        self.assertEqual(self.rate(vm, "read"), 0)
        self.io(vm, do="read", offset=0, length=2 * MIB, pattern=1)
        self.until(lambda: self.rate(vm, "read"))
        self.fails("INVALID_VALUE", "VM.query_data_source", vm, "vbd_xvdq_read")
        self.call("VM.hard_shutdown", vm)
        self.assertEqual(self.fails("VM_BAD_POWER_STATE", "VM.query_data_source", vm, "vbd_xvda_read")[0], vm)

    def rate(self, vm, which):
        found = {s["name_label"]: s for s in self.call("VM.get_data_sources", vm)}
        source = found.get(f"vbd_xvda_{which}")
        if source is None:
            return 0
        self.assertEqual(source["units"], "B/s")
        self.assertEqual(found["memory"]["value"], self.call("VM.query_data_source", vm, "memory"))
        return source["value"]


class Places(Disks):
    def test_numbers_of_devices_are_places_as_names_are(self):
        vm, vdi = self.vm(), self.new_vdi(read_only=False, sharable=True)
        for given, device, same in (("51712", "xvda", ("0", "xvda", "hda", "sda", "768", "2048", "0xca00")),
                                    ("51744", "xvdc", ("2", "hdc", "5632")),
                                    ("832", "hdb", ("1", "xvdb", "sdb", "2064")),
                                    ("5696", "hdd", ("3", "51760")),
                                    ("2112", "sde", ("4",)),
                                    ("51793", "xvdf1", ("xvdf1",)),
                                    ("268439808", "xvdr", ("17", "xvdr"))):
            vbd = self.vbd(vm, vdi, given)
            self.assertEqual((self.call("VBD.get_userdevice", vbd), self.call("VBD.get_device", vbd)), (given, device))
            for other in same:
                self.assertEqual(self.fails("DEVICE_ALREADY_EXISTS", "VBD.create",
                                            {"VM": vm, "VDI": vdi, "userdevice": other, "bootable": False, "mode": "RW",
                                             "type": "Disk", "empty": False}), [other])
        for bad in ("256", "1000", "60000", "0x", "0xzz", "536870912", "99999999999999999999"):
            self.assertEqual(self.fails("INVALID_DEVICE", "VBD.create",
                                        {"VM": vm, "VDI": vdi, "userdevice": bad, "bootable": False, "mode": "RW",
                                         "type": "Disk", "empty": False}), [bad])


class Rest(Disks):
    def test_what_no_driver_can_is_refused_and_nothing_is_unknown(self):
        vdi = self.new_vdi()
        self.assertEqual(self.fails("SR_OPERATION_NOT_SUPPORTED", "VDI.set_on_boot", vdi, "reset"), [self.local])
        self.call("VDI.set_on_boot", vdi, "persist")
        self.call("VDI.set_allow_caching", vdi, True)
        self.assertTrue(self.call("VDI.get_allow_caching", vdi))
        self.assertEqual(self.fails("VDI_INCOMPATIBLE_TYPE", "VDI.open_database", vdi), [vdi, "user"])
        self.fails("COULD_NOT_IMPORT_DATABASE", "VDI.open_database", self.new_vdi(type="metadata"))
        self.assertEqual(self.call("VDI.read_database_pool_uuid", vdi), "")


if __name__ == "__main__":
    unittest.main()
