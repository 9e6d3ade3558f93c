"""Crash dumps: what a guest that crashed leaves, what becomes of it, and that it keeps no VM from going on."""
import os
import unittest

from harness import EachCase, Failure

MIB = 1 << 20


class CrashDumps(EachCase):
    def setUp(self):
        super().setUp()
        self.place = os.path.join(self.server.state_dir, "dumps")
        self.sr = self.repository(self.place)
        self.call("host.set_crash_dump_sr", self.host, self.sr)

    def repository(self, place, **more):
        return self.call("SR.create", self.host, {"location": place, **more}, 0, "dumps", "", "file", "user", False, {})

    def vm(self, action="coredump_and_restart"):
        vm = self.call("VM.create", {"name_label": "guest", "memory_static_max": str(64 * MIB),
                                     "actions_after_crash": action})
        self.call("VM.start", vm, False, False)
        return vm

    def crash(self, vm):
        domid = self.call("VM.get_domid", vm)
        self.sim("guest", uuid=self.call("VM.get_uuid", vm), do="crash")
        self.until(lambda: self.call("VM.get_domid", vm) != domid)

    def files(self):
        return [f for f in os.listdir(self.place) if f.endswith(".raw")]

    def settled(self):
        self.until(lambda: not [t for t in self.call("task.get_all_records").values() if t["status"] == "pending"])

    def test_restart(self):
        vm = self.vm()
        domid = self.call("VM.get_domid", vm)
        self.crash(vm)
        self.assertEqual("Running", self.call("VM.get_power_state", vm))
        dump, = self.call("VM.get_crash_dumps", vm)
        record = self.call("crashdump.get_record", dump)
        vdi = self.call("VDI.get_record", record["VDI"])
        self.assertEqual((vm, "crashdump", self.sr, [dump]), (record["VM"], vdi["type"], vdi["SR"], vdi["crash_dumps"]))
        with open(os.path.join(self.place, vdi["uuid"] + ".raw"), "rb") as f:
            self.assertEqual(f"simulated core of domain {domid}, {self.call('VM.get_uuid', vm)}".encode(),
                             f.readline().strip())
        self.call("SR.scan", self.sr)
        self.assertEqual([dump], self.call("crashdump.get_all"))
        self.call("crashdump.destroy", dump)
        self.assertEqual(([], []), (self.call("VM.get_crash_dumps", vm), self.files()))
        self.assertNotIn(record["VDI"], self.call("VDI.get_all"))

    def test_destroy(self):
        vm = self.vm("coredump_and_destroy")
        self.crash(vm)
        self.assertEqual("Halted", self.call("VM.get_power_state", vm))
        dump, = self.call("VM.get_crash_dumps", vm)
        vdi = self.call("crashdump.get_VDI", dump)
        self.call("VM.destroy", vm)
        self.assertEqual([], self.call("crashdump.get_all"))
        self.assertEqual(1, len(self.files()))
        self.call("VDI.destroy", vdi)
        self.assertEqual([], self.files())

    def test_the_image_goes_first(self):
        vm = self.vm("coredump_and_destroy")
        self.crash(vm)
        self.call("VDI.destroy", self.call("crashdump.get_VDI", self.call("VM.get_crash_dumps", vm)[0]))
        self.assertEqual(([], []), (self.call("VM.get_crash_dumps", vm), self.call("crashdump.get_all")))

    def test_not_asked_for(self):
        vm = self.vm("destroy")
        self.crash(vm)
        self.assertEqual(([], []), (self.call("VM.get_crash_dumps", vm), self.files()))

    def test_no_more_than_four(self):
        vm = self.vm()
        for _ in range(5):
            self.crash(vm)
            self.assertEqual("Running", self.call("VM.get_power_state", vm))
        self.assertEqual((4, 4), (len(self.call("VM.get_crash_dumps", vm)), len(self.files())))

    def test_what_cannot_be_kept(self):
        """A full repository, and none: the VM goes on, and nothing is left over."""
        vm = self.vm()
        for method, code in (("domain.core_dump", "SR_FULL"), ("vdi.create", "SR_FULL")):
            self.sim("fault", method=method, kind="fail", code=code, params='["1", "0"]')
            self.crash(vm)
            self.assertEqual("Running", self.call("VM.get_power_state", vm))
            self.settled()
            self.assertEqual(([], []), (self.call("VM.get_crash_dumps", vm), self.files()))
        self.call("host.set_crash_dump_sr", self.host, "OpaqueRef:NULL")
        self.call("pool.set_default_SR", self.call("pool.get_all")[0], "OpaqueRef:NULL")
        self.crash(vm)
        self.assertEqual(("Running", []), (self.call("VM.get_power_state", vm), self.call("VM.get_crash_dumps", vm)))

    def test_pool_default(self):
        self.call("host.set_crash_dump_sr", self.host, "OpaqueRef:NULL")
        self.call("pool.set_crash_dump_SR", self.call("pool.get_all")[0], self.sr)
        vm = self.vm()
        self.crash(vm)
        self.assertEqual(1, len(self.files()))

    def test_an_image_in_use_stays(self):
        vm = self.vm("coredump_and_destroy")
        self.crash(vm)
        dump, = self.call("VM.get_crash_dumps", vm)
        vdi = self.call("crashdump.get_VDI", dump)
        reader = self.vm("destroy")
        vbd = self.call("VBD.create", {"VM": reader, "VDI": vdi, "userdevice": "1", "bootable": False, "mode": "RO",
                                       "type": "Disk", "empty": False, "other_config": {}})
        self.call("VBD.plug", vbd)
        with self.assertRaises(Failure) as caught:
            self.call("crashdump.destroy", dump)
        self.assertEqual("VDI_IN_USE", caught.exception.code)
        self.assertEqual([dump], self.call("VM.get_crash_dumps", vm))


if __name__ == "__main__":
    unittest.main()
