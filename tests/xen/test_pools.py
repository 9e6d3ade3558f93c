"""CPU pools on real Xen; part of test_xen.py. One processor leaves the first pool and comes back at the end."""
import time

from case import Case
from client import Failure, dom0


def xl_pools():
    """name -> (processors, scheduler, domains) as xl lists them."""
    lines = [line.split() for line in dom0("xl cpupool-list").splitlines()[1:]]
    return {f[0]: (int(f[1]), f[2], int(f[4])) for f in lines}


class Pools(Case):
    def setUp(self):
        self.first = self.call("cpu_pool.get_by_name_label", "Pool-0")[0]
        self.cpu = next(ref for ref, r in self.call("host_cpu.get_all_records").items() if r["number"] == "1")
        self.call("cpu_pool.remove_host_CPU_live", self.first, self.cpu)
        self.addCleanup(self.call, "cpu_pool.add_host_CPU_live", self.first, self.cpu)

    def pool(self, name):
        pool = self.call("cpu_pool.create", {"name_label": name, "ncpu": "1", "sched_policy": "credit",
                                             "proposed_CPUs": ["1"]})
        self.addCleanup(self.drop, pool)
        return pool

    def drop(self, pool):
        if self.call("cpu_pool.get_activated", pool):
            self.call("cpu_pool.deactivate", pool)
        self.call("cpu_pool.destroy", pool)

    def follow(self, vm, pool):
        end = time.time() + 20
        while self.call("VM.get_cpu_pool", vm) != [pool] and time.time() < end:
            time.sleep(0.2)
        self.assertEqual([pool], self.call("VM.get_cpu_pool", vm))

    def test_life(self):
        self.assertEqual(["0"], dom0("xl cpupool-list -c Pool-0 | awk 'NR == 2 { print $2 }'").split())
        self.assertEqual([self.cpu], self.call("host_cpu.get_unassigned_cpus"))
        pool = self.pool("quick")
        self.call("cpu_pool.activate", pool)
        self.assertEqual((1, "credit", 0), xl_pools()["quick"])
        self.assertEqual([self.cpu], self.call("cpu_pool.get_host_CPUs", pool))
        vm = self.vm("tiny", 4, VCPUs_max="1")
        self.call("VM.set_pool_name", vm, "quick")
        self.call("VM.start", vm, False, False)
        self.assertEqual((1, "credit", 1), xl_pools()["quick"])
        self.assertEqual([pool], self.call("VM.get_cpu_pool", vm))
        for method in ("cpu_pool.deactivate", pool), ("cpu_pool.remove_host_CPU_live", pool, self.cpu):
            with self.assertRaises(Failure):
                self.call(*method)
        self.s.task("VM.cpu_pool_migrate", vm, self.first)
        self.assertEqual(0, xl_pools()["quick"][2])
        self.assertEqual([self.first], self.call("VM.get_cpu_pool", vm))
        dom0("xl cpupool-migrate test_life quick")
        self.follow(vm, pool)
        self.call("VM.cpu_pool_migrate", vm, self.first)
        self.s.task("cpu_pool.remove_host_CPU_live", pool, self.cpu)
        self.assertEqual(0, xl_pools()["quick"][0])
        self.s.task("cpu_pool.add_host_CPU_live", pool, self.cpu)
        self.s.task("cpu_pool.deactivate", pool)
        self.assertNotIn("quick", xl_pools())

    def test_restart(self):
        pool = self.pool("kept")
        self.call("cpu_pool.activate", pool)
        dom0("systemctl restart xenapid")
        self.log_in_again()
        self.assertEqual((True, [self.cpu]), (self.call("cpu_pool.get_activated", pool),
                                              self.call("cpu_pool.get_host_CPUs", pool)))

    def test_of_xl(self):
        dom0("xl cpupool-create name=\\'foreign\\' cpus=[\\\"1\\\"] sched=\\'credit\\'", check=True)
        end = time.time() + 20
        while not self.call("cpu_pool.get_by_name_label", "foreign") and time.time() < end:
            time.sleep(0.2)
        record = self.call("cpu_pool.get_record", self.call("cpu_pool.get_by_name_label", "foreign")[0])
        self.assertEqual((True, [self.cpu], "true"),
                         (record["activated"], record["host_CPUs"], record["other_config"]["xenapid:foreign"]))
        dom0("xl cpupool-destroy foreign", check=True)
        while self.call("cpu_pool.get_by_name_label", "foreign") and time.time() < end + 20:
            time.sleep(0.2)
        self.assertEqual([self.cpu], self.call("host_cpu.get_unassigned_cpus"))
