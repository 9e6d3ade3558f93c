"""The Xen-API on real Xen, over HTTPS from outside dom0: python3 test_xen.py [TEST...], started by tests/xen/run. Most
tests are the suite of tests/both, which the simulated host passes, too; here is what only Xen has."""
import os
import sys

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "both"))

import again  # noqa: E402
import test_faults  # noqa: E402, F401  not of the usual run: "run test_faults"
import world  # noqa: E402
from both_boot import Boot  # noqa: E402, F401
from both_devices import Consoles, Disks, Errors, Figures, Interfaces, Tuning  # noqa: E402, F401
from both_life import Copies, Guests, Life  # noqa: E402, F401
from case import MIB, Case  # noqa: E402
from client import dom0  # noqa: E402
from test_devices import Screens  # noqa: E402, F401
from test_guests import Crashes, Power, Signals  # noqa: E402, F401
from test_ionice import Ionice  # noqa: E402, F401
from test_live import Live  # noqa: E402, F401
from test_network import Network  # noqa: E402, F401
from test_pools import Pools  # noqa: E402, F401
from test_sr import LogicalVolumes, Nfs  # noqa: E402, F401
from test_storage import LifeOnNfs, LifeOnQcow2, LifeOnRaw, LifeOnThick, LifeOnThin  # noqa: E402, F401

world.WORLD = world.Xen()


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


if __name__ == "__main__":
    again.main()
