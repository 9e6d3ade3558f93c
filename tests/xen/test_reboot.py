"""A reboot of the host: the unit comes back, and what is to start with it does; part of test_xen.py."""
import os
import shlex
import subprocess

from case import Case
from client import dom0


class Reboot(Case):
    def test_auto_power_on(self):
        wanted = self.vm("tiny", 4, name_label="wanted")
        other = self.vm("tiny", 4, name_label="other")
        for ref in wanted, other:
            self.call("VM.start", ref, False, False)
        self.call("VM.set_auto_power_on", wanted, True)
        # At once, as when the power fails. An orderly shutdown would first let Debian's xendomains wait for the deaf guests.
        # It is the end of the machine; the lab starts it again.
        dom0("sync; echo b >/proc/sysrq-trigger; sleep 100")
        subprocess.run(shlex.split(os.environ["LAB_AGAIN"]), check=True)
        self.log_in_again()
        self.s.wait("VM", wanted, lambda r: r["power_state"] == "Running")
        self.assertEqual("Halted", self.state(other))
        self.assertEqual("active", dom0("systemctl is-active xenapid").strip())
        listed = dom0("xl list")
        self.assertIn("wanted", listed)
        self.assertNotIn("other", listed)
