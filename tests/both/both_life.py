"""The life of VMs: the same on Xen and on the simulated host."""
import time

from both_case import Case
from case import MIB
from client import Failure


class Life(Case):
    def states(self, do):
        ref = self.small()
        do("VM.start", ref, True, False)
        self.assertEqual("Paused", self.state(ref))
        do("VM.unpause", ref)
        self.assertEqual("Running", self.state(ref))
        do("VM.pause", ref)
        self.assertEqual("Paused", self.state(ref))
        self.fails(["VM_BAD_POWER_STATE", ref, "running", "paused"], "VM.clean_shutdown", ref)
        do("VM.unpause", ref)
        self.fails(["VM_BAD_POWER_STATE", ref, "halted", "running"], "VM.start", ref, False, False)
        self.fails(["VM_BAD_POWER_STATE", ref, None, "running"], "VM.destroy", ref)
        first = self.domid(ref)
        do("VM.hard_reboot", ref)
        self.assertEqual("Running", self.state(ref))
        self.assertGreater(self.domid(ref), first)
        do("VM.hard_shutdown", ref)
        self.assertEqual(("Halted", -1), (self.state(ref), self.domid(ref)))
        do("VM.start_on", ref, self.host, False, False)
        self.assertEqual(self.host, self.call("VM.get_resident_on", ref))
        do("VM.power_state_reset", ref)
        self.assertEqual(("Halted", -1), (self.state(ref), self.domid(ref)))

    def test_states(self):
        self.states(self.call)

    def test_states_async(self):
        self.states(self.s.task)

    def whole_life(self, do):
        ref = self.big()
        do("VM.start", ref, False, False)
        guest = self.guest_up(ref)
        if not self.differs("guest"):
            self.assertEqual("Busybox in the lab", guest["os_version"]["name"])
        first = self.domid(ref)
        do("VM.clean_reboot", ref)
        self.assertGreater(self.domid(ref), first)
        self.guest_up(ref)
        do("VM.suspend", ref)
        self.assertEqual(("Suspended", -1), (self.state(ref), self.domid(ref)))
        do("VM.resume", ref, False, False)
        self.assertEqual("Running", self.state(ref))
        do("VM.clean_shutdown", ref)
        self.assertEqual("Halted", self.state(ref))

    def test_whole_life(self):
        self.whole_life(self.call)

    def test_whole_life_async(self):
        self.whole_life(self.s.task)

    def test_deaf(self):
        self.differs("deaf")
        ref = self.start(self.small(**self.w.deaf))
        with self.assertRaises(Failure) as caught:
            self.call("VM.clean_shutdown", ref)
        self.assertIn(caught.exception.code, ("VM_FAILED_SHUTDOWN_ACKNOWLEDGMENT", "VM_SHUTDOWN_TIMEOUT"))
        self.assertEqual(("Running", {}), (self.state(ref), self.call("VM.get_current_operations", ref)))

    def test_failed_starts(self):
        free = int(self.call("host.compute_free_memory", self.host))
        ref = self.small(memory=(free + (64 << 30)) // MIB)
        self.fails(["HOST_NOT_ENOUGH_FREE_MEMORY", None, None], "VM.start", ref, False, False)
        ref = self.small(kernel="nowhere")
        if not self.differs("kernel"):
            self.fails(["DOMAIN_BUILDER_ERROR", None, None, None], "VM.start", ref, False, False)
        else:
            self.start(ref)
        ref = self.small()
        vdi, path = self.vdi()
        self.vbd(ref, vdi)
        self.w.remove(path)
        with self.assertRaises(Failure) as caught:
            self.call("VM.start", ref, False, False)
        self.assertIn(caught.exception.code, ("VDI_MISSING", "VDI_NOT_AVAILABLE"))
        self.assertEqual("Halted", self.state(ref))

    def test_the_control_domain(self):
        ref = self.call("host.get_control_domain", self.host)
        record = self.call("VM.get_record", ref)
        self.assertEqual(("Running", "0", True), (record["power_state"], record["domid"], record["is_control_domain"]))
        self.fails(["OPERATION_NOT_ALLOWED", None], "VM.hard_shutdown", ref)
        self.assertEqual("Running", self.state(ref))


class Guests(Case):
    def test_by_itself(self):
        for how, action, state in (("poweroff", "destroy", "Halted"), ("reboot", "destroy", "Halted"),
                                   ("crash", "destroy", "Halted"), ("crash", "preserve", "Paused")):
            with self.subTest(how=how, action=action):
                self.differs("by itself")
                event = {"poweroff": "shutdown"}.get(how, how)
                ref = self.start(self.small(**{**self.w.guest_that(how), f"actions_after_{event}": action}))
                self.w.stop_by_itself(self, ref, how)
                self.until(ref, state)

    def test_restart(self):
        ref = self.start(self.small(**self.w.guest_that("reboot")))
        first = self.domid(ref)
        self.w.stop_by_itself(self, ref, "reboot")
        self.s.wait("VM", ref, lambda r: r["power_state"] == "Running" and int(r["domid"]) > first)

    def test_others(self):
        self.differs("others")
        ref = self.start(self.small(name_label="ours"))
        self.w.others_end(self, "ours")
        self.until(ref, "Halted", 20)
        before = set(self.call("VM.get_all"))
        name = self.w.others_make(self)
        end = time.time() + 20
        while not set(self.call("VM.get_all")) - before and time.time() < end:
            time.sleep(0.05)
        theirs, = set(self.call("VM.get_all")) - before
        self.until(theirs, "Running", 3)  # nobody says that it has been let go
        record = self.call("VM.get_record", theirs)
        self.assertEqual((name, "Running", self.host), (record["name_label"], record["power_state"], record["resident_on"]))
        self.w.others_end(self, name)
        while theirs in self.call("VM.get_all") and time.time() < end + 20:
            time.sleep(0.05)
        self.assertNotIn(theirs, self.call("VM.get_all"))


class Copies(Case):
    def with_disk(self):
        ref = self.small()
        vdi, _ = self.vdi("qcow2")
        self.vbd(ref, vdi)
        return ref, vdi

    def disks_of(self, ref):
        return [self.call("VBD.get_VDI", b) for b in self.call("VM.get_VBDs", ref)]

    def forget(self, ref):
        disks = self.disks_of(ref)
        self.halt_all()
        self.remove(ref)
        for vdi in disks:
            self.gone("VDI", vdi)

    def test_snapshot(self):
        ref, vdi = self.with_disk()
        snapshot = self.s.task("VM.snapshot", ref, "before", [])
        snapshot = snapshot.removeprefix("<value>").removesuffix("</value>")
        record = self.call("VM.get_record", snapshot)
        self.assertEqual((True, ref, "Halted"), (record["is_a_snapshot"], record["snapshot_of"], record["power_state"]))
        self.call("VM.set_VCPUs_at_startup", ref, "2")
        self.call("VM.revert", snapshot)
        self.assertEqual("1", self.call("VM.get_VCPUs_at_startup", ref))
        now, = self.disks_of(ref)
        self.assertNotEqual(vdi, now)
        self.addCleanup(self.gone, "VDI", now)
        self.addCleanup(self.halt_all)
        self.start(ref)
        self.forget(snapshot)

    def test_clone(self):
        ref, vdi = self.with_disk()
        twin = self.call("VM.clone", ref, "twin")
        self.addCleanup(self.forget, twin)
        self.assertNotIn(vdi, self.disks_of(twin))
        self.start(ref)
        self.start(twin)
        self.assertNotEqual(self.domid(ref), self.domid(twin))

    def test_checkpoint(self):
        self.call("pool.set_suspend_image_SR", self.call("pool.get_all")[0], self.sr())
        ref = self.start(self.big())
        self.guest_up(ref)
        checkpoint = self.call("VM.checkpoint", ref, "as it is")
        self.assertEqual(("Suspended", "Running"), (self.state(checkpoint), self.state(ref)))
        self.call("VM.revert", checkpoint)
        self.assertEqual("Suspended", self.state(ref))
        self.call("VM.resume", ref, False, False)
        self.assertEqual("Running", self.state(ref))
        self.call("VM.hard_shutdown", checkpoint)
        self.call("VM.destroy", checkpoint)
