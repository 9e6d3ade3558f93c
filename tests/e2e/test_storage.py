"""Storage: SRs, PBDs and VDIs on the simulated host, with real image files that are measured with qemu-img."""
import json
import os
import shutil
import stat
import subprocess
import tempfile
import threading
import time
import unittest
import uuid

from harness import Case, Failure, Server

MIB = 1 << 20
NULL = "OpaqueRef:NULL"
EPOCH = "19700101T00:00:00Z"


def qemu_img(*args):
    return subprocess.run(["qemu-img", *args], check=True, capture_output=True, text=True).stdout


def virtual_size(path):
    return json.loads(qemu_img("info", "-U", "--output=json", path))["virtual-size"]


def image_format(path):
    return json.loads(qemu_img("info", "-U", "--output=json", path))["format"]


def write(path, pattern, size, offset=0):
    """Data that a guest might have written."""
    subprocess.run(["qemu-io", "-f", image_format(path), "-c", f"write -P {pattern} {offset} {size}", path], check=True,
                   capture_output=True)


def holds(path, pattern, size, offset=0):
    out = subprocess.run(["qemu-io", "-r", "-f", image_format(path), "-c", f"read -P {pattern} {offset} {size}", path],
                         capture_output=True, text=True)
    return out.returncode == 0 and "verification failed" not in out.stdout


class Storage(Case):
    """Each test makes what it uses."""
    conf = {"sim": {"vms": 4}}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.vms = cls.guests()
        cls.local = cls.call("pool.get_default_SR", cls.pool)
        cls.until(lambda: cls.call("SR.get_record", cls.local)["PBDs"] and cls.attached(cls.local))

    @classmethod
    def attached(cls, sr):
        return all(cls.call("PBD.get_currently_attached", p) for p in cls.call("SR.get_PBDs", sr))

    def place(self):
        """A directory name that does not exist yet and that the storage driver may make."""
        return os.path.join(self.server.state_dir, f"sr-{uuid.uuid4()}")

    def new_sr(self, name="an SR", **device_config):
        device_config.setdefault("location", self.place())
        return self.call("SR.create", self.host, device_config, 0, name, "", "file", "user", False, {})

    def pbd(self, sr):
        return self.call("SR.get_PBDs", sr)[0]

    def location(self, sr):
        return self.call("PBD.get_device_config", self.pbd(sr))["location"]

    def vdi_args(self, sr=None, size=8 * MIB, **more):
        return {"name_label": "disk", "name_description": "", "SR": sr or self.local, "virtual_size": size,
                "type": "user", "sharable": False, "read_only": False, "other_config": {}, **more}

    def new_vdi(self, sr=None, size=8 * MIB, **more):
        return self.call("VDI.create", self.vdi_args(sr, size, **more))

    def path(self, vdi):
        record = self.call("VDI.get_record", vdi)
        return os.path.join(self.location(record["SR"]), f'{record["uuid"]}.{record["sm_config"]["type"]}')

    def plug_into_running_vm(self, vdi, mode="RW"):
        vm = type(self).vms.pop()
        vbd = self.call("VBD.create", {"VM": vm, "VDI": vdi, "userdevice": "0", "bootable": False, "mode": mode,
                                       "type": "Disk", "empty": False, "other_config": {}, "qos_algorithm_type": "",
                                       "qos_algorithm_params": {}})
        self.call("VM.start", vm, False, False)
        return vm, vbd


