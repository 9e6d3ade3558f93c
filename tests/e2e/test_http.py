"""HTTP as clients speak it, well and badly: connections, encodings, limits, TLS, and what is there beside the calls."""
import concurrent.futures
import gzip
import http.client
import json
import os
import socket
import ssl
import subprocess
import threading
import time
import unittest
import xmlrpc.client

from harness import Server, basic, no_verify

LIST = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "system.listMethods", "params": []}).encode()
XML = xmlrpc.client.dumps((), "system.listMethods").encode()
WRONG = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "VM.get_all", "params": ["OpaqueRef:nobody"]}).encode()


def setUpModule():
    global server, tight
    server = Server(conf={"sim": {"vms": 400}, "limits": {"body-size": "2M"}, "daemon": {"stop-timeout": 3}}).start()
    tight = Server(conf={"limits": {"header-timeout": 1, "body-timeout": 2, "idle-timeout": 2, "connections": 60,
                                    "connections-per-address": 20},
                         "daemon": {"cors-origins": "https://good.example;https://fine.example"}}).start()


def tearDownModule():
    for s in (server, tight):
        try:
            s.stop()
        except AssertionError:
            s.print_log()
            raise
        finally:
            s.clean()


def raw(data, s=None, kind="http", timeout=10):
    """Sends bytes and reads until the other end closes."""
    s = s or server
    with connect(s, kind, timeout) as c:
        c.sendall(data)
        return read_all(c)


def connect(s, kind="http", timeout=10):
    c = socket.create_connection(("127.0.0.1", s.port if kind == "https" else s.http_port), timeout)
    return no_verify().wrap_socket(c) if kind == "https" else c


def read_all(c):
    parts = []
    try:
        while data := c.recv(65536):
            parts.append(data)
    except ConnectionResetError:
        pass
    return b"".join(parts)


def seconds_until_cut(c):
    start = time.monotonic()
    read_all(c)
    return time.monotonic() - start


