"""The supervisor with stand-ins for its children: start, privileges, restarts, reload, stop, systemd's protocol."""
import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
import unittest

from harness import BUILD

TOY = os.path.join(BUILD, "tests/toys/toy-process")
ROOT = os.getuid() == 0


def environment(**more):
    drop = ("NOTIFY_SOCKET", "JOURNAL_STREAM", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_USEC",
            "WATCHDOG_PID")
    return {**{k: v for k, v in os.environ.items() if k not in drop}, **more}


class Supervisor:
    def __init__(self, *options, daemon="", env=None, notify=False, listen=True, pass_fds=(), start=True):
        self.dir = tempfile.mkdtemp(prefix="xenapid-sup.")
        os.chmod(self.dir, 0o755)
        self.helpers = os.path.join(self.dir, "helpers")
        os.mkdir(self.helpers)
        for name in ("xenapid-front", "xenapid-auth", "xenapid-sim"):
            shutil.copy(TOY, os.path.join(self.helpers, name))
        self.state, self.run = os.path.join(self.dir, "state"), os.path.join(self.dir, "run")
        self.path = os.path.join(self.run, "xenapid.sock")
        self.config = os.path.join(self.dir, "conf")
        self.write_conf(daemon)
        self.log_path = os.path.join(self.dir, "log")
        self.args = [os.path.join(BUILD, "xenapid"), "--config", self.config, "--state-dir", self.state,
                     "--runtime-dir", self.run, *options]
        if ROOT:
            self.args += ["--user", "nobody"]
        if listen:
            self.args += ["--listen-https", "127.0.0.1:0", "--listen-http", "[::1]:0"]
        self.env = environment(**(env or {}))
        self.notify = None
        if notify:
            self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self.notify.bind(os.path.join(self.dir, "notify"))
            self.notify.settimeout(10)
            self.env["NOTIFY_SOCKET"] = os.path.join(self.dir, "notify")
        self.pass_fds = pass_fds
        self.process = None
        if start:
            self.start()

    def write_conf(self, daemon):
        with open(self.config, "w") as f:
            f.write(f"[daemon]\nbackend=sim\nhelper-dir={self.helpers}\nlog-level=debug\nstop-timeout=1\n{daemon}")
        os.chmod(self.config, 0o644)

    def start(self):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.args, env=self.env, stderr=log, stdin=subprocess.DEVNULL,
                                            pass_fds=self.pass_fds)

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def connect(self):
        s = socket.socket(socket.AF_UNIX)
        s.settimeout(10)
        s.connect(self.path)
        return s

    def ask(self, line, patience=10):
        """One line to the front, on a connection of its own; again while there is no front."""
        deadline = time.monotonic() + patience
        while True:
            try:
                with self.connect() as s, s.makefile("rw") as f:
                    f.write(line + "\n")
                    f.flush()
                    answer = f.readline()
                    if answer:
                        return answer.rstrip("\n")
            except OSError:
                pass
            if time.monotonic() > deadline:
                raise AssertionError(f"no answer to {line}:\n{self.log()}")
            time.sleep(0.02)

    def wait_answer(self, line, wanted, patience=10):
        deadline = time.monotonic() + patience
        while (got := self.ask(line)) != wanted:
            if time.monotonic() > deadline:
                raise AssertionError(f"{line}: {got}, not {wanted}\n{self.log()}")
            time.sleep(0.02)

    def tell(self, line):
        with self.connect() as s:
            s.sendall(line.encode() + b"\n")
            s.recv(100)

    def wait_log(self, text, patience=10):
        deadline = time.monotonic() + patience
        while text not in self.log():
            if time.monotonic() > deadline:
                raise AssertionError(f"not in the log: {text}\n{self.log()}")
            time.sleep(0.02)

    def wait_notify(self, *texts):
        message = ""
        while not any(t in message for t in texts):
            message = self.notify.recv(4096).decode()
        return message

    def stop(self, status=0):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        got = self.process.wait(20)
        if got != status:
            raise AssertionError(f"ended with {got}:\n{self.log()}")

    def close(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        if self.notify:
            self.notify.close()
        shutil.rmtree(self.dir)


def children(pid):
    out = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True)
    return [int(p) for p in out.stdout.split()]


