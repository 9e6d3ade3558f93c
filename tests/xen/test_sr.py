"""Storage repositories on real devices: logical volumes on a loop device of dom0, and an NFS server in dom0 itself; part
of test_xen.py."""
import time

from case import MIB, Case
from client import Failure, dom0

EXTENT = 4 * MIB


class Storage(Case):
    def sr(self, kind, config, sm_config=None):
        ref = self.call("SR.create", self.host, config, "0", f"{kind} of {self.id()}", "", kind, "user", False,
                        sm_config or {})
        self.addCleanup(self.remove_sr, ref)
        return ref

    def remove_sr(self, ref):
        """With all that is on it, unless the test did."""
        try:
            record = self.call("SR.get_record", ref)
        except Failure:
            return
        for vdi in record["VDIs"]:
            self.call("VDI.destroy", vdi)
        for pbd in record["PBDs"]:
            self.call("PBD.unplug", pbd)
        self.call("SR.destroy", ref)

    def new_vdi(self, sr, size, **more):
        return self.call("VDI.create", {"name_label": "disk", "name_description": "", "SR": sr, "type": "user",
                                        "virtual_size": str(size), "sharable": False, "read_only": False,
                                        "other_config": {}, "xenstore_data": {}, "sm_config": {}, "tags": [], **more})

    def size(self, vdi):
        return int(self.call("VDI.get_virtual_size", vdi))

    def plug(self, ref, shell, vdi, device="1"):
        """The disk in the running guest, ready; its VBD."""
        vbd = self.vbd(ref, vdi, userdevice=device)
        self.call("VBD.plug", vbd)
        name = f"xvd{chr(ord('a') + int(device))}"
        shell.shell(f"until [ -s /sys/block/{name}/size ] && dd if=/dev/{name} of=/dev/null count=1; do sleep 0.1; done")
        return vbd, f"/dev/{name}"

    def says(self, ref, shell, vdi, words, offset=0):
        """The guest finds the words at that sector of the disk."""
        vbd, device = self.plug(ref, shell, vdi)
        found = shell.shell(f"dd if={device} bs=512 skip={offset} count=1 2>/dev/null | head -c {len(words)}")
        self.call("VBD.unplug", vbd)
        self.call("VBD.destroy", vbd)
        self.assertEqual(words, found)

    def writes(self, ref, shell, vdi, words):
        vbd, device = self.plug(ref, shell, vdi)
        shell.shell(f"echo {words} | dd of={device} conv=fsync")
        self.call("VBD.unplug", vbd)
        self.call("VBD.destroy", vbd)

    def life(self, sr, size, snapshot_is_live):
        """What every driver must do with a disk, with a guest that writes to it."""
        ref, shell = self.linux()
        vdi = self.new_vdi(sr, size)
        self.writes(ref, shell, vdi, "first")
        snapshot = self.call("VDI.snapshot", vdi, {})
        self.writes(ref, shell, vdi, "second")
        clone = self.s.task("VDI.clone", snapshot, {})
        clone = clone[len("<value>"):-len("</value>")]
        self.says(ref, shell, clone, "first")
        self.writes(ref, shell, clone, "third")
        self.says(ref, shell, snapshot, "first")
        self.says(ref, shell, vdi, "second")
        vbd, device = self.plug(ref, shell, vdi)
        if snapshot_is_live:
            live = self.call("VDI.snapshot", vdi, {})
            shell.shell(f"echo fourth | dd of={device} conv=fsync")
            self.says_other(ref, shell, live, "second")
            self.call("VDI.destroy", live)
        else:
            with self.assertRaises(Failure) as caught:
                self.call("VDI.snapshot", vdi, {})
            self.assertEqual("VDI_IN_USE", caught.exception.code)
        self.call("VBD.unplug", vbd)
        self.call("VBD.destroy", vbd)
        self.call("VDI.destroy", snapshot)
        before = self.size(vdi)
        self.call("VDI.resize", vdi, str(before + 3 * MIB))
        self.assertGreaterEqual(self.size(vdi), before + 3 * MIB)
        self.says(ref, shell, vdi, "fourth" if snapshot_is_live else "second")
        pbd = self.call("SR.get_PBDs", sr)[0]
        self.call("PBD.unplug", pbd)
        self.call("PBD.plug", pbd)
        self.call("SR.scan", sr)
        self.assertEqual({vdi, clone}, set(self.call("SR.get_VDIs", sr)))
        self.says(ref, shell, clone, "third")
        return ref, shell, vdi, clone

    def content(self, vdi):
        """The first words of the disk, as dom0 finds them where the driver keeps it; and the place."""
        record = self.call("VDI.get_record", vdi)
        sr = self.call("SR.get_record", record["SR"])
        if sr["type"] == "lvm":
            place = f"/dev/VG_XenStorage-{sr['uuid']}/LV-{record['uuid']}"
        else:
            place = f"/srv/nfs/{sr['uuid']}/{record['uuid']}.raw"
        return dom0(f"head -c 6 {place} | tr -d '\\0'").strip(), place

    def put(self, vdi, words):
        dom0(f"echo {words} | dd of={self.content(vdi)[1]} conv=notrunc,fsync")

    def halted(self, sr, size, **more):
        """What can be done with a disk that no guest has."""
        vdi = self.new_vdi(sr, size, **more)
        self.assertEqual("", self.content(vdi)[0])
        self.put(vdi, "first")
        snapshot = self.call("VDI.snapshot", vdi, {})
        self.put(vdi, "second")
        clone = self.call("VDI.clone", snapshot, {})
        self.assertEqual(["second", "first", "first"], [self.content(v)[0] for v in (vdi, snapshot, clone)])
        self.call("VDI.destroy", snapshot)
        self.call("VDI.resize", clone, str(self.size(clone) + 3 * MIB))
        self.put(clone, "third")
        copy = self.call("VDI.copy", clone, sr, "OpaqueRef:NULL", "OpaqueRef:NULL")
        pbd = self.call("SR.get_PBDs", sr)[0]
        self.call("PBD.unplug", pbd)
        self.call("PBD.plug", pbd)
        self.call("SR.scan", sr)
        self.assertEqual(["second", "third", "third"], [self.content(v)[0] for v in (vdi, clone, copy)])
        self.assertEqual({vdi, clone, copy}, set(self.call("SR.get_VDIs", sr)))
        for one in vdi, clone, copy:
            self.call("VDI.destroy", one)

    def says_other(self, ref, shell, vdi, words):
        vbd, device = self.plug(ref, shell, vdi, "2")
        self.assertEqual(words, shell.shell(f"head -c {len(words)} {device}"))
        self.call("VBD.unplug", vbd)
        self.call("VBD.destroy", vbd)


