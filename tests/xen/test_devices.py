"""Devices of real Xen that the simulated host has nothing like; part of test_xen.py."""
from case import Case
from client import dom0


class Screens(Case):
    def test_uefi(self):
        """Its firmware is not let run: in this emulator it never comes to its screen."""
        ref = self.vm("tiny", 64, PV_kernel="", HVM_boot_policy="BIOS order",
                      HVM_boot_params={"order": "c", "firmware": "uefi"})
        self.call("VM.start", ref, True, False)
        self.assertEqual("ovmf", dom0(f"xenstore-read /local/domain/{self.domid(ref)}/hvmloader/bios").strip())
