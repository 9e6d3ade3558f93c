"""SIGKILL of any of the daemon's processes, of its tools and of all at once, at any moment of work on disks: afterwards
every image is whole or gone, the records agree with the files, and nothing is left behind.

The moments are random but for the seed: XENAPID_SEED (1), XENAPID_CRASHES (16) kills; XENAPID_CRASHES=1000 is a night's
work. What was done and when the kill came is printed when something is wrong."""
import http.client
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

from harness import Failure, Server, Session, eventually, is_alive

MIB = 1 << 20
NULL = "OpaqueRef:NULL"
SEED = int(os.environ.get("XENAPID_SEED", "1"))
CRASHES = int(os.environ.get("XENAPID_CRASHES", "16"))
SIZE = {"raw": 3 * MIB, "qcow2": 4 * MIB}
CUT = (OSError, http.client.HTTPException, ValueError)  # what clients of a dying server see
VICTIMS = ("xenapid-sim", "xenapid-front", "tool", "supervisor", "all", "xenapid-auth")
VM = {"name_label": "guest", "memory_static_max": 64 * MIB, "VCPUs_max": 1, "VCPUs_at_startup": 1,
      "HVM_boot_policy": "BIOS order", "actions_after_reboot": "restart", "actions_after_crash": "restart",
      "actions_after_shutdown": "destroy"}


class Work(threading.Thread):
    """Does one thing to the server, which may be killed meanwhile."""

    def __init__(self, name, do):
        super().__init__(name=name)
        self.do, self.result, self.cut, self.began = do, None, None, time.monotonic()
        self.start()

    def run(self):
        try:
            self.result = self.do()
        except (Failure, KeyError, *CUT) as e:  # KeyError: the harness has forgotten the connection
            self.cut = e