class Requests(unittest.TestCase):
    def test_keep_alive(self):
        for kind in ("http", "https", "unix"):
            c = server.connection(kind)
            c.connect()
            first = c.sock
            for _ in range(5):
                c.request("POST", "/jsonrpc", LIST)
                r = c.getresponse()
                self.assertEqual(r.status, 200)
                self.assertIn("VM.start", json.loads(r.read())["result"])
                self.assertIs(c.sock, first)
            c.close()

    def test_content_types_are_exact(self):
        _, headers, _ = server.request("POST", "/jsonrpc", LIST)
        self.assertEqual(headers["Content-Type"], "application/json")
        _, headers, _ = server.request("POST", "/", XML)
        self.assertEqual(headers["Content-Type"], "text/xml")

    def test_api_failures_are_200(self):
        status, _, body = server.request("POST", "/jsonrpc", WRONG)
        self.assertEqual(status, 200)
        self.assertEqual(json.loads(body)["error"]["message"], "SESSION_INVALID")

    def test_only_notifications_are_204(self):
        body = json.dumps({"jsonrpc": "2.0", "method": "system.listMethods", "params": []})
        status, _, answer = server.request("POST", "/jsonrpc", body)
        self.assertEqual((status, answer), (204, b""))

    def test_paths(self):
        for path in ("/jsonrpc", "/jsonrpc/", "/json", "/json/", "/jsonrpc?a=b", "/%6asonrpc"):
            self.assertEqual(server.request("POST", path, LIST)[1]["Content-Type"], "application/json", path)
        for path in ("/", "/RPC2", "/RPC2/", "/xmlrpc", "/no/such/thing", "/jsonrpc/x", "/jsonrpcs", "/?x=1", "//"):
            status, headers, _ = server.request("POST", path, XML)
            self.assertEqual((status, headers["Content-Type"]), (200, "text/xml"), path)

    def test_headers_that_clients_leave_out(self):
        answer = raw(b"POST /jsonrpc HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(LIST) + LIST)
        self.assertTrue(answer.startswith(b"HTTP/1.1 200 "), answer[:100])

    def test_expect_continue(self):
        with connect(server) as c:
            c.sendall(b"POST /jsonrpc HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nConnection: close\r\n"
                      b"Content-Length: %d\r\n\r\n" % len(LIST))
            self.assertTrue(c.recv(100).startswith(b"HTTP/1.1 100 "))
            c.sendall(LIST)
            self.assertIn(b"HTTP/1.1 200 ", read_all(c))

    def test_expect_continue_of_too_much(self):
        with connect(server) as c:
            c.sendall(b"POST /jsonrpc HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 99999999\r\n\r\n")
            self.assertTrue(read_all(c).startswith(b"HTTP/1.1 413 "))

    def test_chunked_body(self):
        def parts():
            for i in range(0, len(LIST), 7):
                yield LIST[i:i + 7]
        c = server.connection()
        for _ in range(2):
            c.request("POST", "/jsonrpc", parts(), encode_chunked=True, headers={"Transfer-Encoding": "chunked"})
            self.assertIn("result", json.loads(c.getresponse().read()))
        c.close()

    def test_bytes_one_by_one(self):
        with connect(server) as c:
            for b in b"POST /json HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(LIST) + LIST:
                c.sendall(bytes([b]))
            self.assertIn(b"HTTP/1.1 200 ", read_all(c))

    def test_http_1_0(self):
        answer = raw(b"POST /jsonrpc HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(LIST) + LIST)
        self.assertIn(b" 200 ", answer.split(b"\r\n")[0])
        self.assertIn(b"VM.start", answer)
        with connect(server) as c:
            for _ in range(2):
                c.sendall(b"POST /json HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: %d\r\n\r\n" % len(WRONG) + WRONG)
                answer = b""
                while b"SESSION_INVALID" not in answer:
                    part = c.recv(65536)
                    self.assertTrue(part)
                    answer += part

    def test_pipelined(self):
        one = b"POST /jsonrpc HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(WRONG) + WRONG
        last = one.replace(b"Host: x\r\n", b"Host: x\r\nConnection: close\r\n")
        self.assertEqual(raw(one * 3 + last).count(b"SESSION_INVALID"), 4)

    def test_head_and_get(self):
        status, headers, body = server.request("GET", "/")
        self.assertEqual(status, 200)
        self.assertIn(b"xenapid", body)
        status, head, nothing = server.request("HEAD", "/")
        self.assertEqual((status, nothing, head["Content-Length"]), (200, b"", headers["Content-Length"]))
        self.assertEqual(server.request("GET", "/no/such/thing")[0], 404)

    def test_methods(self):
        for method, path, status in (("PUT", "/", 405), ("DELETE", "/jsonrpc", 405), ("PUT", "/api-reference.json", 405),
                                     ("BREW", "/", 501)):
            got, headers, _ = server.request(method, path)
            self.assertEqual(got, status, method)
            if status == 405:
                self.assertIn("POST", headers["Allow"])

    def test_a_long_upload_to_nowhere_is_cut(self):
        with connect(server) as c:
            c.sendall(b"PUT /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 1125899906842624\r\n\r\n")
            self.assertTrue(read_all(c).startswith(b"HTTP/1.1 405 "))

    def test_garbage(self):
        for data in (b"\0\1\2\3\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 600, b"GET\r\n\r\n",
                     b"POST / HTTP/1.1\r\n" + b"a" * 100000 + b"\r\n\r\n", b"POST / HTTP/9.9\r\n\r\n",
                     b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
                     b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n",
                     b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"):
            with connect(tight) as c:
                c.sendall(data)
                answer = read_all(c)
                self.assertFalse(answer.startswith(b"HTTP/1.1 200 "), data[:40])
        with socket.create_connection(("127.0.0.1", server.port), 10) as c:
            c.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            read_all(c)
        self.assertEqual(server.request("GET", "/", kind="https")[0], 200)

    def test_bodies_that_are_no_calls(self):
        for path, body in (("/jsonrpc", b""), ("/", b""), ("/jsonrpc", b"\xff\xfe"), ("/", b"\0" * 1000), ("/", b"<a>")):
            status, _, answer = server.request("POST", path, body)
            self.assertEqual(status, 200, (path, body))
            self.assertTrue(answer)

    def test_parallel_connections(self):
        session = server.login()
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "pool.get_all", "params": [session.ref]})
        connections = [server.connection("https" if i % 4 == 0 else "http") for i in range(200)]
        for c in connections:
            c.connect()

        def calls(c):
            for _ in range(5):
                c.request("POST", "/jsonrpc", body)
                answer = json.loads(c.getresponse().read())
                if len(answer["result"]) != 1:
                    return answer
            return "good"
        with concurrent.futures.ThreadPoolExecutor(40) as pool:
            self.assertEqual(set(map(str, pool.map(calls, connections))), {"good"})
        for c in connections:
            c.close()


class Compression(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.session = server.login()

    def ask(self, method, encoding, kind="http"):
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": [self.session.ref]})
        return server.request("POST", "/jsonrpc", body, {"Accept-Encoding": encoding} if encoding else {}, kind=kind)

    def check(self, method, least, most):
        for kind in ("http", "https"):
            _, headers, plain = self.ask(method, None, kind)
            self.assertNotIn("Content-Encoding", headers)
            self.assertEqual(headers["Vary"], "Accept-Encoding")
            self.assertGreater(len(plain), least)
            self.assertLess(len(plain), most)
            _, headers, packed = self.ask(method, "deflate, gzip;q=0.5", kind)
            self.assertEqual((headers["Content-Encoding"], headers["Vary"]), ("gzip", "Accept-Encoding"))
            self.assertLess(len(packed), len(plain) / 2)
            self.assertEqual(json.loads(gzip.decompress(packed)), json.loads(plain))

    def test_at_once(self):
        self.check("VM.get_all", 4096, 1024 * 1024)

    def test_streamed(self):
        self.check("VM.get_all_records", 1024 * 1024, 64 * 1024 * 1024)

    def test_streamed_to_http_1_0(self):
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "VM.get_all_records", "params": [self.session.ref]}).encode()
        answer = raw(b"POST /jsonrpc HTTP/1.0\r\nAccept-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        head, packed = answer.split(b"\r\n\r\n", 1)
        self.assertNotIn(b"chunked", head)
        self.assertEqual(len(json.loads(gzip.decompress(packed))["result"]), 401)

    def test_who_does_not_want_it(self):
        for encoding in ("identity", "gzip;q=0", "gzip; q=0.0, deflate", "*;q=0", "br"):
            self.assertNotIn("Content-Encoding", self.ask("VM.get_all", encoding)[1], encoding)
        self.assertEqual(self.ask("VM.get_all", "*")[1]["Content-Encoding"], "gzip")

    def test_not_where_it_costs_more_than_it_saves(self):
        self.assertNotIn("Content-Encoding", self.ask("VM.get_all_records", "gzip", "unix")[1])
        self.assertNotIn("Content-Encoding", self.ask("pool.get_all", "gzip")[1])

    def test_python_asks_for_it_by_itself(self):
        proxy = xmlrpc.client.ServerProxy(server.url("http"))
        self.assertEqual(len(proxy.VM.get_all_records(self.session.ref)["Value"]), 401)
        proxy("close")()


class Origins(unittest.TestCase):
    def options(self, s, origin, path="/jsonrpc"):
        headers = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
        if origin:
            headers["Origin"] = origin
        status, headers, _ = s.request("OPTIONS", path, headers=headers)
        self.assertEqual(status, 200)
        self.assertIn("POST", headers["Allow"])
        return headers

    def test_preflight(self):
        for path in ("/", "/jsonrpc", "/anything"):
            headers = self.options(tight, "https://fine.example", path)
            self.assertEqual(headers["Access-Control-Allow-Origin"], "https://fine.example")
            self.assertIn("POST", headers["Access-Control-Allow-Methods"])
            self.assertEqual(headers["Access-Control-Allow-Headers"], "content-type")
            self.assertIn("Access-Control-Max-Age", headers)
            self.assertEqual(headers["Vary"], "Origin")

    def test_others(self):
        for origin in (None, "https://evil.example", "https://good.example.evil"):
            self.assertNotIn("Access-Control-Allow-Origin", self.options(tight, origin))

    def test_any(self):
        self.assertEqual(self.options(server, "https://who.ever")["Access-Control-Allow-Origin"], "*")

    def test_answers(self):
        for origin, allowed in (("https://good.example", "https://good.example"), ("https://evil.example", None)):
            _, headers, _ = tight.request("POST", "/jsonrpc", WRONG, {"Origin": origin})
            self.assertEqual(headers["Access-Control-Allow-Origin"], allowed)


class Limits(unittest.TestCase):
    def post(self, body, s=None):
        return (s or server).request("POST", "/jsonrpc", body)[0]

    def call_of(self, size, ref):
        return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "VM.get_all", "params": [ref, "x" * size]})

    def test_body_before_login(self):
        self.assertEqual(self.post(self.call_of(60000, "")), 200)
        self.assertEqual(self.post(self.call_of(70000, "")), 413)
        self.assertEqual(self.post(self.call_of(500000, "OpaqueRef:00000000-0000-0000-0000-000000000000")), 413)

    def test_body_after_login(self):
        session = server.login()
        self.assertEqual(self.post(self.call_of(1900000, session.ref)), 200)
        self.assertEqual(self.post(self.call_of(2100000, session.ref)), 413)
        session.logout()
        self.assertEqual(self.post(self.call_of(1000000, session.ref)), 413)

    def test_body_without_end(self):
        for kind in ("http", "https"):
            with connect(server, kind) as c:
                c.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
                sent = 0
                try:
                    while sent < 64 * 1024 * 1024:
                        c.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")
                        sent += 65536
                except OSError:
                    pass
                self.assertLess(sent, 16 * 1024 * 1024)

    def test_large_header(self):
        self.assertEqual(server.request("GET", "/", headers={"X-A": "a" * 8000})[0], 200)
        self.assertIn(server.request("GET", "/", headers={"X-A": "a" * 40000})[0], (413, 414, 431))

    def test_no_header(self):
        with connect(tight) as c:
            self.assertLess(seconds_until_cut(c), 5)
        with socket.create_connection(("127.0.0.1", tight.port), 10) as c:
            self.assertLess(seconds_until_cut(c), 5)

    def test_slow_header(self):
        with connect(tight) as c:
            start = time.monotonic()
            with self.assertRaises(OSError):
                for b in b"POST / HTTP/1.1\r\nX: " + b"y" * 1000:
                    c.sendall(bytes([b]))
                    time.sleep(0.1)
            self.assertLess(time.monotonic() - start, 6)

    def test_slow_header_on_a_used_connection(self):
        c = tight.connection()
        c.request("GET", "/")
        c.getresponse().read()
        c.sock.sendall(b"POST / HTTP/1.1\r\n")
        self.assertLess(seconds_until_cut(c.sock), 6)
        c.close()

    def test_slow_body(self):
        with connect(tight) as c:
            c.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n")
            start = time.monotonic()
            with self.assertRaises(OSError):
                for _ in range(200):
                    c.sendall(b"x")
                    time.sleep(0.1)
            self.assertLess(time.monotonic() - start, 7)

    def test_idle(self):
        c = tight.connection()
        c.request("GET", "/")
        c.getresponse().read()
        took = seconds_until_cut(c.sock)
        self.assertGreater(took, 1.5)
        self.assertLess(took, 6)
        c.close()

    def test_a_waiting_call_is_not_idle(self):
        session = tight.login()
        start = time.monotonic()
        token = session.call("event.from", ["pool"], "", 1.0)["token"]
        self.assertEqual(session.call("event.from", ["pool"], token, 5.0)["events"], [])
        self.assertGreater(time.monotonic() - start, 4)

    def test_connections_of_one_address(self):
        time.sleep(0.2)
        open_ones = []
        try:
            for _ in range(30):
                c = tight.connection(timeout=5)
                try:
                    c.request("GET", "/")
                    if c.getresponse().read():
                        open_ones.append(c)
                except (OSError, http.client.HTTPException):
                    c.close()
            self.assertLessEqual(len(open_ones), 20)
            self.assertGreaterEqual(len(open_ones), 17)
            self.assertEqual(tight.request("GET", "/", kind="unix")[0], 200)
        finally:
            for c in open_ones:
                c.close()
        time.sleep(0.2)
        self.assertEqual(tight.request("GET", "/")[0], 200)