class SRs(Storage):
    def test_a_new_host_has_a_plugged_file_SR_that_is_the_default(self):
        record = self.call("SR.get_record", self.local)
        self.assertEqual((record["type"], record["content_type"], len(record["PBDs"])), ("file", "user", 1))
        self.assertGreater(record["physical_size"], 0)
        pool = self.call("pool.get_all_records")
        self.assertEqual([p["suspend_image_SR"] for p in pool.values()], [self.local])

    def test_create_makes_the_directory_and_plugs_the_PBD(self):
        where = self.place()
        sr = self.call("SR.create", self.host, {"location": where}, 0, "mine", "words", "file", "user", True, {"a": "b"})
        record = self.call("SR.get_record", sr)
        self.assertEqual((record["name_label"], record["name_description"], record["type"], record["shared"],
                          record["sm_config"]), ("mine", "words", "file", True, {"a": "b"}))
        self.assertTrue(os.path.isdir(where))
        pbd = self.call("PBD.get_record", record["PBDs"][0])
        self.assertEqual((pbd["host"], pbd["SR"], pbd["device_config"], pbd["currently_attached"]),
                         (self.host, sr, {"location": where}, True))
        self.assertIn(record["PBDs"][0], self.call("host.get_PBDs", self.host))

    def test_create_as_a_task_answers_the_reference(self):
        task = self.call("Async.SR.create", self.host, {"location": self.place()}, 0, "by task", "", "file", "", False, {})
        result = self.s.wait(task)["result"]
        ref = result[len("<value>"):-len("</value>")]
        self.assertEqual(self.call("SR.get_name_label", ref), "by task")

    def test_create_with_an_unknown_driver_is_refused(self):
        self.assertEqual(self.fails("SR_UNKNOWN_DRIVER", "SR.create", self.host, {"location": "/x"}, 0, "n", "", "nosuch",
                                    "", False, {}), ["nosuch"])

    def test_create_for_an_unknown_host_is_refused(self):
        self.assertEqual(self.fails("HANDLE_INVALID", "SR.create", "OpaqueRef:x", {"location": "/x"}, 0, "n", "", "file",
                                    "", False, {}), ["host", "OpaqueRef:x"])

    def test_create_where_nothing_can_be_made_leaves_no_record(self):
        before = self.call("SR.get_all"), self.call("PBD.get_all")
        self.fails("SR_BACKEND_FAILURE", "SR.create", self.host, {"location": "/proc/nowhere"}, 0, "n", "", "file", "",
                   False, {})
        self.assertEqual((self.call("SR.get_all"), self.call("PBD.get_all")), before)

    def test_a_relative_location_is_refused(self):
        with self.assertRaises(Failure):
            self.new_sr(location="somewhere/else")

    def test_forget_needs_an_unplugged_PBD_and_keeps_the_files(self):
        sr = self.new_sr()
        vdi = self.new_vdi(sr)
        path, where = self.path(vdi), self.location(sr)
        self.assertEqual(self.fails("SR_HAS_PBD", "SR.forget", sr), [sr])
        pbd = self.pbd(sr)
        self.call("PBD.unplug", pbd)
        self.call("SR.forget", sr)
        self.assertTrue(os.path.exists(path))
        self.assertEqual(self.fails("HANDLE_INVALID", "SR.get_record", sr), ["SR", sr])
        self.fails("HANDLE_INVALID", "PBD.get_record", pbd)
        self.fails("HANDLE_INVALID", "VDI.get_record", vdi)
        self.assertTrue(os.path.isdir(where))

    def test_introduce_brings_a_forgotten_SR_back_with_its_disks(self):
        sr = self.new_sr()
        vdi = self.new_vdi(sr, 12 * MIB)
        sr_uuid, vdi_uuid, where = self.call("SR.get_uuid", sr), self.call("VDI.get_uuid", vdi), self.location(sr)
        self.call("PBD.unplug", self.pbd(sr))
        self.call("SR.forget", sr)
        again = self.call("SR.introduce", sr_uuid, "back", "", "file", "user", False, {})
        self.assertEqual(self.call("SR.get_uuid", again), sr_uuid)
        self.assertEqual(self.call("SR.get_PBDs", again), [])
        pbd = self.call("PBD.create", {"host": self.host, "SR": again, "device_config": {"location": where}})
        self.call("PBD.plug", pbd)
        self.assertEqual(self.call("VDI.get_virtual_size", self.call("VDI.get_by_uuid", vdi_uuid)), 12 * MIB)

    def test_introduce_refuses_what_is_there_or_makes_no_sense(self):
        used = self.call("SR.get_uuid", self.local)
        self.assertEqual(self.fails("SR_UUID_EXISTS", "SR.introduce", used, "", "", "file", "", False, {}), [used])
        self.assertEqual(self.fails("SR_UNKNOWN_DRIVER", "SR.introduce", str(uuid.uuid4()), "", "", "nosuch", "", False,
                                    {}), ["nosuch"])
        self.fails("INVALID_VALUE", "SR.introduce", "../../etc", "", "", "file", "", False, {})

    def test_destroy_erases_an_empty_SR(self):
        sr = self.new_sr()
        where = self.location(sr)
        self.fails("SR_HAS_PBD", "SR.destroy", sr)
        self.call("PBD.unplug", self.pbd(sr))
        self.call("SR.destroy", sr)
        self.assertFalse(os.path.exists(where))
        self.fails("HANDLE_INVALID", "SR.get_record", sr)

    def test_destroy_refuses_an_SR_with_disks(self):
        sr = self.new_sr()
        vdi = self.new_vdi(sr)
        path, pbd = self.path(vdi), self.pbd(sr)
        self.call("PBD.unplug", pbd)
        self.fails("SR_NOT_EMPTY", "SR.destroy", sr)
        self.assertTrue(os.path.exists(path))
        self.assertEqual(self.call("SR.get_VDIs", sr), [vdi])
        self.call("PBD.plug", pbd)
        self.call("VDI.destroy", vdi)

    def test_destroy_refuses_an_indestructible_SR(self):
        sr = self.new_sr()
        self.call("SR.add_to_other_config", sr, "indestructible", "true")
        self.call("PBD.unplug", self.pbd(sr))
        self.assertEqual(self.fails("SR_INDESTRUCTIBLE", "SR.destroy", sr), [sr])

    def test_a_forgotten_default_SR_is_nobody_s_default(self):
        sr, pool = self.new_sr(), self.call("pool.get_all")[0]
        self.call("pool.set_default_SR", pool, sr)
        self.call("host.set_suspend_image_sr", self.host, sr)
        try:
            self.call("PBD.unplug", self.pbd(sr))
            self.call("SR.forget", sr)
            self.assertEqual(self.call("pool.get_default_SR", pool), NULL)
            self.assertEqual(self.call("host.get_suspend_image_sr", self.host), NULL)
        finally:
            self.call("pool.set_default_SR", pool, self.local)

    def test_scan_finds_a_file_that_was_put_there(self):
        sr, found = self.new_sr(), str(uuid.uuid4())
        path = os.path.join(self.location(sr), found + ".qcow2")
        qemu_img("create", "-f", "qcow2", path, str(20 * MIB))
        os.chown(path, os.stat(self.location(sr)).st_uid, -1)
        self.call("SR.scan", sr)
        vdi = self.call("VDI.get_by_uuid", found)
        record = self.call("VDI.get_record", vdi)
        self.assertEqual((record["virtual_size"], record["SR"], record["managed"]), (20 * MIB, sr, True))
        self.assertEqual(self.call("SR.get_VDIs", sr), [vdi])

    def test_scan_forgets_a_vanished_file_that_nothing_uses(self):
        sr = self.new_sr()
        vdi = self.new_vdi(sr)
        os.unlink(self.path(vdi))
        self.call("SR.scan", sr)
        self.assertEqual(self.call("SR.get_VDIs", sr), [])

    def test_scan_keeps_a_vanished_file_s_record_as_missing_while_a_VBD_points_at_it(self):
        sr = self.new_sr()
        vdi = self.new_vdi(sr)
        path = self.path(vdi)
        vbd = self.call("VBD.create", {"VM": self.vms[0], "VDI": vdi, "userdevice": "7", "bootable": False, "mode": "RW",
                                       "type": "Disk", "empty": False, "other_config": {}, "qos_algorithm_type": "",
                                       "qos_algorithm_params": {}})
        os.rename(path, path + ".hidden")
        self.call("SR.scan", sr)
        self.assertTrue(self.call("VDI.get_missing", vdi))
        self.assertEqual(self.fails("VDI_MISSING", "VDI.resize", vdi, 16 * MIB), [sr, vdi])
        self.assertEqual(self.call("VDI.get_allowed_operations", vdi), ["destroy", "forget"])
        os.rename(path + ".hidden", path)
        self.call("SR.scan", sr)
        self.assertFalse(self.call("VDI.get_missing", vdi))
        self.call("VBD.destroy", vbd)

    def test_scans_beside_creations_and_destructions_lose_and_invent_nothing(self):
        sr, stop = self.new_sr(), threading.Event()
        scanner = self.server.login(kind="unix")

        def scan():
            while not stop.is_set():
                scanner.call("SR.scan", sr)

        thread = threading.Thread(target=scan)
        thread.start()
        try:
            kept = set()
            for i in range(12):
                kept.add(self.new_vdi(sr, name_label=f"kept {i}", sm_config={"type": "raw"}))
                self.call("VDI.destroy", self.new_vdi(sr, sm_config={"type": "raw"}))
        finally:
            stop.set()
            thread.join()
        self.call("SR.scan", sr)
        self.assertEqual(set(self.call("SR.get_VDIs", sr)), kept)
        self.assertEqual({self.call("VDI.get_name_label", v) for v in kept}, {f"kept {i}" for i in range(12)})

    def test_update_refreshes_the_sizes(self):
        sr = self.new_sr(quota=str(64 * MIB))
        before = self.call("SR.get_physical_utilisation", sr)
        path = self.path(self.new_vdi(sr, 16 * MIB, sm_config={"type": "raw"}))
        write(path, 7, 8 * MIB)
        self.call("SR.update", sr)
        self.assertGreaterEqual(self.call("SR.get_physical_utilisation", sr), before + 8 * MIB)
        self.assertEqual(self.call("SR.get_physical_size", sr), 64 * MIB)
        self.assertEqual(self.call("SR.get_virtual_allocation", sr), 16 * MIB)

    def test_probe_finds_the_SR_of_a_directory(self):
        sr = self.new_sr()
        found = self.call("SR.probe", self.host, {"location": self.location(sr)}, "file", {})
        self.assertIn(f'<UUID>\n\t\t\t{self.call("SR.get_uuid", sr)}\n\t\t</UUID>'.replace("\n", "").replace("\t", ""),
                      found.replace("\n", "").replace("\t", ""))

    def test_probe_ext_finds_it_as_a_record(self):
        sr = self.new_sr()
        found = self.call("SR.probe_ext", self.host, {"location": self.location(sr)}, "file", {})
        self.assertEqual(len(found), 1)
        self.assertEqual((found[0]["complete"], found[0]["configuration"], found[0]["sr"]["uuid"]),
                         (True, {"location": self.location(sr)}, self.call("SR.get_uuid", sr)))

    def test_probe_of_an_empty_directory_finds_none(self):
        where = tempfile.mkdtemp(dir=self.server.dir)
        os.chmod(where, 0o755)
        self.assertEqual(self.call("SR.probe_ext", self.host, {"location": where}, "file", {}), [])

    def test_probe_of_nothing_is_the_driver_s_failure(self):
        self.fails("SR_BACKEND_FAILURE", "SR.probe", self.host, {"location": self.place()}, "file", {})
        self.fails("SR_UNKNOWN_DRIVER", "SR.probe", self.host, {}, "nosuch", {})

    def test_supported_types_are_those_of_the_drivers(self):
        types = self.call("SR.get_supported_types")
        self.assertLessEqual({"file", "iso", "lvm", "nfs"}, set(types))
        self.assertEqual(sorted(r["type"] for r in self.call("SM.get_all_records").values()), sorted(types))

    def test_setters_of_an_SR(self):
        sr = self.new_sr()
        for field, value in (("name_label", "n"), ("name_description", "d"), ("shared", True),
                             ("physical_size", 4096)):
            self.call(f"SR.set_{field}", sr, value)
            self.assertEqual(self.call(f"SR.get_{field}", sr), value)

    def test_what_no_driver_can_do_says_so(self):
        for m in ("enable_database_replication", "assert_can_host_ha_statefile"):
            self.assertEqual(self.fails("SR_OPERATION_NOT_SUPPORTED", f"SR.{m}", self.local), [self.local])

    def test_operations_follow_the_plug(self):
        sr = self.new_sr()
        self.assertIn("vdi_create", self.call("SR.get_allowed_operations", sr))
        self.assertNotIn("forget", self.call("SR.get_allowed_operations", sr))
        self.call("PBD.unplug", self.pbd(sr))
        self.assertIn("forget", self.call("SR.get_allowed_operations", sr))
        self.assertNotIn("vdi_create", self.call("SR.get_allowed_operations", sr))


