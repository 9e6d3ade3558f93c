"""The life of a VM with its data on real Xen: template, snapshot, revert, clone, suspend and resume, export and import;
part of test_xen.py. A subclass of Story with another SR puts the same on another driver."""
import http.client
import urllib.parse
import uuid

from case import MIB, Case
from client import URL, Failure, dom0, no_verify
from test_sr import Nfs, needs_thin

SIZE = 16 * MIB
FAR = 11 * MIB  # the data is at the beginning and there


class Storage:
    """A VM with disks on an SR of its own."""

    kind = None  # of the images
    driver = "file"
    live = False  # whether disks can be snapshotted while a guest has them
    sm_config = {}
    devices = ""  # loop devices that the medium is on

    def medium(self):
        """A device_config for a new SR."""
        return {"location": f"/var/lib/lab-{uuid.uuid4()}"}

    def setUp(self):
        self.before = set(self.call("VM.get_all"))
        self.config = self.medium()
        self.sr = self.call("SR.create", self.host, self.config, "0", "life", "", self.driver, "user", False,
                            {"type": self.kind, **self.sm_config})
        self.addCleanup(self.remove_all)

    def remove_all(self):
        """The VMs that are new, all disks of the SR, and the SR."""
        for vm in set(self.call("VM.get_all")) - self.before:
            self.remove(vm)
        for vdi in self.call("SR.get_VDIs", self.sr):
            self.call("VDI.destroy", vdi)
        for pbd in self.call("SR.get_PBDs", self.sr):
            self.call("PBD.unplug", pbd)
        self.call("SR.destroy", self.sr)
        if self.driver == "file":
            self.assertEqual("", dom0(f"ls {self.config['location']} 2>/dev/null"))

    # ---- the guest ----

    def from_template(self):
        """A halted VM with one disk, which it sees as xvdb."""
        template = self.vm()
        self.call("VM.set_is_a_template", template, True)
        where = self.call("SR.get_uuid", self.sr)
        self.call("VM.add_to_other_config", template, "disks", '<provision><disk device="1" '
                  f'size="{SIZE}" sr="{where}" bootable="false" type="user"/></provision>')
        vm = self.call("VM.clone", template, "life")
        self.s.task("VM.provision", vm)
        self.call("VM.set_is_a_template", vm, False)
        return vm

    def up(self, vm):
        """Starts it: the shell on its console."""
        self.call("VM.start", vm, False, False)
        self.guest_up(vm, 300)
        return self.console(vm)

    def write(self, shell, words):
        for at in (0, FAR):
            shell.shell(f"echo {words} | dd of=/dev/xvdb bs=512 seek={at // 512} conv=sync,fsync 2>/dev/null")

    def read(self, shell):
        """What was written last, in both places."""
        shell.shell("echo 3 >/proc/sys/vm/drop_caches")
        found = {shell.shell(f"dd if=/dev/xvdb bs=512 skip={at // 512} count=1 2>/dev/null | head -n 1") for at in (0, FAR)}
        self.assertEqual(1, len(found), found)
        return found.pop()

    def disk_of(self, vm):
        vbds = [self.call("VBD.get_record", b) for b in self.call("VM.get_VBDs", vm)]
        return [b["VDI"] for b in vbds if b["type"] == "Disk"]

    def made(self, method, *args):
        """The reference that a task answers."""
        return self.s.task(method, *args).removeprefix("<value>").removesuffix("</value>")

    # ---- HTTP ----

    def http(self, method, path, body=None, **query):
        place = urllib.parse.urlsplit(URL)
        c = http.client.HTTPSConnection(place.hostname, place.port or 443, timeout=300, context=no_verify())
        try:
            c.request(method, path + "?" + urllib.parse.urlencode({"session_id": self.s.session, **query}), body)
            r = c.getresponse()
            data = r.read()
            self.assertEqual(200, r.status, data[:200])
            return data
        finally:
            c.close()


