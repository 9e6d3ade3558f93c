"""What the tests on real Xen have in common: guests, and waiting for them."""
import time
import unittest

from client import NULL, PATIENCE, Console, Session

MIB = 1 << 20
GUEST = "/lab/guest"


class Case(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.s = Session()
        cls.addClassCleanup(lambda: cls.s.close())
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

    def log_in_again(self, patience=120):
        """After the daemon has been away."""
        self.s.proxy("close")()
        end = time.time() + patience
        while True:
            try:
                type(self).s = Session()
                return
            except OSError:
                if time.time() > end:
                    raise
                time.sleep(0.5)

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

    def console(self, ref, websocket=False):
        record = self.call("console.get_record", self.call("VM.get_consoles", ref)[0])
        c = Console(self.s, record, websocket)
        self.addCleanup(c.close)
        return c

    def linux(self, **more):
        """A guest that is up, and the shell on its console."""
        ref = self.vm(**more)
        self.call("VM.start", ref, False, False)
        self.guest_up(ref)
        return ref, self.console(ref)

    def disk(self, kind="raw", mib=8):
        """A VDI, and its file in dom0."""
        srs = [ref for ref, r in self.call("SR.get_all_records").items() if r["type"] == "file"]
        sr = srs[0] if srs else self.call("SR.create", self.host, {"location": "/var/lib/lab-disks"}, "0", "disks", "",
                                          "file", "user", False, {})
        vdi = self.call("VDI.create", {"name_label": "disk", "name_description": "", "SR": sr, "type": "user",
                                       "virtual_size": str(mib * MIB), "sharable": False, "read_only": False,
                                       "other_config": {}, "xenstore_data": {}, "sm_config": {"type": kind}, "tags": []})
        self.addCleanup(self.call, "VDI.destroy", vdi)
        where = self.call("PBD.get_device_config", self.call("SR.get_PBDs", sr)[0])["location"]
        return vdi, f"{where}/{self.call('VDI.get_location', vdi)}.{kind}"

    def vbd(self, ref, vdi, **more):
        return self.call("VBD.create", {"VM": ref, "VDI": vdi, "userdevice": "1", "bootable": False, "mode": "RW",
                                        "type": "Disk", "unpluggable": True, "empty": False, "other_config": {},
                                        "qos_algorithm_type": "", "qos_algorithm_params": {}, **more})
