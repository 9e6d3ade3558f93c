"""Disks over HTTP: /export_raw_vdi and /import_raw_vdi as curl, http.client and careless clients use them."""
import hashlib
import http.client
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

from harness import Failure, Server, basic

MIB = 1 << 20
UNKNOWN = 1125899906842624  # what clients announce that do not know the length


def sparse(size, seed=1):
    """Bytes with data here and there, and zeroes in between."""
    data = bytearray(size)
    pick = random.Random(seed)
    for at in range(0, size, 3 * MIB):
        data[at:at + 100_000] = pick.randbytes(min(100_000, size - at))
    tail = pick.randbytes(777)
    data[-777:] = tail
    return bytes(data)


class Transfers(unittest.TestCase):
    conf = {"sim": {"vms": 1}}
    allow_crash = False

    @classmethod
    def setUpClass(cls):
        cls.server = Server(conf=cls.conf, allow_crash=cls.allow_crash, users={"root": "secret"}).start()
        cls.s = cls.server.login()
        cls.call = cls.s.call
        cls.sr = cls.call("pool.get_default_SR", cls.call("pool.get_all")[0])
        cls.ready()

    @classmethod
    def ready(cls):
        deadline = time.monotonic() + 20
        while not all(cls.call("PBD.get_currently_attached", p) for p in cls.call("SR.get_PBDs", cls.sr) or [None] if p):
            assert time.monotonic() < deadline
            time.sleep(0.02)

    @classmethod
    def tearDownClass(cls):
        try:
            cls.server.stop()
        finally:
            cls.server.clean()

    # ---- helpers ----

    def vdi(self, size, kind="qcow2"):
        return self.call("VDI.create", {"name_label": "t", "SR": self.sr, "virtual_size": size, "type": "user",
                                        "sharable": False, "read_only": False, "other_config": {},
                                        "sm_config": {"type": kind}})

    def path(self, handler, vdi, **query):
        query = {"session_id": self.s.ref, "vdi": vdi, "format": "raw", **query}
        return f"/{handler}?" + "&".join(f"{k}={v}" for k, v in query.items() if v is not None)

    def get(self, vdi, headers=None, kind="http", **query):
        return self.server.request("GET", self.path("export_raw_vdi", vdi, **query), headers=headers, kind=kind)

    def put(self, vdi, data, headers=None, kind="http", **query):
        return self.server.request("PUT", self.path("import_raw_vdi", vdi, **query), data, headers, kind=kind, timeout=60)

    def content(self, vdi):
        status, _, body = self.get(vdi)
        self.assertEqual(status, 200)
        return body

    def task(self):
        return self.call("task.create", "transfer", "")

    def ended(self, task, seconds=20):
        """The record of a task that has ended."""
        deadline = time.monotonic() + seconds
        while True:
            record = self.call("task.get_record", task)
            if record["status"] != "pending":
                return record
            self.assertLess(time.monotonic(), deadline, "the task does not end")
            time.sleep(0.02)

    def until(self, condition, seconds=10):
        deadline = time.monotonic() + seconds
        while not condition():
            self.assertLess(time.monotonic(), deadline, "what the test waits for does not happen")
            time.sleep(0.02)

    def files(self):
        found = []
        for place, _, names in os.walk(self.server.state_dir):
            found += [os.path.join(place, n) for n in names if n.endswith((".raw", ".qcow2", ".tmp"))]
        return found

    def leftovers(self):
        return [f for f in self.files() if f.endswith(".tmp")]

    def upload(self, vdi, announced, **query):
        """A socket on which the header of an upload was sent."""
        c = socket.create_connection(("127.0.0.1", self.server.http_port), 20)
        c.sendall(f"PUT {self.path('import_raw_vdi', vdi, **query)} HTTP/1.1\r\nHost: x\r\n"
                  f"Content-Length: {announced}\r\n\r\n".encode())
        return c

    def assert_free(self, vdi, seconds=5):
        """Nothing is in progress on the image any more."""
        deadline = time.monotonic() + seconds
        while self.call("VDI.get_current_operations", vdi):
            self.assertLess(time.monotonic(), deadline, "an operation stays")
            time.sleep(0.02)