def front_descriptors(s):
    return len(os.listdir(f"/proc/{s.pid_of('xenapid-front')}/fd"))


class Waiting(unittest.TestCase):
    def wait_on(self, session, kind="http", seconds=60.0):
        """A connection on which event.from waits."""
        token = session.call("event.from", ["pool"], "", 1.0)["token"]
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "event.from",
                           "params": [session.ref, ["pool"], token, seconds]}).encode()
        c = connect(server, kind)
        c.sendall(b"POST /jsonrpc HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        return c

    def test_client_goes_away(self):
        session = server.login()
        before = front_descriptors(server)
        waiting = [self.wait_on(session, "https" if i % 2 else "http") for i in range(20)]
        time.sleep(0.3)
        self.assertGreaterEqual(front_descriptors(server), before + 20)
        for c in waiting:
            c.close()
        deadline = time.monotonic() + 5
        while front_descriptors(server) > before and time.monotonic() < deadline:
            time.sleep(0.1)
        self.assertLessEqual(front_descriptors(server), before)

    def test_others_go_on(self):
        session = server.login()
        waiting = [self.wait_on(session) for _ in range(50)]
        start = time.monotonic()
        for _ in range(50):
            self.assertEqual(server.request("GET", "/")[0], 200)
        self.assertLess(time.monotonic() - start, 5)
        pool = session.call("pool.get_all")[0]
        session.call("pool.set_name_description", pool, f"test {time.time()}")
        for c in waiting:
            answer = c.recv(65536)
            self.assertTrue(answer.startswith(b"HTTP/1.1 200 "))
            c.close()

    def test_answers_that_come_at_once_or_late(self):
        """The reply comes just as the connection is suspended, again and again."""
        session = server.login()
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            token = session.call("event.from", ["pool"], "", 1.0)["token"]

            def ask(i):
                body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "event.from",
                                   "params": [session.ref, ["pool"], token, i % 4 * 0.001]})
                return server.request("POST", "/jsonrpc", body)[0]
            self.assertEqual(set(pool.map(ask, range(400))), {200})


