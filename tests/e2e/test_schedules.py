"""Snapshot schedules (VMSS), also by the clock, and appliances: VMs that start and stop together."""
import time

from harness import Failure, eventually
from test_snapshots import A, B, Case, NULL


class Schedule(Case):
    def schedule(self, **more):
        vmss = self.call("VMSS.create", {"name_label": "nightly", "name_description": "", "enabled": False, "type": "snapshot",
                                         "retained_snapshots": 7, "frequency": "daily", "schedule": {}, **more})
        self.addCleanup(self.drop, vmss)
        return vmss

    def drop(self, vmss):
        try:
            for vm in self.call("VMSS.get_VMs", vmss):
                self.call("VM.set_snapshot_schedule", vm, NULL)
            self.call("VMSS.destroy", vmss)
        except Failure as f:
            self.assertEqual(f.code, "HANDLE_INVALID")

    def of(self, vm):
        return [s for s in self.call("VM.get_snapshots", vm) if self.call("VM.get_is_vmss_snapshot", s)]


class Records(Schedule):
    def test_create_fills_in_what_was_left_out(self):
        for frequency, wanted in (("hourly", {"min": "0"}), ("daily", {"min": "0", "hour": "0"}),
                                  ("weekly", {"min": "0", "hour": "0", "days": "monday"})):
            vmss = self.schedule(frequency=frequency)
            self.assertEqual(self.call("VMSS.get_schedule", vmss), wanted)
        r = self.call("VMSS.get_record", vmss)
        self.assertEqual((r["last_run_time"], r["VMs"], int(r["retained_snapshots"])), ("19700101T00:00:00Z", [], 7))

    def test_what_no_schedule_can_say(self):
        before = set(self.call("VMSS.get_all"))
        good = {"name_label": "x", "name_description": "", "enabled": True, "type": "snapshot", "retained_snapshots": 1,
                "frequency": "weekly", "schedule": {"min": "30", "hour": "23", "days": "Monday, sunday"}}
        for more, fault in (({"retained_snapshots": 0}, ["retained_snapshots", "0"]),
                            ({"retained_snapshots": 11}, ["retained_snapshots", "11"]),
                            ({"schedule": {"min": "60"}}, ["schedule:min", "60"]),
                            ({"schedule": {"min": "-1"}}, ["schedule:min", "-1"]),
                            ({"schedule": {"min": ""}}, ["schedule:min", ""]),
                            ({"schedule": {"hour": "24"}}, ["schedule:hour", "24"]),
                            ({"schedule": {"hour": "1x"}}, ["schedule:hour", "1x"]),
                            ({"schedule": {"days": "monday,noday"}}, ["schedule:days", "monday,noday"]),
                            ({"schedule": {"days": ""}}, ["schedule:days", ""]),
                            ({"schedule": {"second": "1"}}, ["schedule", "second"]),
                            ({"type": "snapshot_with_quiesce"}, ["type", "snapshot_with_quiesce"])):
            self.fails(["INVALID_VALUE", *fault], "VMSS.create", {**good, **more})
        self.assertEqual(set(self.call("VMSS.get_all")), before)
        for field in ("frequency", "type"):
            with self.assertRaises(Failure):
                self.call("VMSS.create", {**good, field: "yearly"})
        self.drop(self.call("VMSS.create", good))

    def test_setters_check_too(self):
        vmss = self.schedule()
        self.fails(["INVALID_VALUE", "retained_snapshots", "0"], "VMSS.set_retained_snapshots", vmss, 0)
        self.fails(["INVALID_VALUE", "schedule:hour", "24"], "VMSS.set_schedule", vmss, {"hour": "24"})
        self.fails(["INVALID_VALUE", "schedule:min", "99"], "VMSS.add_to_schedule", vmss, "min", "99")
        self.fails(["MAP_DUPLICATE_KEY", "VMSS", "schedule", None, "min"], "VMSS.add_to_schedule", vmss, "min", "9")
        self.fails(["INVALID_VALUE", "type", None], "VMSS.set_type", vmss, "snapshot_with_quiesce")
        self.call("VMSS.remove_from_schedule", vmss, "min")
        self.call("VMSS.remove_from_schedule", vmss, "min")
        self.call("VMSS.add_to_schedule", vmss, "min", "45")
        self.call("VMSS.set_frequency", vmss, "weekly")
        self.assertEqual(self.call("VMSS.get_schedule", vmss), {"min": "45", "hour": "0", "days": "monday"})
        self.call("VMSS.set_retained_snapshots", vmss, 10)
        self.call("VMSS.set_type", vmss, "checkpoint")
        self.call("VMSS.set_last_run_time", vmss, "20240101T00:00:00Z") if self.s.kind == "unix" else None

    def test_which_VMs(self):
        vmss, vm, template = self.schedule(), self.vm(), self.vm(is_a_template=True)
        self.call("VM.set_snapshot_schedule", vm, vmss)
        self.assertEqual(self.call("VMSS.get_VMs", vmss), [vm])
        self.fails(["VMSS_HAS_VM"], "VMSS.destroy", vmss)
        self.fails(["VM_IS_TEMPLATE", template], "VM.set_snapshot_schedule", template, vmss)
        self.fails(["HANDLE_INVALID", "VMSS", "OpaqueRef:x"], "VM.set_snapshot_schedule", vm, "OpaqueRef:x")
        dom0 = next(r for r in self.call("VM.get_all") if self.call("VM.get_is_control_domain", r))
        self.fails(["OPERATION_NOT_ALLOWED", None], "VM.set_snapshot_schedule", dom0, vmss)
        twin = self.call("VM.clone", vm, "twin")
        self.addCleanup(self.clear, twin)
        self.assertEqual(self.call("VM.get_snapshot_schedule", twin), NULL)
        self.call("VM.set_snapshot_schedule", vm, NULL)
        self.call("VMSS.destroy", vmss)


