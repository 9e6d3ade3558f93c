"""The life of VMs and their devices: power states, what is allowed in each, errors, guests that act by themselves, a
backend that dies in the middle."""
import json
import os
import random
import signal
import threading
import time
import unittest

import harness
from harness import Failure, Server, eventually

MIB = 1 << 20
HALTED = {"start", "start_on", "make_into_template", "changing_shadow_memory", "changing_VCPUs", "changing_static_range",
          "changing_memory_limits", "clone", "copy", "destroy", "export", "changing_dynamic_range"}
RUNNING = {"pause", "suspend", "clean_shutdown", "clean_reboot", "hard_shutdown", "hard_reboot", "shutdown",
           "send_sysrq", "send_trigger", "changing_memory_live", "changing_VCPUs_live", "checkpoint",
           "changing_dynamic_range"}
PAUSED = {"unpause", "hard_shutdown", "hard_reboot", "shutdown", "checkpoint"}
SUSPENDED = {"resume", "resume_on", "hard_shutdown", "shutdown", "destroy", "export", "checkpoint"}
NEVER_TOLD = {"changing_NVRAM", "create_vtpm", "sysprep", "pool_migrate", "migrate_send"}


class Case(harness.Case):
    """Each test makes the VMs that it uses."""
    conf = {"tasks": {"clean-shutdown-timeout": 1}}

    def vm(self, **more):
        record = {"name_label": "guest", "memory_static_max": 64 * MIB, "VCPUs_max": 2, "VCPUs_at_startup": 1,
                  "HVM_boot_policy": "BIOS order", "actions_after_reboot": "restart", "actions_after_crash": "restart",
                  "actions_after_shutdown": "destroy", **more}
        vm = self.call("VM.create", record)
        self.addCleanup(self.clear, vm)
        return vm

    def clear(self, vm):
        try:
            if self.call("VM.get_power_state", vm) != "Halted":
                self.call("VM.hard_shutdown", vm)
            self.call("VM.destroy", vm)
        except Failure as e:
            self.assertIn(e.code, ("HANDLE_INVALID", "OPERATION_BLOCKED", "VM_IS_TEMPLATE"))

    def running(self, **more):
        vm = self.vm(**more)
        self.call("VM.start", vm, False, False)
        return vm

    def state(self, vm):
        return self.call("VM.get_power_state", vm)

    def guest(self, vm, what, **more):
        return self.sim("guest", uuid=self.call("VM.get_uuid", vm), do=what, **more)

    def allows(self, vm, allowed, refused=()):
        ops = set(self.call("VM.get_allowed_operations", vm))
        self.assertEqual(set(allowed) - ops, set())
        self.assertEqual(set(refused) & ops, set())
        self.assertEqual(NEVER_TOLD & ops, set())