class Raw(Transfers):
    def test_there_and_back(self):
        for kind in "raw", "qcow2":
            for wire in "http", "https":
                with self.subTest(kind=kind, wire=wire):
                    data = sparse(21 * MIB + 512)
                    vdi = self.vdi(len(data), kind)
                    status, headers, body = self.put(vdi, data, kind=wire)
                    self.assertEqual((status, body), (200, b""))
                    self.assertEqual(self.call("task.get_status", headers["task-id"]), "success")
                    status, headers, body = self.get(vdi, kind=wire)
                    self.assertEqual(status, 200)
                    self.assertEqual(headers["content-length"], str(len(data)))
                    self.assertEqual(hashlib.sha1(body).digest(), hashlib.sha1(data).digest())
                    self.assertLess(self.call("VDI.get_physical_utilisation", vdi), 6 * MIB)
                    self.call("VDI.destroy", vdi)

    def test_curl(self):
        with tempfile.TemporaryDirectory() as place:
            data = sparse(5 * MIB)
            vdi = self.call("VDI.get_uuid", self.vdi(len(data)))
            with open(f"{place}/in", "wb") as f:
                f.write(data)
            url = self.server.url("https")
            for extra in [], ["-H", "Expect: 100-continue"], ["-H", "Transfer-Encoding: chunked"]:
                subprocess.run(["curl", "-sSfk", *extra, "-T", f"{place}/in", "-u", "root:secret",
                                f"{url}/import_raw_vdi/?vdi={vdi}&format=raw"], check=True, timeout=60)
                subprocess.run(["curl", "-sSfk", "-o", f"{place}/out", "-b", f"session_id={self.s.ref}",
                                f"{url}/export_raw_vdi/?vdi={vdi}&format=raw"], check=True, timeout=60)
                with open(f"{place}/out", "rb") as f:
                    self.assertEqual(f.read(), data)

    def test_head_and_ranges(self):
        data = sparse(4 * MIB)
        vdi = self.vdi(len(data))
        self.assertEqual(self.put(vdi, data)[0], 200)
        status, headers, body = self.server.request("HEAD", self.path("export_raw_vdi", vdi))
        self.assertEqual((status, headers["content-length"], body), (200, str(len(data)), b""))
        for asked, first, end in (("0-0", 0, 1), ("100-5000000", 100, 4 * MIB), ("3000000-", 3000000, 4 * MIB),
                                  ("-777", 4 * MIB - 777, 4 * MIB), (f"{MIB}-{MIB * 2}", MIB, 2 * MIB + 1)):
            with self.subTest(range=asked):
                status, headers, body = self.get(vdi, {"Range": f"bytes={asked}"})
                self.assertEqual(status, 206)
                self.assertEqual(headers["content-range"], f"bytes {first}-{end - 1}/{len(data)}")
                self.assertEqual(body, data[first:end])
        status, headers, _ = self.get(vdi, {"Range": f"bytes={len(data)}-"})
        self.assertEqual((status, headers["content-range"]), (416, f"bytes */{len(data)}"))
        for strange in "bytes=5-2", "bytes=a-b", "lines=1-2", "bytes=0-1,4-5", "bytes=-":
            self.assertEqual(self.get(vdi, {"Range": strange})[0], 200, strange)

    def test_probe_without_a_task(self):
        data = sparse(2 * MIB)
        vdi = self.vdi(len(data))
        self.put(vdi, data)
        tasks = len(self.call("task.get_all"))
        self.assertEqual(self.put(vdi, b"")[0], 200)
        self.assertEqual(len(self.call("task.get_all")), tasks)
        self.assertEqual(self.content(vdi), data)

    def test_probe_of_unknown_length(self):
        """Who announces a length without end and sends nothing is answered at once."""
        data = sparse(2 * MIB)
        vdi = self.vdi(len(data))
        self.put(vdi, data)
        tasks = len(self.call("task.get_all"))
        with self.upload(vdi, UNKNOWN) as c:
            self.assertEqual(c.recv(15), b"HTTP/1.1 200 OK")
            self.assertEqual(self.get(vdi)[0], 200)  # nothing is locked
        self.assertEqual(len(self.call("task.get_all")), tasks + 1)
        with self.upload("OpaqueRef:none", UNKNOWN) as c:
            self.assertEqual(c.recv(12), b"HTTP/1.1 404")
        before = {t["uuid"] for t in self.call("task.get_all_records").values()}
        with self.upload(vdi, UNKNOWN) as c:  # and who then sends something, is heard
            self.assertEqual(c.recv(15), b"HTTP/1.1 200 OK")
            c.sendall(data[::-1])
            self.until(lambda: [t for t in self.call("task.get_all_records").values()
                                if t["name_label"] == "import_raw_vdi" and t["status"] == "success"
                                and t["uuid"] not in before])
        self.assertEqual(self.content(vdi), data[::-1])

    def test_shorter_and_longer_bodies(self):
        vdi = self.vdi(2 * MIB)
        self.put(vdi, b"\xff" * (2 * MIB))
        self.assertEqual(self.put(vdi, b"abc")[0], 200)
        self.assertEqual(self.content(vdi), b"abc" + bytes(2 * MIB - 3))
        task = self.task()
        status, _, body = self.put(vdi, bytes(2 * MIB + 1), task_id=task)
        self.assertEqual(status, 400)
        self.assertIn(b"VDI_TOO_SMALL", body)
        self.assertEqual(self.call("task.get_error_info", task)[0], "VDI_TOO_SMALL")
        self.assertEqual(self.content(vdi)[:3], b"abc")

    def test_the_clients_task(self):
        vdi = self.vdi(MIB)
        task = self.task()
        self.assertEqual(self.put(vdi, b"x" * MIB, task_id=task)[0], 200)
        record = self.ended(task)
        self.assertEqual((record["status"], record["progress"], record["result"]), ("success", 1, ""))
        task = self.task()
        self.assertEqual(self.get(vdi, task_id=task)[2], b"x" * MIB)
        self.assertEqual(self.ended(task)["status"], "success")
        status, headers, _ = self.get(vdi, subtask_of=task)
        self.assertEqual(self.call("task.get_subtask_of", headers["task-id"]), task)
        self.assertEqual(self.get(vdi, task_id="OpaqueRef:none")[0], 404)

    def test_refusals(self):
        vdi = self.vdi(MIB)
        self.assertEqual(self.get("OpaqueRef:none")[0], 404)
        self.assertEqual(self.get("00000000-0000-0000-0000-000000000000")[0], 404)
        self.assertEqual(self.get(vdi, session_id="OpaqueRef:none")[0], 401)
        self.assertEqual(self.get(vdi, session_id=None)[0], 401)
        self.assertEqual(self.get(vdi, session_id=None, headers=basic("root", "wrong"))[0], 401)
        self.assertEqual(self.get(vdi, session_id=None, headers=basic("root", "secret"))[0], 200)
        self.assertEqual(self.put(vdi, bytes(1000), session_id="OpaqueRef:none")[0], 401)
        self.assertEqual(self.get(vdi, format="vmdk")[0], 500)
        self.assertEqual(self.server.request("POST", self.path("import_raw_vdi", vdi), b"")[0], 200)  # an XML-RPC call

    def test_read_only(self):
        vdi = self.vdi(MIB)
        self.call("VDI.set_read_only", vdi, True)
        self.assertIn(b"VDI_READONLY", self.put(vdi, bytes(MIB))[2])

    def test_unknown_length(self):
        data = sparse(3 * MIB)
        vdi, task = self.vdi(len(data)), self.task()
        with self.upload(vdi, UNKNOWN, task_id=task) as c:
            c.sendall(data)
            self.assertEqual(c.recv(15), b"HTTP/1.1 200 OK")
        self.assertEqual(self.ended(task)["status"], "success")
        self.assertEqual(self.content(vdi), data)
        task = self.task()  # and cut at once, without waiting for the answer
        with self.upload(vdi, UNKNOWN, task_id=task) as c:
            c.sendall(data[::-1])
        self.assertEqual(self.ended(task)["status"], "success")
        self.assertEqual(self.content(vdi), data[::-1])

    def test_cut_upload_leaves_the_image_as_it_was(self):
        before = sparse(6 * MIB)
        vdi = self.vdi(len(before))
        self.put(vdi, before)
        for announced in 6 * MIB, UNKNOWN:
            task = self.task()
            with self.upload(vdi, announced, task_id=task) as c:
                c.sendall(b"y" * (5 * MIB))
            record = self.ended(task)
            self.assertEqual((record["status"], record["error_info"]), ("failure", ["IMPORT_ERROR_PREMATURE_EOF"]))
            self.assert_free(vdi)
            self.assertEqual(self.content(vdi), before)
        self.assertEqual(self.leftovers(), [])

    def test_cut_download_fails_the_task(self):
        vdi, task = self.vdi(64 * MIB), self.task()
        with socket.create_connection(("127.0.0.1", self.server.http_port), 20) as c:
            c.sendall(f"GET {self.path('export_raw_vdi', vdi, task_id=task)} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            c.recv(1000)
        self.assertEqual(self.ended(task)["status"], "failure")
        self.assert_free(vdi)

    def test_cancel(self):
        vdi, task = self.vdi(8 * MIB), self.task()
        with self.upload(vdi, 8 * MIB, task_id=task) as c:
            c.sendall(bytes(MIB))
            self.wait_busy(vdi)
            self.call("task.cancel", task)
            self.assert_free(vdi)
            self.assertEqual(self.call("task.get_status", task), "cancelled")
        self.assertEqual(self.leftovers(), [])

    def wait_busy(self, vdi):
        deadline = time.monotonic() + 10
        while not self.call("VDI.get_current_operations", vdi):
            self.assertLess(time.monotonic(), deadline, "the transfer does not begin")
            time.sleep(0.01)

    def test_image_in_use(self):
        vdi = self.vdi(4 * MIB)
        with self.upload(vdi, 4 * MIB) as c:
            c.sendall(bytes(MIB))
            self.wait_busy(vdi)
            self.assertEqual(self.get(vdi)[0], 409)
            with self.assertRaises(Failure) as f:
                self.call("VDI.destroy", vdi)
            self.assertEqual(f.exception.code, "OTHER_OPERATION_IN_PROGRESS")
            c.sendall(bytes(3 * MIB))
            self.assertEqual(c.recv(15), b"HTTP/1.1 200 OK")
        self.assertEqual(self.get(vdi)[0], 200)
        with socket.create_connection(("127.0.0.1", self.server.http_port), 20) as c:  # two may read
            c.sendall(f"GET {self.path('export_raw_vdi', self.vdi(64 * MIB))} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            self.assertEqual(self.get(vdi)[0], 200)

    def test_slow_clients_take_no_memory(self):
        vdi = self.vdi(512 * MIB, "raw")
        pid = self.server.pid_of("xenapid-front")
        connections = []
        for _ in range(8):
            c = socket.create_connection(("127.0.0.1", self.server.http_port), 20)
            c.sendall(f"GET {self.path('export_raw_vdi', vdi)} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            connections.append(c)
        time.sleep(1)
        start = time.monotonic()
        self.call("VM.get_all")
        self.assertLess(time.monotonic() - start, 0.5)
        with open(f"/proc/{pid}/status") as f:
            rss = next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))
        for c in connections:
            c.close()
        self.assertLess(rss, 600 * 1024)
        self.assert_free(vdi)


class Vhd(Transfers):
    """Against qemu-img's idea of the format."""

    def setUp(self):
        self.place = tempfile.TemporaryDirectory()
        self.addCleanup(self.place.cleanup)

    def convert(self, data, *options):
        """Raw data as a VHD."""
        raw, vhd = self.place.name + "/raw", self.place.name + "/vhd"
        with open(raw, "wb") as f:
            f.write(data)
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "vpc", *options, raw, vhd], check=True)
        with open(vhd, "rb") as f:
            return f.read()

    def unpack(self, vhd):
        raw, path = self.place.name + "/raw", self.place.name + "/vhd"
        with open(path, "wb") as f:
            f.write(vhd)
        subprocess.run(["qemu-img", "check", "-f", "vpc", path], capture_output=True)
        subprocess.run(["qemu-img", "convert", "-f", "vpc", "-O", "raw", path, raw], check=True)
        with open(raw, "rb") as f:
            return f.read()

    def test_export(self):
        for size in 21 * MIB + 512, 512, 64 * MIB:
            data = sparse(max(size, 1024))[:size] if size < 64 * MIB else bytes(40 * MIB) + b"x" + bytes(24 * MIB - 1)
            vdi = self.vdi(size)
            self.put(vdi, data)
            status, headers, body = self.get(vdi, format="vhd")
            self.assertEqual((status, headers["content-length"]), (200, str(len(body))))
            self.assertEqual(self.unpack(body), data)
            status, headers, nothing = self.server.request("HEAD", self.path("export_raw_vdi", vdi, format="vhd"))
            self.assertEqual((status, headers["content-length"], nothing), (200, str(len(body)), b""))
        self.assertLess(len(body), 3 * MIB)

    def test_import(self):
        data = sparse(20 * MIB, 4)
        for kind in "dynamic", "fixed":
            with self.subTest(kind=kind):
                vhd = self.convert(data, "-o", f"subformat={kind},force_size=on")
                vdi = self.vdi(len(data))
                self.assertEqual(self.put(vdi, vhd, format="vhd")[0], 200)
                self.assertEqual(self.content(vdi), data)
                task = self.task()
                with self.upload(vdi, UNKNOWN, task_id=task, format="vhd") as c:
                    c.sendall(vhd)
                    self.assertEqual(c.recv(15), b"HTTP/1.1 200 OK")
                self.assertEqual(self.ended(task)["status"], "success")
                self.assertEqual(self.content(vdi), data)

    def test_there_and_back(self):
        data = sparse(9 * MIB, 5)
        a, b = self.vdi(len(data)), self.vdi(12 * MIB)
        self.put(a, data)
        self.assertEqual(self.put(b, self.get(a, format="vhd")[2], format="vhd")[0], 200)
        self.assertEqual(self.content(b), data + bytes(3 * MIB))

    def test_damage(self):
        data = sparse(6 * MIB, 6)
        vdi = self.vdi(len(data))
        self.put(vdi, data)
        vhd = bytearray(self.convert(bytes(6 * MIB - 1) + b"x", "-o", "subformat=dynamic,force_size=on"))
        for change, status in ((lambda v: v[:MIB], 400), (lambda v: v[:600] + b"?" + v[601:], 400),
                               (lambda v: v[:-512] + bytes(512), 400), (lambda v: os.urandom(5000), 400),
                               (lambda v: v[:1536] + b"\0\0\0\1" + v[1540:], 400), (lambda v: b"abc", 400)):
            self.assertEqual(self.put(vdi, bytes(change(vhd)), format="vhd")[0], status)
            self.assertEqual(self.content(vdi), data)
        larger = self.convert(bytes(8 * MIB), "-o", "subformat=dynamic,force_size=on")
        status, _, body = self.put(vdi, larger, format="vhd")
        self.assertEqual((status, body[:13]), (400, b"VDI_TOO_SMALL"))
        self.assertEqual(self.leftovers(), [])