class Runs(Schedule):
    def test_now(self):
        vmss = self.schedule(retained_snapshots=2)
        one, two, other = self.guest_with("qcow2"), self.guest_with("raw"), self.guest_with("raw")
        self.call("VM.start", two, False, False)
        for vm in (one, two):
            self.call("VM.set_snapshot_schedule", vm, vmss)
        self.write(one, A)
        self.assertEqual(self.call("VMSS.snapshot_now", vmss), "2 snapshots were taken, 0 failed")
        self.assertNotEqual(self.call("VMSS.get_last_run_time", vmss), "19700101T00:00:00Z")
        first, = self.of(one)
        r = self.call("VM.get_record", first)
        self.assertEqual((r["is_a_snapshot"], r["power_state"], r["snapshot_schedule"], r["appliance"]),
                         (True, "Halted", NULL, NULL))
        self.assertIn("nightly", r["name_label"])
        self.write(one, B)
        self.call("VM.revert", first)
        self.check(one, A)
        self.assertEqual(self.call("VM.get_snapshot_schedule", one), vmss)
        self.assertEqual(self.of(other), [])
        self.agree()

    def test_only_so_many_are_kept(self):
        vmss, vm = self.schedule(retained_snapshots=2), self.guest_with("qcow2", "raw")
        by_hand = self.call("VM.snapshot", vm, "mine", [])
        self.call("VM.set_snapshot_schedule", vm, vmss)
        seen = []
        for i in range(4):
            self.call("VMSS.snapshot_now", vmss)
            seen += sorted(set(self.of(vm)) - set(seen))
            self.assertEqual(set(self.of(vm)), set(seen[-2:]))
        self.assertIn(by_hand, self.call("VM.get_snapshots", vm))
        self.assertEqual(len(self.call("VDI.get_all")), 2 * 4)
        self.call("VM.add_to_blocked_operations", seen[-2], "destroy", "keep it")
        self.call("VMSS.snapshot_now", vmss)
        self.assertEqual(len(self.of(vm)), 3)
        self.call("VM.remove_from_blocked_operations", seen[-2], "destroy")
        self.call("VMSS.set_retained_snapshots", vmss, 1)
        self.call("VMSS.snapshot_now", vmss)
        self.assertEqual(len(self.of(vm)), 1)
        self.agree()

    def test_with_memory(self):
        vmss = self.schedule(type="checkpoint", retained_snapshots=1)
        running, halted = self.guest_with("qcow2"), self.guest_with("qcow2")
        self.call("VM.start", running, False, False)
        for vm in (running, halted):
            self.call("VM.set_snapshot_schedule", vm, vmss)
        for _ in range(2):
            self.call("VMSS.snapshot_now", vmss)
        self.assertEqual([self.state(*self.of(vm)) for vm in (running, halted)], ["Suspended", "Halted"])
        self.assertEqual(self.state(running), "Running")
        self.agree()

    def test_a_VM_that_fails_does_not_keep_the_others(self):
        vmss = self.schedule()
        bad, good = self.guest_with("qcow2"), self.guest_with("qcow2")
        for vm in (bad, good):
            self.call("VM.set_snapshot_schedule", vm, vmss)
        self.call("VM.add_to_blocked_operations", bad, "snapshot", "no")
        self.assertEqual(self.call("VMSS.snapshot_now", vmss), "1 snapshots were taken, 1 failed")
        self.assertEqual([len(self.of(v)) for v in (bad, good)], [0, 1])
        message = [m for m in self.call("message.get_all_records").values() if m["cls"] == "VMSS"][-1]
        self.assertEqual((message["name"], message["obj_uuid"]), ("VMSS_SNAPSHOT_FAILED", self.call("VMSS.get_uuid", vmss)))
        self.assertIn("OPERATION_BLOCKED", message["body"])