class Who(unittest.TestCase):
    """A route that needs to know its client."""
    PATH = "/api-reference.json"

    def status(self, path=PATH, **more):
        status, headers, body = server.request("GET", path, **more)
        if status == 200:
            self.assertIn("VM", body.decode())
        else:
            self.assertLess(len(body), 200)
        return status

    def test_nobody(self):
        status, headers, _ = server.request("GET", self.PATH)
        self.assertEqual(status, 401)
        self.assertIn("Basic", headers["WWW-Authenticate"])

    def test_session(self):
        session = server.login()
        quoted = session.ref.replace(":", "%3A")
        for path in (self.PATH, self.PATH + "/"):
            self.assertEqual(self.status(f"{path}?session_id={session.ref}"), 200)
            self.assertEqual(self.status(f"{path}?a=b&session_id={quoted}&c"), 200)
            self.assertEqual(self.status(path, headers={"Cookie": f"a=b; session_id={session.ref}"}), 200)
        self.assertEqual(self.status(f"{self.PATH}?session_id={session.ref}", kind="https"), 200)
        session.logout()
        self.assertEqual(self.status(f"{self.PATH}?session_id={session.ref}"), 401)
        self.assertEqual(self.status(headers={"Cookie": f"session_id={session.ref}"}), 401)

    def test_basic(self):
        ended = "ended: logged out"
        before = server.log().count(ended)
        self.assertEqual(self.status(headers=basic("root", "secret")), 200)
        deadline = time.monotonic() + 5
        while server.log().count(ended) == before and time.monotonic() < deadline:
            time.sleep(0.02)
        self.assertEqual(server.log().count(ended), before + 1)
        self.assertEqual(self.status(headers=basic("root", "wrong")), 401)
        for value in ("Basic", "Basic !!!", "Basic cm9vdA==", "Bearer x", "Basic " + "A" * 2000):
            self.assertEqual(self.status(headers={"Authorization": value}), 401, value)

    def test_basic_client_goes_away(self):
        for i in range(20):
            with connect(server) as c:
                auth = basic("root", "secret" if i % 2 else "wrong")["Authorization"]
                c.sendall(f"GET {self.PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: {auth}\r\n\r\n".encode())
        time.sleep(1.5)
        self.assertEqual(self.status(headers=basic("root", "secret")), 200)

    @unittest.skipIf(os.getuid() != 0, "only root needs no password")
    def test_root_on_the_unix_socket(self):
        self.assertEqual(self.status(kind="unix"), 200)

    def test_head(self):
        session = server.login()
        status, headers, body = server.request("HEAD", f"{self.PATH}?session_id={session.ref}")
        self.assertEqual((status, body), (200, b""))
        self.assertEqual(headers["Content-Type"], "application/json")