class PBDs(Storage):
    def test_a_second_PBD_for_the_same_host_is_refused(self):
        sr = self.new_sr()
        self.assertEqual(self.fails("PBD_EXISTS", "PBD.create", {"host": self.host, "SR": sr, "device_config": {}}),
                         [sr, self.host, self.pbd(sr)])
        self.assertEqual(len(self.call("SR.get_PBDs", sr)), 1)

    def test_create_needs_an_SR_and_a_host(self):
        self.assertEqual(self.fails("HANDLE_INVALID", "PBD.create", {"host": self.host, "SR": "OpaqueRef:x"}),
                         ["SR", "OpaqueRef:x"])
        sr = self.call("SR.introduce", str(uuid.uuid4()), "", "", "file", "", False, {})
        self.assertEqual(self.fails("HANDLE_INVALID", "PBD.create", {"host": "", "SR": sr})[0], "host")

    def test_unplug_and_plug(self):
        sr = self.new_sr()
        pbd, vdi = self.pbd(sr), self.new_vdi(sr)
        self.call("PBD.unplug", pbd)
        self.assertFalse(self.call("PBD.get_currently_attached", pbd))
        self.assertEqual(self.fails("SR_NOT_ATTACHED", "SR.scan", sr), [sr])
        self.assertEqual(self.fails("SR_NOT_ATTACHED", "VDI.resize", vdi, 16 * MIB), [sr])
        self.call("PBD.unplug", pbd)
        self.call("PBD.plug", pbd)
        self.assertTrue(self.call("PBD.get_currently_attached", pbd))
        self.call("PBD.plug", pbd)
        self.call("SR.scan", sr)
        self.assertEqual(self.call("SR.get_VDIs", sr), [vdi])

    def test_an_SR_without_PBDs_cannot_be_used(self):
        sr = self.new_sr()
        pbd = self.pbd(sr)
        self.call("PBD.unplug", pbd)
        self.call("PBD.destroy", pbd)
        self.assertEqual(self.fails("SR_HAS_NO_PBDS", "SR.scan", sr), [sr])
        self.assertEqual(self.fails("SR_HAS_NO_PBDS", "VDI.create", self.vdi_args(sr)), [sr])
        self.assertEqual(self.fails("SR_HAS_NO_PBDS", "SR.destroy", sr), [sr])

    def test_a_plugged_PBD_is_neither_destroyed_nor_configured(self):
        pbd = self.pbd(self.new_sr())
        self.fails("OPERATION_NOT_ALLOWED", "PBD.destroy", pbd)
        self.fails("OPERATION_NOT_ALLOWED", "PBD.set_device_config", pbd, {})
        self.call("PBD.unplug", pbd)
        self.call("PBD.set_device_config", pbd, {"location": "/nowhere"})
        self.assertEqual(self.call("PBD.get_device_config", pbd), {"location": "/nowhere"})
        self.call("PBD.destroy", pbd)
        self.fails("HANDLE_INVALID", "PBD.get_record", pbd)

    def test_plug_that_the_driver_refuses_leaves_it_unplugged(self):
        sr = self.new_sr()
        pbd = self.pbd(sr)
        self.call("PBD.unplug", pbd)
        self.call("PBD.set_device_config", pbd, {"location": self.place()})
        self.fails("SR_BACKEND_FAILURE", "PBD.plug", pbd)
        self.assertFalse(self.call("PBD.get_currently_attached", pbd))
        self.assertEqual(self.fails("SR_NOT_ATTACHED", "SR.scan", sr), [sr])

    def test_a_plug_whose_scan_fails_is_undone(self):
        sr = self.new_sr()
        pbd = self.pbd(sr)
        self.call("PBD.unplug", pbd)
        self.call("host.call_plugin", self.host, "xenapid-sim", "fault",
                  {"method": "sr.scan", "kind": "fail", "count": "1", "code": "SR_BACKEND_FAILURE",
                   "params": json.dumps(["5", "", "broken"])})
        self.assertEqual(self.fails("SR_BACKEND_FAILURE", "PBD.plug", pbd), ["5", "", "broken"])
        self.assertFalse(self.call("PBD.get_currently_attached", pbd))
        self.call("PBD.plug", pbd)
        self.call("SR.scan", sr)

    def test_a_place_of_another_SR_is_refused(self):
        sr, other = self.new_sr(), self.new_sr()
        where = self.location(other)
        self.call("PBD.unplug", self.pbd(other))
        self.call("PBD.unplug", self.pbd(sr))
        self.call("PBD.set_device_config", self.pbd(sr), {"location": where})
        self.fails("SR_BACKEND_FAILURE", "PBD.plug", self.pbd(sr))

    def test_unplug_is_refused_while_a_running_VM_uses_a_disk(self):
        sr = self.new_sr()
        vdi = self.new_vdi(sr)
        vm, _ = self.plug_into_running_vm(vdi)
        self.assertEqual(self.fails("VDI_IN_USE", "PBD.unplug", self.pbd(sr))[0], vdi)
        self.assertTrue(self.call("PBD.get_currently_attached", self.pbd(sr)))
        self.call("VM.hard_shutdown", vm)
        self.call("PBD.unplug", self.pbd(sr))

    def test_plug_and_unplug_as_tasks(self):
        pbd = self.pbd(self.new_sr())
        for m, attached in (("unplug", False), ("plug", True)):
            record = self.s.wait(self.call(f"Async.PBD.{m}", pbd))
            self.assertEqual((record["result"], record["progress"]), ("", 1.0))
            self.assertEqual(self.call("PBD.get_currently_attached", pbd), attached)


