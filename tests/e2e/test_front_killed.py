"""The front is killed while the backend suspends a guest for it: the guest's memory is neither lost nor taken away."""
import os
import signal
import time
import unittest

from harness import EachCase

MIB = 1 << 20
NULL = "OpaqueRef:NULL"


class Case(EachCase):
    conf = {"sim": {"suspend-ms": 1500, "jitter": 0}}
    allow_crash = True

    def state(self, vm):
        return self.call("VM.get_power_state", vm)

    def no_repository(self):
        """So that memory goes into a file."""
        self.call("pool.set_default_SR", self.pool, NULL)
        self.call("pool.set_suspend_image_SR", self.pool, NULL)
        self.call("host.set_suspend_image_sr", self.host, NULL)

    def running(self):
        vm = self.call("VM.create", {"name_label": "guest", "memory_static_max": 64 * MIB, "VCPUs_max": 1,
                                     "VCPUs_at_startup": 1, "HVM_boot_policy": "BIOS order",
                                     "actions_after_reboot": "restart", "actions_after_crash": "restart",
                                     "actions_after_shutdown": "destroy"})
        self.call("VM.start", vm, False, False)
        return vm

    def guest(self, vm, what):
        self.sim("guest", uuid=self.call("VM.get_uuid", vm), do=what)

    def file(self, vm):
        return f"{self.server.state_dir}/suspend/{self.call('VM.get_uuid', vm)}"

    def kill_front(self):
        old = self.server.pid_of("xenapid-front")
        os.kill(old, signal.SIGKILL)
        self.server._connections.clear()

        def back():
            try:
                new = self.server.pid_of("xenapid-front") != old
                self.log_in()
                return new
            except Exception:  # whatever a dying server says
                return False
        self.until(back)

    def killed_in_a_suspend(self, vm):
        task = self.call("Async.VM.suspend", vm)
        time.sleep(0.3)  # it is under way, or not yet: either is well
        self.kill_front()
        self.assertEqual("failure", self.call("task.get_status", task))
        self.until(lambda: self.state(vm) == "Suspended")

    def test_into_a_file(self):
        self.no_repository()
        vm = self.running()
        self.killed_in_a_suspend(vm)
        self.assertTrue(os.path.exists(self.file(vm)))
        self.call("VM.resume", vm, False, False)
        self.assertEqual("Running", self.state(vm))
        self.assertFalse(os.path.exists(self.file(vm)))

    def test_into_a_vdi(self):
        vm = self.running()
        self.killed_in_a_suspend(vm)
        self.assertEqual("suspend", self.call("VDI.get_type", self.call("VM.get_suspend_VDI", vm)))
        self.call("VM.resume", vm, False, False)
        self.assertEqual("Running", self.state(vm))

    def test_a_file_of_long_ago(self):
        """One that an earlier domain was resumed from is no reason to call the VM suspended."""
        self.no_repository()
        vm = self.running()
        self.call("VM.suspend", vm)
        image = self.file(vm)
        with open(image, "rb") as f:
            content = f.read()
        self.call("VM.resume", vm, False, False)
        self.assertFalse(os.path.exists(image))
        with open(image, "wb") as f:
            f.write(content)
        os.utime(image, (0, 0))
        self.guest(vm, "vanish")
        self.until(lambda: self.state(vm) == "Halted")


    def test_saved_by_another_toolstack(self):
        """A guest that stops to be saved is not taken away from whoever saves it."""
        vm = self.running()
        domid = self.call("VM.get_domid", vm)
        self.guest(vm, "suspend")
        self.call("VM.set_name_label", vm, "still there")
        time.sleep(0.5)  # what must not happen
        self.assertEqual(("Running", domid), (self.state(vm), self.call("VM.get_domid", vm)))
        self.guest(vm, "vanish")
        self.until(lambda: self.state(vm) == "Halted")


if __name__ == "__main__":
    unittest.main()
