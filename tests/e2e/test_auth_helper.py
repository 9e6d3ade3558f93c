"""Drives xenapid-auth by hand over a socketpair, with a PAM service of the test's own."""
import glob
import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

from harness import BUILD

MATRIX = (glob.glob("/usr/lib*/*/pam_wrapper/pam_matrix.so") + glob.glob("/usr/lib*/pam_wrapper/pam_matrix.so") +
          ["pam_matrix.so"])[0]
SERVICE = """\
auth [success=ignore default=1] pam_succeed_if.so quiet user = slow
auth required pam_exec.so quiet /bin/sleep 61.7
auth required {matrix} passdb={passdb}
account required {matrix} passdb={passdb}
account [success=ignore default=1] pam_succeed_if.so quiet user = stale
account requisite pam_debug.so acct=new_authtok_reqd
account [success=ignore default=1] pam_succeed_if.so quiet user = gone
account requisite pam_debug.so acct=acct_expired
account required pam_permit.so
password required {matrix} passdb={passdb}
"""
USERS = {"root": "secret", "nobody": "moin moin", "alice": "ä\"\\%", "slow": "s", "stale": "s", "gone": "s"}


class Helper:
    def __init__(self, controlled=False, **sessions):
        self.dir = tempfile.TemporaryDirectory(prefix="xenapid-auth.")
        self.passdb = os.path.join(self.dir.name, "passdb")
        with open(self.passdb, "w") as f:
            f.writelines(f"{u}:{p}:xenapid-test\n" for u, p in USERS.items())
            f.write("other:s:another-service\n")
        with open(os.path.join(self.dir.name, "xenapid-test"), "w") as f:
            f.write(SERVICE.format(matrix=MATRIX, passdb=self.passdb))
        self.config = os.path.join(self.dir.name, "conf")
        self.write_conf(**sessions)
        self.log_path = os.path.join(self.dir.name, "log")
        ours, theirs = socket.socketpair()
        env = {k: v for k, v in os.environ.items() if not k.startswith("XENAPID_")}
        env["XENAPID_CONTROL_FD" if controlled else "XENAPID_WIRE_FD"] = str(theirs.fileno())
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                [os.path.join(BUILD, "xenapid-auth"), "--config", self.config, "--pam-service", "xenapid-test",
                 "--pam-confdir", self.dir.name], env=env, stderr=log, pass_fds=[theirs.fileno()])
        theirs.close()
        self.control = None
        if controlled:
            self.control = ours
            self.connect()
        else:
            self.use(ours)

    def write_conf(self, **sessions):
        with open(self.config, "w") as f:
            f.write("[sessions]\n" + "".join(f"{k.replace('_', '-')}={v}\n" for k, v in sessions.items()))

    def use(self, sock):
        self.socket = sock
        self.answers, self.next_id = {}, 1
        self.condition = threading.Condition()
        threading.Thread(target=self.read, args=(sock, self.answers), daemon=True).start()

    def connect(self):
        """A new front: gives the helper a new wire by its control wire."""
        ours, theirs = socket.socketpair()
        socket.send_fds(self.control, [b'{"method":"wire","fds":1}\n'], [theirs.fileno()])
        theirs.close()
        self.use(ours)

    def read(self, sock, answers):
        for line in sock.makefile("rb"):
            message = json.loads(line)
            with self.condition:
                answers[message["id"]] = message
                self.condition.notify_all()

    def ask(self, method, **params):
        """Sends a request and answers its number."""
        with self.condition:
            number, self.next_id = self.next_id, self.next_id + 1
            self.socket.sendall(json.dumps({"id": number, "method": method, "params": params}).encode() + b"\n")
            return number

    def wait(self, number, timeout=20):
        with self.condition:
            if not self.condition.wait_for(lambda: number in self.answers, timeout):
                raise AssertionError(f"no answer: {self.log()}")
            return self.answers[number]

    def call(self, method, **params):
        return self.wait(self.ask(method, **params))

    def notify(self, method, **params):
        self.socket.sendall(json.dumps({"method": method, "params": params}).encode() + b"\n")

    def login(self, user, password=None):
        return self.call("authenticate", user=user, password=USERS[user] if password is None else password)

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def workers(self):
        out = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(self.process.pid)], capture_output=True, text=True)
        return [int(line.split()[0]) for line in out.stdout.splitlines() if "--worker" in line]

    def wait_worker(self):
        deadline = time.monotonic() + 10
        while not (found := self.workers()) and time.monotonic() < deadline:
            time.sleep(0.01)
        return found[0]

    def hang_up(self):
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.socket.close()

    def close(self):
        self.hang_up()
        if self.control:
            self.control.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError("xenapid-auth did not end")
        self.dir.cleanup()


def code(answer):
    return answer["error"]["message"]