class Full(Transfers):
    def test_full_repository(self):
        place = tempfile.mkdtemp(prefix="xenapid-full.")
        os.chmod(place, 0o777)
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m,mode=777", "tmpfs", place], capture_output=True)
        if mounted.returncode:
            shutil.rmtree(place)
            self.skipTest("no file system can be mounted here")
        try:
            host = self.call("host.get_all")[0]
            sr = self.call("SR.create", host, {"location": place + "/sr"}, 0, "small", "", "file", "", False, {})
            before = os.urandom(2 * MIB)
            vdi = self.call("VDI.create", {"name_label": "t", "SR": sr, "virtual_size": 64 * MIB, "type": "user",
                                           "sharable": False, "read_only": False, "other_config": {}})
            self.assertEqual(self.put(vdi, before)[0], 200)
            task = self.task()
            try:
                status = self.put(vdi, os.urandom(64 * MIB), task_id=task)[0]
            except OSError:
                status = 507  # the answer came while the body was being sent
            self.assertEqual(status, 507)
            self.assertEqual(self.ended(task)["error_info"][0], "SR_FULL")
            self.assertEqual(self.content(vdi)[:2 * MIB], before)
            self.call("VDI.destroy", vdi)
            for pbd in self.call("SR.get_PBDs", sr):
                self.call("PBD.unplug", pbd)
        finally:
            subprocess.run(["umount", "-l", place])
            shutil.rmtree(place, ignore_errors=True)


