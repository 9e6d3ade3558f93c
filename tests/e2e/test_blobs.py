"""What clients keep beside objects: /blob, with curl, and across crashes."""
import os
import socket
import subprocess
import tempfile
import unittest

from harness import Case, Failure, Server, basic

MIB = 1 << 20


class Blobs(Case):

    def blob(self, name, mime="", public=False):
        return self.call("pool.create_new_blob", self.pool, name, mime, public)

    def request(self, method, blob, body=None, session=True, headers=None, **query):
        query = {"ref": blob, **({"session_id": self.s.ref} if session else {}), **query}
        text = "&".join(f"{k}={v}" for k, v in query.items() if v)
        return self.server.request(method, f"/blob?{text}", body, headers)

    def files(self):
        place = os.path.join(self.server.state_dir, "blobs")
        return sorted(os.listdir(place)) if os.path.exists(place) else []

    def test_there_and_back(self):
        blob = self.blob("a", "image/png")
        self.assertEqual(self.request("GET", blob)[0], 404)
        for data in b"first", os.urandom(3 * MIB), b"":
            self.assertEqual(self.request("PUT", blob, data or b"", headers={"Content-Length": str(len(data))},
                                          task_id=None if data else self.call("task.create", "t", ""))[0], 200)
            status, headers, body = self.request("GET", blob)
            self.assertEqual((status, headers["content-type"], body), (200, "image/png", data))
            self.assertEqual(self.call("blob.get_size", blob), len(data))
        self.assertNotEqual(self.call("blob.get_last_updated", blob), "19700101T00:00:00Z")
        self.assertEqual(self.request("HEAD", blob)[2], b"")
        uuid = self.call("blob.get_uuid", blob)
        self.assertEqual(self.request("GET", None, uuid=uuid)[0], 200)
        self.assertIn(uuid, self.files())
        self.call("blob.destroy", blob)
        self.assertEqual(self.request("GET", blob)[0], 404)
        self.assertNotIn(uuid, self.files())

    def test_curl(self):
        blob = self.blob("curl")
        with tempfile.TemporaryDirectory() as place:
            with open(f"{place}/in", "wb") as f:
                f.write(b"x" * 100000)
            url = f"{self.server.url('https')}/blob?ref={blob}"
            subprocess.run(["curl", "-sSfk", "-u", "root:secret", "-T", f"{place}/in", url], check=True, timeout=60)
            subprocess.run(["curl", "-sSfk", "-u", "root:secret", "-o", f"{place}/out", url], check=True, timeout=60)
            with open(f"{place}/out", "rb") as f:
                self.assertEqual(f.read(), b"x" * 100000)

    def test_who_may(self):
        secret, public = self.blob("secret"), self.blob("public", "text/plain", True)
        for blob in secret, public:
            self.assertEqual(self.request("PUT", blob, b"text", session=False)[0], 401)
            self.assertEqual(self.request("PUT", blob, b"text")[0], 200)
        self.assertEqual(self.request("GET", secret, session=False)[0], 401)
        self.assertEqual(self.request("GET", "OpaqueRef:none", session=False)[0], 401)  # nothing to find out
        self.assertEqual(self.request("GET", "OpaqueRef:none")[0], 404)
        self.assertEqual(self.request("GET", secret, session=False, headers=basic("root", "wrong"))[0], 401)
        self.assertEqual(self.request("GET", secret, session=False, headers=basic("root", "secret"))[2], b"text")
        self.assertEqual(self.request("GET", public, session=False)[2], b"text")
        self.call("blob.set_public", public, False)
        self.assertEqual(self.request("GET", public, session=False)[0], 401)

    def test_cut(self):
        blob = self.blob("cut")
        self.request("PUT", blob, b"before")
        files, task = self.files(), self.call("task.create", "cut", "")
        with socket.create_connection(("127.0.0.1", self.server.http_port), 20) as c:
            c.sendall(f"PUT /blob?ref={blob}&session_id={self.s.ref}&task_id={task} HTTP/1.1\r\nHost: x\r\n"
                      f"Content-Length: 1000\r\n\r\nhalf".encode())
        with self.assertRaises(Failure) as f:
            self.s.wait(task)
        self.assertEqual(f.exception.code, "IMPORT_ERROR_PREMATURE_EOF")
        self.assertEqual(self.request("GET", blob)[2], b"before")
        self.assertEqual(self.files(), files)

    def test_too_large(self):
        blob = self.blob("large")
        with socket.create_connection(("127.0.0.1", self.server.http_port), 20) as c:
            c.sendall(f"PUT /blob?ref={blob}&session_id={self.s.ref} HTTP/1.1\r\nHost: x\r\n"
                      f"Content-Length: {65 * MIB}\r\n\r\n".encode())
            self.assertEqual(c.recv(12), b"HTTP/1.1 507")


class Crash(unittest.TestCase):
    def test_kept_and_swept(self):
        with Server() as server:
            s = server.login()
            pool = s.call("pool.get_all")[0]
            blob = s.call("pool.create_new_blob", pool, "b", "", False)
            path = f"/blob?ref={blob}&session_id="
            self.assertEqual(server.request("PUT", path + s.ref, b"kept")[0], 200)
            server.kill()
            place = os.path.join(server.state_dir, "blobs")
            for name in "abcdef.new", "00000000-0000-0000-0000-000000000000":
                with open(os.path.join(place, name), "w") as f:
                    f.write("left")
            server.start()
            s = server.login()
            self.assertEqual(server.request("GET", path + s.ref)[2], b"kept")
            self.assertEqual(len(os.listdir(place)), 1)


if __name__ == "__main__":
    unittest.main()