class Isos(Storage):
    def library(self, *names):
        where = tempfile.mkdtemp(dir=self.server.dir)
        os.chmod(where, 0o755)
        for name in names:
            with open(os.path.join(where, name), "wb") as f:
                f.truncate(2 * MIB)
        return where, self.call("SR.create", self.host, {"location": where}, 0, "discs", "", "iso", "iso", False, {})

    def test_the_discs_are_read_only_VDIs_named_like_their_files(self):
        _, sr = self.library("debian.iso", "notes.txt")
        records = [self.call("VDI.get_record", v) for v in self.call("SR.get_VDIs", sr)]
        self.assertEqual([(r["name_label"], r["location"], r["read_only"], r["virtual_size"]) for r in records],
                         [("debian.iso", "debian.iso", True, 2 * MIB)])

    def test_scan_follows_the_directory_and_a_disc_keeps_its_identity(self):
        where, sr = self.library("a.iso")
        a = self.call("SR.get_VDIs", sr)
        os.rename(os.path.join(where, "a.iso"), os.path.join(where, "a.bak"))
        shutil.copy(os.path.join(where, "a.bak"), os.path.join(where, "b.iso"))
        self.call("SR.scan", sr)
        self.assertEqual([self.call("VDI.get_name_label", v) for v in self.call("SR.get_VDIs", sr)], ["b.iso"])
        uuids = {self.call("VDI.get_uuid", v) for v in self.call("SR.get_VDIs", sr)}
        self.call("PBD.unplug", self.pbd(sr))
        self.call("PBD.plug", self.pbd(sr))
        self.assertEqual({self.call("VDI.get_uuid", v) for v in self.call("SR.get_VDIs", sr)}, uuids)
        self.fails("HANDLE_INVALID", "VDI.get_record", a[0])

    def test_nothing_is_written_into_a_library(self):
        _, sr = self.library("a.iso")
        vdi = self.call("SR.get_VDIs", sr)[0]
        self.assertEqual(self.fails("SR_OPERATION_NOT_SUPPORTED", "VDI.create", self.vdi_args(sr)), [sr])
        for method, *args in (("VDI.resize", 8 * MIB), ("VDI.clone", {}), ("VDI.snapshot", {}), ("VDI.destroy",)):
            self.assertEqual(self.fails("SR_OPERATION_NOT_SUPPORTED", method, vdi, *args), [sr], method)
        self.assertEqual(self.call("VDI.get_virtual_size", vdi), 2 * MIB)
        self.assertEqual(self.call("VDI.get_current_operations", vdi), {})

    def test_a_disc_can_be_copied_into_a_file_SR(self):
        where, sr = self.library("a.iso")
        write(os.path.join(where, "a.iso"), 9, MIB)
        copy = self.call("VDI.copy", self.call("SR.get_VDIs", sr)[0], self.local, NULL, NULL)
        self.assertTrue(holds(self.path(copy), 9, MIB))
        self.assertFalse(self.call("VDI.get_read_only", copy))

    def test_destroying_a_library_leaves_its_files(self):
        where, sr = self.library("a.iso")
        self.call("PBD.unplug", self.pbd(sr))
        self.fails("SR_OPERATION_NOT_SUPPORTED", "SR.destroy", sr)
        self.call("SR.forget", sr)
        self.assertTrue(os.path.exists(os.path.join(where, "a.iso")))


