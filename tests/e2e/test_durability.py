"""Nothing acknowledged is lost: the whole daemon is killed under many writers again and again, the disk fills up, the
file system turns read-only, the database is another program's or another version's.

XENAPID_CRASH_ROUNDS says how often it is killed (default 12)."""
import http.client
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import threading
import time
import unittest

from harness import Failure, Server

ROUNDS = int(os.environ.get("XENAPID_CRASH_ROUNDS", "12"))
NULL = "OpaqueRef:NULL"
MIB = 1 << 20


def attached(s):
    """The first SR, when it can be used."""
    deadline = time.monotonic() + 20
    while not any(p["currently_attached"] for p in s.call("PBD.get_all_records").values()):
        assert time.monotonic() < deadline, "the SR was not attached"
        time.sleep(0.02)
    return s.call("SR.get_all")[0]


# ---- writers ----

class Gone(Exception):
    """The server went away before it answered."""


class Writer(threading.Thread):
    """One client with a connection of its own, writing until the server is gone. What it was answered must be there
    afterwards; what it was not may be there or not, but whole."""

    def __init__(self, server, number, round_):
        super().__init__(daemon=True)
        self.server, self.number, self.round = server, number, round_
        self.session = server.login()
        self.c = server.connection("http")
        self.acknowledged = 0
        self.trouble = None

    def call(self, method, *params):
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": [self.session.ref, *params]})
        try:
            self.c.request("POST", "/jsonrpc", body, {"Content-Type": "application/json"})
            answer = json.loads(self.c.getresponse().read())
        except (OSError, http.client.HTTPException, ValueError) as e:
            raise Gone() from e
        if "error" in answer:
            raise Failure([answer["error"]["message"], *answer["error"].get("data", [])])
        self.acknowledged += 1
        return answer["result"]

    def prepare(self):
        """Before the server may be killed."""

    def step(self, i):
        raise NotImplementedError

    def check(self, s):
        """After the restart: raises when something is not as it must be."""

    def run(self):
        try:
            i = 0
            while True:
                self.step(i)
                i += 1
        except Gone:
            pass
        except Exception as e:  # told by the test's own thread
            self.trouble = e
        finally:
            self.c.close()

    def must(self, condition, what):
        if not condition:
            raise AssertionError(f"{type(self).__name__}: {what}")


class Counter(Writer):
    """One field, again and again."""

    def prepare(self):
        self.ref = self.session.call("network.create", {"name_label": f"counter {self.number}"})
        self.was = self.tried = ""

    def step(self, i):
        self.tried = str(i)
        self.call("network.set_name_description", self.ref, self.tried)
        self.was = self.tried

    def check(self, s):
        now = s.call("network.get_name_description", self.ref)
        self.must(now in (self.was, self.tried), f"{now} instead of {self.was} or {self.tried}")


class Keys(Writer):
    """Keys that come and, a little later, go."""

    def prepare(self):
        self.ref = self.session.call("network.create", {"name_label": f"keys {self.number}"})
        self.have, self.open = {}, None

    def change(self, verb, key, *value):
        self.open = key
        self.call(f"network.{verb}_other_config", self.ref, key, *value)
        if value:
            self.have[key] = value[0]
        else:
            del self.have[key]
        self.open = None

    def step(self, i):
        self.change("add_to", f"k{i}", str(i))
        if i >= 5:
            self.change("remove_from", f"k{i - 5}")

    def check(self, s):
        now = s.call("network.get_other_config", self.ref)
        for key in set(now) | set(self.have):
            if key != self.open:
                self.must(now.get(key) == self.have.get(key), f"{key}: {now.get(key)}, not {self.have.get(key)}")


class Objects(Writer):
    """VMs that are made, half of which are destroyed again; a VM and its metrics are one transaction."""

    def prepare(self):
        self.have, self.gone, self.open = {}, [], None

    def step(self, i):
        name = f"object {self.round} {self.number} {i}"
        ref = self.call("VM.create", {"name_label": name, "memory_static_max": 16 * MIB, "memory_dynamic_max": 16 * MIB,
                                      "other_config": {"n": str(i)}})
        self.have[ref] = name
        if i % 2:
            self.open = ref
            self.call("VM.destroy", ref)
            self.open = None
            del self.have[ref]
            self.gone.append(ref)

    def check(self, s):
        vms = s.call("VM.get_all_records")
        for ref, name in self.have.items():
            if ref != self.open:
                self.must(ref in vms, f"{name} is lost")
            if ref in vms:
                self.must((vms[ref]["name_label"], vms[ref]["other_config"]["n"]) == (name, name.split()[-1]), ref)
        self.must(not set(self.gone) & set(vms), "a destroyed VM is back")


