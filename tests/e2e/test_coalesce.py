"""Disks whose snapshots are gone: the images that were shared with them become one again, in the background, whatever
else happens to the disk meanwhile, and the space of what nobody sees comes back."""
import base64
import hashlib
import json
import os
import subprocess
import threading

from harness import Failure, eventually
from test_snapshots import Case as Base
from test_storage import holds, write

MIB = 1 << 20


class Case(Base):
    def disk(self, size=32 * MIB):
        vdi = self.call("VDI.create", {"name_label": "disk", "SR": self.sr, "virtual_size": size, "type": "user",
                                       "sm_config": {"type": "qcow2"}, "other_config": {}})
        self.addCleanup(self.drop, vdi)
        return vdi

    def drop(self, vdi):
        try:
            self.call("VDI.destroy", vdi)
        except Failure as e:
            self.assertEqual(e.code, "HANDLE_INVALID")

    def guest_of(self, vdi):
        vm = self.vm()
        vbd = self.call("VBD.create", {"VM": vm, "VDI": vdi, "userdevice": "0", "bootable": True, "mode": "RW",
                                       "type": "Disk", "empty": False, "other_config": {}})
        self.assertTrue(vbd)
        self.addCleanup(self.call, "VM.destroy", vm)
        return vm

    def io(self, vm, do, pattern, offset, length):
        """What a guest does to its disk."""
        out = self.call("host.call_plugin", self.call("host.get_all")[0], "xenapid-sim", "guest",
                        {"uuid": self.call("VM.get_uuid", vm), "do": do, "device": "0", "pattern": str(pattern),
                         "offset": str(offset), "length": str(length)})
        return json.loads(out).get("matches", True)

    def chain(self, vdi):
        out = subprocess.run(["qemu-img", "info", "-U", "--backing-chain", "--output=json", self.path(vdi)], check=True,
                             capture_output=True, text=True)
        return len(json.loads(out.stdout))

    def content(self, vdi):
        status, _, data = self.server.request("GET", f"/export_raw_vdi?session_id={self.s.ref}&vdi={vdi}&format=raw",
                                              timeout=60)
        self.assertEqual(status, 200)
        return hashlib.sha256(data).hexdigest()

    def rest(self):
        """Until no such work is under way."""
        eventually(lambda: not any((t["name_label"], t["status"]) == ("Garbage Collection", "pending")
                                   for t in self.call("task.get_all_records").values()), 60)

    def scan(self):
        self.call("SR.scan", self.sr)
        self.rest()

    def files(self):
        """Bytes that the images take up, each counted once."""
        found = [os.stat(os.path.join(self.location, n)) for n in os.listdir(self.location) if n.endswith(".qcow2")]
        return sum({s.st_ino: s.st_blocks * 512 for s in found}.values())

    def history(self, vdi, n, keep=()):
        """Snapshots with a MiB written before each; the same place all the time, and one that moves. Those kept."""
        shots = []
        for i in range(n):
            write(self.path(vdi), i + 1, 4 * MIB)
            write(self.path(vdi), i + 1, MIB, (4 + i) * MIB)
            shots.append(self.call("VDI.snapshot", vdi, {}))
        write(self.path(vdi), 0x77, MIB, 2 * MIB)
        return shots


