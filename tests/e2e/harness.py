"""Starts xenapid from a build tree ($XENAPID_BUILD) with a throw-away state, for the end-to-end tests.

    with Server(conf={"limits": {"header-timeout": 1}}) as server:
        session = server.login()
        session.call("VM.get_all")

Logins go through PAM with pam_matrix and a password file of the test's own. stop() checks that nothing crashed and that
the exit status is 0; when a test fails inside the with block, the end of the log is printed.
"""
import base64
import fcntl
import functools
import glob
import http.client
import json
import os
import random
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import unittest
import xmlrpc.client

BUILD = os.environ.get("XENAPID_BUILD", os.path.join(os.path.dirname(__file__), "..", "..", "build"))
START_SECONDS = 60
STOP_SECONDS = 60
CRASH = re.compile(r"died of signal|ended with status [1-9]|starting it again|ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|"
                   r"runtime error:|xenapid\S*-(CRITICAL|ERROR)|Assertion")


class Failure(Exception):
    """The API's answer was a failure: code and parameters."""

    def __init__(self, description):
        super().__init__(" ".join(map(str, description)))
        self.code, self.params = description[0], list(description[1:])


_reserved = []  # open files: their locks last as long as this process


def free_port(host="127.0.0.1"):
    """Below those that the system gives to outgoing connections, and locked for this process: it stays free while a
    server is down for a moment, whatever other tests run beside this one."""
    locks = os.path.join(tempfile.gettempdir(), f"xenapid-test-ports.{os.getuid()}")
    os.makedirs(locks, mode=0o700, exist_ok=True)
    while True:
        port = random.randrange(10240, 32000)
        lock = open(os.path.join(locks, str(port)), "w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with socket.socket() as s:
                s.bind((host, port))
        except OSError:
            lock.close()
            continue
        _reserved.append(lock)
        return port


@functools.cache
def pam_matrix():
    found = [f for p in ("/usr/lib", "/usr/lib/*", "/usr/lib64") for f in glob.glob(p + "/pam_wrapper/pam_matrix.so")]
    if not found:
        raise FileNotFoundError("pam_matrix.so (package libpam-wrapper)")
    return found[0]


def is_alive(pid):
    """Also False for a process that has ended and that nobody has waited for; not before its last thread, which closes
    its files."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            ended = f.read().rpartition(")")[2].split()[0] in "ZX"
        return not ended or len(os.listdir(f"/proc/{pid}/task")) > 1
    except (FileNotFoundError, ProcessLookupError):
        return False


def no_verify():
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class UnixHTTPConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout=30):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Server:
    """One xenapid. users: name -> password; conf: section -> key -> value; options: more of the command line; env: for
    its processes. state may name a directory that outlives it."""

    def __init__(self, conf=None, users=None, options=(), env=None, state=None, allow_crash=False):
        self.conf = conf or {}
        self.users = users or {"root": "secret"}
        self.options = list(options)
        self.env = dict(env or {})
        self.allow_crash = allow_crash
        self.dir = tempfile.mkdtemp(prefix="xenapid-test.")
        os.chmod(self.dir, 0o755)
        self.state_dir = state or os.path.join(self.dir, "state")
        self.runtime_dir = os.path.join(self.dir, "run")
        self.socket_path = os.path.join(self.runtime_dir, "xenapid.sock")
        self.config_path = os.path.join(self.dir, "xenapid.conf")
        self.log_path = os.path.join(self.dir, "log")
        self.port = free_port()
        self.http_port = free_port()
        self.process = None
        self._connections = {}

    # ---- life ----

    def start(self):
        self._write_pam()
        self.write_conf()
        program = os.path.join(BUILD, "xenapid")
        args = [program, "--config", self.config_path, "--state-dir", self.state_dir, "--runtime-dir", self.runtime_dir,
                "--listen-https", f"127.0.0.1:{self.port}", "--listen-http", f"127.0.0.1:{self.http_port}",
                "--listen-unix", self.socket_path, "--pam-service", "xenapid-test",
                "--pam-confdir", os.path.join(self.dir, "pam.d")]
        if os.getuid() == 0:
            args += ["--user", "nobody"]
        env = {k: v for k, v in os.environ.items() if k not in ("NOTIFY_SOCKET", "JOURNAL_STREAM")}
        env.update(self.env)
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(args + self.options, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env)
        try:
            self._wait_until_ready()
        except BaseException:
            self.kill()
            self.print_log()
            self.clean()
            raise
        return self

    def stop(self):
        """SIGTERM; the exit status must be 0 and the log without crashes."""
        for c in self._connections.values():
            c.close()
        self._connections.clear()
        if self.process is None:
            return
        process, self.process = self.process, None
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            status = process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError("xenapid did not stop")
        if status != 0:
            raise AssertionError(f"xenapid ended with {status}")
        if not self.allow_crash:
            self.check_log()

    def kill(self):
        """SIGKILL to all of its processes, as a power cut would."""
        if self.process is None:
            return
        pids = list(reversed(self.pids()))
        for number in (signal.SIGSTOP, signal.SIGKILL):  # none of them sees another one die
            for pid in pids:
                try:
                    os.kill(pid, number)
                except ProcessLookupError:
                    pass
        self.process.wait()
        self.process = None
        self._connections.clear()
        deadline = time.monotonic() + STOP_SECONDS  # until then they hold what they had open: ports, locks
        while any(is_alive(pid) for pid in pids):
            if time.monotonic() > deadline:
                raise AssertionError("a killed process does not go")
            time.sleep(0.002)

    def clean(self):
        """Removes its files, unless $XENAPID_KEEP is set."""
        if "XENAPID_KEEP" not in os.environ:
            shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, value, trace):
        try:
            self.stop()
        except AssertionError:
            self.print_log()
            kind = kind or AssertionError
            raise
        else:
            if kind:
                self.print_log()
        finally:
            self.clean()

    def reload(self):
        """SIGHUP, and waits until the front has read its configuration again."""
        before = self.log().count("onfiguration was read again")
        self.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 10
        while self.log().count("onfiguration was read again") == before:
            if time.monotonic() > deadline:
                raise AssertionError("the configuration was not read again")
            time.sleep(0.02)

    def pids(self):
        """The supervisor and its children."""
        out = subprocess.run(["ps", "-o", "pid=", "--ppid", str(self.process.pid)], capture_output=True, text=True)
        return [int(p) for p in out.stdout.split()] + [self.process.pid]

    def pid_of(self, program):
        """The child that runs xenapid-front, xenapid-auth or xenapid-sim."""
        for pid in self.pids():
            if os.path.basename(os.readlink(f"/proc/{pid}/exe")) == program:
                return pid
        raise LookupError(program)

    # ---- its files ----

    def write_conf(self):
        conf = {"daemon": {"backend": "sim", "log-level": "info", "templates": "no"}, "sim": {"start-ms": 50, "shutdown-ms": 50,
                "reboot-ms": 50, "suspend-ms": 50, "plug-ms": 5}, "sessions": {"login-failure-delay-ms": 50}}
        for section, keys in self.conf.items():
            conf.setdefault(section, {}).update(keys)
        with open(self.config_path, "w") as f:
            for section, keys in conf.items():
                f.write(f"[{section}]\n" + "".join(f"{k}={v}\n" for k, v in keys.items()))
        os.chmod(self.config_path, 0o644)

    def _write_pam(self):
        os.makedirs(os.path.join(self.dir, "pam.d"), exist_ok=True)
        passdb = os.path.join(self.dir, "passdb")
        with open(passdb, "w") as f:
            f.writelines(f"{u}:{p}:xenapid-test\n" for u, p in self.users.items())
        os.chmod(passdb, 0o644)
        with open(os.path.join(self.dir, "pam.d", "xenapid-test"), "w") as f:
            f.writelines(f"{t} required {pam_matrix()} passdb={passdb}\n" for t in ("auth", "account", "password", "session"))

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def print_log(self, lines=80):
        text = self.log().splitlines() if os.path.exists(self.log_path) else []
        print(f"---- log of xenapid ({self.log_path})", *text[-lines:], "----", sep="\n", file=sys.stderr, flush=True)

    def check_log(self):
        for line in self.log().splitlines():
            if CRASH.search(line):
                self.print_log(200)
                raise AssertionError(f"in the log: {line}")

    def _wait_until_ready(self):
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"xenapid ended with {self.process.returncode} at start")
            try:
                c = UnixHTTPConnection(self.socket_path, timeout=5)
                c.request("GET", "/")
                if c.getresponse().status == 200:
                    c.close()
                    return
            except (OSError, http.client.HTTPException):
                time.sleep(0.02)
        raise AssertionError("xenapid did not become ready")

    # ---- talking to it ----

    def connection(self, kind="http", timeout=30):
        """A new connection of its own: "http", "https" or "unix"."""
        if kind == "unix":
            return UnixHTTPConnection(self.socket_path, timeout)
        if kind == "https":
            return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=timeout, context=no_verify())
        return http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=timeout)

    def url(self, kind="https"):
        return f"https://127.0.0.1:{self.port}" if kind == "https" else f"http://127.0.0.1:{self.http_port}"

    def request(self, method, path, body=None, headers=None, kind="http", timeout=30):
        """One request on a new connection: (status, headers, body)."""
        c = self.connection(kind, timeout)
        try:
            c.request(method, path, body, headers or {})
            r = c.getresponse()
            return r.status, r.headers, r.read()
        finally:
            c.close()

    def _post(self, kind, path, body, content_type):
        """On the connection that is kept for kind; once more when an idle one was closed meanwhile."""
        for attempt in (1, 2):
            c = self._connections.get(kind) or self.connection(kind, timeout=120)
            self._connections[kind] = c
            try:
                c.request("POST", path, body, {"Content-Type": content_type})
                return c.getresponse().read()
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
                c.close()
                del self._connections[kind]
                if attempt == 2:
                    raise

    def json(self, method, *params, kind="http"):
        """A JSON-RPC 2.0 call; its result, or Failure."""
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        answer = json.loads(self._post(kind, "/jsonrpc", body, "application/json"))
        if "error" in answer:
            raise Failure([answer["error"]["message"], *answer["error"].get("data", [])])
        return answer["result"]

    def xml(self, method, *params, kind="http"):
        """An XML-RPC call; its Value, or Failure."""
        body = xmlrpc.client.dumps(params, method, allow_none=True)
        answer = xmlrpc.client.loads(self._post(kind, "/RPC2", body, "text/xml"))[0][0]  # dates stay text
        if not isinstance(answer, dict) or "Status" not in answer:
            return answer
        if answer["Status"] != "Success":
            raise Failure(answer["ErrorDescription"])
        return answer.get("Value")

    def login(self, user="root", password=None, kind="http", codec="json"):
        password = self.users.get(user, "") if password is None else password
        return Session(self, getattr(self, codec)("session.login_with_password", user, password, kind=kind), kind, codec)


class Session:
    """Who is logged in: call() adds the session's reference."""

    def __init__(self, server, ref, kind="http", codec="json"):
        self.server, self.ref, self.kind, self.codec = server, ref, kind, codec

    def call(self, method, *params):
        return getattr(self.server, self.codec)(method, self.ref, *params, kind=self.kind)

    def wait(self, task, timeout=60):
        """Until the task has ended: its record; Failure when it failed. The task is destroyed."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            record = self.call("task.get_record", task)
            if record["status"] not in ("pending", "cancelling"):
                self.call("task.destroy", task)
                if record["status"] != "success":
                    raise Failure(record["error_info"] or [record["status"]])
                return record
            time.sleep(0.02)
        raise AssertionError(f"task {task} did not end")

    def logout(self):
        self.call("session.logout")


def eventually(condition, seconds=20):
    """Waits until condition() is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError("what the test waits for did not happen")
        time.sleep(0.02)


class Case(unittest.TestCase):
    """One server, and who is logged in there, for all tests of a class."""
    conf = None
    env = None
    users = None
    allow_crash = False

    @classmethod
    def setUpClass(cls):
        cls._open(cls.addClassCleanup)

    @classmethod
    def _open(cls, add_cleanup):
        cls.server = Server(conf=cls.conf, env=cls.env, users=cls.users, allow_crash=cls.allow_crash).start()
        add_cleanup(cls.server.clean)
        add_cleanup(cls.server.stop)
        cls.log_in()

    @classmethod
    def log_in(cls):
        cls.s = cls.server.login()
        cls.host = cls.call("host.get_all")[0]
        cls.pool = cls.call("pool.get_all")[0]

    @classmethod
    def call(cls, method, *params):
        return cls.s.call(method, *params)

    @classmethod
    def sim(cls, function, **args):
        """One of the simulator's own functions."""
        return json.loads(cls.call("host.call_plugin", cls.host, "xenapid-sim", function, args) or "{}")

    @classmethod
    def guests(cls):
        """The VMs that are there, but for the control domain."""
        return sorted(r for r, v in cls.call("VM.get_all_records").items() if not v["is_control_domain"])

    until = staticmethod(eventually)

    def fails(self, expected, method, *params):
        """The call fails with that code, or with those code and parameters, among which None stands for anything: its
        parameters."""
        with self.assertRaises(Failure, msg=method) as f:
            self.call(method, *params)
        got = [f.exception.code, *f.exception.params]
        if isinstance(expected, str):
            self.assertEqual(got[0], expected, f"{method}: {got}")
        else:
            self.assertEqual(len(got), len(expected), f"{method}: {got}")
            self.assertEqual([g if e is None else e for e, g in zip(expected, got)], got, method)
        return f.exception.params


class EachCase(Case):
    """The same with a server for each test."""

    @classmethod
    def setUpClass(cls):
        pass

    def setUp(self):
        self._open(self.addCleanup)


def basic(user, password):
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}