class Life(Case):
    def test_whole_life(self):
        vm = self.vm()
        record = self.call("VM.get_record", vm)
        self.assertEqual((record["power_state"], record["domid"], record["resident_on"]), ("Halted", -1, "OpaqueRef:NULL"))
        self.assertIn("mac_seed", record["other_config"])
        self.assertEqual(record["memory_dynamic_max"], 64 * MIB)
        self.allows(vm, HALTED, RUNNING - HALTED)

        before = time.time()
        self.call("VM.start", vm, False, False)
        record = self.call("VM.get_record", vm)
        self.assertEqual((record["power_state"], record["resident_on"]), ("Running", self.host))
        self.assertGreater(record["domid"], 0)
        self.assertEqual(record["current_operations"], {})
        self.assertNotEqual(record["last_booted_record"], "")
        self.allows(vm, RUNNING, HALTED - RUNNING)
        metrics = self.call("VM_metrics.get_record", record["metrics"])
        self.assertEqual((metrics["memory_actual"], metrics["VCPUs_number"], metrics["state"], metrics["hvm"]),
                         (64 * MIB, 1, ["running"], True))
        self.assertGreater(metrics["start_time"], time.strftime("%Y%m%dT%H:%M:%SZ", time.gmtime(before - 2)))
        consoles = record["consoles"]
        console = self.call("console.get_record", consoles[0])
        self.assertEqual((console["protocol"], console["VM"]), ("rfb", vm))
        self.assertRegex(console["location"], "^https://.*/console\\?uuid=" + console["uuid"])

        self.call("VM.pause", vm)
        self.assertEqual(self.state(vm), "Paused")
        self.allows(vm, PAUSED, (RUNNING | HALTED) - PAUSED)
        self.call("VM.unpause", vm)
        self.assertEqual(self.state(vm), "Running")

        self.call("VM.suspend", vm)
        record = self.call("VM.get_record", vm)
        self.assertEqual((record["power_state"], record["domid"], record["consoles"], record["resident_on"]),
                         ("Suspended", -1, [], "OpaqueRef:NULL"))
        self.allows(vm, SUSPENDED, (RUNNING | HALTED) - SUSPENDED)
        image = record["suspend_VDI"]
        self.assertEqual(self.call("VDI.get_type", image), "suspend")
        self.call("VM.resume", vm, True, False)
        self.assertEqual((self.state(vm), self.call("VM.get_suspend_VDI", vm)), ("Paused", "OpaqueRef:NULL"))
        self.fails(["HANDLE_INVALID", "VDI", image], "VDI.get_type", image)
        self.call("VM.unpause", vm)

        domid = self.call("VM.get_domid", vm)
        self.call("VM.clean_reboot", vm)
        self.assertGreater(self.call("VM.get_domid", vm), domid)
        domid = self.call("VM.get_domid", vm)
        self.call("VM.hard_reboot", vm)
        self.assertGreater(self.call("VM.get_domid", vm), domid)
        self.assertEqual(len(self.call("VM.get_consoles", vm)), 1)

        self.call("VM.clean_shutdown", vm)
        record = self.call("VM.get_record", vm)
        self.assertEqual((record["power_state"], record["domid"], record["consoles"], record["resident_on"]),
                         ("Halted", -1, [], "OpaqueRef:NULL"))
        self.fails(["HANDLE_INVALID", "console", consoles[0]], "console.get_record", consoles[0])
        self.call("VM.destroy", vm)
        self.fails(["HANDLE_INVALID", "VM", vm], "VM.get_record", vm)
        self.fails(["HANDLE_INVALID", "VM_metrics", record["metrics"]], "VM_metrics.get_record", record["metrics"])
        self.fails(["HANDLE_INVALID", "VM", vm], "VM.start", vm, False, False)

    def test_async(self):
        vm = self.vm()
        for method, args, state in (("start", (True, False), "Paused"), ("unpause", (), "Running"),
                                    ("suspend", (), "Suspended"), ("resume", (False, False), "Running"),
                                    ("clean_reboot", (), "Running"), ("shutdown", (), "Halted"),
                                    ("start_on", (self.host, False, False), "Running"), ("hard_shutdown", (), "Halted")):
            task = self.call("Async.VM." + method, vm, *args)
            self.assertEqual(self.s.wait(task)["progress"], 1.0)
            self.assertEqual(self.state(vm), state, method)

    def test_suspended_can_be_shut_down(self):
        vm = self.running()
        disks = self.call("VDI.get_all")
        self.call("VM.suspend", vm)
        self.call("VM.hard_shutdown", vm)
        self.assertEqual((self.state(vm), self.call("VM.get_suspend_VDI", vm)), ("Halted", "OpaqueRef:NULL"))
        self.assertEqual(self.call("VDI.get_all"), disks)
        self.fails(["VM_BAD_POWER_STATE", vm, "suspended", "halted"], "VM.resume", vm, False, False)

    def test_failed_suspend(self):
        vm = self.running(other_config={"sim:suspend": "hang"})
        disks = self.call("VDI.get_all")
        self.fails(["VM_SUSPEND_TIMEOUT", vm, "1"], "VM.suspend", vm)
        self.assertEqual((self.state(vm), self.call("VM.get_suspend_VDI", vm)), ("Running", "OpaqueRef:NULL"))
        self.assertEqual(self.call("VDI.get_all"), disks)

    def test_power_state_errors(self):
        vm = self.vm()
        for method, args, expected in (
                ("pause", (), "running"), ("unpause", (), "paused"), ("suspend", (), "running"),
                ("resume", (False, False), "suspended"), ("clean_shutdown", (), "running"), ("clean_reboot", (), "running"),
                ("hard_shutdown", (), "paused, suspended, running"), ("shutdown", (), "paused, suspended, running"),
                ("hard_reboot", (), "paused, running"), ("send_sysrq", ("h",), "running"),
                ("set_VCPUs_number_live", (1,), "running"), ("get_boot_record", (), "paused, suspended, running")):
            self.fails(["VM_BAD_POWER_STATE", vm, expected, "halted"], "VM." + method, vm, *args)
        self.call("VM.start", vm, False, False)
        for method, args, expected in (
                ("start", (False, False), "halted"), ("clone", ("x",), "halted"), ("set_VCPUs_max", (3,), "halted"),
                ("set_memory_static_max", (128 * MIB,), "halted"), ("destroy", (), "halted, suspended"),
                ("set_is_a_template", (True,), "halted"), ("set_memory_limits", (0, 1, 1, 1), "halted")):
            self.fails(["VM_BAD_POWER_STATE", vm, expected, "running"], "VM." + method, vm, *args)
        task = self.call("Async.VM.start", vm, False, False)
        with self.assertRaises(Failure) as caught:
            self.s.wait(task)
        self.assertEqual([caught.exception.code, *caught.exception.params], ["VM_BAD_POWER_STATE", vm, "halted", "running"])
        self.fails(["VM_BAD_POWER_STATE", vm, "suspended", "running"], "VM.assert_operation_valid", vm, "resume")
        self.call("VM.assert_operation_valid", vm, "pause")

    def test_templates(self):
        vm = self.vm(is_a_template=True)
        self.fails(["VM_IS_TEMPLATE", vm], "VM.start", vm, False, False)
        self.allows(vm, {"clone", "copy", "destroy", "provision", "export"}, {"start", "make_into_template"})
        copy = self.call("VM.clone", vm, "made from it")
        self.addCleanup(self.clear, copy)
        record = self.call("VM.get_record", copy)
        self.assertEqual((record["name_label"], record["is_a_template"], record["power_state"]),
                         ("made from it", True, "Halted"))
        self.assertNotEqual(record["other_config"]["mac_seed"], self.call("VM.get_other_config", vm)["mac_seed"])
        self.call("VM.provision", copy)
        self.assertFalse(self.call("VM.get_is_a_template", copy))
        self.call("VM.start", copy, False, False)
        self.call("VM.hard_shutdown", copy)
        self.fails(["PROVISION_ONLY_ALLOWED_ON_TEMPLATE"], "VM.provision", copy)
        self.call("VM.set_is_a_template", copy, True)
        self.fails(["VM_IS_TEMPLATE", copy], "VM.start", copy, False, False)

    def test_control_domain(self):
        dom0 = self.call("host.get_control_domain", self.host)
        for method in ("clean_shutdown", "hard_shutdown", "hard_reboot", "pause", "suspend"):
            self.fails(["OPERATION_NOT_ALLOWED", None], "VM." + method, dom0)
        self.fails(["OPERATION_NOT_ALLOWED", None], "VM.destroy", dom0)
        self.assertEqual(self.state(dom0), "Running")

    def test_blocked(self):
        vm = self.vm(blocked_operations={"start": "NOT_TODAY"})
        self.fails(["OPERATION_BLOCKED", vm, "NOT_TODAY"], "VM.start", vm, False, False)
        self.allows(vm, {"clone"}, {"start"})
        self.call("VM.remove_from_blocked_operations", vm, "start")
        self.call("VM.add_to_blocked_operations", vm, "hard_shutdown", "false")
        self.call("VM.start", vm, False, False)
        self.fails(["OPERATION_BLOCKED", vm, "false"], "VM.hard_shutdown", vm)
        self.call("VM.clean_shutdown", vm)

    def test_conflicts_and_cancel(self):
        vm = self.vm(other_config={"sim:start-ms": "20000"})
        task = self.call("Async.VM.start", vm, False, False)
        self.assertEqual(self.call("VM.get_current_operations", vm), {task: "start"})
        self.allows(vm, (), {"start", "clone", "destroy"})
        self.fails(["OTHER_OPERATION_IN_PROGRESS", "VM", vm, "start", task], "VM.start", vm, False, False)
        self.fails(["OTHER_OPERATION_IN_PROGRESS", "VM", vm, "start", task], "VM.clone", vm, "x")
        eventually(lambda: self.call("task.get_progress", task) > 0)
        self.call("task.cancel", task)
        with self.assertRaises(Failure) as caught:
            self.s.wait(task)
        self.assertEqual([caught.exception.code, *caught.exception.params], ["TASK_CANCELLED", task])
        record = self.call("VM.get_record", vm)
        self.assertEqual((record["power_state"], record["domid"], record["current_operations"]), ("Halted", -1, {}))
        self.assertEqual(self.domains(vm), [])
        self.call("VM.remove_from_other_config", vm, "sim:start-ms")
        self.call("VM.start", vm, False, False)

    def domains(self, vm):
        uuid = self.call("VM.get_uuid", vm)
        return [d for d in self.sim("state")["domains"] if d["uuid"] == uuid]

    def test_failed_start_leaves_nothing(self):
        vm = self.vm(other_config={"sim:fail-start": "DOMAIN_BUILDER_ERROR,a,b,c"})
        before = self.call("VM.get_record", vm)
        self.fails(["DOMAIN_BUILDER_ERROR", "a", "b", "c"], "VM.start", vm, False, False)
        after = self.call("VM.get_record", vm)
        self.assertEqual(before, after)
        self.assertEqual(self.domains(vm), [])

    def test_memory(self):
        vm = self.vm(memory_static_max=1 << 50)
        self.fails(["HOST_NOT_ENOUGH_FREE_MEMORY", None, None], "VM.start", vm, False, False)
        self.fails(["HOST_NOT_ENOUGH_FREE_MEMORY", None, None], "VM.assert_can_boot_here", vm, self.host)
        self.call("VM.set_memory_limits", vm, 32 * MIB, 256 * MIB, 64 * MIB, 128 * MIB)
        record = self.call("VM.get_record", vm)
        self.assertEqual([record["memory_" + f] for f in ("static_min", "dynamic_min", "dynamic_max", "static_max")],
                         [32 * MIB, 64 * MIB, 128 * MIB, 256 * MIB])
        self.assertGreater(record["memory_overhead"], MIB)
        for bad in ((64, 256, 32, 128), (32, 100, 64, 128), (32, 256, 128, 64)):
            self.fails(["MEMORY_CONSTRAINT_VIOLATION", None], "VM.set_memory_limits", vm, *(n * MIB for n in bad))
        self.fails(["MEMORY_CONSTRAINT_VIOLATION", None], "VM.set_memory_dynamic_range", vm, MIB, 64 * MIB)
        self.fails(["MEMORY_CONSTRAINT_VIOLATION", None], "VM.create",
                   {"name_label": "x", "memory_static_max": 1, "memory_dynamic_max": 2, "VCPUs_max": 1})
        self.call("VM.assert_can_boot_here", vm, self.host)
        self.assertEqual(self.call("VM.get_possible_hosts", vm), [self.host])
        self.call("VM.start", vm, False, False)
        self.call("VM.set_memory_dynamic_range", vm, 48 * MIB, 96 * MIB)
        self.call("VM.set_memory_target_live", vm, 80 * MIB)
        self.call("VM.wait_memory_target_live", vm)
        self.assertEqual(self.call("VM.get_memory_target", vm), 80 * MIB)
        metrics = self.call("VM.get_metrics", vm)
        eventually(lambda: self.call("VM_metrics.get_memory_actual", metrics) == 80 * MIB)
        self.assertTrue(self.call("VM.get_cooperative", vm))
        self.assertGreater(self.call("VM.maximise_memory", vm, 1 << 30, False), 900 * MIB)

    def test_vcpus(self):
        vm = self.vm()
        self.fails(["INVALID_VALUE", "VCPUs_at_startup", "3"], "VM.set_VCPUs_at_startup", vm, 3)
        self.fails(["INVALID_VALUE", "VCPUs_max", "0"], "VM.set_VCPUs_max", vm, 0)
        self.fails(["INVALID_VALUE", "VCPUs_max", "0"], "VM.create", {"name_label": "x", "VCPUs_max": 0})
        self.call("VM.set_VCPUs_max", vm, 4)
        self.call("VM.set_VCPUs_at_startup", vm, 2)
        self.call("VM.start", vm, False, False)
        self.call("VM.set_VCPUs_number_live", vm, 3)
        self.assertEqual(self.call("VM_metrics.get_VCPUs_number", self.call("VM.get_metrics", vm)), 3)
        self.fails(["INVALID_VALUE", "nvcpu", "5"], "VM.set_VCPUs_number_live", vm, 5)
        self.call("VM.add_to_VCPUs_params_live", vm, "weight", "512")
        self.assertEqual(self.call("VM.get_VCPUs_params", vm), {"weight": "512"})

    def test_nowhere_to_migrate(self):
        vm = self.vm()
        self.fails(["VM_BAD_POWER_STATE", vm, "running", "halted"], "VM.pool_migrate", vm, self.host, {})
        self.call("VM.start", vm, False, False)
        domid = self.call("VM.get_domid", vm)
        self.fails(["HANDLE_INVALID", "host", "OpaqueRef:none"], "VM.pool_migrate", vm, "OpaqueRef:none", {})
        self.fails(["VM_MIGRATE_FAILED", vm, self.host, self.host, None], "VM.pool_migrate", vm, self.host, {"live": "true"})
        self.fails(["NO_HOSTS_AVAILABLE"], "VM.migrate_send", vm, {}, True, {}, {}, {}, {})
        self.assertEqual((self.state(vm), self.call("VM.get_domid", vm)), ("Running", domid))

    def test_disabled_host(self):
        vm = self.vm()
        self.call("host.disable", self.host)
        self.addCleanup(self.call, "host.enable", self.host)
        self.fails(["HOST_DISABLED", self.host], "VM.start", vm, False, False)
        self.fails(["HOST_DISABLED", self.host], "VM.start_on", vm, self.host, False, False)
        self.assertEqual(self.call("VM.get_possible_hosts", vm), [])

    def test_domain_type(self):
        vm = self.vm(HVM_boot_policy="")
        self.assertEqual(self.call("VM.get_domain_type", vm), "pv")
        self.call("VM.set_HVM_boot_policy", vm, "BIOS order")
        self.assertEqual(self.call("VM.get_domain_type", vm), "hvm")
        self.call("VM.set_domain_type", vm, "pvh")
        self.assertEqual(self.call("VM.get_HVM_boot_policy", vm), "")
        self.call("VM.start", vm, False, False)
        self.assertEqual(self.call("console.get_protocol", self.call("VM.get_consoles", vm)[0]), "vt100")
        self.fails(["VM_BAD_POWER_STATE", vm, "halted", "running"], "VM.set_domain_type", vm, "hvm")


