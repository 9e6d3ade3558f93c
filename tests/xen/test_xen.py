"""The Xen-API on real Xen, over HTTPS from outside dom0: python3 test_xen.py [TEST...], started by tests/xen/run."""
import time
import unittest

from client import NULL, Failure, Session, dom0

MIB = 1 << 20
GUEST = "/lab/guest"
PATIENCE = 120


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.s = Session()
        cls.addClassCleanup(cls.s.close)
        cls.host = cls.s.call("host.get_all")[0]

    def call(self, method, *args):
        return self.s.call(method, *args)

    def vm(self, kernel="vmlinux", memory=128, **more):
        record = {"name_label": self.id().split(".")[-1], "name_description": "", "user_version": "1", "is_a_template": False,
                  "affinity": NULL, "memory_static_max": str(memory * MIB), "memory_dynamic_max": str(memory * MIB),
                  "memory_dynamic_min": str(memory * MIB), "memory_static_min": str(memory * MIB), "VCPUs_params": {},
                  "VCPUs_max": "2", "VCPUs_at_startup": "1", "actions_after_shutdown": "destroy",
                  "actions_after_reboot": "restart", "actions_after_crash": "destroy", "PV_bootloader": "",
                  "PV_kernel": f"{GUEST}/{kernel}", "PV_ramdisk": f"{GUEST}/initrd" if kernel == "vmlinux" else "",
                  "PV_args": "console=hvc0 quiet" if kernel == "vmlinux" else "", "PV_bootloader_args": "",
                  "PV_legacy_args": "", "HVM_boot_policy": "", "HVM_boot_params": {}, "platform": {}, "PCI_bus": "",
                  "other_config": {}, "recommendations": "", "blocked_operations": {}, **more}
        ref = self.call("VM.create", record)
        self.addCleanup(self.remove, ref)
        return ref

    def remove(self, ref):
        if self.state(ref) != "Halted":
            self.call("VM.hard_shutdown", ref)
        self.call("VM.destroy", ref)

    def state(self, ref):
        return self.call("VM.get_power_state", ref)

    def until(self, ref, power, patience=PATIENCE):
        return self.s.wait("VM", ref, lambda r: r["power_state"] == power, patience)

    def guest_up(self, ref, patience=PATIENCE):
        """Waits until the guest has written its metrics."""
        metrics = self.s.wait("VM", ref, lambda r: r["guest_metrics"] != NULL, patience)["guest_metrics"]
        self.s.wait("VM_guest_metrics", metrics, lambda r: r["other"].get("lab") == "up", patience)
        return self.call("VM_guest_metrics.get_record", metrics)

    def domid(self, ref):
        return int(self.call("VM.get_domid", ref))