class VDIs(Storage):
    def test_create_makes_a_sparse_image_of_the_size_asked_for(self):
        for image_type in ("raw", "qcow2"):
            vdi = self.new_vdi(size=10 << 30, sm_config={"type": image_type})
            path, record = self.path(vdi), self.call("VDI.get_record", vdi)
            self.assertEqual((virtual_size(path), image_format(path)), (10 << 30, image_type))
            self.assertEqual((record["virtual_size"], record["sm_config"]["type"]), (10 << 30, image_type))
            self.assertLess(os.stat(path).st_blocks * 512, MIB)
            self.assertEqual(record["physical_utilisation"], os.stat(path).st_blocks * 512)

    def test_qcow2_is_what_one_gets_unasked(self):
        self.assertEqual(image_format(self.path(self.new_vdi())), "qcow2")

    def test_an_SR_can_ask_for_raw_images(self):
        sr = self.call("SR.create", self.host, {"location": self.place()}, 0, "raw ones", "", "file", "user", False,
                       {"type": "raw"})
        self.assertEqual(image_format(self.path(self.new_vdi(sr))), "raw")

    def test_nobody_else_can_read_an_image(self):
        for image_type in ("raw", "qcow2"):
            path = self.path(self.new_vdi(sm_config={"type": image_type}))
            self.assertEqual(stat.S_IMODE(os.stat(path).st_mode) & 0o077, 0)

    def test_the_record_of_a_new_disk(self):
        vdi = self.new_vdi(name_label="n", name_description="d", other_config={"k": "v"}, tags=["t"], sharable=True)
        record = self.call("VDI.get_record", vdi)
        self.assertEqual((record["name_label"], record["name_description"], record["other_config"], record["tags"],
                          record["sharable"], record["type"], record["SR"]),
                         ("n", "d", {"k": "v"}, ["t"], True, "user", self.local))
        self.assertEqual((record["managed"], record["missing"], record["read_only"], record["is_a_snapshot"],
                          record["snapshot_of"], record["snapshot_time"], record["snapshots"], record["VBDs"]),
                         (True, False, False, False, NULL, EPOCH, [], []))
        self.assertEqual(record["location"], record["uuid"])
        self.assertIn(vdi, self.call("SR.get_VDIs", self.local))

    def test_a_size_is_rounded_up_to_whole_sectors(self):
        vdi = self.new_vdi(size=1000, sm_config={"type": "raw"})
        self.assertEqual((self.call("VDI.get_virtual_size", vdi), virtual_size(self.path(vdi))), (1024, 1024))

    def test_sizes_that_cannot_be_are_refused(self):
        before = self.call("SR.get_VDIs", self.local)
        self.assertEqual(self.fails("INVALID_VALUE", "VDI.create", self.vdi_args(size=0)), ["virtual_size", "0"])
        self.fails("INVALID_VALUE", "VDI.create", self.vdi_args(size=-5))
        self.fails("VDI_TOO_LARGE", "VDI.create", self.vdi_args(size=1 << 60))
        self.assertEqual(self.call("SR.get_VDIs", self.local), before)

    def test_an_unknown_format_is_refused(self):
        self.fails("VALUE_NOT_SUPPORTED", "VDI.create", self.vdi_args(sm_config={"type": "vhd"}))

    def test_create_in_an_unknown_SR_is_refused(self):
        self.assertEqual(self.fails("HANDLE_INVALID", "VDI.create", self.vdi_args("OpaqueRef:x")), ["SR", "OpaqueRef:x"])

    def test_create_as_a_task_answers_the_reference(self):
        result = self.s.wait(self.call("Async.VDI.create", self.vdi_args(name_label="by task")))["result"]
        self.assertEqual(self.call("VDI.get_name_label", result[len("<value>"):-len("</value>")]), "by task")

    def test_resize_grows_the_file(self):
        for image_type in ("raw", "qcow2"):
            vdi = self.new_vdi(sm_config={"type": image_type})
            self.call("VDI.resize", vdi, 40 * MIB)
            self.assertEqual((self.call("VDI.get_virtual_size", vdi), virtual_size(self.path(vdi))), (40 * MIB, 40 * MIB))

    def test_a_disk_does_not_shrink(self):
        vdi = self.new_vdi()
        self.assertEqual(self.fails("VDI_TOO_SMALL", "VDI.resize", vdi, 4 * MIB), [vdi, str(8 * MIB)])
        self.assertEqual(virtual_size(self.path(vdi)), 8 * MIB)

    def test_the_older_name_of_resize(self):
        vdi = self.new_vdi()
        self.call("VDI.set_virtual_size", vdi, 16 * MIB)
        self.assertEqual(virtual_size(self.path(vdi)), 16 * MIB)

    def test_a_clone_has_the_data_and_a_life_of_its_own(self):
        for image_type in ("raw", "qcow2"):
            vdi = self.new_vdi(name_label="origin", other_config={"k": "v"}, sm_config={"type": image_type})
            write(self.path(vdi), 1, MIB)
            clone = self.call("VDI.clone", vdi, {})
            record = self.call("VDI.get_record", clone)
            self.assertEqual((record["name_label"], record["other_config"], record["is_a_snapshot"], record["snapshot_of"],
                              record["virtual_size"]), ("origin", {"k": "v"}, False, NULL, 8 * MIB))
            write(self.path(clone), 2, MIB)
            self.assertTrue(holds(self.path(vdi), 1, MIB))
            self.call("VDI.destroy", vdi)
            self.assertTrue(holds(self.path(clone), 2, MIB))

    def test_a_snapshot_keeps_the_moment(self):
        for image_type in ("raw", "qcow2"):
            vdi = self.new_vdi(sm_config={"type": image_type})
            write(self.path(vdi), 3, MIB)
            before = time.strftime("%Y%m%dT%H:%M:%SZ", time.gmtime())
            snapshot = self.call("VDI.snapshot", vdi, {})
            write(self.path(vdi), 4, MIB)
            self.assertTrue(holds(self.path(snapshot), 3, MIB))
            record = self.call("VDI.get_record", snapshot)
            self.assertEqual((record["is_a_snapshot"], record["snapshot_of"]), (True, vdi))
            self.assertGreaterEqual(record["snapshot_time"], before)
            self.assertEqual(self.call("VDI.get_snapshots", vdi), [snapshot])
            self.assertFalse(self.call("VDI.get_is_a_snapshot", vdi))

    def test_a_snapshot_outlives_its_disk(self):
        vdi = self.new_vdi()
        write(self.path(vdi), 3, MIB)
        snapshot = self.call("VDI.snapshot", vdi, {})
        self.call("VDI.destroy", vdi)
        record = self.call("VDI.get_record", snapshot)
        self.assertEqual((record["is_a_snapshot"], record["snapshot_of"]), (True, NULL))
        self.assertTrue(holds(self.path(snapshot), 3, MIB))

    def test_a_snapshot_keeps_its_size(self):
        snapshot = self.call("VDI.snapshot", self.new_vdi(), {})
        self.fails("OPERATION_NOT_ALLOWED", "VDI.resize", snapshot, 16 * MIB)
        self.assertNotIn("resize", self.call("VDI.get_allowed_operations", snapshot))

    def test_a_copy_into_another_SR_is_whole(self):
        vdi, sr = self.new_vdi(), self.new_sr()
        write(self.path(vdi), 5, 2 * MIB)
        self.call("VDI.snapshot", vdi, {})
        copy = self.call("VDI.copy", vdi, sr, NULL, NULL)
        self.assertEqual(self.call("VDI.get_SR", copy), sr)
        info = json.loads(qemu_img("info", "--output=json", self.path(copy)))
        self.assertNotIn("backing-filename", info)
        self.assertTrue(holds(self.path(copy), 5, 2 * MIB))

    def test_a_copy_with_an_empty_reference_for_the_base(self):
        copy = self.call("VDI.copy", self.new_vdi(), self.local, "", "")
        self.assertEqual(self.call("VDI.get_SR", copy), self.local)

    def test_destroy_removes_the_file(self):
        for image_type in ("raw", "qcow2"):
            vdi = self.new_vdi(sm_config={"type": image_type})
            path = self.path(vdi)
            self.call("VDI.destroy", vdi)
            self.assertFalse(os.path.exists(path))
            self.assertEqual(self.fails("HANDLE_INVALID", "VDI.get_record", vdi), ["VDI", vdi])
            self.assertNotIn(vdi, self.call("SR.get_VDIs", self.local))

    def test_destroying_all_of_a_family_leaves_no_file(self):
        sr = self.new_sr()
        vdi = self.new_vdi(sr)
        family = [vdi]
        for i in range(3):
            write(self.path(vdi), i + 1, MIB)
            family += [self.call("VDI.snapshot", vdi, {}), self.call("VDI.clone", vdi, {})]
        for v in family:
            self.call("VDI.destroy", v)
        self.until(lambda: set(os.listdir(self.location(sr))) == {"sr.json", ".lock"})

    def test_of_two_destroys_at_once_one_succeeds(self):
        for _ in range(5):
            vdi = self.new_vdi(sm_config={"type": "raw"})
            outcomes = []

            def destroy(session):
                try:
                    session.call("VDI.destroy", vdi)
                    outcomes.append("done")
                except Failure as f:
                    outcomes.append(f.code)

            threads = [threading.Thread(target=destroy, args=(self.server.login(kind=k),)) for k in ("https", "unix")]
            for t in threads:
                t.start()
            for t in threads:
                t.join()
            self.assertEqual(outcomes.count("done"), 1, outcomes)
            self.assertIn(next(o for o in outcomes if o != "done"), ("HANDLE_INVALID", "OTHER_OPERATION_IN_PROGRESS"))

    def test_a_disk_in_use_is_left_alone(self):
        vdi = self.new_vdi()
        vm, vbd = self.plug_into_running_vm(vdi)
        for method, *args in (("VDI.destroy",), ("VDI.forget",), ("VDI.clone", {}),
                              ("VDI.copy", self.local, NULL, NULL), ("VDI.set_read_only", True),
                              ("VDI.set_sharable", True)):
            self.assertEqual(self.fails("VDI_IN_USE", method, vdi, *args)[0], vdi, method)
        self.assertNotIn("destroy", self.call("VDI.get_allowed_operations", vdi))
        self.assertTrue(os.path.exists(self.path(vdi)))
        self.call("VM.hard_shutdown", vm)
        self.assertIn("destroy", self.call("VDI.get_allowed_operations", vdi))
        self.call("VDI.destroy", vdi)
        self.fails("HANDLE_INVALID", "VBD.get_record", vbd)

    def test_a_disk_that_is_only_read_can_be_copied(self):
        vdi = self.new_vdi()
        vm, _ = self.plug_into_running_vm(vdi, mode="RO")
        self.call("VDI.copy", vdi, self.local, NULL, NULL)
        self.fails("VDI_IN_USE", "VDI.destroy", vdi)
        self.call("VM.hard_shutdown", vm)

    def test_a_forgotten_disk_is_found_by_the_next_scan(self):
        sr = self.new_sr()
        vdi = self.new_vdi(sr)
        path, its_uuid = self.path(vdi), self.call("VDI.get_uuid", vdi)
        self.call("VDI.forget", vdi)
        self.assertTrue(os.path.exists(path))
        self.assertEqual(self.call("SR.get_VDIs", sr), [])
        self.call("SR.scan", sr)
        self.assertEqual(self.call("SR.get_VDIs", sr), [self.call("VDI.get_by_uuid", its_uuid)])

    def introduce(self, its_uuid, sr, name="introduced"):
        return ("VDI.introduce", its_uuid, name, "", sr, "user", False, False, {"k": "v"}, its_uuid, {}, {}, True, 0, 0,
                NULL, False, EPOCH, NULL)

    def test_introduce_gives_a_forgotten_disk_a_record_again(self):
        sr = self.new_sr()
        vdi = self.new_vdi(sr, 24 * MIB)
        its_uuid = self.call("VDI.get_uuid", vdi)
        self.call("VDI.forget", vdi)
        again = self.call(*self.introduce(its_uuid, sr))
        record = self.call("VDI.get_record", again)
        self.assertEqual((record["uuid"], record["name_label"], record["other_config"], record["virtual_size"]),
                         (its_uuid, "introduced", {"k": "v"}, 24 * MIB))

    def test_introduce_refuses_what_is_known_or_not_there(self):
        vdi, nothing = self.new_vdi(), str(uuid.uuid4())
        self.fails("DB_UNIQUENESS_CONSTRAINT_VIOLATION", *self.introduce(self.call("VDI.get_uuid", vdi), self.local))
        self.assertEqual(self.fails("VDI_MISSING", *self.introduce(nothing, self.local)), [self.local, nothing])
        self.fails("INVALID_VALUE", *self.introduce("../x", self.local))

    def test_a_file_that_vanished_is_missed_and_can_be_destroyed(self):
        vdi = self.new_vdi()
        os.unlink(self.path(vdi))
        self.assertEqual(self.fails("VDI_MISSING", "VDI.update", vdi), [self.local, vdi])
        self.call("VDI.destroy", vdi)
        self.fails("HANDLE_INVALID", "VDI.get_record", vdi)

    def test_update_reads_the_file_again(self):
        vdi = self.new_vdi(sm_config={"type": "raw"})
        write(self.path(vdi), 6, 4 * MIB)
        self.call("VDI.update", vdi)
        self.assertGreaterEqual(self.call("VDI.get_physical_utilisation", vdi), 4 * MIB)

    def test_setters_of_a_disk(self):
        vdi = self.new_vdi()
        for field, value in (("name_label", "n"), ("name_description", "d"), ("read_only", True), ("sharable", True),
                             ("other_config", {"a": "b"}), ("tags", ["x"]), ("xenstore_data", {"c": "d"})):
            self.call(f"VDI.set_{field}", vdi, value)
            self.assertEqual(self.call(f"VDI.get_{field}", vdi), value)

    def test_a_full_SR_refuses_and_leaves_nothing(self):
        sr = self.new_sr(quota=str(24 * MIB))
        vdi = self.new_vdi(sr, 64 * MIB, sm_config={"type": "raw"})
        write(self.path(vdi), 1, 16 * MIB)
        requested, maximum = self.fails("SR_FULL", "VDI.copy", vdi, sr, NULL, NULL)
        self.assertGreaterEqual(int(requested), 16 * MIB)
        self.assertLess(int(maximum), 9 * MIB)
        self.assertEqual(self.call("SR.get_VDIs", sr), [vdi])
        write(self.path(vdi), 1, 8 * MIB, 16 * MIB)
        self.fails("SR_FULL", "VDI.create", self.vdi_args(sr))
        self.assertEqual(self.call("SR.get_VDIs", sr), [vdi])

    def test_what_a_web_client_does_with_a_disk(self):
        """Create by task, mark, attach, snapshot, delete again after VDI_IN_USE, in the forms that Xen Orchestra uses."""
        vdi = self.s.wait(self.call("Async.VDI.create", self.vdi_args(name_label="xo")))["result"][7:-8]
        self.call("VDI.remove_from_other_config", vdi, "xo:x")
        self.call("VDI.add_to_other_config", vdi, "xo:x", "1")
        vm = type(self).vms.pop()
        vbd = self.s.wait(self.call("Async.VBD.create", {
            "VM": vm, "VDI": vdi, "userdevice": self.call("VM.get_allowed_VBD_devices", vm)[0], "bootable": False,
            "mode": "RW", "type": "Disk", "empty": False, "other_config": {}, "qos_algorithm_type": "",
            "qos_algorithm_params": {}}))["result"][7:-8]
        self.s.wait(self.call("Async.VM.start", vm, False, False))
        with self.assertRaises(Failure) as f:
            self.s.wait(self.call("Async.VDI.destroy", vdi))
        self.assertEqual(f.exception.code, "VDI_IN_USE")
        self.s.wait(self.call("Async.VBD.unplug", vbd))
        self.call("VBD.destroy", vbd)
        snapshot = self.s.wait(self.call("Async.VDI.snapshot", vdi, {}))["result"][7:-8]
        for v in (snapshot, vdi):
            self.s.wait(self.call("Async.VDI.destroy", v))
        self.call("VM.hard_shutdown", vm)