class Guests(Case):
    conf = {"tasks": {"clean-shutdown-timeout": 1}, "sim": {"start-ms": 20}}

    def test_poweroff(self):
        vm = self.running()
        self.guest(vm, "poweroff")
        eventually(lambda: self.state(vm) == "Halted")
        self.assertEqual(self.call("VM.get_domid", vm), -1)
        vm = self.running(actions_after_shutdown="restart")
        domid = self.call("VM.get_domid", vm)
        self.guest(vm, "poweroff")
        eventually(lambda: self.call("VM.get_domid", vm) > domid)
        self.assertEqual(self.state(vm), "Running")

    def test_reboot(self):
        vm = self.running()
        for _ in range(3):
            domid = self.call("VM.get_domid", vm)
            self.guest(vm, "reboot")
            eventually(lambda d=domid: self.call("VM.get_domid", vm) > d)
            self.assertEqual(self.state(vm), "Running")
        vm = self.running(actions_after_reboot="destroy")
        self.guest(vm, "reboot")
        eventually(lambda: self.state(vm) == "Halted")

    def test_crash(self):
        for action, state in (("destroy", "Halted"), ("coredump_and_destroy", "Halted"), ("preserve", "Paused")):
            vm = self.running(actions_after_crash=action)
            self.guest(vm, "crash")
            eventually(lambda v=vm, s=state: self.state(v) == s)
        for action in ("restart", "rename_restart", "coredump_and_restart"):
            vm = self.running(actions_after_crash=action)
            domid = self.call("VM.get_domid", vm)
            self.guest(vm, "crash")
            eventually(lambda v=vm, d=domid: self.call("VM.get_domid", v) > d)
            self.assertEqual(self.state(vm), "Running")

    def test_cannot_start_again(self):
        vm = self.running()
        self.call("VM.add_to_other_config", vm, "sim:fail-start", "DOMAIN_BUILDER_ERROR,a,b,c")
        self.guest(vm, "reboot")
        eventually(lambda: self.state(vm) == "Halted")
        self.assertEqual(self.call("VM.get_domid", vm), -1)

    def test_taken_away(self):
        vm = self.running()
        self.guest(vm, "vanish")
        eventually(lambda: self.state(vm) == "Halted")

    def test_made_by_others(self):
        uuid = "2cb0ee6a-7a56-4c0f-8a0f-0f1d4a2b7b11"
        self.sim("guest", uuid=uuid, do="appear", name="theirs", memory=str(64 * MIB), vcpus="2")
        eventually(lambda: self.call("VM.get_by_name_label", "theirs") != [])
        vm = self.call("VM.get_by_uuid", uuid)
        record = self.call("VM.get_record", vm)
        self.assertEqual((record["power_state"], record["VCPUs_max"], record["resident_on"]), ("Running", 2, self.host))
        self.guest(vm, "reboot")
        time.sleep(0.2)
        self.assertEqual(self.state(vm), "Running")
        self.guest(vm, "vanish")
        eventually(lambda: self.call("VM.get_by_name_label", "theirs") == [])

    def test_deaf(self):
        vm = self.running()
        self.guest(vm, "ignore_shutdown")
        self.fails(["VM_FAILED_SHUTDOWN_ACKNOWLEDGMENT", vm], "VM.clean_shutdown", vm)
        self.assertEqual(self.state(vm), "Running")
        self.call("VM.shutdown", vm)
        self.assertEqual(self.state(vm), "Halted")

    def test_hanging(self):
        vm = self.running(other_config={"sim:shutdown": "hang"})
        self.fails(["VM_SHUTDOWN_TIMEOUT", vm, "1"], "VM.clean_shutdown", vm)
        self.fails(["VM_SHUTDOWN_TIMEOUT", vm, "1"], "VM.clean_reboot", vm)
        self.assertEqual(self.state(vm), "Running")
        self.call("VM.shutdown", vm)
        self.assertEqual(self.state(vm), "Halted")

    def test_force_over_a_clean_shutdown(self):
        vm = self.running(other_config={"sim:shutdown": "hang"})
        task = self.call("Async.VM.clean_shutdown", vm)
        other = self.server.login()
        eventually(lambda: self.call("VM.get_current_operations", vm) != {})
        other.call("VM.hard_shutdown", vm)
        self.assertEqual(self.state(vm), "Halted")
        eventually(lambda: self.call("task.get_status", task) != "pending")
        self.assertEqual(self.state(vm), "Halted")
        self.assertEqual(self.call("VM.get_current_operations", vm), {})

    def test_force_over_a_clean_reboot(self):
        vm = self.running(other_config={"sim:shutdown": "hang"})
        domid = self.call("VM.get_domid", vm)
        task = self.call("Async.VM.clean_reboot", vm)
        eventually(lambda: self.call("VM.get_current_operations", vm) != {})
        self.call("VM.hard_reboot", vm)
        eventually(lambda: self.call("task.get_status", task) != "pending")
        self.assertEqual(self.state(vm), "Running")
        self.assertGreater(self.call("VM.get_domid", vm), domid)
        record = self.call("VM.get_record", vm)
        self.assertEqual((len(record["consoles"]), record["current_operations"]), (1, {}))
        uuid = record["uuid"]
        self.assertEqual([d["domid"] for d in self.sim("state")["domains"] if d["uuid"] == uuid], [record["domid"]])

    def test_guest_metrics_outlive_a_suspend(self):
        vm = self.running()
        eventually(lambda: self.call("VM.get_guest_metrics", vm) != "OpaqueRef:NULL")
        metrics = self.call("VM.get_guest_metrics", vm)
        self.call("VM.suspend", vm)
        self.assertFalse(self.call("VM_guest_metrics.get_live", metrics))
        self.call("VM.resume", vm, False, False)
        self.assertEqual(self.call("VM.get_guest_metrics", vm), metrics)
        self.call("VM.hard_reboot", vm)
        self.assertNotEqual(self.call("VM.get_guest_metrics", vm), metrics)

    def test_guest_metrics(self):
        vm = self.running()
        self.guest(vm, "metrics", os_version='{"name": "Sim 1"}', PV_drivers_version='{"major": "8"}',
                   networks='{"0/ip": "192.0.2.7"}')

        def record():
            ref = self.call("VM.get_guest_metrics", vm)
            return self.call("VM_guest_metrics.get_record", ref) if ref != "OpaqueRef:NULL" else {}
        eventually(lambda: record().get("os_version") == {"name": "Sim 1"})
        self.assertEqual((record()["live"], record()["PV_drivers_detected"], record()["networks"]),
                         (True, True, {"0/ip": "192.0.2.7"}))
        self.call("VM.hard_shutdown", vm)
        self.assertEqual((record()["live"], record()["os_version"]), (False, {"name": "Sim 1"}))