class Clones(Writer):
    """A VM with three VIFs: a clone has them all, or is not there. Its making is a task."""
    DEVICES = 3

    def prepare(self):
        network = self.session.call("network.get_all")[0]
        self.label = f"clone {self.round} {self.number}"
        self.origin = self.session.call("VM.create", {"name_label": "origin", "memory_static_max": 16 * MIB})
        for device in range(self.DEVICES):
            self.session.call("VIF.create", {"VM": self.origin, "network": network, "device": str(device), "MAC": "",
                                             "MTU": 1500, "other_config": {}, "qos_algorithm_type": "",
                                             "qos_algorithm_params": {}})
        self.have = []

    def step(self, i):
        self.have.append(self.call("VM.clone", self.origin, self.label))

    def check(self, s):
        for ref in self.have:
            self.must(s.call("VM.get_name_label", ref) == self.label, f"{ref} is lost")
        for ref in s.call("VM.get_by_name_label", self.label):
            self.must(len(s.call("VM.get_VIFs", ref)) == self.DEVICES, f"{ref} lacks some of its VIFs")


class Disks(Writer):
    """Disk images: the file and its record."""

    def prepare(self):
        self.sr = attached(self.session)
        self.have, self.gone, self.open = [], [], None

    def step(self, i):
        ref = self.call("VDI.create", {"name_label": f"disk {i}", "SR": self.sr, "virtual_size": MIB, "type": "user",
                                       "sm_config": {"type": "raw"}})
        self.have.append(ref)
        if i % 3 == 2:
            self.open = self.have.pop(0)
            self.call("VDI.destroy", self.open)
            self.gone.append(self.open)
            self.open = None

    def check(self, s):
        attached(s)
        s.call("SR.scan", self.sr)
        where = list(s.call("PBD.get_all_records").values())[0]["device_config"]["location"]
        vdis = s.call("VDI.get_all_records")
        for ref in self.have:
            self.must(ref in vdis, f"{ref} is lost")
            self.must(os.path.exists(os.path.join(where, vdis[ref]["uuid"] + ".raw")), f"the file of {ref} is lost")
        self.must(not set(self.gone) & set(vdis), "a destroyed disk is back")


class Kills(unittest.TestCase):
    WRITERS = (Counter, Counter, Keys, Keys, Objects, Objects, Clones, Disks)

    def check_whole(self, s):
        """What is true of the objects together after every transaction."""
        vms, metrics = s.call("VM.get_all_records"), s.call("VM_metrics.get_all_records")
        self.assertEqual(sorted(v["metrics"] for v in vms.values()), sorted(metrics), "VMs and their metrics")
        vifs = s.call("VIF.get_all_records")
        for ref, vif in vifs.items():
            self.assertIn(ref, vms[vif["VM"]]["VIFs"])
        self.assertEqual(sum(len(v["VIFs"]) for v in vms.values()), len(vifs))
        self.assertEqual({r: v["current_operations"] for r, v in vms.items() if v["current_operations"]}, {})
        self.assertEqual(len(s.call("pool.get_all")), 1)

    def round(self, server, number):
        writers = [kind(server, n, number) for n, kind in enumerate(self.WRITERS)]
        for w in writers:
            w.prepare()
        for w in writers:
            w.start()
        time.sleep(random.uniform(0.05, 0.8))
        server.kill()
        for w in writers:
            w.join(30)
            self.assertFalse(w.is_alive())
            if w.trouble:
                raise w.trouble
        server.start()
        s = server.login()
        for w in writers:
            with self.assertRaises(Failure) as f:
                w.session.call("pool.get_all")
            self.assertEqual((f.exception.code, f.exception.params), ("SESSION_INVALID", [w.session.ref]))
        self.check_whole(s)
        for w in writers:
            w.check(s)
        return writers

    def test_killed_under_writers_it_keeps_what_it_acknowledged(self):
        seed = int(os.environ.get("XENAPID_CRASH_SEED", random.randrange(1 << 30)))
        random.seed(seed)
        server = Server(conf={"limits": {}, "sim": {"metrics": "yes"}}).start()
        acknowledged = {}
        try:
            writers = []
            for number in range(ROUNDS):
                for w in writers[-len(self.WRITERS):]:  # once more, after another life
                    w.check(server.login())
                writers = self.round(server, number)
                for w in writers:
                    acknowledged[type(w).__name__] = acknowledged.get(type(w).__name__, 0) + w.acknowledged
            server.stop()
        except BaseException as e:
            server.print_log()
            raise AssertionError(f"XENAPID_CRASH_SEED={seed} to do it again") from e
        finally:
            server.kill()
            server.clean()
        self.assertTrue(all(n > ROUNDS for n in acknowledged.values()), acknowledged)

    def test_killed_while_it_starts_for_the_first_time(self):
        state = tempfile.mkdtemp(prefix="xenapid-state.")
        os.chmod(state, 0o755)
        try:
            for _ in range(4):
                shutil.rmtree(os.path.join(state, "state"), ignore_errors=True)
                server = Server(state=os.path.join(state, "state"))
                starter = threading.Thread(target=self.start_quietly, args=(server,))
                starter.start()
                time.sleep(random.uniform(0.01, 0.4))
                if server.process:
                    server.kill()
                starter.join()
                with Server(state=server.state_dir) as again:
                    s = again.login()
                    self.check_whole(s)
                    self.assertEqual(len(s.call("SR.get_all")), 1)
                    s.call("VDI.create", {"name_label": "d", "SR": attached(s), "virtual_size": MIB, "type": "user"})
                server.clean()
        finally:
            shutil.rmtree(state)

    @staticmethod
    def start_quietly(server):
        try:
            server.print_log = lambda: None
            server.start()
        except (AssertionError, AttributeError):  # it was killed
            pass


