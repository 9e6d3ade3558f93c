"""CPU pools: described, activated, given and deprived of processors, moved into; and what survives."""
import os
import signal
import unittest

from harness import EachCase, Failure

MIB = 1 << 20


class Case(EachCase):
    conf = {"sim": {"cpus": 4}}

    @classmethod
    def log_in(cls):
        super().log_in()
        cls.cpus = {str(r["number"]): ref for ref, r in cls.call("host_cpu.get_all_records").items()}
        cls.first = cls.call("cpu_pool.get_by_name_label", "Pool-0")[0]

    def task(self, method, *args):
        task = self.call("Async." + method, *args)
        self.until(lambda: self.call("task.get_status", task) != "pending")
        record = self.call("task.get_record", task)
        if record["status"] != "success":
            raise Failure(record["error_info"])

    def free(self, *numbers):
        for n in numbers:
            self.call("cpu_pool.remove_host_CPU_live", self.first, self.cpus[str(n)])

    def make_pool(self, **more):
        return self.call("cpu_pool.create", {"name_label": "fast", "ncpu": "1", **more})

    def vm(self, pool="Pool-0"):
        vm = self.call("VM.create", {"name_label": "guest", "memory_static_max": str(64 * MIB)})
        self.call("VM.set_pool_name", vm, pool)
        return vm

    def numbers(self, pool):
        refs = self.call("cpu_pool.get_host_CPUs", pool)
        return sorted(n for n, ref in self.cpus.items() if ref in refs)