class Life(Case):
    def test_tiny(self):
        ref = self.vm("tiny", 4)
        self.call("VM.start", ref, True, False)
        self.assertEqual("Paused", self.state(ref))
        self.call("VM.unpause", ref)
        self.assertEqual("Running", self.state(ref))
        self.call("VM.pause", ref)
        self.assertIn(" --p---", dom0("xl list").replace("-b", "--"))
        self.call("VM.unpause", ref)
        with self.assertRaises(Failure) as caught:
            self.call("VM.destroy", ref)
        self.assertEqual("VM_BAD_POWER_STATE", caught.exception.code)
        self.call("VM.hard_reboot", ref)
        self.assertEqual("Running", self.state(ref))
        self.call("VM.hard_shutdown", ref)
        self.assertEqual(("Halted", -1), (self.state(ref), self.domid(ref)))

    def test_tiny_async(self):
        ref = self.vm("tiny", 4)
        for method, args, state in (("start", (False, False), "Running"), ("pause", (), "Paused"),
                                    ("unpause", (), "Running"), ("hard_reboot", (), "Running"),
                                    ("hard_shutdown", (), "Halted")):
            self.s.task(f"VM.{method}", ref, *args)
            self.assertEqual(state, self.state(ref), method)

    def test_linux(self):
        ref = self.vm()
        self.call("VM.start", ref, False, False)
        guest = self.guest_up(ref)
        self.assertEqual("Busybox in the lab", guest["os_version"]["name"])
        first = self.domid(ref)
        self.call("VM.clean_reboot", ref)
        self.assertNotEqual(first, self.domid(ref))
        self.guest_up(ref)
        self.call("VM.suspend", ref)
        self.assertEqual("Suspended", self.state(ref))
        self.assertNotIn("linux", dom0("xl list"))
        self.call("VM.resume", ref, False, False)
        self.assertEqual("Running", self.state(ref))
        self.call("VM.clean_shutdown", ref)
        self.assertEqual("Halted", self.state(ref))

    def test_linux_async(self):
        ref = self.vm()
        for method, args, state in (("start", (False, False), "Running"), ("clean_reboot", (), "Running"),
                                    ("suspend", (), "Suspended"), ("resume", (False, False), "Running"),
                                    ("clean_shutdown", (), "Halted")):
            self.s.task(f"VM.{method}", ref, *args)
            self.assertEqual(state, self.state(ref), method)
            if method in ("start", "clean_reboot"):
                self.guest_up(ref)

    def test_guests_that_act(self):
        for digit, field, action, state in (("0", "shutdown", "destroy", "Halted"), ("1", "reboot", "destroy", "Halted"),
                                            ("3", "crash", "destroy", "Halted"), ("3", "crash", "preserve", "Paused")):
            with self.subTest(digit=digit, action=action):
                ref = self.vm("tiny", 4, PV_args=digit + "1", **{f"actions_after_{field}": action})
                self.call("VM.start", ref, False, False)
                self.until(ref, state)

    def test_restart(self):
        ref = self.vm("tiny", 4, PV_args="12")
        self.call("VM.start", ref, False, False)
        first = self.domid(ref)
        self.s.wait("VM", ref, lambda r: r["power_state"] == "Running" and int(r["domid"]) > first)

    def test_failed_starts(self):
        for change, code in (({"PV_kernel": "/nowhere"}, "DOMAIN_BUILDER_ERROR"),
                             ({"memory": 1 << 14}, "HOST_NOT_ENOUGH_FREE_MEMORY")):
            ref = self.vm(**{"kernel": "tiny", "memory": 4, **change})
            with self.assertRaises(Failure) as caught:
                self.call("VM.start", ref, False, False)
            self.assertEqual(code, caught.exception.code)
            self.assertEqual("Halted", self.state(ref))

    def test_deaf(self):
        ref = self.vm("tiny", 4)
        self.call("VM.start", ref, False, False)
        with self.assertRaises(Failure) as caught:
            self.call("VM.clean_shutdown", ref)
        self.assertIn(caught.exception.code, ("VM_FAILED_SHUTDOWN_ACKNOWLEDGMENT", "VM_SHUTDOWN_TIMEOUT"))

    def test_xl_beside(self):
        ref = self.vm("tiny", 4)
        self.call("VM.start", ref, False, False)
        dom0("xl destroy test_xl_beside")
        self.until(ref, "Halted", 10)


class Host(Case):
    def test_true_to_xl(self):
        xl = dict(line.split(":", 1) for line in dom0("xl info").splitlines() if ":" in line)
        xl = {k.strip(): v.strip() for k, v in xl.items()}
        record = self.call("host.get_record", self.host)
        metrics = self.call("host_metrics.get_record", record["metrics"])
        self.assertEqual(xl["xen_version"], record["software_version"]["xen"])
        self.assertEqual(int(xl["total_memory"]), int(metrics["memory_total"]) // MIB)
        self.assertEqual(int(xl["nr_cpus"]), len(record["host_CPUs"]))
        self.assertEqual(xl["xen_scheduler"], record["sched_policy"])
        self.assertIn("(XEN)", self.call("host.dmesg", self.host))
        self.call("host.send_debug_keys", self.host, "h")

    def test_dom0_is_a_vm(self):
        record = self.call("VM.get_record", self.call("host.get_control_domain", self.host))
        self.assertEqual(("Running", "0", True), (record["power_state"], record["domid"], record["is_control_domain"]))

    def test_other_toolstack(self):
        before = set(self.call("VM.get_all"))
        dom0(f"xl create {GUEST}/tiny.cfg")
        end = time.time() + 10
        while not set(self.call("VM.get_all")) - before and time.time() < end:
            time.sleep(0.1)
        self.assertEqual(1, len(set(self.call("VM.get_all")) - before))
        dom0("xl destroy tiny")


if __name__ == "__main__":
    unittest.main(verbosity=2)