# ---- disks that fail ----

def mounted(test, *args):
    """Mounts something on a new directory for the test's duration: the directory. Skips where that is not allowed."""
    if os.geteuid() != 0:
        test.skipTest("only root mounts file systems")
    where = tempfile.mkdtemp(prefix="xenapid-mount.")
    test.addCleanup(os.rmdir, where)
    done = subprocess.run(["mount", *args, where], capture_output=True, text=True)
    if done.returncode != 0:
        test.skipTest(f"cannot mount here: {done.stderr.strip()}")
    test.addCleanup(subprocess.run, ["umount", "-l", where], check=True)
    os.chmod(where, 0o755)
    return where


class BadDisks(unittest.TestCase):
    def write_until_refused(self, s, ref, size):
        """Ever new values: the last that was acknowledged, and the failure."""
        last = s.call("network.get_name_description", ref)
        for i in range(1000):
            value = f"{i} " + "x" * size
            try:
                s.call("network.set_name_description", ref, value)
            except Failure as f:
                return last, f
            last = value
        self.fail("all writes were acknowledged")

    def test_a_full_disk_refuses_writes_and_serves_reads(self):
        where = mounted(self, "-t", "tmpfs", "-o", "size=8m", "none")
        with Server(state=os.path.join(where, "state")) as server:
            s = server.login()
            ref = s.call("network.create", {"name_label": "n"})
            ballast = os.path.join(where, "ballast")
            with open(ballast, "wb") as f, self.assertRaises(OSError):
                while True:
                    f.write(bytes(65536))
                    f.flush()
            last, failure = self.write_until_refused(s, ref, 100_000)
            self.assertEqual(failure.code, "OUT_OF_SPACE")
            self.assertEqual(s.call("network.get_name_description", ref), last)
            self.assertEqual(s.call("network.get_by_name_label", "n"), [ref])
            before = s.call("VM.get_all"), s.call("VM_metrics.get_all")
            with self.assertRaises(Failure) as f:
                s.call("VM.create", {"name_label": "x" * 500_000, "memory_static_max": 16 * MIB})
            self.assertEqual(f.exception.code, "OUT_OF_SPACE")
            self.assertEqual((s.call("VM.get_all"), s.call("VM_metrics.get_all")), before)
            server.login()
            os.unlink(ballast)
            s.call("network.set_name_description", ref, "there is room again")
            server.kill()
            server.start()
            self.assertEqual(server.login().call("network.get_name_description", ref), "there is room again")

    def test_what_was_acknowledged_before_the_disk_was_full_survives_a_kill(self):
        where = mounted(self, "-t", "tmpfs", "-o", "size=8m", "none")
        server = Server(state=os.path.join(where, "state")).start()
        try:
            s = server.login()
            ref = s.call("network.create", {"name_label": "n"})
            ballast = os.path.join(where, "ballast")
            with open(ballast, "wb") as f, self.assertRaises(OSError):
                while True:
                    f.write(bytes(65536))
                    f.flush()
            last, _ = self.write_until_refused(s, ref, 50_000)
            server.kill()
            os.unlink(ballast)
            server.start()
            self.assertEqual(server.login().call("network.get_name_description", ref), last)
            server.stop()
        finally:
            server.kill()
            server.clean()

    def test_a_file_system_that_turns_read_only(self):
        if not shutil.which("mkfs.ext4"):
            self.skipTest("mkfs.ext4 is missing")
        image = tempfile.NamedTemporaryFile(prefix="xenapid-image.")
        image.truncate(32 * MIB)
        subprocess.run(["mkfs.ext4", "-q", image.name], check=True)
        where = mounted(self, "-o", "loop", image.name)
        server = Server(state=os.path.join(where, "state")).start()
        try:
            s = server.login()
            ref = s.call("network.create", {"name_label": "n"})
            s.call("network.set_name_description", ref, "before")
            subprocess.run(["mount", "-o", "remount,abort", where], check=True)
            with self.assertRaises(Failure) as f:
                s.call("network.set_name_description", ref, "after")
            self.assertIn(f.exception.code, ("INTERNAL_ERROR", "OUT_OF_SPACE"))
            self.assertEqual(s.call("network.get_name_description", ref), "before")
            with self.assertRaises(Failure):
                s.call("VM.create", {"name_label": "x", "memory_static_max": 16 * MIB})
            self.assertEqual(s.call("VM.get_by_name_label", "x"), [])
            self.assertEqual(len(server.login().call("VM.get_all_records")), 1)
            self.assertIsNone(server.process.poll())
            server.check_log()
        finally:
            server.kill()
            server.clean()