class Pools(Case):
    def test_first(self):
        record = self.call("cpu_pool.get_record", self.first)
        self.assertEqual((True, self.host, "credit2", 4),
                         (record["activated"], record["resident_on"], record["sched_policy"], len(record["host_CPUs"])))
        self.assertEqual([self.call("host.get_control_domain", self.host)], record["started_VMs"])
        self.assertEqual([self.first], self.call("host.get_resident_cpu_pools", self.host))
        self.assertEqual([self.first], self.call("host_cpu.get_cpu_pool", self.cpus["2"]))
        self.assertEqual([], self.call("host_cpu.get_unassigned_cpus"))
        self.fails("POOL_BAD_STATE", "cpu_pool.destroy", self.first)
        self.fails("POOL_BAD_STATE", "cpu_pool.activate", self.first)
        self.fails("POOL_BAD_STATE", "cpu_pool.deactivate", self.first)

    def test_life(self):
        pool = self.make_pool(proposed_CPUs=["3"], sched_policy="credit", other_config={"colour": "green"})
        record = self.call("cpu_pool.get_record", pool)
        self.assertEqual((False, "OpaqueRef:NULL", [], "fast"),
                         (record["activated"], record["resident_on"], record["host_CPUs"], record["name_label"]))
        self.assertEqual(["1", "0"], self.fails("HOST_NOT_ENOUGH_PCPUS", "cpu_pool.activate", pool))
        self.assertEqual([pool, "activated", "deactivated"], self.fails("POOL_BAD_STATE", "cpu_pool.deactivate", pool))
        self.fails("POOL_BAD_STATE", "cpu_pool.add_host_CPU_live", pool, self.cpus["1"])
        self.free(1, 3)
        self.assertEqual({self.cpus["1"], self.cpus["3"]}, set(self.call("host_cpu.get_unassigned_cpus")))
        self.call("cpu_pool.activate", pool)
        self.assertEqual(["3"], self.numbers(pool))
        self.assertEqual([pool], self.call("host_cpu.get_cpu_pool", self.cpus["3"]))
        self.assertEqual({pool, self.first}, set(self.call("host.get_resident_cpu_pools", self.host)))
        self.assertEqual("credit", self.call("cpu_pool.get_sched_policy", pool))
        for method, *args in (("destroy",), ("activate",), ("set_proposed_CPUs", []), ("set_sched_policy", "credit2"),
                              ("add_proposed_CPUs", "1"), ("remove_proposed_CPUs", "3")):
            self.assertEqual([pool, "deactivated", "activated"],
                             self.fails("POOL_BAD_STATE", f"cpu_pool.{method}", pool, *args), method)
        self.fails("OPERATION_NOT_ALLOWED", "cpu_pool.add_host_CPU_live", pool, self.cpus["0"])
        self.fails("OPERATION_NOT_ALLOWED", "cpu_pool.remove_host_CPU_live", pool, self.cpus["1"])
        self.task("cpu_pool.add_host_CPU_live", pool, self.cpus["1"])
        self.assertEqual(["1", "3"], self.numbers(pool))
        record = self.call("cpu_pool.get_record", pool)
        self.assertEqual(("2", ["1", "3"]), (str(record["ncpu"]), sorted(record["proposed_CPUs"])))
        self.task("cpu_pool.remove_host_CPU_live", pool, self.cpus["3"])
        self.assertEqual(["1"], self.numbers(pool))
        self.task("cpu_pool.deactivate", pool)
        record = self.call("cpu_pool.get_record", pool)
        self.assertEqual((False, [], "1"), (record["activated"], record["host_CPUs"], str(record["ncpu"])))
        self.task("cpu_pool.activate", pool)
        self.assertEqual(["1"], self.numbers(pool))
        self.call("cpu_pool.deactivate", pool)
        self.call("cpu_pool.destroy", pool)
        self.fails("HANDLE_INVALID", "cpu_pool.get_record", pool)

    def test_invalid(self):
        pool = self.make_pool()
        for more in ({"name_label": "fast"}, {"name_label": ""}, {"name_label": "x", "ncpu": "0"},
                     {"name_label": "x", "proposed_CPUs": ["one"]}):
            self.fails("INVALID_VALUE", "cpu_pool.create", more)
        self.fails("INVALID_VALUE", "cpu_pool.set_name_label", pool, "Pool-0")
        self.fails("INVALID_VALUE", "cpu_pool.set_ncpu", pool, "-1")
        self.fails("INVALID_VALUE", "cpu_pool.set_proposed_CPUs", pool, ["-1"])
        self.fails("INVALID_VALUE", "cpu_pool.add_proposed_CPUs", pool, "x")
        self.call("cpu_pool.add_proposed_CPUs", pool, "2")
        self.call("cpu_pool.set_name_label", pool, "slow")
        self.call("cpu_pool.set_sched_policy", pool, "fifo")
        self.free(2)
        self.assertEqual(["sched_policy", "fifo"], self.fails("INVALID_VALUE", "cpu_pool.activate", pool))
        self.assertEqual([self.cpus["2"]], self.call("host_cpu.get_unassigned_cpus"))

    def test_vms(self):
        self.free(2, 3)
        pool = self.make_pool(ncpu="2")
        vm = self.vm("fast")
        self.assertEqual("fast", self.call("VM.get_pool_name", vm))
        self.assertEqual([pool, "activated", "deactivated"], self.fails("POOL_BAD_STATE", "VM.start", vm, False, False))
        self.fails("VM_BAD_POWER_STATE", "VM.cpu_pool_migrate", vm, pool)
        self.call("cpu_pool.activate", pool)
        self.call("VM.start", vm, False, False)
        self.assertEqual([pool], self.call("VM.get_cpu_pool", vm))
        self.assertEqual([vm], self.call("cpu_pool.get_started_VMs", pool))
        self.assertEqual([pool, "unused", "in use"], self.fails("POOL_BAD_STATE", "cpu_pool.deactivate", pool))
        self.call("cpu_pool.remove_host_CPU_live", pool, self.cpus["2"])
        self.fails("OPERATION_NOT_ALLOWED", "cpu_pool.remove_host_CPU_live", pool, self.cpus["3"])
        self.call("VM.cpu_pool_migrate", vm, self.first)
        self.assertEqual([self.first], self.call("VM.get_cpu_pool", vm))
        self.assertEqual([], self.call("cpu_pool.get_started_VMs", pool))
        self.assertEqual("Pool-0", self.call("VM.get_pool_name", vm))
        self.task("VM.cpu_pool_migrate", vm, pool)
        self.assertEqual([pool], self.call("VM.get_cpu_pool", vm))
        self.call("VM.hard_reboot", vm)
        self.assertEqual([pool], self.call("VM.get_cpu_pool", vm))
        self.call("VM.hard_shutdown", vm)
        self.assertEqual([], self.call("VM.get_cpu_pool", vm))
        self.call("cpu_pool.deactivate", pool)
        self.fails("POOL_BAD_STATE", "VM.cpu_pool_migrate", self.started(), pool)
        self.call("VM.set_pool_name", vm, "nowhere")
        self.assertEqual(["pool_name", "nowhere"], self.fails("INVALID_VALUE", "VM.start", vm, False, False))

    def started(self):
        vm = self.vm()
        self.call("VM.start", vm, False, False)
        self.assertEqual([self.first], self.call("VM.get_cpu_pool", vm))
        return vm

    def test_restart(self):
        self.free(3)
        pool, vm = self.make_pool(), self.vm("fast")
        self.call("cpu_pool.activate", pool)
        self.call("VM.start", vm, False, False)
        before = self.call("cpu_pool.get_all_records")
        self.server.stop()
        self.server.start()
        self.log_in()
        self.assertEqual(before, self.call("cpu_pool.get_all_records"))
        self.assertEqual([vm], self.call("cpu_pool.get_started_VMs", pool))

    def test_events(self):
        self.free(3)
        pool = self.make_pool()
        batch = self.call("event.from", [f"cpu_pool/{pool}"], "", 5.0)
        self.call("cpu_pool.activate", pool)
        batch = self.call("event.from", [f"cpu_pool/{pool}"], batch["token"], 20.0)
        self.assertTrue(batch["events"][-1]["snapshot"]["activated"])


class Killed(Case):
    allow_crash = True

    def test_backend(self):
        self.free(3)
        pool = self.make_pool()
        self.call("cpu_pool.activate", pool)
        os.kill(self.server.pid_of("xenapid-sim"), signal.SIGKILL)
        self.until(self.is_back)
        self.assertEqual(["3"], self.numbers(pool))
        self.call("cpu_pool.deactivate", pool)

    def is_back(self):
        try:
            self.call("host.dmesg", self.host)
            return True
        except Failure:
            return False


if __name__ == "__main__":
    unittest.main()
