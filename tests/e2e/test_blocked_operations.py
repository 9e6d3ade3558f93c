"""blocked_operations: every operation that has a message is refused by it, and only that one."""
from harness import Failure
from test_snapshots import Case, MIB, NULL

HALTED = {
    "snapshot": ("VM.snapshot", "x", []), "clone": ("VM.clone", "x"), "copy": ("VM.copy", "x", NULL),
    "start": ("VM.start", False, False), "start_on": ("VM.start_on", None, False, False), "destroy": ("VM.destroy",),
    "make_into_template": ("VM.set_is_a_template", True), "changing_VCPUs": ("VM.set_VCPUs_max", 4),
    "changing_static_range": ("VM.set_memory_static_range", 0, 64 * MIB),
    "changing_dynamic_range": ("VM.set_memory_dynamic_range", 64 * MIB, 64 * MIB),
    "changing_memory_limits": ("VM.set_memory_limits", 0, 64 * MIB, 64 * MIB, 64 * MIB),
    "changing_shadow_memory": ("VM.set_HVM_shadow_multiplier", 1.5), "changing_NVRAM": ("VM.set_NVRAM", {}),
    "power_state_reset": ("VM.power_state_reset",), "query_services": ("VM.query_services",),
}
RUNNING = {
    "pause": ("VM.pause",), "suspend": ("VM.suspend",), "clean_shutdown": ("VM.clean_shutdown",),
    "clean_reboot": ("VM.clean_reboot",), "hard_shutdown": ("VM.hard_shutdown",), "hard_reboot": ("VM.hard_reboot",),
    "shutdown": ("VM.shutdown",), "checkpoint": ("VM.checkpoint", "x"), "snapshot": ("VM.snapshot", "x", []),
    "snapshot_with_quiesce": ("VM.snapshot_with_quiesce", "x"), "send_sysrq": ("VM.send_sysrq", "h"),
    "send_trigger": ("VM.send_trigger", "nmi"), "changing_VCPUs_live": ("VM.set_VCPUs_number_live", 1),
    "changing_memory_live": ("VM.set_memory_target_live", 64 * MIB),
    "awaiting_memory_live": ("VM.wait_memory_target_live",), "get_boot_record": ("VM.get_boot_record",),
}
PAUSED = {"unpause": ("VM.unpause",), "hard_shutdown": ("VM.hard_shutdown",), "checkpoint": ("VM.checkpoint", "x")}
SUSPENDED = {"resume": ("VM.resume", False, False), "resume_on": ("VM.resume_on", None, False, False),
             "destroy": ("VM.destroy",), "hard_shutdown": ("VM.hard_shutdown",), "checkpoint": ("VM.checkpoint", "x")}


class Blocked(Case):
    def refuses(self, vm, operations):
        before = self.state(vm)
        for op, (method, *args) in operations.items():
            args = [self.host if a is None else a for a in args]
            with self.subTest(op):
                self.call("VM.set_blocked_operations", vm, {op: f"no {op}"})
                self.assertNotIn(op, self.call("VM.get_allowed_operations", vm))
                self.fails(["OPERATION_BLOCKED", vm, f"no {op}"], method, vm, *args)
                if op != "make_into_template":  # a field's setter has no task
                    task = self.call(f"Async.{method}", vm, *args)
                    with self.assertRaises(Failure) as f:
                        self.s.wait(task)
                    self.assertEqual(f.exception.code, "OPERATION_BLOCKED")
                self.fails(["OPERATION_BLOCKED", vm, None], "VM.assert_operation_valid", vm, op)
                self.assertEqual((self.state(vm), self.call("VM.get_current_operations", vm)), (before, {}))
        self.call("VM.set_blocked_operations", vm, {})

    def test_in_every_power_state(self):
        vm = self.guest_with("qcow2")
        self.refuses(vm, HALTED)
        self.call("VM.start", vm, False, False)
        self.refuses(vm, RUNNING)
        self.call("VM.pause", vm)
        self.refuses(vm, PAUSED)
        self.call("VM.unpause", vm)
        self.call("VM.suspend", vm)
        self.refuses(vm, SUSPENDED)
        self.call("VM.resume", vm, False, False)

    def test_only_known_operations(self):
        vm = self.vm()
        with self.assertRaises(Failure):
            self.call("VM.add_to_blocked_operations", vm, "nonsense", "x")
        self.call("VM.add_to_blocked_operations", vm, "start", "x")
        self.fails(["MAP_DUPLICATE_KEY", "VM", "blocked_operations", None, "start"], "VM.add_to_blocked_operations", vm,
                   "start", "y")
        self.call("VM.remove_from_blocked_operations", vm, "start")
        self.call("VM.remove_from_blocked_operations", vm, "start")
        self.call("VM.start", vm, False, False)


del Case
