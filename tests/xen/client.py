"""A client of the Xen-API as others are: Python's xmlrpc over HTTPS, with the events that came."""
import base64
import os
import shlex
import socket
import ssl
import subprocess
import time
import urllib.parse
import xmlrpc.client

URL = os.environ.get("XENAPID_URL", "https://127.0.0.1:18443")
USER, PASSWORD = os.environ.get("XENAPID_LOGIN", "root:xenlab").split(":")
NULL = "OpaqueRef:NULL"
PATIENCE = int(os.environ.get("LAB_PATIENCE", "120"))  # seconds


class Failure(Exception):
    def __init__(self, description):
        super().__init__(" ".join(map(str, description)))
        self.code, self.params = description[0], list(description[1:])


def no_verify():
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Session:
    def __init__(self):
        self.proxy = xmlrpc.client.ServerProxy(URL, context=no_verify())
        self.session = self.raw("session.login_with_password", USER, PASSWORD, "1.0", "xenlab")
        self.token = ""

    def raw(self, method, *args):
        answer = getattr(self.proxy, method)(*args)
        if answer["Status"] != "Success":
            raise Failure(answer["ErrorDescription"])
        return answer["Value"]

    def call(self, method, *args):
        return self.raw(method, self.session, *args)

    def task(self, method, *args, patience=300):
        """As a task: waits by events, answers its result."""
        return self.finish(self.call("Async." + method, *args), patience)

    def finish(self, task, patience=300):
        end = time.time() + patience
        token = ""
        while time.time() < end:
            batch = self.call("event.from", [f"task/{task}"], token, 30.0)
            token = batch["token"]
            record = self.call("task.get_record", task)
            if record["status"] != "pending":
                self.call("task.destroy", task)
                if record["status"] != "success":
                    raise Failure(record["error_info"])
                return record["result"]
        raise TimeoutError(method_of(task))

    def wait(self, cls, ref, test, patience=PATIENCE):
        """Waits by events until the object's record passes the test; answers it."""
        end = time.time() + patience
        token = ""
        while time.time() < end:
            batch = self.call("event.from", [f"{cls}/{ref}"], token, 10.0)
            token = batch["token"]
            for event in batch["events"]:
                if event["ref"] == ref and "snapshot" in event and test(event["snapshot"]):
                    return event["snapshot"]
        raise TimeoutError(f"{cls} {ref}: {self.call(cls + '.get_record', ref)}")

    def close(self):
        self.call("session.logout")
        self.proxy("close")()


class Console:
    """A viewer of what a console record's location names: by CONNECT, or as browsers do."""

    def __init__(self, session, record, websocket=False):
        # The location has the address that clients of the host use; from here it is the forwarded port.
        place, here = urllib.parse.urlsplit(record["location"]), urllib.parse.urlsplit(URL)
        path = f"{place.path}?{place.query}&session_id={session.session}"
        self.websocket = websocket
        self.sock = no_verify().wrap_socket(socket.create_connection((here.hostname, here.port or 443), 30))
        if websocket:
            key = base64.b64encode(os.urandom(16)).decode()
            head = [f"GET {path} HTTP/1.1", "Host: lab", "Upgrade: websocket", "Connection: Upgrade",
                    f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Protocol: binary"]
        else:
            head = [f"CONNECT {path} HTTP/1.0", "Host: lab"]
        self.sock.sendall("\r\n".join(head + ["", ""]).encode())
        self.got = b""
        while b"\r\n\r\n" not in self.got:
            self._receive()
        head, _, self.got = self.got.partition(b"\r\n\r\n")
        self.status, self.n = int(head.split()[1]), 0

    def _receive(self):
        data = self.sock.recv(65536)
        if not data:
            raise EOFError(self.got)
        self.got += data

    def read(self):
        """Some bytes of the console's."""
        while not self.got:
            self._receive()
        if not self.websocket:
            data, self.got = self.got, b""
            return data
        while len(self.got) < 4 or len(self.got) < self._frame()[1]:
            self._receive()
        start, end = self._frame()
        data, self.got = self.got[start:end], self.got[end:]
        return data

    def _frame(self):
        """Where the contents of the first frame begin and end; servers do not mask."""
        n = self.got[1] & 127
        if n < 126:
            return 2, 2 + n
        wide = 2 if n == 126 else 8
        return 2 + wide, 2 + wide + int.from_bytes(self.got[2:2 + wide], "big")

    def write(self, data):
        if self.websocket:  # masked with zeros, which is a mask as any other
            data = bytes([0x82, 0x80 | len(data), 0, 0, 0, 0]) + data
        self.sock.sendall(data)

    def until(self, words, patience=PATIENCE):
        said, end = b"", time.time() + patience
        while words.encode() not in said:
            if time.time() > end:
                raise TimeoutError(said)
            self.sock.settimeout(max(0.1, end - time.time()))
            said += self.read()
        return said.decode(errors="replace")

    def shell(self, command, patience=PATIENCE):
        """What a command says in the guest's shell."""
        self.n += 1
        self.write(f"echo BE''GIN{self.n}; {command}; echo E''ND{self.n}\n".encode())
        said = self.until(f"END{self.n}", patience).replace("\r", "")
        return said.split(f"BEGIN{self.n}", 1)[1].split(f"END{self.n}")[0].strip()

    def close(self):
        self.sock.close()


def method_of(task):
    return f"the task {task} does not end"


def dom0(command, check=False):
    """Runs a command in dom0, as somebody would who sits there."""
    run = shlex.split(os.environ["LAB_RUN"]) + [command]
    return subprocess.run(run, check=check, capture_output=True, text=True).stdout