class Chains(Case):
    def test_snapshots_come_and_go(self):
        vdi = self.disk()
        shots = self.history(vdi, 6)
        self.assertEqual(self.chain(vdi), 7)
        kept = shots.pop(2)
        self.addCleanup(self.drop, kept)
        before, of_kept, size = self.content(vdi), self.content(kept), self.files()
        self.call("SR.update", self.sr)
        for s in shots:
            self.call("VDI.destroy", s)
        eventually(lambda: self.chain(vdi) == 2, 60)
        eventually(lambda: self.chain(kept) == 2, 60)
        self.rest()
        self.assertEqual((self.content(vdi), self.content(kept)), (before, of_kept))
        self.assertLess(self.files(), size - 12 * MIB)
        self.call("VDI.destroy", kept)
        eventually(lambda: self.chain(vdi) == 1, 60)
        self.rest()
        self.assertEqual(self.content(vdi), before)
        self.agree()

    def test_the_records_tell_of_the_space(self):
        place = os.path.join(os.path.dirname(self.location), "own")
        sr = self.call("SR.create", self.call("host.get_all")[0], {"location": place, "quota": str(1 << 30)}, "0", "own",
                       "", "file", "user", False, {})
        self.addCleanup(setattr, self, "location", self.location)
        self.addCleanup(setattr, self, "sr", self.sr)
        self.sr, self.location = sr, place
        vdi = self.disk()
        shots = self.history(vdi, 6)
        self.call("SR.scan", sr)
        used, own = self.call("SR.get_physical_utilisation", sr), self.call("VDI.get_physical_utilisation", vdi)
        self.assertGreater(used, 30 * MIB)
        self.assertLess(own, 2 * MIB)
        for s in shots:
            self.call("VDI.destroy", s)
        eventually(lambda: self.call("SR.get_physical_utilisation", sr) < 13 * MIB, 60)
        eventually(lambda: self.call("VDI.get_physical_utilisation", vdi) > 9 * MIB)

    def test_below_a_running_guest(self):
        vdi = self.disk()
        vm = self.guest_of(vdi)
        self.call("VM.start", vm, False, False)
        for i in range(1, 6):
            self.assertTrue(self.io(vm, "write", i, i * MIB, 2 * MIB))
            shot = self.call("VDI.snapshot", vdi, {})
            self.call("VDI.destroy", shot)
            self.rest()
            self.assertLessEqual(self.chain(vdi), 3)
            self.assertTrue(self.io(vm, "read", i, i * MIB, 2 * MIB))
        self.call("VM.hard_shutdown", vm)
        before = self.content(vdi)
        self.scan()
        self.assertEqual(self.chain(vdi), 1)
        self.assertEqual(self.content(vdi), before)
        for i in range(1, 5):
            self.assertTrue(holds(self.path(vdi), i, MIB, i * MIB))

    def test_a_guest_that_starts_meanwhile(self):
        """It waits for nothing, and nothing of what it writes is lost."""
        vdi = self.disk(512 * MIB)
        shot = self.call("VDI.snapshot", vdi, {})  # of an empty disk
        write(self.path(vdi), 1, 400 * MIB)
        second = self.call("VDI.snapshot", vdi, {})
        write(self.path(vdi), 2, 300 * MIB)
        vm = self.guest_of(vdi)
        for s in (shot, second):
            self.call("VDI.destroy", s)
        self.call("VM.start", vm, False, False)
        self.assertTrue(self.io(vm, "write", 3, 8 * MIB, MIB))
        self.rest()
        self.assertTrue(self.io(vm, "read", 3, 8 * MIB, MIB))
        self.assertTrue(self.io(vm, "read", 2, 9 * MIB, MIB))
        self.assertTrue(self.io(vm, "read", 1, 399 * MIB, MIB))
        self.call("VM.hard_shutdown", vm)
        self.scan()
        self.assertEqual(self.chain(vdi), 1)
        self.assertTrue(holds(self.path(vdi), 3, MIB, 8 * MIB))
        self.assertTrue(holds(self.path(vdi), 1, 100 * MIB, 300 * MIB))

    def test_an_SR_that_is_unplugged_meanwhile(self):
        vdi = self.disk(512 * MIB)
        write(self.path(vdi), 1, MIB)
        shot = self.call("VDI.snapshot", vdi, {})
        write(self.path(vdi), 2, 400 * MIB)
        before = self.content(vdi)
        self.call("VDI.destroy", shot)
        pbd = self.call("SR.get_PBDs", self.sr)[0]
        self.call("PBD.unplug", pbd)
        self.call("PBD.plug", pbd)
        eventually(lambda: self.chain(vdi) == 1, 60)
        self.rest()
        self.assertEqual(self.content(vdi), before)
        self.agree()

    def test_who_reads_meanwhile_reads_the_same(self):
        vdi = self.disk(128 * MIB)
        shots = self.history(vdi, 5)
        before, seen, over = self.content(vdi), [], threading.Event()

        def read():
            while not over.is_set():
                seen.append(self.content(vdi))
        reader = threading.Thread(target=read)
        reader.start()
        try:
            for s in shots:
                self.call("VDI.destroy", s)
            eventually(lambda: self.chain(vdi) <= 3, 60)  # the base below an image in use is left alone
        finally:
            over.set()
            reader.join()
        self.assertEqual(set(seen), {before})
        self.scan()
        self.assertEqual((self.chain(vdi), self.content(vdi)), (1, before))

    def test_the_thirty_first_image_of_a_chain_is_refused(self):
        vdi = self.disk()
        self.call("SR.add_to_other_config", self.sr, "coalesce", "false")
        self.addCleanup(self.call, "SR.remove_from_other_config", self.sr, "coalesce")
        for i in range(1, 30):
            write(self.path(vdi), i, 64 * 1024)
            self.call("VDI.destroy", self.call("VDI.snapshot", vdi, {}))
        self.assertEqual(self.chain(vdi), 30)
        write(self.path(vdi), 99, 64 * 1024)
        for method in ("VDI.snapshot", "VDI.clone"):
            with self.assertRaises(Failure) as e:
                self.call(method, vdi, {})
            self.assertEqual((e.exception.code, e.exception.params[1]),
                             ("SR_BACKEND_FAILURE_109", "The snapshot chain is too long"))
        self.call("SR.remove_from_other_config", self.sr, "coalesce")
        self.scan()
        self.assertEqual(self.chain(vdi), 1)
        self.drop(self.call("VDI.snapshot", vdi, {}))
        self.assertTrue(holds(self.path(vdi), 99, 64 * 1024))

    def test_a_disk_can_be_left_out(self):
        vdi = self.disk()
        self.call("VDI.add_to_other_config", vdi, "leaf-coalesce", "false")
        for s in self.history(vdi, 3):
            self.call("VDI.destroy", s)
        eventually(lambda: self.chain(vdi) == 2, 60)
        self.scan()
        self.assertEqual(self.chain(vdi), 2)
        self.call("VDI.remove_from_other_config", vdi, "leaf-coalesce")
        self.scan()
        self.assertEqual(self.chain(vdi), 1)

    def test_a_disk_whose_changes_are_tracked_keeps_its_bitmap(self):
        vdi = self.disk()
        self.call("VDI.enable_cbt", vdi)
        first = self.call("VDI.snapshot", vdi, {})
        self.addCleanup(self.drop, first)
        write(self.path(vdi), 1, MIB, 8 * MIB)
        for _ in range(3):
            self.call("VDI.destroy", self.call("VDI.snapshot", vdi, {}))
            self.scan()
            write(self.path(vdi), 2, MIB, 12 * MIB)
        last = self.call("VDI.snapshot", vdi, {})
        self.addCleanup(self.drop, last)
        bits = base64.b64decode(self.call("VDI.list_changed_blocks", first, last))
        changed = {i for i in range(len(bits) * 8) if bits[i // 8] & 0x80 >> i % 8}
        self.assertEqual(changed, set(range(128, 144)) | set(range(192, 208)))