def needs_thin(test):
    """A kernel without the module makes no thin pools. The unit loads it, not the test."""
    if not dom0("modprobe -n -q dm-thin-pool && echo yes || :"):
        test.skipTest("dom0's kernel has no dm-thin-pool")


class LogicalVolumes(Storage):
    def device(self, mib=64):
        """A loop device on a file of ones in dom0: what is not zeroed is seen."""
        path = f"/var/tmp/{self.id().split('.')[-1]}"
        ones = f"open('{path}', 'wb').write(b'\\xff' * ({mib} << 20))"
        name = dom0(f'rm -f {path}; python3 -c "{ones}" >/dev/null; losetup -f --show {path}').strip()
        self.assertTrue(name.startswith("/dev/loop"), name)
        self.addCleanup(dom0, f"losetup -d {name}; rm -f {path}")
        return name

    def test_thick(self):
        device = self.device()
        sr = self.sr("lvm", {"device": device})
        uuid = self.call("SR.get_uuid", sr)
        self.assertIn(f"VG_XenStorage-{uuid}", dom0("vgs --noheadings -o vg_name"))
        vdi = self.new_vdi(sr, 9 * MIB)
        self.assertEqual(3 * EXTENT, self.size(vdi))
        lv = f"/dev/VG_XenStorage-{uuid}/LV-{self.call('VDI.get_uuid', vdi)}"
        self.assertEqual("0", dom0(f"tr -d '\\0' <{lv} | wc -c").strip(), "a new disk shows what was there before")
        self.call("VDI.resize", vdi, str(5 * EXTENT))
        self.assertEqual("0", dom0(f"tr -d '\\0' <{lv} | wc -c").strip(), "a grown disk shows what was there before")
        self.call("VDI.destroy", vdi)
        self.assertEqual("", dom0(f"ls {lv} 2>/dev/null"))
        self.halted(sr, 8 * MIB)
        free = int(self.call("SR.get_physical_size", sr)) - int(self.call("SR.get_physical_utilisation", sr))
        with self.assertRaises(Failure) as caught:
            self.new_vdi(sr, free + EXTENT)
        self.assertEqual("SR_FULL", caught.exception.code)

    def test_thick_with_a_guest(self):
        self.life(self.sr("lvm", {"device": self.device()}), 8 * MIB, False)

    def test_thin(self):
        needs_thin(self)
        device = self.device()
        sr = self.sr("lvm", {"device": device}, {"allocation": "thin"})
        big = self.new_vdi(sr, 1024 * MIB)
        self.assertEqual("0", self.call("VDI.get_physical_utilisation", big))
        self.call("VDI.destroy", big)
        self.halted(sr, 8 * MIB)

    def test_thin_with_a_guest(self):
        needs_thin(self)
        self.life(self.sr("lvm", {"device": self.device()}, {"allocation": "thin"}), 8 * MIB, True)

    def test_a_device_that_holds_something(self):
        device = self.device(48)
        dom0(f"mkfs.ext4 -q {device}")
        with self.assertRaises(Failure) as caught:
            self.sr("lvm", {"device": device})
        self.assertIn("ext4", " ".join(caught.exception.params))
        sr = self.sr("lvm", {"device": device}, {"force": "true"})
        uuid = self.call("SR.get_uuid", sr)
        self.assertIn(uuid, self.call("SR.probe", self.host, {"device": device}, "lvm", {}))
        with self.assertRaises(Failure):
            self.sr("lvm", {"device": device}, {"force": "true"})  # in use by the first
        vdi = self.new_vdi(sr, 8 * MIB)
        self.call("PBD.unplug", self.call("SR.get_PBDs", sr)[0])
        self.call("SR.forget", sr)
        sr = self.call("SR.introduce", uuid, "back", "", "lvm", "user", False, {})
        pbd = self.call("PBD.create", {"host": self.host, "SR": sr, "device_config": {"device": device},
                                       "other_config": {}})
        self.addCleanup(self.remove_sr, sr)
        self.call("PBD.plug", pbd)
        self.assertNotIn(vdi, self.call("SR.get_VDIs", sr))
        self.assertEqual(1, len(self.call("SR.get_VDIs", sr)))
        with self.assertRaises(Failure) as caught:
            self.call("PBD.unplug", pbd)
            self.call("SR.destroy", sr)
        self.assertEqual("SR_NOT_EMPTY", caught.exception.code)
        self.call("PBD.plug", pbd)


