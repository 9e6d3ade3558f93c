"""get_all_records of a class with many objects, which is kept in one piece: nobody may see what is out of date."""
import concurrent.futures
import json
import socket
import time
import unittest

from harness import Server


class LargeLists(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(conf={"sim": {"vms": 150, "metrics": "no"}}).start()
        cls.session = cls.server.login()
        cls.vms = cls.session.call("VM.get_all")

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()
        cls.server.clean()

    def test_who_writes_sees_it(self):
        def work(i):
            session = self.server.login(kind=f"http {i}", codec="xml" if i % 2 else "json")  # a connection of its own
            for n in range(20):
                text = f"{i} {n}"
                session.call("VM.set_name_description", self.vms[i], text)
                for _ in range(3):
                    self.assertEqual(session.call("VM.get_all_records")[self.vms[i]]["name_description"], text)

        with concurrent.futures.ThreadPoolExecutor(6) as pool:
            list(pool.map(work, range(6)))

    def test_both_codecs_and_a_batch_answer_the_same(self):
        for _ in range(3):
            plain = self.session.call("VM.get_all_records")
            self.assertEqual(list(plain), self.session.call("VM.get_all"))
        xml = self.server.xml("VM.get_all_records", self.session.ref)
        self.assertEqual({k: v["uuid"] for k, v in xml.items()}, {k: v["uuid"] for k, v in plain.items()})
        one = {"jsonrpc": "2.0", "id": 1, "method": "VM.get_all_records", "params": [self.session.ref]}
        batch = json.loads(self.server.request("POST", "/jsonrpc", json.dumps([one, one]))[2])
        self.assertEqual([b["result"] for b in batch], [plain, plain])
        multi = self.server.xml("system.multicall", [{"methodName": "VM.get_all_records", "params": [self.session.ref]}])
        self.assertEqual(multi[0][0]["Value"], xml)

    def test_readers_that_are_slow_or_leave(self):
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "VM.get_all_records", "params": [self.session.ref]})
        request = f"POST /jsonrpc HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
        slow = []
        for n in range(12):
            s = socket.socket()
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            s.settimeout(30)
            s.connect(("127.0.0.1", self.server.http_port))
            s.sendall(request)
            slow.append(s)
            if n % 3 == 0:
                self.session.call("VM.set_name_description", self.vms[-1], f"slow {n}")
        time.sleep(0.3)
        for s in slow[::2]:
            s.close()
        for s in slow[1::2]:
            answer = b""
            while b"\r\n\r\n" not in answer:
                answer += s.recv(4096)
            head, rest = answer.split(b"\r\n\r\n", 1)
            length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length"))
            while len(rest) < length:
                rest += s.recv(65536)
            self.assertEqual(len(json.loads(rest)["result"]), len(self.vms))
            s.close()


if __name__ == "__main__":
    unittest.main()