GATE = """#!/bin/sh
# Stands in for qemu-img: a conversion reports a quarter and goes on when the file "go" is there.
if [ "$1" = convert ] && [ -e "{gate}/closed" ]; then
    printf '    (25.00/100%%)\\r'
    while [ ! -e "{gate}/go" ]; do sleep 0.02; done
fi
exec {real} "$@"
"""


class SlowCopies(Storage):
    """Copies that wait in the middle until the test lets them go on."""

    @classmethod
    def setUpClass(cls):
        cls.gate = tempfile.mkdtemp(prefix="xenapid-gate.")
        os.chmod(cls.gate, 0o755)
        tool = os.path.join(cls.gate, "qemu-img")
        with open(tool, "w") as f:
            f.write(GATE.format(gate=cls.gate, real=shutil.which("qemu-img")))
        os.chmod(tool, 0o755)
        cls.env = {"PATH": cls.gate + ":" + os.environ["PATH"]}
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        shutil.rmtree(cls.gate)

    def setUp(self):
        self.set_gate("closed")

    def tearDown(self):
        self.set_gate("go")

    def set_gate(self, state):
        for name in ("closed", "go"):
            if name == state:
                open(os.path.join(self.gate, name), "w").close()
            elif os.path.exists(os.path.join(self.gate, name)):
                os.unlink(os.path.join(self.gate, name))

    def copying(self):
        """A disk with data, the SR that it is being copied to, and the task, a quarter done."""
        vdi, sr = self.new_vdi(size=1 << 30), self.new_sr()
        write(self.path(vdi), 8, 32 * MIB, 512 * MIB)
        task = self.call("Async.VDI.copy", vdi, sr, NULL, NULL)
        self.until(lambda: self.call("task.get_progress", task) == 0.25)
        return vdi, sr, task

    def test_progress_and_result(self):
        vdi, sr, task = self.copying()
        self.assertEqual(self.call("VDI.get_current_operations", vdi), {task: "copy"})
        self.assertEqual(self.call("SR.get_VDIs", sr), [])
        self.set_gate("go")
        copy = self.s.wait(task)["result"][len("<value>"):-len("</value>")]
        self.assertEqual(self.call("SR.get_VDIs", sr), [copy])
        self.assertEqual(self.call("VDI.get_virtual_size", copy), 1 << 30)
        self.assertTrue(holds(self.path(copy), 8, 32 * MIB, 512 * MIB))
        self.assertEqual(self.call("VDI.get_current_operations", vdi), {})

    def test_cancel_stops_the_tool_and_leaves_nothing(self):
        vdi, sr, task = self.copying()
        self.call("task.cancel", task)
        with self.assertRaises(Failure) as f:
            self.s.wait(task)
        self.assertEqual((f.exception.code, f.exception.params), ("TASK_CANCELLED", [task]))
        self.assertEqual(self.call("SR.get_VDIs", sr), [])
        self.assertEqual([n for n in os.listdir(self.location(sr)) if n not in ("sr.json", ".lock")], [])
        self.assertEqual(self.call("VDI.get_current_operations", vdi), {})

    def test_a_disk_that_is_being_copied_is_not_changed(self):
        vdi, _, task = self.copying()
        for method, *args in (("VDI.destroy",), ("VDI.resize", 2 << 30), ("VDI.snapshot", {}), ("VDI.forget",)):
            self.assertEqual(self.fails("OTHER_OPERATION_IN_PROGRESS", method, vdi, *args), ["VDI", vdi, "copy", task])
        self.assertEqual(self.call("VDI.get_allowed_operations", vdi), ["copy"])
        self.set_gate("go")
        self.s.wait(task)
        self.assertIn("destroy", self.call("VDI.get_allowed_operations", vdi))

    def test_a_disk_can_be_copied_twice_at_once(self):
        vdi, sr, task = self.copying()
        other = self.call("Async.VDI.copy", vdi, sr, NULL, NULL)
        self.assertEqual(self.call("task.get_status", other), "pending")
        self.set_gate("go")
        self.s.wait(task)
        self.s.wait(other)
        self.assertEqual(len(self.call("SR.get_VDIs", sr)), 2)

    def test_getters_and_other_disks_do_not_wait_for_a_copy(self):
        _, sr, task = self.copying()
        vdi = self.new_vdi(sr)
        self.call("VDI.resize", vdi, 16 * MIB)
        self.call("SR.scan", sr)
        self.assertEqual(self.call("SR.get_VDIs", sr), [vdi])
        self.call("VDI.destroy", vdi)
        self.assertEqual(self.call("task.get_status", task), "pending")
        self.set_gate("go")
        self.s.wait(task)

    def test_an_SR_that_a_copy_goes_to_is_not_unplugged_under_it(self):
        vdi, sr, task = self.copying()
        unplug = self.call("Async.PBD.unplug", self.pbd(sr))
        self.set_gate("go")
        self.s.wait(unplug)
        try:
            copy = self.s.wait(task)["result"]
        except Failure as f:
            self.fail(f"the copy was cut off: {f}")
        self.assertIn(copy[len("<value>"):-len("</value>")], self.call("SR.get_VDIs", sr))


