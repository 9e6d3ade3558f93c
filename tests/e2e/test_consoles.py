"""Consoles: CONNECT and WebSocket to a simulated guest's login prompt and screen."""
import base64
import hashlib
import os
import socket
import struct
import time
import unittest
import zlib

from harness import Failure, Server, basic, no_verify

NULL = "OpaqueRef:NULL"


class WebSocket:
    """A client, as small as can be."""

    def __init__(self, sock, path, headers=(), protocol="binary"):
        self.sock, self.rest = sock, b""
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [f"GET {path} HTTP/1.1", "Host: test", "Upgrade: websocket", "Connection: Upgrade",
                 f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13", *headers]
        if protocol:
            lines.append(f"Sec-WebSocket-Protocol: {protocol}")
        sock.sendall("\r\n".join(lines + ["", ""]).encode())
        head = b""
        while b"\r\n\r\n" not in head:
            data = sock.recv(4096)
            if not data:
                break
            head += data
        self.head, _, self.rest = head.partition(b"\r\n\r\n")
        self.status = int(self.head.split()[1])
        digest = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
        self.accepted = f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode()}".encode() in self.head

    def _take(self, n):
        while len(self.rest) < n:
            data = self.sock.recv(65536)
            if not data:
                raise EOFError
            self.rest += data
        out, self.rest = self.rest[:n], self.rest[n:]
        return out

    def frame(self):
        """(opcode, payload)"""
        a, b = self._take(2)
        n = b & 127
        if n == 126:
            n, = struct.unpack(">H", self._take(2))
        elif n == 127:
            n, = struct.unpack(">Q", self._take(8))
        return a & 15, self._take(n)

    def send(self, data, opcode=2, fin=True, masked=True, split=0):
        mask = os.urandom(4)
        n = len(data)
        head = bytes([(128 if fin else 0) | opcode])
        bit = 128 if masked else 0
        head += bytes([bit | n]) if n < 126 else bytes([bit | 126]) + struct.pack(">H", n)
        body = bytes(c ^ mask[i % 4] for i, c in enumerate(data)) if masked else data
        whole = head + (mask if masked else b"") + body
        for i in range(0, len(whole), split or len(whole)):
            self.sock.sendall(whole[i:i + (split or len(whole))])

    def read_until(self, text):
        got = b""
        while text not in got:
            opcode, data = self.frame()
            assert opcode == 2, opcode
            got += data
        return got


def take(s, n):
    """So many bytes, or what there is before the end."""
    got = b""
    while len(got) < n and (data := s.recv(n - len(got))):
        got += data
    return got


