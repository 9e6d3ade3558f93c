"""Drives a backend (xenapid-xen or xenapid-sim) without the daemon, over its wire: docs/backend-protocol.md."""
import contextlib
import json
import os
import socket
import subprocess
import threading
import time


class Fault(Exception):
    def __init__(self, error):
        self.code = error.get("message")
        self.params = error.get("data", [])
        super().__init__(f"{self.code} {self.params}")


class Backend:
    """A backend process and the news that it sent."""

    def __init__(self, program, *args, log=None):
        ours, theirs = socket.socketpair()
        env = dict(os.environ, XENAPID_WIRE_FD=str(theirs.fileno()))
        self.process = subprocess.Popen([program, *args], env=env, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL,
                                        stderr=log)
        theirs.close()
        self.socket = ours
        self.lock = threading.Condition()
        self.answers = {}
        self.news = []  # (time, method, params)
        self.fds = []  # that came with answers
        self.last_id = 0
        self.ended = False
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        rest = b""
        with contextlib.suppress(ConnectionResetError):
            while True:
                data, fds, _, _ = socket.recv_fds(self.socket, 65536, 16)
                if not data:
                    break
                *lines, rest = (rest + data).split(b"\n")
                with self.lock:
                    self.fds += fds
                    for line in lines:
                        self._take(json.loads(line))
                    self.lock.notify_all()
        with self.lock:
            self.ended = True
            self.lock.notify_all()

    def _take(self, message):
        if "method" in message:
            self.news.append((time.time(), message["method"], message.get("params", {})))
        else:
            self.answers[message["id"]] = message

    def begin(self, method, **params):
        with self.lock:
            self.last_id += 1
            number = self.last_id
        line = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        self.socket.sendall(json.dumps(line).encode() + b"\n")
        return number

    def cancel(self, number):
        line = {"jsonrpc": "2.0", "method": "cancel", "params": {"id": number}}
        self.socket.sendall(json.dumps(line).encode() + b"\n")

    def end(self, number, patience=120):
        with self.lock:
            if not self.lock.wait_for(lambda: number in self.answers or self.ended, patience):
                raise TimeoutError(f"no answer within {patience} s")
            if number not in self.answers:
                raise ConnectionError("the backend has ended")
            answer = self.answers.pop(number)
        if "error" in answer:
            raise Fault(answer["error"])
        return answer["result"]

    def call(self, method, patience=120, **params):
        return self.end(self.begin(method, **params), patience)

    def wait(self, method, test=lambda params: True, patience=30, since=0.0):
        """The parameters of the first news of that kind since then for which the test holds."""
        def found():
            for when, name, params in self.news:
                if when >= since and name == method and test(params):
                    return params
            return None
        with self.lock:
            result = self.lock.wait_for(lambda: found() or self.ended, patience)
        if result is True or result is None or result is False:
            raise TimeoutError(f"no {method} within {patience} s; came: {self.news[-5:]}")
        return result

    def fault(self, method, patience=120, **params):
        """The code of the fault that the call must end with."""
        try:
            result = self.call(method, patience, **params)
        except Fault as e:
            return e.code
        raise AssertionError(f"{method} did not fail: {result}")

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.socket.close()

    def close(self):
        self.socket.shutdown(socket.SHUT_RDWR)
        self.process.wait(30)
        self.socket.close()
