"""curl, as shell scripts use it: JSON-RPC of both versions, batches, preflight, gzip, large bodies, Basic, the UNIX socket."""
import gzip
import json
import os
import subprocess
import tempfile
import unittest

from clients import ClientTest, live, need, run_program
from harness import Failure


class Curl(ClientTest):
    @classmethod
    def setUpClass(cls):
        need("curl")
        super().setUpClass()

    def curl(self, *args, kind="https", path="/jsonrpc", stdin=""):
        """The body of the answer."""
        url = self.server.url(kind) if kind != "unix" else "http://localhost"
        where = ["--unix-socket", self.server.socket_path] if kind == "unix" else []
        return run_program(self, "curl", "-ksS", "--max-time", "60", *where, *args, url + path, stdin=stdin).stdout

    def head(self, *args, path="/jsonrpc"):
        """Status and headers (lower-case names) of the answer."""
        r = run_program(self, "curl", "-ksS", "-o", "/dev/null", "-D", "-", "--max-time", "60", *args,
                        self.server.url() + path).stdout
        lines = [line for line in r.splitlines() if line]
        status = next(line for line in reversed(lines) if line.startswith("HTTP/"))
        return int(status.split()[1]), dict((k.lower(), v.strip()) for k, v in (
            line.split(":", 1) for line in lines if ":" in line))

    def call(self, method, *params, version="2.0", kind="https"):
        body = {"id": 1, "method": method, "params": [self.session.ref, *params]}
        if version:
            body["jsonrpc"] = version
        answer = json.loads(self.curl("-d", json.dumps(body), kind=kind))
        self.assertEqual(answer["id"], 1)
        if version:
            self.assertNotIn(None, answer.values())
            if "error" in answer:
                raise Failure([answer["error"]["message"], *answer["error"]["data"]])
        elif answer["error"] is not None:
            raise Failure(answer["error"])
        return answer["result"]

    def test_life_json_rpc_2(self):
        live(self, self.call)

    def test_life_json_rpc_1(self):
        live(self, lambda method, *params: self.call(method, *params, version=None))

    def test_life_over_the_unix_socket(self):
        live(self, lambda method, *params: self.call(method, *params, kind="unix"))

    def test_login(self):
        body = {"jsonrpc": "2.0", "id": "x", "method": "session.login_with_password", "params": ["root", "secret"]}
        answer = json.loads(self.curl("-d", json.dumps(body), "-H", "Content-Type: application/json"))
        self.assertEqual(answer["id"], "x")
        self.assertTrue(answer["result"].startswith("OpaqueRef:"))

    def test_batch(self):
        vm = self.call("VM.get_by_name_label", "sim-00001")[0]
        batch = [{"jsonrpc": "2.0", "id": 1, "method": "VM.get_name_label", "params": [self.session.ref, vm]},
                 {"jsonrpc": "2.0", "id": "two", "method": "VM.none", "params": [self.session.ref]},
                 {"jsonrpc": "2.0", "method": "VM.get_name_label", "params": [self.session.ref, vm]},
                 7,
                 {"jsonrpc": "2.0", "id": 3, "method": "VM.clone", "params": [self.session.ref, vm, "batched"]},
                 {"jsonrpc": "2.0", "id": 4, "method": "VM.get_by_name_label", "params": [self.session.ref, "batched"]}]
        answers = json.loads(self.curl("-d", json.dumps(batch)))
        self.assertEqual([a["id"] for a in answers], [1, "two", None, 3, 4])  # a notification has no answer
        self.assertEqual(answers[0]["result"], "sim-00001")
        self.assertEqual(answers[1]["error"]["message"], "MESSAGE_METHOD_UNKNOWN")
        self.assertEqual(answers[4]["result"], [answers[3]["result"]])  # one after another
        self.call("VM.destroy", answers[3]["result"])

    def test_a_batch_of_too_many_calls_is_refused_whole(self):
        one = {"jsonrpc": "2.0", "id": 1, "method": "system.listMethods", "params": []}
        with tempfile.NamedTemporaryFile("w") as f:
            json.dump([{**one, "method": "x", "id": i} for i in range(1001)], f)
            f.flush()
            answer = json.loads(self.curl("--data-binary", "@" + f.name))
        self.assertEqual((answer["error"]["code"], answer["id"]), (-32600, None))

    def test_preflight(self):
        for path in ("/jsonrpc", "/"):
            status, headers = self.head("-X", "OPTIONS", "-H", "Origin: https://lite.example", "-H",
                                        "Access-Control-Request-Method: POST", "-H",
                                        "Access-Control-Request-Headers: content-type", path=path)
            self.assertIn(status, (200, 204))
            self.assertIn(headers["access-control-allow-origin"], ("*", "https://lite.example"))
            self.assertIn("POST", headers["access-control-allow-methods"])
            self.assertIn("content-type", headers["access-control-allow-headers"].lower())

    def test_gzip(self):
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "VM.get_all_records", "params": [self.session.ref]})
        self.assertEqual(self.head("-H", "Accept-Encoding: gzip", "-d", body)[1]["content-encoding"], "gzip")
        plain, unpacked = self.curl("-d", body), self.curl("--compressed", "-d", body)
        self.assertEqual(json.loads(plain), json.loads(unpacked))
        with tempfile.NamedTemporaryFile() as f:
            run_program(self, "curl", "-ksS", "-H", "Accept-Encoding: gzip", "-d", body, "-o", f.name,
                        self.server.url() + "/jsonrpc")
            packed = f.read()
        self.assertEqual(json.loads(gzip.decompress(packed)), json.loads(plain))
        self.assertLess(len(packed), len(plain) / 2)

    def test_large_body_after_100_continue(self):
        vm = self.call("VM.get_by_name_label", "sim-00002")[0]
        text = "x" * (2 << 20)
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "VM.set_name_description",
                           "params": [self.session.ref, vm, text]})
        with tempfile.NamedTemporaryFile("w") as f:
            f.write(body)
            f.flush()
            answer = self.curl("-v", "--expect100-timeout", "20", "-H", "Expect: 100-continue", "--data-binary",
                               "@" + f.name, kind="http")
            self.assertEqual(json.loads(answer)["result"], "")
        self.assertEqual(self.call("VM.get_name_description", vm), text)
        self.call("VM.set_name_description", vm, "")

    def test_chunked_body(self):
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "host.get_all", "params": [self.session.ref]})
        answer = self.curl("-H", "Transfer-Encoding: chunked", "-d", "@-", stdin=body)
        self.assertEqual(len(json.loads(answer)["result"]), 1)

    def test_xml_with_ints_and_strings(self):
        vm = self.call("VM.get_by_name_label", "sim-00002")[0]
        for form in ("<int>3</int>", "<i4>4</i4>", "<string>5</string>", "6", "<i8>7</i8>"):
            body = ("<?xml version='1.0'?>\n<methodCall>\n <methodName>VM.set_user_version</methodName>\n <params>\n"
                    f"  <param><value><string>{self.session.ref}</string></value></param>\n  <param><value>{vm}</value>"
                    f"</param>\n  <param><value>{form}</value></param>\n </params>\n</methodCall>\n")
            for path in ("/", "/RPC2", "/xmlrpc"):
                self.assertIn("<value>Success</value>", self.curl("-H", "Content-Type: text/xml", "-d", body, path=path))
            self.assertIn(str(self.call("VM.get_user_version", vm)), form)

    def test_http_1_0_and_head(self):
        self.assertIn("VM.start", self.curl("-0", "-d", json.dumps(
            {"jsonrpc": "2.0", "id": 1, "method": "system.listMethods", "params": []})))
        self.assertEqual(self.head("-I", path="/")[0], 200)

    def test_api_reference_with_basic_session_and_cookie(self):
        path = "/api-reference.json"
        self.assertEqual(self.head(path=path)[0], 401)
        self.assertEqual(self.head("-u", "root:wrong", path=path)[0], 401)
        for args, more in ((("-u", "root:secret"), ""), ((), f"?session_id={self.session.ref}"),
                           (("-b", f"session_id={self.session.ref}"), "")):
            reference = json.loads(self.curl(*args, path=path + more))
            self.assertIn("VM", [c["name"] for c in reference["classes"]])

    def test_certificate(self):
        cert = os.path.join(self.server.state_dir, "tls-cert.pem")
        r = subprocess.run(["curl", "-sS", "--cacert", cert, f"https://localhost:{self.server.port}/"], capture_output=True)
        self.assertEqual(r.returncode, 0, r.stderr)
        r = subprocess.run(["curl", "-sS", self.server.url()], capture_output=True)
        self.assertEqual(r.returncode, 60)

    def test_parallel(self):
        """One curl with many transfers at once."""
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "host.get_all", "params": [self.session.ref]})
        with tempfile.TemporaryDirectory() as dir:
            args = []
            for i in range(50):
                args += ["--next"] * bool(args) + ["-ksS", "-d", body, "-o", f"{dir}/{i}", self.server.url() + "/jsonrpc"]
            run_program(self, "curl", "-Z", "--parallel-max", "20", *args)
            for i in range(50):
                with open(f"{dir}/{i}") as f:
                    self.assertEqual(len(json.load(f)["result"]), 1)


if __name__ == "__main__":
    unittest.main()