class Tests(unittest.TestCase):
    def supervisor(self, *options, **more):
        s = Supervisor(*options, **more)
        self.addCleanup(s.close)
        return s

    def wait_gone(self, pids, patience=10):
        deadline = time.monotonic() + patience
        while any(os.path.exists(f"/proc/{p}") for p in pids):
            self.assertLess(time.monotonic(), deadline, "processes are left")
            time.sleep(0.02)

    def test_start_and_stop(self):
        s = self.supervisor()
        listeners = s.ask("listeners")
        self.assertRegex(listeners, r"^0=127\.0\.0\.1:[1-9]\d*;1=\[::1\]:[1-9]\d*;2=" + s.path + ";$")
        self.assertEqual(s.ask("auth count"), "1")
        self.assertEqual(s.ask("backend count"), "1")
        self.assertEqual(stat.S_IMODE(os.stat(s.state).st_mode), 0o700)
        self.assertEqual(stat.S_IMODE(os.stat(s.run).st_mode), 0o755)
        self.assertEqual(stat.S_IMODE(os.stat(s.path).st_mode), 0o660)
        pids = children(s.process.pid)
        self.assertEqual(len(pids), 3)
        s.stop()
        self.assertFalse(os.path.exists(s.path))
        self.wait_gone(pids)
        self.assertNotIn("warning", s.log())

    @unittest.skipUnless(ROOT, "needs root")
    def test_privileges(self):
        s = self.supervisor()
        nobody = pwd.getpwnam("nobody")
        for line in ("who", "backend who"):
            who = s.ask(line)
            self.assertIn("Uid: " + " ".join([str(nobody.pw_uid)] * 4), who)
            self.assertIn("Gid: " + " ".join([str(nobody.pw_gid)] * 4), who)
            self.assertIn("NoNewPrivs: 1", who)
            for kind in "Inh", "Prm", "Eff", "Bnd", "Amb":
                self.assertIn(f"Cap{kind}: 0000000000000000", who)
        self.assertIn("Uid: 0 0 0 0", s.ask("auth who"))
        self.assertEqual(os.stat(s.state).st_uid, nobody.pw_uid)
        # The simulator, which is not root, keeps its domains there.
        self.assertEqual(os.stat(s.run).st_uid, nobody.pw_uid)
        self.assertEqual(os.stat(s.path).st_uid, nobody.pw_uid)
        s.stop()

    def test_descriptors(self):
        """The front has its standard descriptors, its sockets, and nothing else of ours."""
        with open("/dev/zero") as extra:
            os.set_inheritable(extra.fileno(), True)
            s = self.supervisor(pass_fds=(extra.fileno(),))
            pid = int(s.ask("pid"))
            links = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in os.listdir(f"/proc/{pid}/fd")]
        self.assertNotIn("/dev/zero", links)
        self.assertEqual(os.readlink(f"/proc/{pid}/fd/0"), "/dev/null")
        s.stop()

    def test_the_front_dies(self):
        """It comes back with the same sockets; the helpers are the same processes."""
        s = self.supervisor()
        listeners, pid, helper = s.ask("listeners"), s.ask("pid"), s.ask("backend pid")
        self.assertEqual([s.ask("backend count"), s.ask("backend count")], ["1", "2"])
        s.tell("crash")
        self.assertNotEqual(s.ask("pid"), pid)
        self.assertEqual(s.ask("listeners"), listeners)
        self.assertEqual(s.ask("backend pid"), helper)
        self.assertEqual(s.ask("backend count"), "3")
        self.assertEqual(s.ask("auth count"), "1")
        self.assertIn("front died of signal 9", s.log())
        s.stop()

    def test_a_helper_dies(self):
        """The front lives on and gets the new one's socket."""
        s = self.supervisor()
        front, helper = s.ask("pid"), s.ask("auth pid")
        self.assertIn("INTERNAL_ERROR", s.ask("auth crash"))
        self.assertNotEqual(s.ask("auth pid"), helper)
        self.assertEqual(s.ask("auth count"), "1")
        self.assertEqual(s.ask("pid"), front)
        s.stop()

    def test_dies_again_and_again(self):
        s = self.supervisor()
        s.ask("pid")
        began = time.monotonic()
        for _ in range(4):
            s.ask("auth crash")
        s.ask("auth pid")
        self.assertGreater(time.monotonic() - began, 0.3)
        for _ in range(3):
            s.tell("fail")
            s.ask("pid")
        self.assertEqual(s.ask("backend count"), "1")
        s.stop()

    def test_a_helper_that_hangs(self):
        """What is under way and what is new is refused, but for what needs nothing of it, until it goes on."""
        s = self.supervisor()
        self.assertEqual(s.ask("backend count"), "1")
        self.assertIn("stuck", s.ask("backend stuck"))
        self.assertIn("stuck", s.ask("backend count"))
        self.assertIn("Uid", s.ask("backend who"))
        self.assertEqual(s.ask("backend well"), "1")
        self.assertEqual(s.ask("backend count"), "2")
        s.stop()

    def test_everything_dies(self):
        s = self.supervisor()
        s.ask("pid")
        for pid in children(s.process.pid):
            os.kill(pid, signal.SIGKILL)
        self.assertEqual(s.ask("auth count"), "1")
        self.assertEqual(s.ask("backend count"), "1")
        s.stop()

    def test_the_supervisor_dies(self):
        s = self.supervisor()
        s.ask("pid")
        pids = children(s.process.pid)
        s.process.kill()
        s.process.wait()
        self.wait_gone(pids)
        # What it left is no obstacle.
        self.assertTrue(os.path.exists(s.path))
        s.start()
        s.ask("pid")
        s.stop()

    def test_reload(self):
        s = self.supervisor()
        self.assertEqual(s.ask("reloads"), "0")
        s.process.send_signal(signal.SIGHUP)
        s.wait_log("configuration read again")
        s.wait_answer("reloads", "1")
        s.write_conf("listen-unix=/tmp/other\n")
        s.process.send_signal(signal.SIGHUP)
        s.wait_log("listeners change at the next start")
        s.write_conf("log-level=chatty\n")
        s.process.send_signal(signal.SIGHUP)
        s.wait_log("stays as it was: " + s.config + ":6: [daemon] log-level")
        s.wait_answer("reloads", "2")
        # A front that starts now would read the bad file: the helpers and the front that run are not touched.
        s.write_conf("")
        s.stop()

    def test_a_deaf_front_is_killed(self):
        s = self.supervisor(env={"TOY_DEAF": "1"})
        s.ask("pid")
        began = time.monotonic()
        s.stop()
        self.assertGreater(time.monotonic() - began, 5)
        self.assertIn("killing what has not stopped", s.log())

    def test_impatience(self):
        s = self.supervisor(env={"TOY_DEAF": "1"})
        s.ask("pid")
        began = time.monotonic()
        s.process.send_signal(signal.SIGTERM)
        s.wait_log("SIGTERM: stopping")
        s.process.send_signal(signal.SIGINT)
        s.stop()
        self.assertLess(time.monotonic() - began, 4)

    def test_a_front_that_cannot_start(self):
        s = self.supervisor(env={"TOY_FAILS": "1"})
        self.assertEqual(s.process.wait(10), 1)
        self.assertIn("front ended with status 1 before everything had started", s.log())

    def test_missing_program(self):
        s = self.supervisor(start=False)
        os.unlink(os.path.join(s.helpers, "xenapid-sim"))
        s.start()
        self.assertEqual(s.process.wait(10), 1)
        self.assertIn("cannot start " + s.helpers + "/xenapid-sim: exec: No such file", s.log())

    def test_listen_errors(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            address = "127.0.0.1:%d" % taken.getsockname()[1]
            s = self.supervisor("--listen-https", address, listen=False)
            self.assertEqual(s.process.wait(10), 1)
            self.assertIn(f"cannot listen on {address}: Address already in use; another program has it", s.log())
        s = self.supervisor("--listen-unix", "", "--listen-https", "", listen=False)
        self.assertEqual(s.process.wait(10), 1)
        self.assertIn("nothing to listen on", s.log())

    def test_unix_sockets(self):
        first = self.supervisor()
        first.ask("pid")
        # Another may not take what one uses: neither its state nor its socket.
        second = self.supervisor("--state-dir", first.state)
        self.assertEqual(second.process.wait(10), 1)
        self.assertIn("another xenapid uses it", second.log())
        third = self.supervisor("--listen-unix", first.path)
        self.assertEqual(third.process.wait(10), 1)
        self.assertIn("another process listens there", third.log())
        first.ask("pid")
        fourth = self.supervisor("--listen-unix", first.config)
        self.assertEqual(fourth.process.wait(10), 1)
        self.assertIn("no socket and is left alone", fourth.log())
        first.stop()

    @unittest.skipUnless(ROOT, "needs root")
    def test_owner_and_mode(self):
        s = self.supervisor(daemon="unix-mode=0600\nunix-owner=root\nunix-group=tty\n", start=False)
        s.start()
        s.wait_log("listening: unix")
        s.wait_log("ready")
        st = os.stat(s.path)
        self.assertEqual((stat.S_IMODE(st.st_mode), st.st_uid), (0o600, 0))
        s.stop()
        s = self.supervisor(daemon="unix-group=no-such-group\n")
        self.assertEqual(s.process.wait(10), 1)
        self.assertIn("unix-group: there is no group no-such-group", s.log())

    @unittest.skipUnless(ROOT, "needs root")
    def test_users(self):
        for user, text in (("no-such-user", "there is no user no-such-user"), ("root", "not run as root")):
            s = self.supervisor(start=False)
            s.args += ["--user", user]
            s.start()
            self.assertEqual(s.process.wait(10), 1)
            self.assertIn(text, s.log())
        s = self.supervisor(start=False)
        os.mkdir(s.state)
        os.chown(s.state, 1, 1)
        s.start()
        self.assertEqual(s.process.wait(10), 1)
        self.assertIn("belongs to user 1", s.log())

    @unittest.skipUnless(ROOT, "needs root to become somebody else")
    def test_by_an_ordinary_user(self):
        s = self.supervisor(start=False)
        nobody = pwd.getpwnam("nobody")
        os.chown(s.dir, nobody.pw_uid, nobody.pw_gid)
        with open(s.log_path, "wb") as log:
            s.process = subprocess.Popen(s.args, env=s.env, stderr=log, user="nobody", group="nogroup", extra_groups=[])
        self.assertIn(f"Uid: {nobody.pw_uid} ", s.ask("auth who"))
        s.stop()
        with open(s.log_path, "wb") as log:
            s.process = subprocess.Popen(s.args + ["--runtime-dir", "/run/xenapid-of-nobody"], env=s.env, stderr=log,
                                         user="nobody", group="nogroup", extra_groups=[])
        self.assertEqual(s.process.wait(10), 1)
        self.assertIn("choose another place with --runtime-dir", s.log())

    def test_command_line(self):
        def run(*args):
            return subprocess.run([os.path.join(BUILD, "xenapid"), *args], capture_output=True, text=True,
                                  env=environment())
        self.assertRegex(run("--version").stdout, r"^xenapid \d")
        self.assertEqual(run("--version", "--config", "/nonexistent").returncode, 0)
        self.assertEqual(run("--help").returncode, 0)
        self.assertEqual(run("--bogus").returncode, 2)
        self.assertEqual(run("--config", "/nonexistent").returncode, 2)
        self.assertEqual(run("--check-config", "--config", "/dev/null").returncode, 0)
        bad = run("--check-config", "--config", "/dev/null", "--backend", "kvm")
        self.assertEqual(bad.returncode, 2)
        self.assertIn('--backend: "kvm" is not xen or sim', bad.stderr)

    # ---- systemd ----

    def test_notify(self):
        s = self.supervisor(notify=True)
        self.assertIn("READY=1", s.wait_notify("READY=1"))
        s.tell("status x")
        # A line break does not become an assignment.
        self.assertEqual(s.wait_notify("STATUS=one"), "STATUS=one\\nREADY=1 line")
        s.process.send_signal(signal.SIGHUP)
        self.assertIn("MONOTONIC_USEC=", s.wait_notify("RELOADING=1"))
        s.wait_notify("READY=1")
        s.process.send_signal(signal.SIGTERM)
        self.assertIn("EXTEND_TIMEOUT_USEC=", s.wait_notify("STOPPING=1"))
        s.stop()

    def test_watchdog(self):
        s = self.supervisor(notify=True, env={"WATCHDOG_USEC": "800000"})
        s.wait_notify("WATCHDOG=1")
        s.wait_notify("WATCHDOG=1")
        s.tell("unwell")
        time.sleep(0.5)
        s.notify.setblocking(False)
        try:
            while True:
                s.notify.recv(4096)
        except BlockingIOError:
            pass
        time.sleep(1)
        self.assertRaises(BlockingIOError, s.notify.recv, 4096)
        s.stop()

    def test_socket_activation(self):
        path = tempfile.mktemp(prefix="xenapid-activated.")
        tcp, local = socket.socket(), socket.socket(socket.AF_UNIX)
        self.addCleanup(lambda: os.path.exists(path) and os.unlink(path))
        with tcp, local:
            tcp.bind(("127.0.0.1", 0))
            local.bind(path)
            os.chmod(path, 0o666)
            tcp.listen()
            local.listen()
            s = self.supervisor(start=False)
            port = tcp.getsockname()[1]
            # The descriptors must be 3 and 4, and LISTEN_PID the process's own.
            args = " ".join(f"'{a}'" for a in s.args)
            shell = (f"exec 8<&{tcp.fileno()} 9<&{local.fileno()} 3<&8 4<&9 8<&- 9<&-; "
                     f"export LISTEN_PID=$$ LISTEN_FDS=2 LISTEN_FDNAMES=https:other; exec {args}")
            with open(s.log_path, "wb") as log:
                s.process = subprocess.Popen(["bash", "-c", shell], env=s.env, stderr=log,
                                             pass_fds=(tcp.fileno(), local.fileno()))
            s.path = path
            self.assertEqual(s.ask("listeners"), f"0=127.0.0.1:{port};2={path};")
            s.stop()
            # It is systemd's, and stays.
            self.assertTrue(os.path.exists(path))


if __name__ == "__main__":
    unittest.main()
