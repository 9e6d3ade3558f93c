"""Storage drivers that a site adds, in both forms: found, described, and used for SRs and VDIs."""
import json
import os
import shutil
import tempfile
import unittest


from test_storage import MIB, Storage, holds, write
from plugin_v3 import CALLS

HERE = os.path.dirname(os.path.abspath(__file__))


def install(path, source):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    shutil.copy(os.path.join(HERE, source), path)
    os.chmod(path, 0o755)


class Plugins(Storage):
    place_of_plugins = None

    @classmethod
    def setUpClass(cls):
        cls.place_of_plugins = tempfile.mkdtemp(prefix="xenapid-plugins.")
        cls.addClassCleanup(shutil.rmtree, cls.place_of_plugins)
        os.chmod(cls.place_of_plugins, 0o755)
        sm, v3 = f"{cls.place_of_plugins}/sm", f"{cls.place_of_plugins}/v3"
        install(f"{sm}/BoxSR", "plugin_v1.py")
        install(f"{sm}/WritableSR", "plugin_v1.py")
        os.chmod(f"{sm}/WritableSR", 0o777)
        install(f"{sm}/BrokenSR", "plugin_v1.py")
        with open(f"{sm}/BrokenSR", "w") as f:
            f.write("#!/bin/sh\necho nonsense\n")
        for name in CALLS:
            where = "datapath/file" if name.startswith("Datapath") else "volume/org.example.folder"
            install(f"{v3}/{where}/{name}", "plugin_v3.py")
        cls.conf = {"sim": {"vms": 4}, "storage": {"sm-dir": sm, "plugin-dir": v3}}
        super().setUpClass()

    def make(self, kind, **config):
        config.setdefault("folder", self.place())
        if kind == "box":
            config["api"] = self.server.socket_path
        return self.call("SR.create", self.host, config, 0, "added", "words", kind, "user", False, {"k": "v"}), config["folder"]

    def sm(self, kind):
        return next(r for r in self.call("SM.get_all_records").values() if r["type"] == kind)

    def test_they_are_listed_as_they_describe_themselves(self):
        types = self.call("SR.get_supported_types")
        self.assertTrue({"file", "iso", "nfs", "lvm", "box", "folder"} <= set(types))
        self.assertFalse({"writable", "broken"} & set(types))
        box, folder = self.sm("box"), self.sm("folder")
        self.assertEqual((box["name_label"], box["vendor"], box["version"], box["configuration"]),
                         ("Box", "Example", "7.1", {"folder": "where the disks are"}))
        self.assertEqual(box["features"]["VDI_RESET_ON_BOOT"], 2)
        self.assertTrue(box["driver_filename"].endswith("/sm/BoxSR"))
        self.assertEqual((folder["version"], folder["required_api_version"]), ("3.2", "5.0"))
        self.assertTrue({"VDI_CREATE", "VDI_SNAPSHOT", "VDI_MIRROR", "SR_PROBE"} <= set(folder["features"]))

    def life(self, kind):
        sr, folder = self.make(kind)
        record = self.call("SR.get_record", sr)
        self.assertEqual((record["type"], record["VDIs"]), (kind, []))
        self.assertTrue(self.attached(sr))
        vdi = self.new_vdi(sr, 8 * MIB, name_label="named by the client")
        got = self.call("VDI.get_record", vdi)
        self.assertEqual((got["name_label"], got["virtual_size"], got["SR"], got["managed"]),
                         ("named by the client", 8 * MIB, sr, True))
        self.assertEqual(self.call("SR.get_VDIs", sr), [vdi])
        snapshot = self.call("VDI.snapshot", vdi, {})
        taken = self.call("VDI.get_record", snapshot)
        self.assertEqual((taken["is_a_snapshot"], taken["snapshot_of"], taken["virtual_size"]), (True, vdi, 8 * MIB))
        clone = self.call("VDI.clone", vdi, {})
        self.call("VDI.resize", clone, 16 * MIB)
        self.assertEqual(self.call("VDI.get_virtual_size", clone), 16 * MIB)
        self.call("SR.scan", sr)
        self.assertEqual(set(self.call("SR.get_VDIs", sr)), {vdi, snapshot, clone})
        vm, vbd = self.plug_into_running_vm(vdi)
        self.fails("VDI_IN_USE", "PBD.unplug", self.pbd(sr))
        self.call("VM.hard_shutdown", vm)
        self.call("VBD.destroy", vbd)
        # Content: through the driver's paths, in both directions.
        source = self.new_vdi(size=8 * MIB)
        write(self.path(source), 0x5a, 65536, MIB)
        copy = self.call("VDI.copy", source, sr, "OpaqueRef:NULL", "OpaqueRef:NULL")
        back = self.call("VDI.copy", copy, self.local, "OpaqueRef:NULL", "OpaqueRef:NULL")
        self.assertTrue(holds(self.path(back), 0x5a, 65536, MIB))
        for one in (vdi, snapshot, clone, copy):
            self.call("VDI.destroy", one)
        self.call("SR.scan", sr)
        self.assertEqual(self.call("SR.get_VDIs", sr), [])
        self.call("PBD.unplug", self.pbd(sr))
        self.call("SR.destroy", sr)
        self.assertFalse(os.path.exists(folder))

    def test_a_driver_of_one_executable(self):
        self.life("box")

    def test_a_driver_of_many_executables(self):
        self.life("folder")

    def test_what_is_told_to_a_driver_of_one_executable(self):
        sr, folder = self.make("box")
        vdi = self.new_vdi(sr, 8 * MIB, sm_config={"a": "b"})
        self.assertEqual(self.call("VDI.get_sm_config", vdi)["box"], "yes")
        vm, vbd = self.plug_into_running_vm(vdi)
        self.call("VM.hard_shutdown", vm)
        self.call("VBD.destroy", vbd)
        self.call("VDI.destroy", vdi)
        with open(f"{folder}/calls") as f:
            calls = [json.loads(line) for line in f]
        self.assertEqual([c[0] for c in calls], ["vdi_create", "vdi_attach", "vdi_activate", "vdi_deactivate", "vdi_detach",
                                                 "vdi_delete"])
        self.assertEqual(calls[1][1], "true")

    def test_what_appears_and_vanishes_is_found_by_a_scan(self):
        for kind in "box", "folder":
            sr, folder = self.make(kind)
            vdi = self.new_vdi(sr)
            location = self.call("VDI.get_location", vdi)
            os.rename(f"{folder}/{location}" + (".disk" if kind == "box" else ".json"), f"{folder}/away")
            self.call("SR.scan", sr)
            self.assertEqual(self.call("SR.get_VDIs", sr), [])
            os.rename(f"{folder}/away", f"{folder}/{location}" + (".disk" if kind == "box" else ".json"))
            self.call("SR.scan", sr)
            self.assertEqual(len(self.call("SR.get_VDIs", sr)), 1)

    def test_probe_finds_the_SR(self):
        for kind in "box", "folder":
            sr, folder = self.make(kind)
            uuid_ = self.call("SR.get_uuid", sr)
            self.assertIn(uuid_, self.call("SR.probe", self.host, {"folder": folder}, kind, {}))
            found = self.call("SR.probe_ext", self.host, {"folder": folder}, kind, {})
            self.assertEqual([f["sr"]["uuid"] for f in found], [uuid_])
        self.assertEqual(found[0]["extra_info"], {"colour": "blue"})
        self.assertEqual(found[0]["configuration"]["made"], "yes")

    def test_errors_of_drivers_are_passed_on(self):
        before = set(self.call("SR.get_all"))
        self.fails("SR_DEVICE_IN_USE", "SR.create", self.host, {"folder": self.place(), "api": self.server.socket_path,
                   "fault": "16"}, 0, "n", "", "box", "", False, {})
        params = self.fails("SR_BACKEND_FAILURE_73", "SR.create", self.host, {
            "folder": self.place(), "api": self.server.socket_path, "fault": "73"}, 0, "n", "", "box", "", False, {})
        self.assertEqual(params[1], "as asked for")
        params = self.fails("SR_BACKEND_FAILURE_99", "SR.create", self.host, {
            "folder": self.place(), "fault": "SR_BACKEND_FAILURE_99"}, 0, "n", "", "folder", "", False, {})
        self.assertEqual(params, ["one", "two"])
        self.assertEqual(set(self.call("SR.get_all")), before)

    def test_the_drivers_messages_are_for_drivers_alone(self):
        sr, _ = self.make("folder")
        self.fails("RBAC_PERMISSION_DENIED", "SR.set_physical_utilisation", sr, "1")
        self.assertNotIn("VDI.db_introduce", self.call("host.list_methods"))

    def test_they_are_plugged_again_after_a_restart(self):
        vdis = []
        for kind in "box", "folder":
            sr, _ = self.make(kind)
            vdis.append(self.new_vdi(sr))
        self.server.stop()
        self.server.start()
        type(self).s = self.server.login()
        for vdi in vdis:
            sr = self.call("VDI.get_SR", vdi)
            self.until(lambda: self.attached(sr))
            self.call("VDI.destroy", vdi)
            self.assertEqual(self.call("SR.get_VDIs", sr), [])


del Storage  # its tests are not ours

if __name__ == "__main__":
    unittest.main()