class CrashStorage(unittest.TestCase):
    victims = VICTIMS, (5, 4, 5, 2, 3, 1)

    @classmethod
    def setUpClass(cls):
        # Temporary files of the daemon and its tools, apart from those of others.
        cls.tmp = tempfile.TemporaryDirectory(prefix="xenapid-crash.")
        cls.addClassCleanup(cls.tmp.cleanup)
        for name in ("A", "B"):
            for kind, size in SIZE.items():
                with open(cls.reference(name, kind), "wb") as f:
                    f.write(random.Random(name).randbytes(size - 700_000))
                    f.truncate(size)
        os.chmod(cls.tmp.name, 0o755)
        os.mkdir(os.path.join(cls.tmp.name, "tmp"))
        os.chmod(os.path.join(cls.tmp.name, "tmp"), 0o777)
        cls.server = Server(allow_crash=True, env={"TMPDIR": os.path.join(cls.tmp.name, "tmp")},
                            conf={"sim": {"suspend-ms": 100}}).start()
        cls.addClassCleanup(cls.server.clean)
        cls.addClassCleanup(cls.server.stop)
        cls.s = cls.server.login()
        cls.choose_sr()
        cls.settle()
        cls.location = cls.call("PBD.get_device_config", cls.call("SR.get_PBDs", cls.sr)[0])["location"]
        cls.make()

    @classmethod
    def choose_sr(cls):
        cls.sr = cls.call("pool.get_default_SR", cls.call("pool.get_all")[0])

    @classmethod
    def call(cls, method, *params):
        return cls.s.call(method, *params)

    @classmethod
    def reference(cls, name, kind):
        """A file with the content A or B."""
        return os.path.join(cls.tmp.name, f"{name}.{kind}")

    @classmethod
    def disk(cls, kind, name="A"):
        vdi = cls.call("VDI.create", {"name_label": kind, "SR": cls.sr, "virtual_size": SIZE[kind], "type": "user",
                                      "sm_config": {"type": kind}, "other_config": {}})
        cls.upload(vdi, kind, name)
        return vdi

    @classmethod
    def upload(cls, vdi, kind, name):
        with open(cls.reference(name, kind), "rb") as f:
            status, _, text = cls.server.request(
                "PUT", f"/import_raw_vdi?session_id={cls.s.ref}&vdi={vdi}&format=raw", f.read(), timeout=60)
        if status != 200:
            raise Failure(text.decode().split())

    @classmethod
    def make(cls):
        """What all is done to: two disks, a VM with both sorts whose content is B, its snapshot with A, an export."""
        cls.sources = {kind: cls.disk(kind) for kind in SIZE}
        cls.target = {kind: cls.disk(kind) for kind in SIZE}
        cls.guest = cls.call("VM.create", VM)
        for i, kind in enumerate(SIZE):
            cls.call("VBD.create", {"VM": cls.guest, "VDI": cls.disk(kind), "userdevice": str(i), "bootable": i == 0,
                                    "mode": "RW", "type": "Disk", "empty": False, "other_config": {"owner": ""}})
        status, _, cls.xva = cls.server.request("GET", f"/export?session_id={cls.s.ref}&ref={cls.guest}", timeout=60)
        assert status == 200, status
        cls.shot = cls.call("VM.snapshot", cls.guest, "shot", [])
        cls.refill()

    @classmethod
    def refill(cls):
        for vdi, kind in cls.disks(cls.guest):
            cls.upload(vdi, kind, "B")

    @classmethod
    def disks(cls, vm):
        """Its disks with the type of each, in order."""
        vbds = sorted((cls.call("VBD.get_record", b) for b in cls.call("VM.get_VBDs", vm)), key=lambda b: b["userdevice"])
        return [(b["VDI"], cls.call("VDI.get_sm_config", b["VDI"])["type"]) for b in vbds]

    # ---- what is on the disk ----

    @classmethod
    def path(cls, vdi):
        record = cls.call("VDI.get_record", vdi)
        return os.path.join(cls.location, f'{record["uuid"]}.{record["sm_config"]["type"]}')

    def content(self, vdi, kind):
        """A or B, in the size of that kind."""
        path = self.path(vdi)
        for name in ("A", "B"):
            out = subprocess.run(["qemu-img", "compare", "-f", path.rpartition(".")[2], "-F", "raw", path,
                                  self.reference(name, kind)], capture_output=True)
            if out.returncode == 0:
                return name
        self.fail(f"{self.path(vdi)} is neither what it was nor what it should become")

    def contents(self, vm):
        """A or B: of all disks of a VM alike."""
        disks = self.disks(vm)
        self.assertEqual(len(disks), len(SIZE))
        found = {self.content(vdi, kind) for (vdi, _), kind in zip(disks, SIZE)}
        self.assertEqual(len(found), 1, "one disk is old, another new")
        return found.pop()

    def tools(self):
        """Processes that work on images of ours."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline") as f:
                    words = f.read()
            except OSError:
                continue
            if self.location in words and is_alive(pid):
                found.append(f"{pid}: " + words.replace("\0", " "))
        return found

    def check_files(self):
        eventually(lambda: not self.tools() or self.merging(), 30)
        self.call("SR.scan", self.sr)
        eventually(lambda: not self.merging(), 60)
        # The backend drops what a front that was killed had begun, once it sees that it is gone.
        eventually(lambda: not any(n.endswith(".tmp") for n in os.listdir(self.location)), 10)
        records = {r["uuid"]: r for r in self.call("VDI.get_all_records").values() if r["SR"] == self.sr}
        names = set(os.listdir(self.location)) - {"sr.json", ".lock"}
        images = {n for n in names if n.endswith((".raw", ".qcow2"))}
        bases = {n for n in images if ".base." in n}
        self.assertEqual({n.split(".")[0] for n in images - bases}, set(records), "records and files differ")
        self.assertEqual([r["uuid"] for r in records.values() if r["missing"] or not r["managed"]], [])
        self.assertEqual({n for n in names - images if n[:-len(".json")] not in records}, set(), "left behind")
        used = set()
        for name in images:
            if name.endswith(".qcow2"):
                path = os.path.join(self.location, name)
                out = subprocess.run(["qemu-img", "check", "-q", path], capture_output=True, text=True)
                self.assertEqual(out.returncode, 0, (name, out.stdout, out.stderr))
                info = json.loads(subprocess.run(["qemu-img", "info", "--output=json", path], check=True,
                                                 capture_output=True, text=True).stdout)
                used.add(os.path.basename(info.get("backing-filename", "")))
        self.assertEqual(bases, used - {""}, "bases that nothing refers to")
        self.assertEqual(os.listdir(os.path.join(self.tmp.name, "tmp")), [])

    @classmethod
    def merging(cls):
        return any((t["name_label"], t["status"]) == ("Garbage Collection", "pending") for t in cls.call("task.get_all_records").values())

    def chain(self, vdi):
        return len(json.loads(subprocess.run(["qemu-img", "info", "-U", "--backing-chain", "--output=json", self.path(vdi)],
                                             check=True, capture_output=True, text=True).stdout))

    # ---- what is done ----

    def raw_import(self, kind):
        before = self.content(self.target[kind], kind)
        after = "B" if before == "A" else "A"
        work = yield lambda: self.upload(self.target[kind], kind, after) or True
        now = self.content(self.target[kind], kind)
        self.assertIn(now, (after,) if work.result else (before, after))
        self.assertEqual(self.new(), (set(), set()))

    def xva_import(self):
        def do():
            status, _, text = self.server.request("PUT", f"/import?session_id={self.s.ref}&sr_id={self.sr}", self.xva,
                                                  timeout=60)
            if status != 200:
                raise Failure(text.decode().split())
            return True
        work = yield do
        vms, vdis = self.new()
        self.assertEqual((len(vms), len(vdis)) if vms or work.result else (0, len(vdis)), (1, 2) if vms or work.result else (0, 0))
        for vm in vms:
            self.assertEqual(self.contents(vm), "A")

    def one_image(self, method, kind, *args):
        """VDI.clone and its like: of an unchanged disk."""
        session = self.own_session()
        work = yield lambda: session.call(method, self.sources[kind], *args)
        vms, vdis = self.new()
        self.assertEqual(vms, set())
        self.assertLessEqual(len(vdis), 1)
        if work.result:
            self.assertEqual(vdis, {work.result})
        for vdi in vdis:
            self.assertEqual(self.content(vdi, kind), "A")
        self.assertEqual(self.content(self.sources[kind], kind), "A")

    def coalesce(self):
        """Of five snapshots between A and B all but the first go."""
        session, vdi = self.own_session(), self.disk("qcow2")
        step = SIZE["qcow2"] // 4
        with open(self.reference("B", "qcow2"), "rb") as f:
            b = f.read()
        shots = []
        for at in range(0, len(b), step):
            shots.append(self.call("VDI.snapshot", vdi, {}))
            part = os.path.join(self.tmp.name, "part")
            with open(part, "wb") as f:
                f.write(b[at:at + step])
            subprocess.run(["qemu-io", "-f", "qcow2", "-c", f"write -q -s {part} {at} {step}", self.path(vdi)], check=True,
                           capture_output=True)
        shots.append(self.call("VDI.snapshot", vdi, {}))

        def do():
            for s in shots[1:]:
                session.call("VDI.destroy", s)
            while any((t["name_label"], t["status"]) == ("Garbage Collection", "pending") for t in session.call("task.get_all_records").values()):
                time.sleep(0.02)
            return True
        yield do
        self.assertEqual((self.content(vdi, "qcow2"), self.content(shots[0], "qcow2")), ("B", "A"))
        for s in shots[1:]:
            try:
                self.call("VDI.destroy", s)
            except Failure as e:
                self.assertEqual(e.code, "HANDLE_INVALID")
        self.check_files()
        self.assertEqual((self.chain(vdi), self.chain(shots[0])), (2, 2))
        self.assertEqual((self.content(vdi, "qcow2"), self.content(shots[0], "qcow2")), ("B", "A"))

    def one_vm(self, method, *args, kills_guest=False):
        """VM.snapshot and its like: a VM beside it, with its disks, or nothing."""
        session = self.own_session()
        if method == "VM.checkpoint":
            self.call("VM.start", self.guest, False, False)
        work = yield lambda: session.call(method, self.guest, *args)
        self.at_rest()
        vms, vdis = self.new()
        self.assertLessEqual(len(vms), 1)
        if work.result:
            self.assertEqual(vms, {work.result})
        memory = {v for v in (self.call("VM.get_suspend_VDI", vm) for vm in vms | {self.guest}) if v != NULL}
        self.assertEqual(len(vdis - memory), 2 * len(vms))
        if method == "VM.checkpoint" and vms:
            self.assertEqual(len(memory & vdis), 1 if self.call("VM.get_power_state", min(vms)) == "Suspended" else 0)
        for vm in vms:
            self.assertEqual(self.contents(vm), "B")
        self.assertEqual(self.contents(self.guest), "B")

    def revert(self):
        session = self.own_session()
        work = yield lambda: session.call("VM.revert", self.shot) or True
        self.assertIn(self.contents(self.guest), ("A",) if work.result else ("A", "B"))
        self.assertEqual(self.contents(self.shot), "A")
        vms, vdis = self.new()
        self.assertEqual(vms, set())
        self.assertIn(len(vdis), (0, 2))
        self.assertEqual(len(vdis), len(self.old_vdis - set(self.call("VDI.get_all"))))
        self.old_vdis |= vdis
        self.refill()

    def suspend(self):
        session = self.own_session()
        self.call("VM.start", self.guest, False, False)
        work = yield lambda: session.call("VM.suspend", self.guest) or True
        self.at_rest()
        state, memory = self.call("VM.get_power_state", self.guest), self.call("VM.get_suspend_VDI", self.guest)
        if work.result:
            self.assertEqual(state, "Suspended")
        self.assertIn(state, ("Suspended", "Running"))
        self.assertEqual(self.new(), (set(), {memory} - {NULL}))
        if state == "Suspended":
            self.call("VM.resume", self.guest, False, False)
            self.assertEqual(self.new(), (set(), set()))

    def works(self):
        found = {"coalescing": self.coalesce, "VM.revert": self.revert, "VM.suspend": self.suspend, "import of an XVA": self.xva_import,
                 "VM.snapshot": lambda: self.one_vm("VM.snapshot", "s", []),
                 "VM.clone": lambda: self.one_vm("VM.clone", "c"), "VM.copy": lambda: self.one_vm("VM.copy", "c", self.sr),
                 "VM.checkpoint": lambda: self.one_vm("VM.checkpoint", "c")}
        for kind in SIZE:
            found[f"import of {kind}"] = lambda k=kind: self.raw_import(k)
            for method, *args in (("VDI.copy", self.sr, NULL, NULL), ("VDI.clone", {}), ("VDI.snapshot", {})):
                found[f"{method} of {kind}"] = lambda m=method, k=kind, a=args: self.one_image(m, k, *a)
        return found

    # ---- the world after it ----

    def own_session(self):
        return Session(self.server, self.s.ref, f"http of {time.monotonic()}")

    @classmethod
    def settle(cls):
        """Until the daemon, or the next one, is there with its storage and nothing is under way."""
        scanned = []

        def is_there():
            try:
                cls.s = cls.server.login()
                pbds = cls.call("SR.get_PBDs", cls.sr)
                if not all(cls.call("PBD.get_currently_attached", p) for p in pbds):
                    return False
                if not scanned:
                    cls.call("SR.scan", cls.sr)
                    scanned.append(True)
                return not any(t["status"] == "pending" for t in cls.call("task.get_all_records").values())
            except (Failure, *CUT):
                cls.server._connections.clear()
                return False
        eventually(is_there, 60)

    def at_rest(self):
        """Until the guest is left alone: an interrupted checkpoint lets it go on."""
        eventually(lambda: not self.call("VM.get_current_operations", self.guest), 30)

    def new(self):
        """VMs and disks that were not there before."""
        return (set(self.call("VM.get_all")) - self.old_vms, set(self.call("VDI.get_all")) - self.old_vdis)

    def clean(self):
        if self.call("VM.get_power_state", self.guest) != "Halted":
            self.call("VM.hard_shutdown", self.guest)
        vms, vdis = self.new()
        for vm in vms:
            self.call("VM.destroy", vm)
        for vdi in vdis:
            try:
                self.call("VDI.destroy", vdi)
            except Failure as e:  # the memory of a checkpoint went with it
                self.assertEqual(e.code, "HANDLE_INVALID")
        self.assertEqual(self.new(), (set(), set()))

    def kill(self, victim, until):
        """At that time; a tool, as soon as one runs from then on. What was killed."""
        time.sleep(max(until - time.monotonic(), 0))
        if victim == "all":
            self.server.kill()
        elif victim == "supervisor":
            children = self.server.pids()
            self.server.process.kill()
            self.server.process.wait()
            self.server.process = None
            eventually(lambda: not any(map(is_alive, children)), 60)  # they end when it is gone
            self.server._connections.clear()
        elif victim == "tool":
            return self.kill_tool()
        else:
            os.kill(self.server.pid_of(victim), signal.SIGKILL)
        return victim

    def kill_tool(self):
        sim = self.server.pid_of("xenapid-sim")
        deadline = time.monotonic() + 0.3
        while time.monotonic() < deadline:
            out = subprocess.run(["ps", "-o", "pid=,comm=", "--ppid", str(sim)], capture_output=True, text=True)
            for line in out.stdout.splitlines():
                pid, name = line.split(None, 1)
                if name.startswith("qemu"):
                    try:
                        os.kill(int(pid), signal.SIGKILL)
                    except ProcessLookupError:
                        continue
                    return name
        return "no tool"

    def crash(self, work, victim, after):
        """Runs work (a generator: sets up, yields what is to be done, checks) and kills victim. How long it was."""
        self.old_vms, self.old_vdis = set(self.call("VM.get_all")), set(self.call("VDI.get_all"))
        steps = work()
        work = Work("work", next(steps))
        if victim:
            self.story.append(f"killed: {self.kill(victim, work.began + after)}")
        if self.server.process is None:
            self.server.start()
        work.join(120)
        took = time.monotonic() - work.began
        self.assertFalse(work.is_alive(), "the client was left waiting")
        self.story.append(f"after {took:.3f} s: {work.result} {work.cut or ''}")
        self.cut_for_a_reason(work.cut, victim)
        self.settle()
        self.check_files()
        with self.assertRaises(StopIteration):
            steps.send(work)
        self.check_files()
        self.clean()
        return took

    def cut_for_a_reason(self, why, victim):
        if not victim:
            self.assertIsNone(why)

    def test(self):
        works, self.story = self.works(), []
        duration = {name: self.crash(work, None, 0) for name, work in works.items()}
        pick = random.Random(SEED)
        for i in range(CRASHES):
            name, victim = pick.choice(sorted(works)), pick.choices(*self.victims)[0]
            after = pick.random() * 1.1 * duration[name]
            self.story = [f"{i} of seed {SEED}: {name}, {victim} after {after:.3f} of {duration[name]:.3f} s"]
            try:
                self.crash(works[name], victim, after)
            except BaseException:
                print(*self.story, f"tools: {self.tools()}", sep="\n", file=sys.stderr, flush=True)
                if os.path.exists(self.location):
                    print("files:", *sorted(os.listdir(self.location)), file=sys.stderr, flush=True)
                self.server.print_log()
                raise


class FullDisk(CrashStorage):
    """The SR is full, or becomes so at any moment of the work, which fails and has changed nothing."""
    victims = ("full",), None
    ROOM = 40 * MIB

    @classmethod
    def choose_sr(cls):
        place = os.path.join(cls.tmp.name, "medium")
        os.mkdir(place)
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={cls.ROOM},mode=777", "none", place],
                                 capture_output=True, text=True)
        if mounted.returncode != 0:
            raise unittest.SkipTest(f"a full disk needs a file system that can be mounted: {mounted.stderr.strip()}")
        cls.addClassCleanup(subprocess.run, ["umount", "-l", place])
        cls.filler = os.path.join(place, "filler")
        cls.sr = cls.call("SR.create", cls.call("host.get_all")[0], {"location": os.path.join(place, "sr")}, "0", "small",
                          "", "file", "user", False, {})
        cls.call("pool.set_default_SR", cls.call("pool.get_all")[0], cls.sr)

    def kill(self, victim, until):
        """Somebody else takes what room is left."""
        time.sleep(max(until - time.monotonic(), 0))
        with open(self.filler, "wb", buffering=0) as f:
            try:
                while True:
                    f.write(bytes(64 * 1024))
            except OSError:
                return f"filled {f.tell() // 1024} KiB"

    def cut_for_a_reason(self, why, victim):
        if victim:
            os.unlink(self.filler)
        if why:
            self.assertIsInstance(why, Failure)
            self.assertEqual(why.code, "SR_FULL", why)


if __name__ == "__main__":
    unittest.main()
