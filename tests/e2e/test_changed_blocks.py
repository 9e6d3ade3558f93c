"""Changed block tracking: which 64 KiB blocks of a disk were written between its snapshots, by whatever wrote them."""
import base64
import os
import signal
import subprocess
import unittest

from harness import Failure
from test_storage import MIB, NULL, Storage, write

BLOCK = 65536
KINDS = ("qcow2", "raw")


def blocks(bitmap):
    """The numbers of the bits that are set, the most significant one of the first byte being 0."""
    data = base64.b64decode(bitmap)
    return {i * 8 + k for i, byte in enumerate(data) for k in range(8) if byte & (0x80 >> k)}


class Tracked(Storage):
    def disk(self, kind="qcow2", size=8 * MIB, sr=None):
        vdi = self.new_vdi(sr, size, sm_config={"type": kind})
        self.call("VDI.enable_cbt", vdi)
        return vdi

    def snapshot(self, vdi):
        return self.call("VDI.snapshot", vdi, {})

    def changed(self, a, b):
        return blocks(self.call("VDI.list_changed_blocks", a, b))

    def io(self, vm, **args):
        args = {k: str(v) for k, v in args.items()}
        return self.sim("guest", uuid=self.call("VM.get_uuid", vm), **args)

    def sim(self, function, **args):
        return self.call("host.call_plugin", self.host, "xenapid-sim", function, args)