class Nfs(Storage):
    def server(self):
        dom0("mkdir -p /srv/nfs; mountpoint -q /srv/nfs || mount -t tmpfs -o size=256M none /srv/nfs; "
             "echo '/srv/nfs *(rw,sync,no_root_squash,no_subtree_check,fsid=77,insecure)' >/etc/exports; "
             "systemctl start nfs-server; exportfs -ra")
        self.addCleanup(dom0, "systemctl start nfs-server")
        return {"server": "127.0.0.1", "serverpath": "/srv/nfs", "nfsversion": "4.2"}

    def test_nfs(self):
        config = self.server()
        sr = self.sr("nfs", config)
        uuid = self.call("SR.get_uuid", sr)
        self.assertIn(uuid, dom0("ls /srv/nfs").split())
        self.halted(sr, 8 * MIB, sm_config={"type": "raw"})
        self.assertIn(uuid, self.call("SR.probe", self.host, config, "nfs", {}))
        self.call("PBD.unplug", self.call("SR.get_PBDs", sr)[0])
        self.assertNotIn("nfs4", dom0("cat /proc/$(pidof xenapid-xen)/mounts"))
        self.call("PBD.plug", self.call("SR.get_PBDs", sr)[0])
        self.assertIn("nfs4", dom0("cat /proc/$(pidof xenapid-xen)/mounts"))
        dom0("kill -9 $(pidof xenapid-xen)")
        self.until_attached(sr)
        self.assertEqual(1, dom0("cat /proc/$(pidof xenapid-xen)/mounts").count(" nfs4 "))

    def test_nfs_with_a_guest(self):
        self.life(self.sr("nfs", self.server()), 8 * MIB, True)

    def until_attached(self, sr):
        pbd = self.call("SR.get_PBDs", sr)[0]
        self.s.wait("PBD", pbd, lambda r: r["currently_attached"], 60)
        end = time.time() + 60
        while time.time() < end:
            try:
                return self.call("SR.scan", sr)
            except Failure as e:
                if e.code not in ("SR_NOT_ATTACHED", "HOST_OFFLINE", "INTERNAL_ERROR", "OTHER_OPERATION_IN_PROGRESS"):
                    raise
            time.sleep(0.2)
        raise TimeoutError(sr)

    def test_a_server_that_hangs(self):
        sr = self.sr("nfs", self.server())
        vdi = self.new_vdi(sr, 8 * MIB)
        dom0("echo 0 >/proc/fs/nfsd/threads")
        try:
            begun = time.time()
            with self.assertRaises(Failure) as caught:
                self.call("VDI.snapshot", vdi, {})
            self.assertTrue(caught.exception.code.startswith("SR_BACKEND_FAILURE"), caught.exception)
            self.assertLess(time.time() - begun, 60)
            other, _ = self.disk()  # of another SR
            self.call("VDI.get_record", other)
        finally:
            dom0("echo 8 >/proc/fs/nfsd/threads")
        end = time.time() + 120
        while True:
            try:
                self.call("SR.scan", sr)
                break
            except Failure:
                self.assertLess(time.time(), end)
                time.sleep(1)
        self.assertEqual([vdi], self.call("SR.get_VDIs", sr))

    def test_no_server(self):
        with self.assertRaises(Failure) as caught:
            self.sr("nfs", {"server": "127.0.0.1", "serverpath": "/nowhere"})
        self.assertEqual("SR_BACKEND_FAILURE_73", caught.exception.code)
        with self.assertRaises(Failure) as caught:
            self.sr("nfs", {"serverpath": "/nowhere"})
        self.assertEqual("SR_BACKEND_FAILURE_100", caught.exception.code)