class Patience(Case):
    conf = {"tasks": {"clean-shutdown-timeout": 60}}

    def test_cancelled_shutdown(self):
        vm = self.running(other_config={"sim:shutdown": "hang"})
        task = self.call("Async.VM.shutdown", vm)
        time.sleep(0.2)
        self.call("task.cancel", task)
        with self.assertRaises(Failure) as caught:
            self.s.wait(task)
        self.assertEqual(caught.exception.code, "TASK_CANCELLED")
        self.assertEqual(self.state(vm), "Running")


class Devices(Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.sr = cls.call("pool.get_default_SR", cls.call("pool.get_all")[0])
        cls.network = cls.call("network.get_all")[0]

    def vdi(self, **more):
        vdi = self.call("VDI.create", {"name_label": "disk", "SR": self.sr, "virtual_size": 4 * MIB, "type": "user",
                                       "sharable": False, "read_only": False, **more})
        return vdi

    def vbd(self, vm, vdi, **more):
        return self.call("VBD.create", {"VM": vm, "VDI": vdi, "userdevice": "autodetect", "mode": "RW", "type": "Disk",
                                        "bootable": True, "empty": False, **more})

    def drive(self, vm, **more):
        return self.vbd(vm, "OpaqueRef:NULL", **{"type": "CD", "mode": "RO", "empty": True, **more})

    def vif(self, vm, **more):
        return self.call("VIF.create", {"VM": vm, "network": self.network, "device": "0", "MAC": "", "MTU": 1500, **more})

    def test_places(self):
        vm, vdi = self.vm(), self.vdi()
        self.assertEqual(self.call("VM.get_allowed_VBD_devices", vm)[:3], ["0", "1", "2"])
        vbd = self.vbd(vm, vdi)
        self.assertEqual((self.call("VBD.get_userdevice", vbd), self.call("VBD.get_device", vbd)), ("0", "xvda"))
        for same in ("0", "xvda", "hda"):
            self.assert_vbd_fails(["DEVICE_ALREADY_EXISTS", same], vm, vdi, userdevice=same)
        for bad in ("hello", "-1", "01", "xvd", "xvda0x", "999999999999"):
            self.assert_vbd_fails(["INVALID_DEVICE", bad], vm, vdi, userdevice=bad)
        self.assertEqual(self.call("VBD.get_device", self.vbd(vm, vdi, userdevice="hdc")), "hdc")
        self.assertEqual(self.call("VM.get_allowed_VBD_devices", vm)[:3], ["1", "3", "4"])
        self.assert_vbd_fails(["VBD_CDS_MUST_BE_READONLY"], vm, vdi, type="CD")
        self.assert_vbd_fails(["OPERATION_NOT_ALLOWED", None], vm, vdi, empty=True)
        self.assert_vbd_fails(["HANDLE_INVALID", "VDI", "OpaqueRef:NULL"], vm, "OpaqueRef:NULL")
        self.assertEqual(len(self.call("VM.get_VBDs", vm)), 2)

    def assert_vbd_fails(self, expected, vm, vdi, **more):
        with self.assertRaises(Failure) as caught:
            self.vbd(vm, vdi, **more)
        got = [caught.exception.code, *caught.exception.params]
        self.assertEqual([e if e is not None else g for e, g in zip(expected, got)], got)

    def test_plug(self):
        vm = self.vm()
        vbd = self.vbd(vm, self.vdi())
        self.fails(["VM_BAD_POWER_STATE", vm, "running", "halted"], "VBD.plug", vbd)
        self.assertEqual(self.call("VBD.get_allowed_operations", vbd), ["attach"])
        self.call("VM.start", vm, False, False)
        self.assertTrue(self.call("VBD.get_currently_attached", vbd))
        self.assertEqual(set(self.call("VBD.get_allowed_operations", vbd)), {"unplug", "unplug_force"})
        self.fails(["DEVICE_ALREADY_ATTACHED", vbd], "VBD.plug", vbd)
        self.fails(["OPERATION_NOT_ALLOWED", None], "VBD.destroy", vbd)
        self.call("VBD.unplug", vbd)
        self.fails(["DEVICE_ALREADY_DETACHED", vbd], "VBD.unplug", vbd)
        self.call("VBD.assert_attachable", vbd)
        self.call("VBD.plug", vbd)
        self.call("VBD.unplug_force", vbd)
        other = self.vbd(vm, self.vdi())
        self.assertFalse(self.call("VBD.get_currently_attached", other))
        self.s.wait(self.call("Async.VBD.plug", other))
        self.call("VM.hard_shutdown", vm)
        self.assertFalse(self.call("VBD.get_currently_attached", other))
        self.call("VBD.destroy", other)
        self.assertEqual(self.call("VM.get_VBDs", vm), [vbd])

    def test_shut_down_while_plugging(self):
        vm = self.running()
        vbd, vif = self.vbd(vm, self.vdi()), self.vif(vm)
        for device, method in ((vbd, "VBD.plug"), (vif, "VIF.plug")):
            self.sim("fault", method="domain." + method.lower().replace(".", "_"), kind="slow", count="1", ms="400")
            task = self.call("Async." + method, device)
            time.sleep(0.1)
            self.call("VM.hard_shutdown", vm)
            eventually(lambda t=task: self.call("task.get_status", t) != "pending")
            self.assertEqual(self.state(vm), "Halted")
            self.assertFalse(self.call(method.split(".")[0] + ".get_currently_attached", device))
            self.call("VM.start", vm, False, False)
            self.call(method.replace("plug", "unplug"), device)

    def test_one_writer(self):
        vdi = self.vdi()
        one, two = self.vm(), self.vm()
        self.vbd(one, vdi)
        vbd = self.vbd(two, vdi)
        before = self.call("VM.get_record", two)
        self.call("VM.start", one, False, False)
        self.assertEqual(set(self.call("VDI.get_allowed_operations", vdi)) & {"destroy", "resize", "snapshot"},
                         {"resize", "snapshot"})
        self.fails(["VDI_IN_USE", vdi, "destroy"], "VDI.destroy", vdi)
        self.fails(["VDI_IN_USE", vdi, "start"], "VM.start", two, False, False)
        self.assertEqual(self.call("VM.get_record", two), before)
        self.fails(["VDI_IN_USE", vdi, "attach"], "VBD.assert_attachable", vbd)
        self.call("VM.clean_shutdown", one)
        self.call("VM.start", two, False, False)
        self.fails(["VDI_IN_USE", vdi, "start"], "VM.start", one, False, False)

    def test_two_at_once(self):
        vdi = self.vdi()
        vms = [self.vm(), self.vm()]
        for vm in vms:
            self.vbd(vm, vdi)
        tasks = [self.call("Async.VM.start", vm, False, False) for vm in vms]
        outcomes = []
        for task in tasks:
            try:
                self.s.wait(task)
                outcomes.append("success")
            except Failure as e:
                outcomes.append(e.code)
        self.assertEqual(sorted(outcomes), ["VDI_IN_USE", "success"])
        self.assertEqual(sorted(map(self.state, vms)), ["Halted", "Running"])

    def test_readers_share(self):
        vdi = self.vdi(read_only=True)
        vms = [self.vm(), self.vm()]
        for vm in vms:
            self.vbd(vm, vdi, mode="RO")
            self.call("VM.start", vm, False, False)
        self.assert_vbd_fails(["VDI_READONLY", vdi], vms[0], vdi)

    def test_missing_disk(self):
        vm, vdi = self.vm(), self.vdi()
        vbd = self.vbd(vm, vdi)
        self.call("VDI.destroy", vdi)
        if self.call("VM.get_VBDs", vm) == [vbd]:
            self.fails(["VM_REQUIRES_VDI", vm, vdi], "VM.start", vm, False, False)

    def test_media(self):
        vm, iso = self.vm(), self.vdi(read_only=True)
        disk, drive = self.vbd(vm, self.vdi()), self.drive(vm, userdevice="3")
        self.fails(["VBD_NOT_REMOVABLE_MEDIA", disk], "VBD.insert", disk, iso)
        self.fails(["VBD_IS_EMPTY", drive], "VBD.eject", drive)
        self.assertEqual(set(self.call("VBD.get_allowed_operations", drive)), {"attach", "insert"})
        self.call("VBD.insert", drive, iso)
        self.assertEqual((self.call("VBD.get_VDI", drive), self.call("VBD.get_empty", drive)), (iso, False))
        self.fails(["VBD_NOT_EMPTY", drive], "VBD.insert", drive, iso)
        self.call("VM.start", vm, False, False)
        self.call("VBD.eject", drive)
        self.assertEqual((self.call("VBD.get_VDI", drive), self.call("VBD.get_empty", drive)), ("OpaqueRef:NULL", True))
        self.call("VBD.insert", drive, iso)
        self.call("VBD.media_change", drive, iso)
        self.fails(["HANDLE_INVALID", "VDI", "OpaqueRef:gone"], "VBD.media_change", drive, "OpaqueRef:gone")

    def test_clone_and_copy(self):
        vm = self.vm()
        vdi = self.vdi()
        self.vbd(vm, vdi)
        self.drive(vm)
        vif = self.vif(vm)
        for method, args in (("clone", ()), ("copy", ("",)), ("copy", (self.sr,))):
            twin = self.call("VM." + method, vm, "twin", *args)
            self.addCleanup(self.clear, twin)
            record = self.call("VM.get_record", twin)
            self.assertEqual((len(record["VBDs"]), len(record["VIFs"])), (2, 1))
            disks = {self.call("VBD.get_VDI", v) for v in record["VBDs"]} - {"OpaqueRef:NULL"}
            self.assertEqual(len(disks), 1)
            self.assertNotIn(vdi, disks)
            self.assertNotEqual(self.call("VIF.get_MAC", record["VIFs"][0]), self.call("VIF.get_MAC", vif))
            self.call("VM.start", twin, False, False)
        self.call("VM.start", vm, False, False)

    def test_failed_clone_leaves_nothing(self):
        vm = self.vm()
        self.vbd(vm, self.vdi())
        self.vbd(vm, self.vdi())
        before = (self.call("VM.get_all"), set(self.call("VDI.get_all")))
        self.sim("fault", method="vdi.clone", kind="slow", count="1", ms="1")
        self.sim("fault", method="vdi.clone", kind="fail", count="1", code="SR_FULL", params='["1", "0"]')
        with self.assertRaises(Failure):
            self.call("VM.clone", vm, "twin")
        self.assertEqual((self.call("VM.get_all"), set(self.call("VDI.get_all"))), before)
        self.assertEqual(self.call("VM.get_current_operations", vm), {})

    def test_snapshot_and_revert(self):
        vm = self.running()
        vbd = self.vbd(vm, self.vdi())
        self.vif(vm)
        snapshot = self.call("VM.snapshot", vm, "before", [])
        self.addCleanup(self.clear, snapshot)
        record = self.call("VM.get_record", snapshot)
        self.assertEqual((record["is_a_snapshot"], record["snapshot_of"], record["name_label"], record["power_state"]),
                         (True, vm, "before", "Halted"))
        self.assertEqual(self.call("VM.get_snapshots", vm), [snapshot])
        self.assertEqual(self.call("VM.get_parent", vm), snapshot)
        self.fails(["VM_IS_TEMPLATE", snapshot], "VM.start", snapshot, False, False)
        self.allows(snapshot, {"revert", "clone", "destroy"}, {"start", "provision"})
        self.call("VM.set_VCPUs_number_live", vm, 2)
        self.call("VM.revert", snapshot)
        record = self.call("VM.get_record", vm)
        self.assertEqual((record["power_state"], record["VCPUs_at_startup"], record["name_label"]), ("Halted", 1, "guest"))
        self.assertEqual((len(record["VBDs"]), len(record["VIFs"])), (1, 1))
        self.assertNotEqual(record["VBDs"], [vbd])
        self.call("VM.start", vm, False, False)
        self.call("VM.destroy", snapshot)
        self.assertEqual(self.call("VM.get_snapshots", vm), [])

    def test_provision(self):
        sr = self.call("SR.get_uuid", self.sr)
        vm = self.vm(is_a_template=True, other_config={
            "disks": f'<provision><disk device="0" size="4194304" sr="{sr}" bootable="true" type="system"/>'
                     '<disk device="1" size="4194304" sr="" bootable="false" type="user"/></provision>'})
        self.call("VM.provision", vm)
        record = self.call("VM.get_record", vm)
        self.assertEqual((record["is_a_template"], len(record["VBDs"]), "disks" in record["other_config"]), (False, 2, False))
        self.assertEqual([self.call("VBD.get_userdevice", v) for v in record["VBDs"]], ["0", "1"])
        self.call("VM.start", vm, False, False)
        bad = self.vm(is_a_template=True, other_config={"disks": "<provision><disk"})
        self.fails(["INVALID_VALUE", "other_config:disks", None], "VM.provision", bad)

    def test_interfaces(self):
        vm = self.vm()
        vif = self.vif(vm)
        record = self.call("VIF.get_record", vif)
        self.assertRegex(record["MAC"], "^[0-9a-f][26ae](:[0-9a-f]{2}){5}$")
        self.assertTrue(record["MAC_autogenerated"])
        for expected, more in ((["DEVICE_ALREADY_EXISTS", "0"], {}), (["INVALID_DEVICE", "eth1"], {"device": "eth1"}),
                               (["MAC_INVALID", "01:00:00:00:00:01"], {"device": "1", "MAC": "01:00:00:00:00:01"}),
                               (["MAC_INVALID", "nonsense"], {"device": "1", "MAC": "nonsense"}),
                               (["HANDLE_INVALID", "network", "OpaqueRef:none"], {"device": "1", "network": "OpaqueRef:none"})):
            with self.assertRaises(Failure) as caught:
                self.vif(vm, **more)
            self.assertEqual([caught.exception.code, *caught.exception.params], expected)
        fixed = self.vif(vm, device="1", MAC="00:16:3e:01:02:03")
        self.assertEqual(self.call("VIF.get_MAC", fixed), "00:16:3e:01:02:03")
        self.assertEqual(self.call("VM.get_allowed_VIF_devices", vm)[0], "2")
        self.fails(["VM_BAD_POWER_STATE", vm, "running", "halted"], "VIF.plug", vif)
        self.call("VM.start", vm, False, False)
        self.fails(["DEVICE_ALREADY_ATTACHED", vif], "VIF.plug", vif)
        self.fails(["OPERATION_NOT_ALLOWED", None], "VIF.destroy", vif)
        self.call("VIF.unplug", vif)
        self.fails(["DEVICE_ALREADY_DETACHED", vif], "VIF.unplug", vif)
        self.call("VIF.plug", vif)
        self.call("VIF.unplug_force", vif)
        self.call("VIF.destroy", vif)
        again = self.vif(vm)
        self.assertEqual(self.call("VIF.get_MAC", again), record["MAC"])

    def test_interface_settings(self):
        vm = self.vm()
        vif = self.vif(vm)
        self.call("VM.start", vm, False, False)
        self.call("VIF.set_locking_mode", vif, "locked")
        self.call("VIF.set_ipv4_allowed", vif, ["192.0.2.1"])
        self.call("VIF.add_ipv4_allowed", vif, "192.0.2.2")
        self.call("VIF.remove_ipv4_allowed", vif, "192.0.2.1")
        self.assertEqual(self.call("VIF.get_ipv4_allowed", vif), ["192.0.2.2"])
        self.fails(["INVALID_IP_ADDRESS_SPECIFIED", "ipv4_allowed"], "VIF.add_ipv4_allowed", vif, "::1")
        self.call("VIF.add_ipv6_allowed", vif, "2001:db8::1")
        self.call("VIF.configure_ipv4", vif, "Static", "192.0.2.9/24", "192.0.2.254")
        self.assertEqual(self.call("VIF.get_ipv4_addresses", vif), ["192.0.2.9/24"])
        self.fails(["INVALID_CIDR_ADDRESS_SPECIFIED", "address"], "VIF.configure_ipv4", vif, "Static", "192.0.2.9", "")
        network = self.call("network.create", {"name_label": "other"})
        self.call("VIF.move", vif, network)
        self.assertEqual(self.call("VIF.get_network", vif), network)

    def test_destroyed_with_its_devices(self):
        vm = self.vm()
        vbd, vif = self.drive(vm), self.vif(vm)
        self.call("VM.destroy", vm)
        self.fails(["HANDLE_INVALID", "VBD", vbd], "VBD.get_VM", vbd)
        self.fails(["HANDLE_INVALID", "VIF", vif], "VIF.get_VM", vif)


class Backend(Case):
    allow_crash = True
    conf = {"tasks": {"clean-shutdown-timeout": 5, "workers": 64, "max-pending": 2000, "max-pending-per-session": 2000},
            "sim": {"start-ms": 100, "memory": 65536}}

    def truth(self):
        powers = {"running": "Running", "paused": "Paused"}
        return {d["uuid"]: powers.get(d["power"], "Running") for d in self.sim("state")["domains"]}

    def assert_true(self, vms):
        truth = self.truth()
        for vm in vms:
            record = self.call("VM.get_record", vm)
            expected = truth.get(record["uuid"], "Suspended" if record["power_state"] == "Suspended" else "Halted")
            self.assertEqual(record["power_state"], expected, record["name_label"])
            self.assertEqual(record["domid"] != -1, record["power_state"] in ("Running", "Paused"))
            self.assertEqual(record["current_operations"], {})

    def kill_helper(self):
        pid = self.server.pid_of("xenapid-sim")
        os.kill(pid, signal.SIGKILL)

        def back():
            try:
                return self.server.pid_of("xenapid-sim") != pid
            except (LookupError, OSError):
                return False
        eventually(back)

    def test_killed_in_the_middle(self):
        rng = random.Random(1)
        vms = [self.vm(name_label=f"vm{i}") for i in range(50)]
        for vm in vms[25:]:
            self.call("VM.start", vm, False, False)
        tasks = []
        for round_ in range(2):
            for vm in vms:
                ops = [o for o in ("start", "clean_shutdown", "hard_shutdown", "clean_reboot", "pause", "unpause", "suspend",
                                   "resume") if o in self.call("VM.get_allowed_operations", vm)]
                if not ops:
                    continue
                op = rng.choice(ops)
                tasks.append(self.call("Async.VM." + op, vm, *((False, False) if op in ("start", "resume") else ())))
            if round_ == 0:
                time.sleep(0.15)
                self.kill_helper()
        for task in tasks:
            try:
                self.s.wait(task)
            except Failure:
                pass
        eventually(lambda: self.call("VM.get_all") is not None)
        time.sleep(0.5)
        self.assert_true(vms)

    def test_synchronous_callers_are_answered(self):
        vms = [self.vm(other_config={"sim:start-ms": "3000"}) for _ in range(10)]
        answers = []

        def start(vm):
            body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "VM.start", "params": [self.s.ref, vm, False, False]})
            status, _, text = self.server.request("POST", "/jsonrpc", body, {"Content-Type": "application/json"})
            answers.append((status, json.loads(text)))

        threads = [threading.Thread(target=start, args=(vm,)) for vm in vms]
        for t in threads:
            t.start()
        time.sleep(0.5)
        self.kill_helper()
        for t in threads:
            t.join(30)
        self.assertEqual([s for s, _ in answers], [200] * len(vms))
        self.assert_true(vms)

    def test_died_with_the_work_done(self):
        vm = self.vm()
        self.sim("fault", method="domain.start", kind="die", count="1", uuid=self.call("VM.get_uuid", vm), after="true")
        try:
            self.call("VM.start", vm, False, False)
        except Failure:
            pass
        eventually(lambda: "reconcile" not in str(self.call("task.get_all_records")))
        self.assert_true([vm])

    def test_restart_of_the_front(self):
        running, halted = self.running(), self.vm()
        paused = self.running()
        self.call("VM.pause", paused)
        os.kill(self.server.pid_of("xenapid-front"), signal.SIGKILL)

        def back():
            try:
                type(self).s = self.server.login()
                return True
            except Exception:  # whatever a server says that is not there
                self.server._connections.clear()
                return False
        eventually(back, 30)
        self.assertEqual([self.state(v) for v in (running, halted, paused)], ["Running", "Halted", "Paused"])
        self.assert_true([running, halted, paused])


class Autostart(unittest.TestCase):
    def test_autostart(self):
        server = Server().start()
        try:
            s = server.login()
            make = lambda **more: s.call("VM.create", {"name_label": "x", "memory_static_max": 64 * MIB, "VCPUs_max": 1, **more})
            wanted = [make(other_config={"auto_poweron": "true"}), make(auto_power_on=True)]
            other = make()
            server.stop()
            server.start()
            s = server.login()
            time.sleep(0.3)
            states = lambda: [s.call("VM.get_power_state", vm) for vm in (*wanted, other)]
            self.assertEqual(states(), ["Halted"] * 3)  # the daemon was restarted, the host was not
            server.stop()
            for name in os.listdir(server.runtime_dir):
                if name.startswith("sim"):
                    os.unlink(os.path.join(server.runtime_dir, name))
            time.sleep(1.1)
            server.start()
            s = server.login()
            eventually(lambda: states() == ["Running", "Running", "Halted"])
        finally:
            server.stop()
            server.clean()


if __name__ == "__main__":
    unittest.main()