class Bitmaps(Tracked):
    def test_what_was_written_is_in_it_and_nothing_else(self):
        for kind in KINDS:
            with self.subTest(kind):
                vdi = self.disk(kind)
                first = self.snapshot(vdi)
                write(self.path(vdi), 1, 10, 3 * BLOCK + 5)
                write(self.path(vdi), 2, 2 * BLOCK, 9 * BLOCK - 1)
                write(self.path(vdi), 3, 512, 8 * MIB - 512)
                second = self.snapshot(vdi)
                self.assertEqual(self.changed(first, second), {3, 8, 9, 10, 127})
                self.assertEqual(self.changed(first, vdi), {3, 8, 9, 10, 127})
                self.assertEqual(self.changed(second, vdi), set())
                self.assertEqual(self.changed(second, second), set())

    def test_it_has_a_bit_for_each_block(self):
        vdi = self.disk(size=10 * MIB + 512)
        first = self.snapshot(vdi)
        write(self.path(vdi), 1, 512, 10 * MIB)
        second = self.snapshot(vdi)
        bitmap = self.call("VDI.list_changed_blocks", first, second)
        self.assertEqual(len(base64.b64decode(bitmap)), 21)  # 161 blocks
        self.assertEqual(blocks(bitmap), {160})

    def test_changes_add_up_over_several_snapshots(self):
        for kind in KINDS:
            with self.subTest(kind):
                vdi = self.disk(kind)
                shots = [self.snapshot(vdi)]
                for i in range(3):
                    write(self.path(vdi), i + 1, 512, 10 * i * BLOCK)
                    shots.append(self.snapshot(vdi))
                write(self.path(vdi), 9, 512, 100 * BLOCK)
                self.assertEqual(self.changed(shots[0], shots[3]), {0, 10, 20})
                self.assertEqual(self.changed(shots[1], shots[2]), {10})
                self.assertEqual(self.changed(shots[2], vdi), {20, 100})

    def test_a_running_guest_s_writes_are_in_it(self):
        for kind in KINDS:
            with self.subTest(kind):
                vdi = self.disk(kind)
                vm, _ = self.plug_into_running_vm(vdi)
                first = self.snapshot(vdi)
                self.io(vm, do="write", device="xvda", offset=5 * BLOCK, length=512, pattern=7)
                second = self.snapshot(vdi)
                self.assertEqual(self.changed(first, second), {5})
                self.assertEqual(self.fails("VDI_IN_USE", "VDI.list_changed_blocks", second, vdi),
                                 [vdi, "list_changed_blocks"])
                self.call("VM.hard_shutdown", vm)
                self.assertEqual(self.changed(second, vdi), set())

    def test_an_image_that_was_replaced_counts_as_written_everywhere(self):
        vdi, other = self.disk(), self.new_vdi()
        first = self.snapshot(vdi)
        write(self.path(other), 1, 512, 0)
        self.call("VDI.copy", other, NULL, NULL, vdi)
        self.assertEqual(self.changed(first, vdi), set(range(128)))
        second = self.snapshot(vdi)
        write(self.path(vdi), 1, 512, 7 * BLOCK)
        self.assertEqual(self.changed(second, vdi), {7})

    def test_a_bitmap_that_was_not_closed_counts_as_written_everywhere(self):
        vdi = self.disk()
        first = self.snapshot(vdi)
        path = self.path(vdi)
        io = subprocess.Popen(["qemu-io", "-f", "qcow2", path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        io.stdin.write(b"write -P 1 0 512\n")
        io.stdin.flush()
        self.assertIn(b"wrote", io.stdout.readline() + io.stdout.readline())
        io.send_signal(signal.SIGKILL)
        io.communicate()
        self.assertEqual(self.changed(first, vdi), set(range(128)))

    def test_a_disk_that_grew(self):
        for kind in KINDS:
            with self.subTest(kind):
                vdi = self.disk(kind)
                first = self.snapshot(vdi)
                self.call("VDI.resize", vdi, 16 * MIB)
                write(self.path(vdi), 1, 512, 200 * BLOCK)
                second = self.snapshot(vdi)
                self.assertEqual(self.changed(first, second), {200})
                self.assertEqual(self.changed(first, vdi), {200})

    def test_it_outlives_the_daemon_and_its_backend(self):
        vdi = self.disk()
        first = self.snapshot(vdi)
        write(self.path(vdi), 1, 512, 4 * BLOCK)
        self.server.stop()
        self.server.start()
        type(self).s = self.server.login()
        self.until(lambda: self.attached(self.local))
        write(self.path(vdi), 1, 512, 6 * BLOCK)
        second = self.snapshot(vdi)
        self.assertEqual(self.changed(first, second), {4, 6})
        self.assertTrue(self.call("VDI.get_cbt_enabled", vdi))


class Records(Tracked):
    def test_on_and_off(self):
        vdi = self.new_vdi()
        self.assertFalse(self.call("VDI.get_cbt_enabled", vdi))
        self.call("VDI.enable_cbt", vdi)
        self.call("VDI.enable_cbt", vdi)
        self.assertTrue(self.call("VDI.get_cbt_enabled", vdi))
        shot = self.snapshot(vdi)
        self.assertTrue(self.call("VDI.get_cbt_enabled", shot))
        self.call("VDI.disable_cbt", vdi)
        self.call("VDI.disable_cbt", vdi)
        self.assertFalse(self.call("VDI.get_cbt_enabled", vdi))
        self.assertFalse(self.call("VDI.get_cbt_enabled", self.snapshot(vdi)))
        self.assertEqual(self.fails("VDI_NO_CBT_METADATA", "VDI.list_changed_blocks", shot, vdi), [vdi])
        self.assertNotIn("bitmaps", subprocess.run(["qemu-img", "info", "-U", self.path(vdi)], capture_output=True,
                                                   text=True, check=True).stdout)

    def test_a_clone_is_not_tracked(self):
        vdi = self.disk()
        self.assertFalse(self.call("VDI.get_cbt_enabled", self.call("VDI.clone", vdi, {})))
        self.assertFalse(self.call("VDI.get_cbt_enabled", self.call("VDI.copy", vdi, self.local, NULL, NULL)))

    def test_what_cannot_be_tracked_is_refused(self):
        vdi = self.disk()
        shot = self.snapshot(vdi)
        for method in ("VDI.enable_cbt", "VDI.disable_cbt"):
            self.fails("OPERATION_NOT_ALLOWED", method, shot)
            memory = self.new_vdi(type="suspend")
            self.assertEqual(self.fails("VDI_INCOMPATIBLE_TYPE", method, memory), [memory, "suspend"])
        self.assertEqual(self.fails("VDI_CBT_ENABLED", "VDI.set_on_boot", vdi, "persist"), [vdi])
        vm = type(self).vms[-1]
        self.call("VBD.create", {"VM": vm, "VDI": vdi, "userdevice": "9", "bootable": False, "mode": "RW", "type": "Disk",
                                 "empty": False, "other_config": {}, "qos_algorithm_type": "",
                                 "qos_algorithm_params": {}})
        self.assertEqual(self.fails("VDI_CBT_ENABLED", "VDI.pool_migrate", vdi, self.new_sr(), {}), [vdi])

    def test_an_SR_that_takes_no_snapshots_is_refused(self):
        where = self.place()
        os.mkdir(where)
        open(os.path.join(where, "cd.iso"), "wb").write(b"\0" * 2048)
        sr = self.call("SR.create", self.host, {"location": where}, 0, "cds", "", "iso", "iso", False, {})
        self.call("SR.scan", sr)
        self.assertEqual(self.fails("SR_OPERATION_NOT_SUPPORTED", "VDI.enable_cbt", self.call("SR.get_VDIs", sr)[0]), [sr])

    def test_disks_that_did_not_come_from_each_other(self):
        a, b = self.disk(), self.disk()
        first, second = self.snapshot(a), self.snapshot(b)
        later = self.snapshot(a)
        for pair in ((first, second), (later, first)):
            self.assertEqual(self.fails("SR_BACKEND_FAILURE", "VDI.list_changed_blocks", *pair)[0], "460")
        elsewhere = self.disk(sr=self.new_sr())
        self.fails("SR_BACKEND_FAILURE", "VDI.list_changed_blocks", first, elsewhere)
        self.assertEqual(self.fails("VDI_NO_CBT_METADATA", "VDI.list_changed_blocks", first, self.new_vdi())[0][:9],
                         "OpaqueRef")


class Destroyed(Tracked):
    def test_data_destroy_keeps_what_is_known_of_the_blocks(self):
        for kind in KINDS:
            with self.subTest(kind):
                vdi = self.disk(kind)
                shots = [self.snapshot(vdi)]
                for i in (1, 2):
                    write(self.path(vdi), i, 512, i * BLOCK)
                    shots.append(self.snapshot(vdi))
                path = self.path(shots[0])
                for s in shots[:2]:
                    self.call("VDI.data_destroy", s)
                record = self.call("VDI.get_record", shots[0])
                self.assertEqual((record["type"], record["physical_utilisation"], record["cbt_enabled"], record["missing"]),
                                 ("cbt_metadata", "0" if isinstance(record["physical_utilisation"], str) else 0, True,
                                  False))
                self.assertFalse(os.path.exists(path))
                self.call("SR.scan", self.local)
                self.assertEqual(self.changed(shots[0], shots[2]), {1, 2})
                self.assertEqual(self.changed(shots[0], shots[1]), {1})
                self.call("VDI.data_destroy", shots[0])

    def test_of_a_VM_s_snapshot_the_disk_goes_and_the_rest_stays(self):
        vdi = self.disk()
        vm, _ = self.plug_into_running_vm(vdi)
        shot = self.call("VM.snapshot", vm, "one", [])
        disk = self.call("VBD.get_VDI", self.call("VM.get_VBDs", shot)[0])
        self.assertTrue(self.call("VDI.get_cbt_enabled", disk))
        self.call("VDI.data_destroy", disk)
        self.assertEqual(self.call("VM.get_VBDs", shot), [])
        self.assertEqual(self.call("VDI.get_VBDs", disk), [])
        self.io(vm, do="write", device="xvda", offset=0, length=512, pattern=1)
        again = self.call("VM.snapshot", vm, "two", [])
        self.assertEqual(self.changed(disk, self.call("VBD.get_VDI", self.call("VM.get_VBDs", again)[0])), {0})

    def test_what_has_no_log_or_is_no_snapshot_is_refused(self):
        vdi = self.new_vdi()
        self.fails("OPERATION_NOT_ALLOWED", "VDI.data_destroy", vdi)
        shot = self.snapshot(vdi)
        self.assertEqual(self.fails("VDI_NO_CBT_METADATA", "VDI.data_destroy", shot), [shot])

    def test_nothing_else_is_done_with_what_is_left(self):
        vdi = self.disk()
        shot = self.snapshot(vdi)
        self.call("VDI.data_destroy", shot)
        for method, *params in (("VDI.clone", {}), ("VDI.copy", self.local, NULL, NULL), ("VDI.snapshot", {}),
                                ("VDI.resize", 64 * MIB), ("VDI.get_nbd_info",)):
            self.assertEqual(self.fails("VDI_INCOMPATIBLE_TYPE", method, shot, *params), [shot, "cbt_metadata"])
        self.call("VDI.destroy", shot)
        self.fails("HANDLE_INVALID", "VDI.get_record", shot)

    def test_the_next_snapshot_inherits_what_a_destroyed_one_knew(self):
        for kind in KINDS:
            with self.subTest(kind):
                vdi = self.disk(kind)
                shots = [self.snapshot(vdi)]
                for i in (1, 2, 3):
                    write(self.path(vdi), i, 512, i * BLOCK)
                    shots.append(self.snapshot(vdi))
                write(self.path(vdi), 4, 512, 4 * BLOCK)
                self.call("VDI.destroy", shots[1])
                self.assertEqual(self.changed(shots[0], shots[2]), {1, 2})
                self.call("VDI.data_destroy", shots[2])
                self.call("VDI.destroy", shots[2])
                self.call("VDI.destroy", shots[3])
                self.assertEqual(self.changed(shots[0], vdi), {1, 2, 3, 4})

    def test_nothing_is_left_of_an_SR(self):
        sr = self.new_sr()
        vdi = self.disk(sr=sr)
        shot = self.snapshot(vdi)
        where = os.path.join(self.server.state_dir, "cbt", self.call("SR.get_uuid", sr))
        self.assertEqual(len(os.listdir(where)), 2)
        self.call("VDI.destroy", vdi)
        self.call("VDI.destroy", shot)
        self.assertEqual(os.listdir(where), [])


if __name__ == "__main__":
    unittest.main()