class Killed(Transfers):
    """A process dies in the middle: the image is what it was, the task says that it failed."""
    allow_crash = True

    def half(self, victim):
        before = sparse(8 * MIB)
        vdi = self.vdi(len(before))
        self.put(vdi, before)
        task = self.task()
        with self.upload(vdi, 8 * MIB, task_id=task) as c:
            c.sendall(os.urandom(5 * MIB))
            Raw.wait_busy(self, vdi)
            time.sleep(0.3)
            os.kill(self.server.pid_of(victim), signal.SIGKILL)
            try:
                c.sendall(os.urandom(3 * MIB))
                c.recv(100)
            except OSError:
                pass
        return vdi, task, before

    def test_backend(self):
        vdi, task, before = self.half("xenapid-sim")
        self.assertEqual(self.ended(task)["status"], "failure")
        self.assert_free(vdi)
        deadline = time.monotonic() + 20
        while self.get(vdi)[0] != 200:  # until the storage is attached again
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.1)
        self.assertEqual(self.content(vdi), before)
        self.call("SR.scan", self.sr)
        self.assertEqual(self.leftovers(), [])

    def test_front(self):
        vdi, task, before = self.half("xenapid-front")
        deadline = time.monotonic() + 30
        while True:
            try:
                type(self).s = self.server.login()
                type(self).call = self.s.call
                break
            except (OSError, Failure, http.client.HTTPException):
                self.assertLess(time.monotonic(), deadline)
                time.sleep(0.1)
        self.ready()
        self.assert_free(vdi)
        self.assertEqual(self.content(vdi), before)
        try:
            self.assertEqual(self.call("task.get_status", task), "failure")
        except Failure as f:  # tasks need not outlive the front
            self.assertEqual(f.code, "HANDLE_INVALID")


if __name__ == "__main__":
    unittest.main()