class Restart(unittest.TestCase):
    def test_PBDs_are_plugged_again_and_disks_are_the_same(self):
        with Server() as server:
            s = server.login()
            sr = s.call("SR.get_all")[0]
            pbd = s.call("SR.get_PBDs", sr)[0]
            Storage.until(lambda: s.call("PBD.get_currently_attached", pbd))
            vdi = s.call("VDI.create", {"name_label": "lasting", "SR": sr, "virtual_size": MIB, "type": "user"})
            before = s.call("VDI.get_record", vdi)
            server.kill()
            server.start()
            s = server.login()
            Storage.until(lambda: s.call("PBD.get_currently_attached", pbd))
            s.call("SR.scan", sr)
            self.assertEqual(s.call("VDI.get_record", vdi), before)

    def test_the_backend_s_restart_attaches_everything_again(self):
        with Server(allow_crash=True) as server:
            s = server.login()
            host, sr = s.call("host.get_all")[0], s.call("SR.get_all")[0]
            pbd = s.call("SR.get_PBDs", sr)[0]
            Storage.until(lambda: s.call("PBD.get_currently_attached", pbd))
            s.call("VDI.create", {"name_label": "x", "SR": sr, "virtual_size": MIB, "type": "user"})
            old = server.pid_of("xenapid-sim")
            os.kill(old, 9)

            def works():
                try:
                    s.call("SR.scan", sr)
                    return server.pid_of("xenapid-sim") != old
                except (Failure, LookupError):
                    return False

            Storage.until(works, 30)
            self.assertTrue(s.call("PBD.get_currently_attached", pbd))
            self.assertEqual(len(s.call("SR.get_VDIs", sr)), 1)
            self.assertTrue(host)

    def test_a_PBD_that_cannot_be_plugged_at_start_is_told_as_a_message(self):
        with Server() as server:
            s = server.login()
            host, where = s.call("host.get_all")[0], os.path.join(server.state_dir, "gone")
            sr = s.call("SR.create", host, {"location": where}, 0, "n", "", "file", "user", False, {})
            pbd = s.call("SR.get_PBDs", sr)[0]
            server.stop()
            shutil.rmtree(where)
            server.start()
            s = server.login()
            Storage.until(lambda: s.call("message.get_all"))
            record = list(s.call("message.get_all_records").values())[0]
            self.assertEqual((record["name"], record["cls"], record["obj_uuid"]),
                             ("PBD_PLUG_FAILED_ON_SERVER_START", "SR", s.call("SR.get_uuid", sr)))
            self.assertFalse(s.call("PBD.get_currently_attached", pbd))
            self.assertIn("SR_BACKEND_FAILURE", record["body"])