class Story(Storage):
    """Not to be run by itself."""

    def test_snapshot_revert_clone(self):
        vm = self.from_template()
        self.assertEqual(self.kind, self.call("VDI.get_sm_config", self.disk_of(vm)[0])["type"])
        shell = self.up(vm)
        self.write(shell, "first")
        self.assertEqual("first", self.read(shell))
        self.call("VM.clean_shutdown", vm)
        snapshot = self.made("VM.snapshot", vm, "s", [])
        shell = self.up(vm)
        self.assertEqual("first", self.read(shell))
        self.write(shell, "second")
        self.assertEqual("second", self.read(shell))
        self.snapshot_running(vm, shell)
        self.s.task("VM.revert", snapshot)
        self.assertEqual("Halted", self.state(vm))
        clone = self.made("VM.clone", vm, "clone")
        here, there = self.up(vm), self.up(clone)
        self.assertEqual(("first", "first"), (self.read(here), self.read(there)))
        self.write(here, "here")
        self.write(there, "there")
        self.assertEqual(("here", "there"), (self.read(here), self.read(there)))
        for each in (vm, clone):
            self.call("VM.clean_shutdown", each)
        self.nothing_is_left()

    def snapshot_running(self, vm, shell):
        if not self.live:
            for method, args in (("VM.snapshot", (vm, "s", [])), ("VDI.snapshot", (self.disk_of(vm)[0], {}))):
                with self.assertRaises(Failure) as caught:
                    self.s.task(method, *args)
                self.assertEqual("VDI_IN_USE", caught.exception.code)
            return
        snapshot = self.made("VM.snapshot", vm, "s", [])
        self.write(shell, "third")
        self.s.task("VM.revert", snapshot)
        shell = self.up(vm)
        self.assertEqual("second", self.read(shell))

    def nothing_is_left(self):
        self.assertEqual("", dom0(f"pgrep -a qemu-nbd; losetup -a | grep -v '^{self.devices or 'none'}:'"))

    def test_suspend_export_import(self):
        vm = self.from_template()
        self.call("VM.set_suspend_SR", vm, self.sr)
        shell = self.up(vm)
        self.write(shell, "before")
        shell.shell("remembered=yes")
        self.s.task("VM.suspend", vm)
        memory = self.call("VM.get_suspend_VDI", vm)
        self.assertEqual(self.sr, self.call("VDI.get_SR", memory))
        self.s.task("VM.resume", vm, False, False)
        self.assertNotIn(memory, self.call("VDI.get_all"))
        shell = self.console(vm)
        self.assertEqual("yes", shell.shell("echo $remembered"))
        self.assertEqual("before", self.read(shell))
        self.write(shell, "exported")
        self.call("VM.clean_shutdown", vm)

        xva = self.http("GET", "/export", ref=vm)
        disk = self.disk_of(vm)[0]
        self.call("VM.destroy", vm)
        self.call("VDI.destroy", disk)
        before = set(self.call("VM.get_all"))
        self.http("PUT", "/import", xva, sr_id=self.sr)
        new = set(self.call("VM.get_all")) - before
        self.assertEqual(1, len(new))
        shell = self.up(min(new))
        self.assertEqual("exported", self.read(shell))
        self.call("VM.hard_shutdown", min(new))
        self.nothing_is_left()


class LifeOnQcow2(Story, Case):
    kind = "qcow2"
    live = True


class LifeOnRaw(Story, Case):
    kind = "raw"


class LifeOnNfs(Story, Case):
    kind = "qcow2"
    driver = "nfs"
    live = True

    def medium(self):
        return Nfs.server(self)


class LifeOnThick(Story, Case):
    kind = "raw"
    driver = "lvm"
    sm_config = {"allocation": "thick"}

    def medium(self):
        path = f"/var/tmp/life-{uuid.uuid4()}"
        self.devices = dom0(f"truncate -s 512M {path}; losetup -f --show {path}").strip()
        self.addCleanup(dom0, f"losetup -d {self.devices}; rm -f {path}")
        return {"device": self.devices}


class LifeOnThin(LifeOnThick):
    sm_config = {"allocation": "thin"}
    live = True

    def medium(self):
        needs_thin(self)
        return super().medium()