def self_signed(directory, name, cn):
    """A pair of files that the front may read."""
    cert, key = os.path.join(directory, name + ".pem"), os.path.join(directory, name + ".key")
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={cn}", "-days", "2",
                    "-keyout", key, "-out", cert], check=True, capture_output=True)
    os.chmod(key, 0o644)
    return cert, key


class Tls(unittest.TestCase):
    def handshake(self, s=None, **settings):
        context = no_verify()
        for name, value in settings.items():
            if name == "ciphers":
                context.set_ciphers(value)
            elif name == "alpn":
                context.set_alpn_protocols(value)
            else:
                setattr(context, name, value)
        with socket.create_connection(("127.0.0.1", (s or server).port), 10) as c, context.wrap_socket(c) as t:
            return t.version(), t.cipher()[0], t.selected_alpn_protocol(), t.getpeercert(True)

    def test_versions(self):
        self.assertEqual(self.handshake()[0], "TLSv1.3")
        two = ssl.TLSVersion.TLSv1_2
        for cipher in ("ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384"):
            self.assertEqual(self.handshake(maximum_version=two, ciphers=cipher)[:2], ("TLSv1.2", cipher))
        for old in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
            with self.assertRaises((ssl.SSLError, ConnectionError)):
                self.handshake(minimum_version=old, maximum_version=old, ciphers="ALL:@SECLEVEL=0")

    def test_alpn(self):
        self.assertEqual(self.handshake(alpn=["h2", "http/1.1"])[2], "http/1.1")
        self.assertEqual(self.handshake(alpn=["http/1.1"])[2], "http/1.1")

    def test_own_certificate(self):
        cert = self.handshake()[3]
        pem = os.path.join(server.state_dir, "tls-cert.pem")
        with open(pem) as f:
            self.assertEqual(ssl.PEM_cert_to_DER_cert(f.read()), cert)
        key = os.stat(os.path.join(server.state_dir, "tls-key.pem"))
        self.assertEqual(key.st_mode & 0o777, 0o600)
        text = subprocess.run(["openssl", "x509", "-in", pem, "-noout", "-text"], capture_output=True, text=True,
                              check=True).stdout
        for word in ("DNS:localhost", "IP Address:127.0.0.1", "DNS:" + socket.gethostname(), "rsaEncryption"):
            self.assertIn(word, text)
        context = ssl.create_default_context(cafile=pem)
        with socket.create_connection(("127.0.0.1", server.port), 10) as c:
            context.wrap_socket(c, server_hostname="localhost").close()

    def test_own_certificate_is_kept(self):
        with Server() as first:
            cert = self.handshake(first)[3]
            first.stop()
            first.start()
            self.assertEqual(self.handshake(first)[3], cert)

    def test_reload(self):
        s = Server()
        one, two = self_signed(s.dir, "one", "one.example"), self_signed(s.dir, "two", "two.example")
        use = {"tls-cert": os.path.join(s.dir, "cert"), "tls-key": os.path.join(s.dir, "key")}
        s.conf = {"daemon": use}

        def install(pair):
            for source, target in zip(pair, use.values()):
                if os.path.exists(target):
                    os.unlink(target)
                os.link(source, target)

        def der(pair):
            with open(pair[0]) as f:
                return ssl.PEM_cert_to_DER_cert(f.read())
        install(one)
        with s:
            self.assertEqual(self.handshake(s)[3], der(one))
            kept = s.connection("https")
            kept.request("GET", "/")
            kept.getresponse().read()
            sock = kept.sock
            install(two)
            s.reload()
            self.assertEqual(self.handshake(s)[3], der(two))
            kept.request("GET", "/")
            self.assertEqual(kept.getresponse().read()[:9], b"<!DOCTYPE")
            self.assertIs(kept.sock, sock)
            kept.close()
            install((one[0], two[1]))
            before = s.log().count("certificate stays")
            s.process.send_signal(1)
            deadline = time.monotonic() + 10
            while s.log().count("certificate stays") == before and time.monotonic() < deadline:
                time.sleep(0.05)
            self.assertIn("is not the key", s.log())
            self.assertEqual(self.handshake(s)[3], der(two))

    def test_clients_that_leave_in_the_middle(self):
        for _ in range(30):
            c = socket.create_connection(("127.0.0.1", server.port), 10)
            c.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
            c.close()
        self.assertEqual(self.handshake()[0], "TLSv1.3")
        self.assertNotIn("HTTP:", server.log())


