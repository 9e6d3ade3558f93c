"""Drives xenapid-sim by hand over a socketpair, as the front does."""
import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
import uuid

from harness import BUILD

MIB = 1 << 20
QUICK = {"start-ms": 20, "shutdown-ms": 20, "reboot-ms": 20, "suspend-ms": 20, "plug-ms": 5, "metrics": "no"}


class Fault(Exception):
    def __init__(self, error):
        super().__init__(error["message"], *error["data"])
        self.code, self.params = error["message"], error["data"]


class Sim:
    """One xenapid-sim; start() again after kill() finds the same runtime directory."""

    def __init__(self, **sim):
        self.dir = tempfile.TemporaryDirectory(prefix="xenapid-sim.")
        self.conf = {**QUICK, **sim}
        self.process = None
        self.logs = []
        self.start()

    def path(self, *parts):
        return os.path.join(self.dir.name, *parts)

    def start(self):
        config = self.path("conf")
        with open(config, "w") as f:
            f.write("[sim]\n" + "".join(f"{k}={v}\n" for k, v in self.conf.items()))
        ours, theirs = socket.socketpair()
        env = {k: v for k, v in os.environ.items() if not k.startswith("XENAPID_")}
        env["XENAPID_WIRE_FD"] = str(theirs.fileno())
        self.logs.append(self.path(f"log{len(self.logs)}"))
        with open(self.logs[-1], "wb") as log:
            self.process = subprocess.Popen(
                [os.path.join(BUILD, "xenapid-sim"), "--backend=sim", "--config", config, "--runtime-dir", self.path("run"),
                 "--state-dir", self.path("state")], env=env, stderr=log, pass_fds=[theirs.fileno()])
        theirs.close()
        self.socket = ours
        self.condition = threading.Condition()
        self.answers, self.progress, self.notes, self.next_id, self.lost = {}, {}, [], 1, False
        self.reader = threading.Thread(target=self.read, args=(ours,), daemon=True)
        self.reader.start()

    def read(self, sock):
        with sock.makefile("rb") as lines:
            while True:
                try:
                    line = lines.readline()
                except OSError:
                    line = b""
                with self.condition:
                    if not line.endswith(b"\n"):
                        self.lost = True
                        self.condition.notify_all()
                        return
                    message = json.loads(line)
                    if "method" not in message:
                        self.answers[message["id"]] = message
                    elif message["method"] == "progress":
                        self.progress.setdefault(message["params"]["id"], []).append(message["params"]["fraction"])
                    else:
                        self.notes.append((message["method"], message["params"]))
                    self.condition.notify_all()

    def ask(self, method, /, **params):
        with self.condition:
            number, self.next_id = self.next_id, self.next_id + 1
            self.socket.sendall(json.dumps({"id": number, "method": method, "params": params}).encode() + b"\n")
            return number

    def wait(self, number, timeout=60):
        with self.condition:
            if not self.condition.wait_for(lambda: number in self.answers or self.lost, timeout):
                raise AssertionError(f"no answer: {self.log()}")
            if number not in self.answers:
                raise EOFError(self.log())
            answer = self.answers.pop(number)
        if "error" in answer:
            raise Fault(answer["error"])
        return answer["result"]

    def call(self, method, /, **params):
        return self.wait(self.ask(method, **params))

    def cancel(self, number):
        self.socket.sendall(json.dumps({"method": "cancel", "params": {"id": number}}).encode() + b"\n")

    def wait_note(self, method, timeout=30, **match):
        """The first notification with these parameters, sent already or not; it is forgotten."""
        def find():
            for i, (m, p) in enumerate(self.notes):
                if m == method and all(p.get(k) == v for k, v in match.items()):
                    return i
            return None
        with self.condition:
            if not self.condition.wait_for(lambda: find() is not None or self.lost, timeout) or find() is None:
                raise AssertionError(f"no {method} {match}: {self.notes} {self.log()}")
            return self.notes.pop(find())[1]

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.end()

    def end(self):
        self.process.wait(30)
        with self.condition:
            self.condition.wait_for(lambda: self.lost, 30)
        self.socket.close()
        self.reader.join(30)

    def log(self):
        text = ""
        for path in self.logs:
            with open(path, errors="replace") as f:
                text += f.read()
        return text

    def close(self):
        if not self.lost:
            self.socket.shutdown(socket.SHUT_WR)
            try:
                self.end()
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.end()
                raise AssertionError("xenapid-sim did not end with its wire") from None
            if self.process.returncode != 0:
                raise AssertionError(f"status {self.process.returncode}: {self.log()}")
        log = self.log()
        if "Sanitizer" in log or "runtime error" in log or "CRITICAL" in log:
            raise AssertionError(log)
        self.dir.cleanup()

    # ---- domains ----

    def state(self, vm):
        domains = self.call("domain.list", uuid=vm)["domains"]
        return domains[0] if domains else None

    def image(self, vm):
        return self.path("state", "suspend", vm)


def config(vm=None, memory=128 * MIB, **more):
    vm = vm or str(uuid.uuid4())
    return {"uuid": vm, "name": "vm " + vm[:8], "type": "pv", "vcpus_max": 4, "vcpus": 2, "memory_static_max": memory * 2,
            "memory_target": memory, "vbds": [], "vifs": [], "consoles": [], "other_config": {}, **more}


def vif(device="0", **more):
    return {"uuid": str(uuid.uuid4()), "device": device, "mac": "02:00:00:00:00:0" + device, "mtu": 1500,
            "bridge": "xenbr0", "locking_mode": "network_default", **more}


def cd(**more):
    return {"uuid": str(uuid.uuid4()), "device": "xvdd", "userdevice": "3", "mode": "RO", "type": "CD", "bootable": False,
            "empty": True, **more}


def eventually(check, seconds=20):
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            raise AssertionError("it did not happen")
        time.sleep(0.02)