class Clock(Schedule):
    def test_by_the_clock(self):
        """One minute for all: what is due in the next one runs once, nothing else does."""
        if time.localtime().tm_sec > 50:
            time.sleep(11)
        due = time.localtime(time.time() + 60)
        day, other_day = time.strftime("%A", due).lower(), time.strftime("%A", time.localtime(time.time() + 2 * 86400)).lower()
        at = {"min": str(due.tm_min), "hour": str(due.tm_hour)}
        runs = [("hourly", {"min": at["min"]}, True), ("daily", at, True), ("weekly", {**at, "days": f"{other_day},{day}"}, True)]
        stays = [("hourly", {"min": at["min"]}, False), ("weekly", {**at, "days": other_day}, True),
                 ("daily", {"min": at["min"], "hour": str((due.tm_hour + 2) % 24)}, True),
                 ("hourly", {"min": str((due.tm_min + 30) % 60)}, True)]
        vms = {}
        for i, (frequency, schedule, enabled) in enumerate(runs + stays):
            vmss = self.schedule(frequency=frequency, schedule=schedule, enabled=enabled)
            vm = self.vm(name_label=f"{i}")
            self.call("VM.set_snapshot_schedule", vm, vmss)
            vms[vm] = vmss
        before = time.time()
        eventually(lambda: all(len(self.of(vm)) == 1 for vm in list(vms)[:3]), 75)
        time.sleep(2)
        self.assertEqual([len(self.of(vm)) for vm in vms], [1] * 3 + [0] * 4)
        last = self.call("VMSS.get_last_run_time", list(vms.values())[0])
        self.assertGreaterEqual(last, time.strftime("%Y%m%dT%H:%M:%SZ", time.gmtime(before)))
        self.assertEqual(self.call("VMSS.get_last_run_time", list(vms.values())[-1]), "19700101T00:00:00Z")
        # Another run in the same minute, and a restart: it is not made up for, nor done twice.
        self.server.stop()
        self.server.start()
        type(self).s = self.server.login()
        self.attach()
        time.sleep(2)
        self.assertEqual([len(self.of(vm)) for vm in vms], [1] * 3 + [0] * 4)


