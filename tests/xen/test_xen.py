"""The Xen-API on real Xen, over HTTPS from outside dom0: python3 test_xen.py [TEST...], started by tests/xen/run."""
import time
import unittest

import again
from case import GUEST, MIB, Case
from client import Failure, dom0
from test_devices import Consoles, Disks, Interfaces, Screens, Tuning  # noqa: F401
from test_pools import Pools  # noqa: F401
from test_reboot import Reboot  # noqa: F401
from test_sr import LogicalVolumes, Nfs  # noqa: F401


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
    again.main()