class Stop(unittest.TestCase):
    def test_watchers_are_answered(self):
        with Server(conf={"daemon": {"stop-timeout": 20}}) as s:
            session = s.login()
            token = session.call("event.from", ["pool"], "", 1.0)["token"]
            body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "event.from",
                               "params": [session.ref, ["pool"], token, 60.0]}).encode()
            waiting = [connect(s) for _ in range(10)]
            for c in waiting:
                c.sendall(b"POST /jsonrpc HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            time.sleep(0.3)
            start = time.monotonic()
            s.stop()
            self.assertLess(time.monotonic() - start, 5)
            for c in waiting:
                answer = read_all(c)
                self.assertTrue(answer.startswith(b"HTTP/1.1 200 "), answer[:100])
                self.assertIn(b"Connection: close", answer)
                c.close()

    def test_stops_while_connections_come_and_go(self):
        for _ in range(4):
            with Server() as s:
                connections = [s.connection(kind) for kind in ("https", "http", "unix") for _ in range(10)]
                for c in connections:
                    c.request("GET", "/")
                    c.getresponse().read()
                done = threading.Event()

                def come_and_go():
                    for c in connections:
                        c.close()
                        time.sleep(0.001)
                    while not done.is_set():
                        try:
                            c = s.connection("http", timeout=2)
                            c.connect()
                            c.close()
                        except OSError:
                            time.sleep(0.005)
                thread = threading.Thread(target=come_and_go)
                thread.start()
                try:
                    s.stop()  # which looks at the log, too
                finally:
                    done.set()
                    thread.join()


if __name__ == "__main__":
    unittest.main()