class Appliances(Case):
    def appliance(self, *vms):
        a = self.call("VM_appliance.create", {"name_label": "shop", "name_description": ""})
        for vm in vms:
            self.call("VM.set_appliance", vm, a)
        self.addCleanup(self.drop, a)
        return a

    def drop(self, a):
        try:
            self.call("VM_appliance.destroy", a)
        except Failure as f:
            self.assertEqual(f.code, "HANDLE_INVALID")

    def three(self):
        """Database, two servers beside each other, front."""
        vms = [self.vm(name_label=n) for n in ("db", "web1", "web2", "front")]
        for vm, order in zip(vms, (0, 1, 1, 5)):
            self.call("VM.set_order", vm, order)
        return vms

    def states(self, vms):
        return [self.state(vm) for vm in vms]

    def record_order(self, vms, state):
        """Watches until all are in that state: the time of each."""
        times, end = {}, time.monotonic() + 30
        session = self.server.login(kind="unix")
        while len(times) < len(vms) and time.monotonic() < end:
            for vm in vms:
                if vm not in times and session.call("VM.get_power_state", vm) == state:
                    times[vm] = time.monotonic()
            time.sleep(0.005)
        return [times[vm] for vm in vms]

    def test_members(self):
        vms = self.three()
        a = self.appliance(*vms)
        self.assertEqual(set(self.call("VM_appliance.get_VMs", a)), set(vms))
        self.assertEqual(self.call("VM_appliance.get_allowed_operations", a), ["start"])
        self.fails(["OPERATION_NOT_ALLOWED", None], "VM_appliance.clean_shutdown", a)
        self.fails(["HANDLE_INVALID", "VM_appliance", "OpaqueRef:x"], "VM.set_appliance", vms[0], "OpaqueRef:x")
        for field in ("order", "start_delay", "shutdown_delay"):
            self.fails(["INVALID_VALUE", field, "-1"], f"VM.set_{field}", vms[0], -1)
        for vm in vms:
            self.call("VM.set_appliance", vm, NULL)
        self.assertEqual(self.call("VM_appliance.get_allowed_operations", a), [])
        self.fails(["OPERATION_NOT_ALLOWED", None], "VM_appliance.start", a, False)
        self.call("VM.set_appliance", vms[0], a)
        twin = self.call("VM.clone", vms[0], "twin")
        self.addCleanup(self.clear, twin)
        self.assertEqual(self.call("VM.get_appliance", twin), NULL)
        self.call("VM_appliance.destroy", a)
        self.assertEqual(self.call("VM.get_appliance", vms[0]), NULL)

    def test_they_start_and_stop_in_order_with_delays(self):
        vms = self.three()
        self.call("VM.set_start_delay", vms[0], 1)
        self.call("VM.set_shutdown_delay", vms[2], 1)
        a = self.appliance(*vms)
        task = self.call("Async.VM_appliance.start", a, False)
        db, web1, web2, front = self.record_order(vms, "Running")
        self.s.wait(task)
        self.assertGreater(min(web1, web2), db + 0.9)
        self.assertLess(abs(web1 - web2), 0.9)
        self.assertGreater(front, max(web1, web2))
        self.assertEqual(set(self.call("VM_appliance.get_allowed_operations", a)), {"clean_shutdown", "hard_shutdown", "shutdown"})
        task = self.call("Async.VM_appliance.clean_shutdown", a)
        self.assertEqual(self.call("VM_appliance.get_allowed_operations", a), [])
        db, web1, web2, front = self.record_order(vms, "Halted")
        self.s.wait(task)
        self.assertLess(front, min(web1, web2))
        self.assertGreater(db, max(web1, web2) + 0.9)
        self.assertEqual(self.call("VM_appliance.get_current_operations", a), {})

    def test_paused_and_suspended_ones(self):
        vms = self.three()
        a = self.appliance(*vms)
        self.call("VM_appliance.start", a, True)
        self.assertEqual(self.states(vms), ["Paused"] * 4)
        self.call("VM_appliance.hard_shutdown", a)
        self.assertEqual(self.states(vms), ["Halted"] * 4)
        self.call("VM.start", vms[1], False, False)
        self.call("VM.suspend", vms[1])
        self.call("VM_appliance.start", a, False)
        self.assertEqual(self.states(vms), ["Running"] * 4)

    def test_a_start_that_fails_stops_there(self):
        vms = self.three()
        self.call("VM.add_to_other_config", vms[1], "sim:fail-start", "DOMAIN_BUILDER_ERROR,a,b,c")
        a = self.appliance(*vms)
        self.fails(["OPERATION_PARTIALLY_FAILED", "start"], "VM_appliance.start", a, False)
        self.assertEqual(self.states(vms), ["Running", "Halted", "Running", "Halted"])
        self.call("VM.remove_from_other_config", vms[1], "sim:fail-start")
        self.call("VM_appliance.start", a, False)
        self.assertEqual(self.states(vms), ["Running"] * 4)

    def test_a_guest_that_does_not_go(self):
        vms = self.three()
        a = self.appliance(*vms)
        self.call("VM.add_to_other_config", vms[3], "sim:shutdown", "hang")
        self.call("VM_appliance.start", a, False)
        self.fails(["OPERATION_PARTIALLY_FAILED", "clean_shutdown"], "VM_appliance.clean_shutdown", a)
        self.assertEqual(self.states(vms), ["Halted"] * 3 + ["Running"])
        self.call("VM_appliance.shutdown", a)
        self.assertEqual(self.states(vms), ["Halted"] * 4)

    def test_a_blocked_VM_and_one_in_use(self):
        vms = self.three()
        a = self.appliance(*vms)
        self.call("VM.add_to_blocked_operations", vms[3], "start", "not yet")
        self.fails(["OPERATION_PARTIALLY_FAILED", "start"], "VM_appliance.start", a, False)
        self.assertEqual(self.states(vms), ["Running"] * 3 + ["Halted"])

    def test_cancelled_between_two_places(self):
        vms = self.three()
        self.call("VM.set_start_delay", vms[0], 30)
        a = self.appliance(*vms)
        task = self.call("Async.VM_appliance.start", a, False)
        eventually(lambda: self.state(vms[0]) == "Running")
        self.fails(["OTHER_OPERATION_IN_PROGRESS", "VM_appliance", a, "start", task], "VM_appliance.hard_shutdown", a)
        self.call("task.cancel", task)
        with self.assertRaises(Failure) as f:
            self.s.wait(task)
        self.assertEqual(f.exception.code, "TASK_CANCELLED")
        self.assertEqual(self.states(vms), ["Running"] + ["Halted"] * 3)


del Case