class Consoles(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(users={"root": "secret"}, conf={"daemon": {"cors-origins": "https://good.example"}}).start()
        cls.s = cls.server.login()
        cls.call = cls.s.call
        cls.text, cls.screen = cls.vm("text", ""), cls.vm("screen", "BIOS order")

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()
        cls.server.clean()

    @classmethod
    def vm(cls, name, policy):
        mib = 1 << 20
        vm = cls.call("VM.create", {
            "name_label": name, "name_description": "", "user_version": 1, "is_a_template": False, "affinity": NULL,
            "memory_static_max": 64 * mib, "memory_dynamic_max": 64 * mib, "memory_dynamic_min": 64 * mib,
            "memory_static_min": 16 * mib, "VCPUs_params": {}, "VCPUs_max": 1, "VCPUs_at_startup": 1,
            "actions_after_shutdown": "destroy", "actions_after_reboot": "restart", "actions_after_crash": "destroy",
            "PV_bootloader": "", "PV_kernel": "" if policy else "/boot/vmlinuz", "PV_ramdisk": "", "PV_args": "",
            "PV_bootloader_args": "", "PV_legacy_args": "", "HVM_boot_policy": policy,
            "HVM_boot_params": {"order": "cdn"} if policy else {}, "platform": {}, "PCI_bus": "", "other_config": {},
            "recommendations": ""})
        cls.call("VM.start", vm, False, False)
        return vm

    def console(self, vm):
        return self.call("console.get_record", self.call("VM.get_consoles", vm)[0])

    def socket(self, kind="http"):
        if kind == "unix":
            s = socket.socket(socket.AF_UNIX)
            s.settimeout(20)
            s.connect(self.server.socket_path)
            return s
        s = socket.create_connection(("127.0.0.1", self.server.port if kind == "https" else self.server.http_port), 20)
        return no_verify().wrap_socket(s) if kind == "https" else s

    def connect(self, query, kind="http", headers=""):
        """(status, socket, what came after the head) of a CONNECT."""
        s = self.socket(kind)
        s.sendall(f"CONNECT /console?{query} HTTP/1.0\r\nHost: x\r\n{headers}\r\n".encode())
        got = b""
        while b"\r\n\r\n" not in got:
            data = s.recv(4096)
            if not data:
                break
            got += data
        head, _, rest = got.partition(b"\r\n\r\n")
        return int(head.split()[1]), s, rest

    def expect(self, s, text, got=b""):
        while text not in got:
            data = s.recv(4096)
            self.assertTrue(data, got)
            got += data
        return got

    def test_records(self):
        for vm, protocol in (self.text, "vt100"), (self.screen, "rfb"):
            record = self.console(vm)
            self.assertEqual(record["protocol"], protocol)
            self.assertTrue(record["location"].endswith("/console?uuid=" + record["uuid"]))

    def test_text_by_connect(self):
        uuid = self.console(self.text)["uuid"]
        for kind in "http", "https", "unix":
            for query in (f"uuid={uuid}", f"ref={self.call('VM.get_consoles', self.text)[0]}", f"ref={self.text}",
                          f"uuid={self.call('VM.get_uuid', self.text)}"):
                with self.subTest(kind=kind, query=query):
                    status, s, rest = self.connect(f"{query}&session_id={self.s.ref}", kind)
                    self.assertEqual(status, 200)
                    self.expect(s, b"text login: ", rest)
                    s.sendall(b"root\r")
                    self.assertIn(b"root\r\nLogin incorrect", self.expect(s, b"text login: "))
                    s.close()

    def test_screen_by_connect(self):
        status, s, rest = self.connect(f"ref={self.screen}", headers=f"Cookie: session_id={self.s.ref}\r\n")
        self.assertEqual(status, 200)
        self.expect(s, b"RFB 003.008\n", rest)
        s.sendall(b"RFB 003.008\n")
        self.assertEqual(take(s, 2), b"\x01\x01")
        s.sendall(b"\x01")
        self.assertEqual(take(s, 4), bytes(4))
        s.sendall(b"\x01")
        width, height = struct.unpack(">HH", take(s, 24)[:4])
        self.assertEqual(take(s, 6), b"screen")
        s.sendall(struct.pack(">BBHHHH", 3, 0, 0, 0, width, height))
        picture = take(s, 16 + width * height * 4)
        self.assertEqual(len(picture), 16 + width * height * 4)
        s.close()

    def test_picture(self):
        def ask(query, headers=None):
            return self.server.request("GET", f"/vncsnapshot?session_id={self.s.ref}&{query}", headers=headers)
        for query in f"ref={self.screen}", f"uuid={self.console(self.screen)['uuid']}":
            status, headers, png = ask(query)
            self.assertEqual((status, headers["content-type"], png[:8]), (200, "image/png", b"\x89PNG\r\n\x1a\n"))
            chunks, at = {}, 8
            while at < len(png):
                n, kind = struct.unpack(">I4s", png[at:at + 8])
                chunks[kind] = png[at + 8:at + 8 + n]
                self.assertEqual(png[at + 8 + n:at + 12 + n],
                                 struct.pack(">I", zlib.crc32(kind + chunks[kind])))
                at += 12 + n
            self.assertEqual(list(chunks), [b"IHDR", b"IDAT", b"IEND"])
            width, height, *kind = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
            self.assertEqual((width, height, kind), (64, 48, [8, 2, 0, 0, 0]))
            row = b"\0" + b"\x40" * 3 * width
            self.assertEqual(zlib.decompress(chunks[b"IDAT"]), row * height)
        status, _, text = ask(f"ref={self.text}")
        self.assertEqual((status, text[:21]), (409, b"OPERATION_NOT_ALLOWED"))
        self.assertEqual(ask("ref=OpaqueRef:none")[0], 404)
        self.assertEqual(self.server.request("GET", f"/vncsnapshot?ref={self.screen}")[0], 401)
        task = self.call("task.create", "picture", "")
        self.assertEqual(ask(f"ref={self.screen}&task_id={task}")[0], 200)
        self.assertEqual(self.s.wait(task)["status"], "success")

    def test_websocket(self):
        path = f"/console?uuid={self.console(self.text)['uuid']}"
        for kind in "http", "https":
            with self.subTest(kind=kind), self.socket(kind) as s:
                w = WebSocket(s, path, [f"Cookie: session_id={self.s.ref}"])
                self.assertEqual(w.status, 101)
                self.assertTrue(w.accepted)
                self.assertIn(b"Sec-WebSocket-Protocol: binary", w.head)
                w.read_until(b"text login: ")
                w.send(b"ro", fin=False)
                w.send(b"ping", opcode=9)
                w.send(b"ot\r", opcode=0, split=1)
                got = b""
                pong = None
                while b"login: " not in got:
                    opcode, data = w.frame()
                    if opcode == 10:
                        pong = data
                    else:
                        got += data
                self.assertEqual(pong, b"ping")
                self.assertIn(b"root\r\nLogin incorrect", got)
                w.send(b"x" * 3000)
                w.read_until(b"x" * 100)
                w.send(struct.pack(">H", 1000), opcode=8)
                while True:
                    opcode, data = w.frame()
                    if opcode == 8:
                        break
                self.assertEqual(s.recv(1), b"")

    def test_websocket_without_a_protocol(self):
        with self.socket() as s:
            w = WebSocket(s, f"/console?ref={self.text}&session_id={self.s.ref}", protocol=None)
            self.assertEqual(w.status, 101)
            self.assertNotIn(b"Sec-WebSocket-Protocol", w.head)
            w.read_until(b"login: ")
            w.send(b"x", masked=False)  # clients must mask
            self.assertEqual(w.frame()[0], 8)

    def test_refusals(self):
        uuid = self.console(self.text)["uuid"]
        self.assertEqual(self.connect(f"uuid={uuid}")[0], 401)
        self.assertEqual(self.connect(f"uuid={uuid}&session_id=OpaqueRef:none")[0], 401)
        self.assertEqual(self.connect(f"uuid=none&session_id={self.s.ref}")[0], 404)
        self.assertEqual(self.connect(f"session_id={self.s.ref}")[0], 400)
        status, headers, _ = self.server.request("GET", f"/console?uuid={uuid}&session_id={self.s.ref}")
        self.assertEqual((status, headers["upgrade"]), (426, "websocket"))

    def test_roles(self):
        server = Server(users={"root": "secret", "reader": "r"}).start()
        try:
            s = server.login()
            roles = {r["name_label"]: ref for ref, r in s.call("role.get_all_records").items()}
            subject = s.call("subject.create", {"subject_identifier": "u:reader", "other_config": {"subject-name": "reader"}})
            for role in s.call("subject.get_roles", subject):
                s.call("subject.remove_from_roles", subject, role)
            s.call("subject.add_to_roles", subject, roles["read-only"])
            reader = server.login("reader")
            status, _, _ = server.request("CONNECT", f"/console?uuid=x&session_id={reader.ref}")
            self.assertEqual(status, 403)
        finally:
            server.stop()
            server.clean()

    def test_pages_of_others(self):
        path = f"/console?ref={self.text}"
        cookie = f"Cookie: session_id={self.s.ref}"
        for origin, status in (("https://evil.example", 403), ("https://good.example", 101), ("https://test", 101)):
            with self.subTest(origin=origin), self.socket() as s:
                self.assertEqual(WebSocket(s, path, [cookie, f"Origin: {origin}"]).status, status)
        with self.socket() as s:  # who knows the session says so
            self.assertEqual(WebSocket(s, f"{path}&session_id={self.s.ref}", ["Origin: https://evil.example"]).status, 101)

    def test_several_viewers_and_the_end_of_the_vm(self):
        vm = self.vm("short", "")
        viewers = [self.connect(f"ref={vm}&session_id={self.s.ref}", k) for k in ("http", "https", "http")]
        w = WebSocket(self.socket(), f"/console?ref={vm}&session_id={self.s.ref}")
        for status, s, rest in viewers:
            self.assertEqual(status, 200)
            self.expect(s, b"short login: ", rest)
        w.read_until(b"login: ")
        self.call("VM.hard_shutdown", vm)
        start = time.monotonic()
        for _, s, _ in viewers:
            while s.recv(4096):
                pass
            s.close()
        with self.assertRaises(EOFError):
            while True:
                w.frame()
        w.sock.close()
        self.assertLess(time.monotonic() - start, 5)
        self.assertEqual(self.connect(f"ref={vm}&session_id={self.s.ref}")[0], 404)

    def test_stopping_does_not_wait_for_viewers(self):
        server = Server(users={"root": "secret"}, conf={"sim": {"vms": 1}, "daemon": {"stop-timeout": 20}}).start()
        try:
            s = server.login()
            vm = next(r for r, v in s.call("VM.get_all_records").items() if not v["is_control_domain"])
            if s.call("VM.get_power_state", vm) != "Running":
                s.call("VM.start", vm, False, False)
            c = socket.create_connection(("127.0.0.1", server.http_port), 20)
            c.sendall(f"CONNECT /console?ref={vm}&session_id={s.ref} HTTP/1.0\r\n\r\n".encode())
            self.assertEqual(c.recv(15), b"HTTP/1.1 200 OK")
            start = time.monotonic()
            server.stop()
            self.assertLess(time.monotonic() - start, 10)
            c.close()
        finally:
            server.stop()
            server.clean()


if __name__ == "__main__":
    unittest.main()
