"""Snapshots of disks that a running guest writes to: the device model is switched to a new file; part of test_xen.py."""
import base64
import time

from case import MIB, Case
from client import Failure, dom0
from test_storage import Storage


class Live(Storage, Case):
    kind = "qcow2"

    def path(self, vdi):
        return f"{self.config['location']}/{self.call('VDI.get_location', vdi)}.qcow2"

    def start(self, disks=1, tracked=False):
        """A VM with that many disks, xvdb and so on, that runs."""
        vm = self.vm()
        for i in range(disks):
            vdi = self.call("VDI.create", {"name_label": "disk", "name_description": "", "SR": self.sr, "type": "user",
                                           "virtual_size": str(16 * MIB), "sharable": False, "read_only": False,
                                           "other_config": {}, "xenstore_data": {}, "sm_config": {}, "tags": []})
            self.vbd(vm, vdi, userdevice=str(i + 1))
            if tracked:
                self.call("VDI.enable_cbt", vdi)
        return vm, self.up(vm)

    def put(self, shell, words, device="xvdb"):
        shell.shell(f"echo {words} | dd of=/dev/{device} conv=fsync 2>/dev/null")

    def get(self, shell, device="xvdb"):
        return shell.shell(f"echo 3 >/proc/sys/vm/drop_caches; head -n 1 /dev/{device}")

    def looks(self, vm, shell, vdi):
        """What the guest finds on this disk, plugged as xvdj."""
        vbd = self.vbd(vm, vdi, userdevice="9")
        self.call("VBD.plug", vbd)
        shell.shell("until [ -s /sys/block/xvdj/size ] && dd if=/dev/xvdj of=/dev/null count=1; do sleep 0.1; done")
        found = self.get(shell, "xvdj")
        self.call("VBD.unplug", vbd)
        self.call("VBD.destroy", vbd)
        return found

    def test_disk(self):
        vm, shell = self.start()
        vdi, = self.disk_of(vm)
        snapshots = []
        for words in ("first", "second", "third"):
            self.put(shell, words)
            snapshots.append(self.made("VDI.snapshot", vdi, {}))
        self.put(shell, "fourth")
        self.assertEqual(["first", "second", "third"], [self.looks(vm, shell, s) for s in snapshots])
        self.assertEqual("fourth", self.get(shell))
        clone = self.made("VDI.clone", snapshots[1], {})
        self.call("VDI.destroy", snapshots[1])
        self.assertEqual("second", self.looks(vm, shell, clone))
        self.call("VM.clean_shutdown", vm)
        shell = self.up(vm)
        self.assertEqual("fourth", self.get(shell))
        self.assertEqual(["first", "third"], [self.looks(vm, shell, s) for s in (snapshots[0], snapshots[2])])
        self.call("VM.hard_shutdown", vm)
        where = self.config["location"]
        self.assertEqual("0", dom0(f"for i in {where}/*.qcow2; do qemu-img check -q $i || echo $i; done | wc -l").strip())

    def test_all_disks_of_a_vm(self):
        vm, shell = self.start(2)
        devices = ("xvdb", "xvdc")
        for device in devices:
            self.put(shell, "first", device)
        # Both count in turn, c always first: at no moment b is ahead of it.
        shell.shell("(i=1000; while :; do i=$((i+1)); for d in c b; do echo $i | dd of=/dev/xvd$d seek=8 oflag=direct "
                    "conv=sync 2>/dev/null; done; done) & echo $! >/pid")
        snapshot = self.made("VM.snapshot", vm, "s", [])
        shell.shell("kill $(cat /pid)")
        self.assertEqual("Running", self.state(vm))
        for device in devices:
            self.put(shell, "second", device)
        self.assertEqual(["second"] * 2, [self.get(shell, d) for d in devices])
        self.s.task("VM.revert", snapshot)
        shell = self.up(vm)
        self.assertEqual(["first"] * 2, [self.get(shell, d) for d in devices])
        b, c = (int(shell.shell(f"dd if=/dev/xvd{d} skip=8 count=1 2>/dev/null | head -n 1") or 0) for d in "bc")
        self.assertIn(c - b, (0, 1), (b, c))
        self.call("VM.hard_shutdown", vm)

    def test_changed_blocks(self):
        vm, shell = self.start(tracked=True)
        vdi, = self.disk_of(vm)
        snapshots = []
        for block in (0, 3, 100):
            shell.shell(f"echo x | dd of=/dev/xvdb bs=64k seek={block} conv=fsync 2>/dev/null")
            snapshots.append(self.made("VDI.snapshot", vdi, {}))
        for i, block in ((0, 3), (1, 100)):
            bitmap = base64.b64decode(self.call("VDI.list_changed_blocks", snapshots[i], snapshots[i + 1]))
            self.assertEqual([block], [b for b in range(len(bitmap) * 8) if bitmap[b // 8] & 0x80 >> b % 8])
        self.call("VM.hard_shutdown", vm)

    def test_read_only(self):
        """QEMU 7.2 opens a qcow2 image of Xen's for writing, or not at all: better no disk than one that never comes."""
        vm, shell = self.start()
        snapshot = self.made("VDI.snapshot", self.disk_of(vm)[0], {})
        vbd = self.vbd(vm, snapshot, userdevice="9", mode="RO")
        with self.assertRaises(Failure) as caught:
            self.call("VBD.plug", vbd)
        self.assertEqual("VDI_INCOMPATIBLE_TYPE", caught.exception.code)
        self.call("VM.hard_shutdown", vm)

    def test_cut_off(self):
        """A helper that was killed when the files had their new names and the device model did not know yet."""
        vm, shell = self.start()
        vdi, = self.disk_of(vm)
        self.put(shell, "first")
        path, base = self.path(vdi), "11111111-2222-4333-8444-555555555555.base.qcow2"
        dom0(f"cd {self.config['location']}; qemu-img create -q -u -f qcow2 -F qcow2 -b {base} new {16 * MIB}; "
             f"ln {path} {base}; mv new {path}; kill -9 $(pidof xenapid-xen)")
        pbd = self.call("SR.get_PBDs", self.sr)[0]
        self.s.wait("PBD", pbd, lambda r: r["currently_attached"], 60)
        self.put(shell, "second")
        snapshot = self.snapshot_soon(vdi)
        self.put(shell, "third")
        self.assertEqual("second", self.looks(vm, shell, snapshot))
        self.call("VM.clean_shutdown", vm)
        shell = self.up(vm)
        self.assertEqual("third", self.get(shell))
        self.assertEqual("second", self.looks(vm, shell, snapshot))
        self.call("VM.hard_shutdown", vm)

    def snapshot_soon(self, vdi):
        """The new helper attaches the SRs first."""
        end = time.time() + 60
        while True:
            try:
                return self.made("VDI.snapshot", vdi, {})
            except Failure as e:
                if e.code not in ("SR_NOT_ATTACHED", "HOST_OFFLINE") or time.time() > end:
                    raise
            time.sleep(0.2)