# ---- databases that are not ours to open ----

class Databases(unittest.TestCase):
    def start_refused(self, server):
        """The log of a start that fails."""
        clean, server.clean = server.clean, lambda: None
        server.print_log = lambda: None
        with self.assertRaises(AssertionError):
            server.start()
        log = server.log()
        server.clean = clean
        return log

    def kept(self):
        """A stopped server with a state and the path of its database."""
        server = Server().start()
        self.addCleanup(server.clean)
        server.stop()
        return server, os.path.join(server.state_dir, "xenapid.db")

    def test_a_newer_schema_is_refused_and_left_alone(self):
        server, path = self.kept()
        with sqlite3.connect(path) as db:
            db.execute("PRAGMA user_version = 999")
        db.close()
        log = self.start_refused(server)
        self.assertIn("newer xenapid", log)
        self.assertIn("999", log)
        db = sqlite3.connect(path)
        self.assertEqual(db.execute("PRAGMA user_version").fetchone(), (999,))
        self.assertGreater(db.execute("SELECT count(*) FROM object").fetchone()[0], 10)
        db.close()

    def test_another_program_s_database_is_refused(self):
        server, path = self.kept()
        os.unlink(path)
        with sqlite3.connect(path) as db:
            db.execute("CREATE TABLE somebody_else_s(x)")
        db.close()
        owner = os.stat(server.state_dir)
        os.chown(path, owner.st_uid, owner.st_gid)
        self.assertIn("some other program", self.start_refused(server))

    def test_a_damaged_database_is_refused(self):
        server, path = self.kept()
        with open(path, "r+b") as f:
            f.write(b"this is no database at all" * 200)
        self.assertIn("xenapid.db", self.start_refused(server))

    def test_a_second_daemon_on_the_same_state_is_refused(self):
        with Server() as first:
            s = first.login()
            network = s.call("network.create", {"name_label": "mine"})
            second = Server(state=first.state_dir)
            self.addCleanup(second.clean)
            self.assertIn("another xenapid uses it", self.start_refused(second))
            s.call("network.set_name_description", network, "still")
            self.assertEqual(s.call("network.get_name_description", network), "still")

    def test_the_state_is_free_after_a_kill(self):
        server, _ = self.kept()
        server.start()
        os.kill(server.process.pid, signal.SIGKILL)
        server.kill()
        server.start()
        server.stop()