def sockets(pid):
    links = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            links.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
        except FileNotFoundError:
            pass
    return {link for link in links if link.startswith("socket:")}


class AuthHelper(unittest.TestCase):
    def helper(self, **options):
        h = Helper(**options)
        self.addCleanup(h.close)
        return h

    def assert_refused(self, answer, user):
        self.assertEqual(code(answer), "SESSION_AUTHENTICATION_FAILED")
        self.assertEqual(answer["error"]["data"], [user, "Authentication failure"])

    def test_good(self):
        h = self.helper()
        result = h.login("root")["result"]
        self.assertEqual((result["user"], result["subject_identifier"], result["uid"], result["gid"]),
                         ("root", "u:root", 0, 0))
        self.assertIn("root", result["groups"])
        self.assertIn("g:root", result["group_identifiers"])
        self.assertEqual(h.login("nobody")["result"]["user"], "nobody")

    def test_user_whom_only_pam_knows(self):
        result = self.helper().login("alice")["result"]
        self.assertEqual(result["subject_identifier"], "u:alice")
        self.assertEqual(result["groups"], [])
        self.assertNotIn("uid", result)

    def test_refused(self):
        h = self.helper()
        self.assert_refused(h.login("root", "wrong"), "root")
        self.assert_refused(h.call("authenticate", user="mallory", password="secret"), "mallory")
        self.assert_refused(h.call("authenticate", user="root"), "root")
        self.assert_refused(h.call("authenticate", user="root", password=["secret"]), "root")
        for user in ("", "-x", "a:b", "../root", "x" * 300, "ro\not", "a\x7f"):
            self.assert_refused(h.call("authenticate", user=user, password="secret"), user)
        self.assertIn('"root" refused: authentication', h.log())
        self.assertIn('"mallory" refused: authentication', h.log())

    def test_closed_accounts(self):
        h = self.helper()
        self.assert_refused(h.login("stale"), "stale")
        self.assert_refused(h.login("gone"), "gone")
        self.assert_refused(h.call("authenticate", user="other", password="s"), "other")
        self.assertIn('"stale" refused: account: the password has expired', h.log())
        self.assertIn('"gone" refused: account: User account has expired', h.log())
        self.assertIn('"other" refused: account', h.log())

    def test_the_front_does_not_choose_the_service(self):
        h = self.helper()
        with open(os.path.join(h.dir.name, "lax"), "w") as f:
            f.write("auth required pam_permit.so\naccount required pam_permit.so\n")
        self.assert_refused(h.call("authenticate", user="root", password="x", service="lax"), "root")

    def test_eight_at_once_with_one_that_hangs(self):
        h = self.helper(login_timeout=2)
        began = time.monotonic()
        slow = h.ask("authenticate", user="slow", password="s")
        others = [h.ask("authenticate", user="root", password="secret") for _ in range(7)]
        for number in others:
            self.assertIn("result", h.wait(number))
        self.assertLess(time.monotonic() - began, 1.9)
        self.assert_refused(h.wait(slow), "slow")
        self.assertGreater(time.monotonic() - began, 1.9)
        self.assertLess(time.monotonic() - began, 6)
        self.assertIn("no answer in time", h.log())
        self.assertEqual(h.workers(), [])

    def test_no_more_at_once_than_allowed(self):
        h = self.helper(login_timeout=2, logins_at_once=2)
        numbers = [h.ask("authenticate", user="slow", password="s") for _ in range(4)]
        h.wait_worker()
        time.sleep(0.3)
        self.assertEqual(len(h.workers()), 2)
        # What is no login has its own threads.
        self.assertIn("result", h.call("resolve", name="root"))
        for number in numbers:
            self.assert_refused(h.wait(number), "slow")
        self.assertIn("result", h.login("root"))

    def test_a_worker_that_dies(self):
        h = self.helper()
        number = h.ask("authenticate", user="slow", password="s")
        os.kill(h.wait_worker(), signal.SIGSEGV)
        self.assert_refused(h.wait(number), "slow")
        self.assertIn("died", h.log())
        self.assertIn("result", h.login("root"))

    def test_cancel(self):
        h = self.helper()
        began = time.monotonic()
        number = h.ask("authenticate", user="slow", password="s")
        h.wait_worker()
        h.notify("cancel", id=number)
        self.assert_refused(h.wait(number), "slow")
        self.assertLess(time.monotonic() - began, 5)

    def test_no_secret_is_left_lying_about(self):
        h = self.helper()
        number = h.ask("authenticate", user="slow", password="geheim-17")
        worker = h.wait_worker()
        for pid in (worker, h.process.pid):
            for name in ("cmdline", "environ"):
                with open(f"/proc/{pid}/{name}", "rb") as f:
                    self.assertNotIn(b"geheim-17", f.read())
        # A module does not get at the front's wire.
        self.assertFalse(sockets(worker) & sockets(h.process.pid) - {os.readlink(f"/proc/{worker}/fd/3")})
        h.notify("cancel", id=number)
        h.wait(number)
        h.call("change_password", user="root", old="geheim-17", new="geheim-17")
        self.assertNotIn("geheim-17", h.log())

    def test_change_password(self):
        h = self.helper()
        answer = h.call("change_password", user="nobody", old="wrong", new="fresh")
        self.assertEqual(code(answer), "CHANGE_PASSWORD_REJECTED")
        self.assertIn("the old password", answer["error"]["data"][0])
        answer = h.call("change_password", user="nobody", old="moin moin", new="")
        self.assertEqual(code(answer), "CHANGE_PASSWORD_REJECTED")
        self.assertIn("result", h.call("change_password", user="nobody", old="moin moin", new="fresh"))
        self.assert_refused(h.login("nobody"), "nobody")
        self.assertIn("result", h.login("nobody", "fresh"))
        # An expired password may be changed, a closed account's may not.
        self.assertIn("result", h.call("change_password", user="stale", old="s", new="t"))
        self.assertEqual(code(h.call("change_password", user="gone", old="s", new="t")), "CHANGE_PASSWORD_REJECTED")

    def test_resolve(self):
        h = self.helper()
        user = h.call("resolve", name="root")["result"]
        self.assertEqual((user["subject_identifier"], user["subject_name"], user["is_group"], user["uid"]),
                         ("u:root", "root", False, 0))
        self.assertEqual(user["information"]["subject-is-group"], "false")
        self.assertEqual(user["information"]["subject-uid"], "0")
        group = h.call("resolve", name="tty")["result"]
        self.assertEqual((group["subject_identifier"], group["is_group"]), ("g:tty", True))
        self.assertEqual(h.call("resolve", name="g:root")["result"]["is_group"], True)
        self.assertEqual(h.call("info", identifier="u:root")["result"], user)
        groups = h.call("groups", identifier="u:root")["result"]
        self.assertIn("g:root", groups["groups"])
        self.assertIn("root", groups["names"])
        self.assertEqual(h.call("groups", identifier="g:root")["result"]["groups"], [])
        for method, key in (("resolve", "name"), ("info", "identifier"), ("groups", "identifier")):
            for name in ("no-such-subject", "", "u:", "u:no-such-user", "x:root"):
                self.assertEqual(code(h.call(method, **{key: name})), "SUBJECT_CANNOT_BE_RESOLVED")

    def test_what_it_does_not_know(self):
        h = self.helper()
        self.assertEqual(code(h.call("shutdown")), "MESSAGE_METHOD_UNKNOWN")
        h.notify("hello")
        self.assertIn("result", h.login("root"))

    def test_garbage_ends_it(self):
        h = self.helper()
        h.socket.sendall(b"GET / HTTP/1.1\r\n")
        self.assertEqual(h.process.wait(10), 0)

    def test_half_closed(self):
        """echo request | socat - EXEC:xenapid-auth gets its answer."""
        h = self.helper()
        number = h.ask("authenticate", user="root", password="secret")
        h.socket.shutdown(socket.SHUT_WR)
        self.assertIn("result", h.wait(number))

    def test_sigterm(self):
        h = self.helper()
        h.ask("authenticate", user="slow", password="s")
        h.wait_worker()
        h.process.send_signal(signal.SIGTERM)
        self.assertEqual(h.process.wait(10), 0)

    def test_survives_the_front(self):
        h = self.helper(controlled=True, login_timeout=30)
        self.assertIn("result", h.login("root"))
        h.ask("authenticate", user="slow", password="s")
        h.wait_worker()
        h.hang_up()
        time.sleep(0.2)
        self.assertIsNone(h.process.poll())
        h.connect()
        self.assertIn("result", h.login("root"))
        # Nor does it mind to be given another while the old one is there.
        h.connect()
        self.assertIn("result", h.login("root"))

    def test_reload(self):
        h = self.helper(controlled=True, login_timeout=30)
        self.assertIn("result", h.login("root"))
        h.write_conf(login_timeout=1)
        h.control.sendall(b'{"method":"reload"}\n')
        time.sleep(0.3)
        began = time.monotonic()
        self.assert_refused(h.login("slow"), "slow")
        self.assertLess(time.monotonic() - began, 8)
        h.write_conf(login_timeout="x")
        h.control.sendall(b'{"method":"reload"}\n')
        self.assertIn("result", h.login("root"))
        h.control.sendall(b'{"method":"stop"}\n')
        self.assertEqual(h.process.wait(10), 0)
        self.assertIn("stays as it was", h.log())


if __name__ == "__main__":
    unittest.main()
