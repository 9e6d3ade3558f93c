"""Who may log in, how many, for how long and what they may then do: each promise of security from outside."""
import concurrent.futures
import contextlib
import json
import os
import re
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
import unittest

from harness import Failure, Server, Session, pam_matrix

REF = re.compile(r"OpaqueRef:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$")
POOL_ADMIN = "OpaqueRef:0165f154-ba3e-034e-6b27-5d271af109ba"
USERS = {"root": "secret", "alice": "wonderland", "bob": "builder", "daemon": "devil", "hang": "h", "slow": "s"}
PAM = """\
auth [success=ignore default=1] pam_succeed_if.so quiet user = hang
auth required pam_exec.so quiet /bin/sleep 97
auth [success=ignore default=1] pam_succeed_if.so quiet user = slow
auth required pam_exec.so quiet /bin/sleep 1
auth required {matrix} passdb={passdb}
account required {matrix} passdb={passdb}
password required {matrix} passdb={passdb}
session required {matrix} passdb={passdb}
"""


class SlowServer(Server):
    """Whose PAM hangs for the user hang and takes a second for the user slow."""

    def _write_pam(self):
        super()._write_pam()
        text = PAM.format(matrix=pam_matrix(), passdb=os.path.join(self.dir, "passdb"))
        with open(os.path.join(self.dir, "pam.d", "xenapid-test"), "w") as f:
            f.write(text)


def server(**sections):
    return Server(conf={k.replace("_", "-"): v for k, v in sections.items()}, users=dict(USERS))


def timed(fn, *args):
    began = time.monotonic()
    try:
        result = fn(*args)
    except Failure as f:
        result = f
    return result, time.monotonic() - began


def role_refs(session):
    return {r["name_label"]: ref for ref, r in session.call("role.get_all_records").items()}


def add_subject(session, identifier, *roles):
    """A subject that has these roles and no others."""
    refs = role_refs(session)
    subject = session.call("subject.create", {"subject_identifier": identifier, "other_config": {}})
    for role in roles:
        if refs[role] != POOL_ADMIN:
            session.call("subject.add_to_roles", subject, refs[role])
    if "pool-admin" not in roles:
        session.call("subject.remove_from_roles", subject, POOL_ADMIN)
    return subject


def post_from(source, s, *call):
    """A JSON-RPC call from another address of this machine: its answer, and how long it took."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": call[0], "params": call[1:]})
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", s.http_port), timeout=60, source_address=(source, 0)) as c:
        head = f"POST /jsonrpc HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        c.sendall((head + body).encode())
        answer = b""
        while chunk := c.recv(65536):
            answer += chunk
    return json.loads(answer.split(b"\r\n\r\n", 1)[1]), time.monotonic() - began


class Case(unittest.TestCase):
    @contextlib.contextmanager
    def fails(self, code, *params):
        with self.assertRaises(Failure) as caught:
            yield caught
        self.assertEqual(caught.exception.code, code)
        if params:
            self.assertEqual(tuple(caught.exception.params[:len(params)]), params)

    def assert_alive(self, session):
        session.call("session.get_uuid", session.ref)

    def assert_dead(self, session):
        with self.fails("SESSION_INVALID", session.ref):
            session.call("session.get_uuid", session.ref)

    def assert_denied(self, permission, session, method, *params):
        with self.fails("RBAC_PERMISSION_DENIED", permission) as caught:
            session.call(method, *params)
        self.assertEqual(len(caught.exception.params), 2)


class Logins(Case):
    def test_arguments(self):
        with server() as s:
            for codec in (s.json, s.xml):
                for more in ([], ["1.20"], ["1.20", "a client"]):
                    ref = codec("session.login_with_password", "root", "secret", *more)
                    self.assertRegex(ref, REF)
                for args in (["root"], ["root", "secret", "1", "2", "3"]):
                    with self.fails("MESSAGE_PARAMETER_COUNT_MISMATCH", "session.login_with_password"):
                        codec("session.login_with_password", *args)
            session = Session(s, ref)
            self.assertEqual(session.call("session.get_originator", ref), "a client")
            self.assertTrue(session.call("session.get_is_local_superuser", ref))
            self.assertRegex(session.call("session.get_this_host", ref), REF)

    def test_references(self):
        with server() as s:
            refs = [s.login().ref for _ in range(100)]
            self.assertEqual(len(set(refs)), 100)
            ones = sum(bin(int(r.removeprefix("OpaqueRef:").replace("-", ""), 16)).count("1") for r in refs)
            self.assertAlmostEqual(ones / 12800, 0.5, delta=0.03)  # seven standard deviations
            uuids = [s.json("session.get_uuid", r, r) for r in refs]
            self.assertFalse({r.removeprefix("OpaqueRef:") for r in refs} & set(uuids))

    def test_nothing_secret_is_logged(self):
        with server(daemon={"log-level": "debug"}) as s:
            root = s.login()
            unix = s.login(kind="unix")
            refs = [root.ref, unix.ref]
            with self.fails("SESSION_AUTHENTICATION_FAILED"):
                s.login(password="a-wrong-password")
            with self.fails("SESSION_INVALID"):
                s.json("VM.get_all", refs[0][:-1] + "x")
            root.call("secret.create", {"value": "a-kept-secret", "other_config": {}})
            task = root.call("task.create", "t", "")
            events = root.call("event.from", ["*"], "", 1.0)
            for ref in refs:
                self.assertNotIn(ref, json.dumps(events))
                self.assertNotIn(ref, json.dumps(root.call("task.get_record", task)))
            self.assertNotIn("a-kept-secret", json.dumps(events))
            s.request("GET", "/nowhere?session_id=" + root.ref)
            root.call("session.logout")
            log = s.log()
            for secret in (*refs, "a-wrong-password", "a-kept-secret"):
                self.assertNotIn(secret, log)
                self.assertNotIn(secret.removeprefix("OpaqueRef:"), log)
            self.assertNotRegex(log, r"\bsecret\b.*password|password.*\bsecret\b")

    def test_refusals_are_alike(self):
        with server(sessions={"login-failure-delay-ms": 300, "login-failures-before-slow": 1000}) as s:
            took = {"root": [], "alice": [], "nobody-of-that-name": []}
            for _ in range(3):
                for user, times in took.items():
                    answer, seconds = timed(lambda: s.login(user, "wrong"))
                    self.assertEqual((answer.code, answer.params),
                                     ("SESSION_AUTHENTICATION_FAILED", [user, "Authentication failure"]))
                    self.assertGreaterEqual(seconds, 0.3)
                    times.append(seconds)
            medians = [statistics.median(t) for t in took.values()]
            self.assertLess(max(medians) - min(medians), 0.1)

    def test_no_role(self):
        with server() as s:
            with self.fails("SESSION_AUTHORIZATION_FAILED", "alice"):
                s.login("alice")
            add_subject(s.login(), "u:alice", "read-only")
            alice = s.login("alice")
            self.assertEqual(alice.call("session.get_auth_user_sid", alice.ref), "u:alice")
            self.assertFalse(alice.call("session.get_is_local_superuser", alice.ref))

    def test_slowed_down(self):
        limits = {"login-failure-delay-ms": 100, "login-failures-before-slow": 3, "login-delay-max": 1}
        with server(sessions=limits) as s:
            add_subject(s.login(), "u:bob", "read-only")
            times = []
            for _ in range(8):
                answer, seconds = post_from("127.0.0.9", s, "session.login_with_password", "root", "wrong")
                self.assertEqual(answer["error"]["message"], "SESSION_AUTHENTICATION_FAILED")
                times.append(seconds)
            self.assertLess(max(times[:3]), 0.9)
            self.assertGreaterEqual(min(times[-2:]), 1.0)
            self.assertLess(max(times), 3)
            # The source is slow, whoever it says it is, and even with the right password.
            answer, seconds = post_from("127.0.0.9", s, "session.login_with_password", "bob", "builder")
            self.assertIn("result", answer)
            self.assertGreaterEqual(seconds, 0.9)
            # The user is slow at places that it never came from; where it came from it is not kept out.
            answer, seconds = post_from("127.0.0.10", s, "session.login_with_password", "root", "secret")
            self.assertGreaterEqual(seconds, 0.9)
            answer, seconds = post_from("127.0.0.1", s, "session.login_with_password", "root", "secret")
            self.assertIn("result", answer)
            self.assertLess(seconds, 0.9)
            # Other users from other places are not.
            answer, seconds = post_from("127.0.0.11", s, "session.login_with_password", "bob", "builder")
            self.assertIn("result", answer)
            self.assertLess(seconds, 0.9)

    def test_parallel_beside_one_that_hangs(self):
        with SlowServer(conf={"sessions": {"login-timeout": 4}}, users=dict(USERS)) as s:
            with concurrent.futures.ThreadPoolExecutor(30) as pool:
                hanging = [pool.submit(post_from, "127.0.0.7", s, "session.login_with_password", "hang", "h")
                           for _ in range(4)]
                time.sleep(0.3)
                began = time.monotonic()
                logins = [pool.submit(post_from, "127.0.0.1", s, "session.login_with_password", "root", "secret")
                          for _ in range(20)]
                refs = {f.result()[0]["result"] for f in logins}
                self.assertEqual(len(refs), 20)
                self.assertLess(time.monotonic() - began, 3)
                for f in hanging:
                    error = f.result()[0]["error"]
                    self.assertEqual([error["message"], *error["data"]],
                                     ["SESSION_AUTHENTICATION_FAILED", "hang", "Authentication failure"])

    def test_helper_dies_during_a_login(self):
        with SlowServer(users=dict(USERS), allow_crash=True) as s:
            add_subject(s.login(), "u:slow", "read-only")
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                login = pool.submit(s.login, "slow")
                time.sleep(0.5)
                os.kill(s.pid_of("xenapid-auth"), signal.SIGKILL)
                self.assert_alive(login.result())
            self.assert_alive(s.login())

    def test_password(self):
        with server() as s:
            unix = s.login("", "", kind="unix") if os.getuid() == 0 else s.login()
            with self.fails("CHANGE_PASSWORD_REJECTED"):
                unix.call("session.change_password", "not-the-old-one", "fresh")
            unix.call("session.change_password", "secret", "fresh")
            with self.fails("SESSION_AUTHENTICATION_FAILED"):
                s.login()
            s.login(password="fresh")
            self.assertNotIn("fresh", s.log())
            self.assertNotIn("not-the-old-one", s.log())


class UnixSocket(Case):
    CHILD = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
from harness import UnixHTTPConnection
path, uid = sys.argv[2], int(sys.argv[3])
if uid >= 0:
    os.setgroups([])
    os.setgid(uid)
    os.setuid(uid)
for user, password in (("", ""), ("root", ""), ("root", "secret")):
    c = UnixHTTPConnection(path)
    c.request("POST", "/jsonrpc", json.dumps({"jsonrpc": "2.0", "id": 1, "method": "session.login_with_password",
                                              "params": [user, password]}))
    answer = json.loads(c.getresponse().read())
    print("in" if "result" in answer else answer["error"]["message"])
"""

    def ask(self, s, uid):
        here = os.path.dirname(os.path.abspath(__file__))
        out = subprocess.run([sys.executable, "-c", self.CHILD, here, s.socket_path, str(uid)], capture_output=True,
                             text=True, check=True)
        return out.stdout.split()

    def test_root_needs_no_password(self):
        with server() as s:
            self.assertEqual(self.ask(s, -1), ["in", "in", "in"])
            session = s.login("", "", kind="unix")
            self.assertTrue(session.call("session.get_is_local_superuser", session.ref))

    @unittest.skipUnless(os.getuid() == 0, "needs root")
    def test_others_do(self):
        refused = "SESSION_AUTHENTICATION_FAILED"
        with server(daemon={"unix-mode": "0666"}) as s:
            os.chmod(s.runtime_dir, 0o755)
            self.assertEqual(self.ask(s, 1), [refused, refused, "in"])
            # Nor does the account that the daemon serves the network with.
            self.assertEqual(self.ask(s, 65534), [refused, refused, "in"])

    def test_switched_off(self):
        with server(roles={"unix-root-is-admin": "no"}) as s:
            self.assertEqual(self.ask(s, -1), ["SESSION_AUTHENTICATION_FAILED"] * 2 + ["in"])


class Ends(Case):
    def test_logout(self):
        with server() as s:
            a, b = s.login(), s.login()
            a.logout()
            self.assert_dead(a)
            self.assert_alive(b)

    def test_logout_ends_waiting_calls(self):
        with server() as s:
            a, b = s.login(), s.login()
            token = a.call("event.from", ["vm"], "", 0.1)["token"]
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                began = time.monotonic()
                waiting = pool.submit(post_from, "127.0.0.1", s, "event.from", a.ref, ["vm"], token, 20.0)
                time.sleep(0.3)
                b.call("session.get_uuid", b.ref)
                a.logout()
                self.assertEqual(waiting.result()[0]["error"]["message"], "SESSION_INVALID")
                self.assertLess(time.monotonic() - began, 10)

    def test_expiry(self):
        with server(sessions={"idle-timeout": 10}) as s:
            idle, waiting = s.login(), s.login()
            token = waiting.call("event.from", ["vm"], "", 0.1)["token"]
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                watcher = pool.submit(post_from, "127.0.0.1", s, "event.from", waiting.ref, ["vm"], token, 14.0)
                for _ in range(4):
                    time.sleep(2)
                self.assert_alive(idle)
                time.sleep(13)
                self.assertIn("result", watcher.result()[0])
            self.assert_dead(idle)
            self.assert_alive(waiting)  # as long as a call of it waits it is in use

    def test_quota(self):
        with server(sessions={"per-user": 3}) as s:
            other = Session(s, s.json("session.login_with_password", "root", "secret", "1", "another client"))
            first, second, third = s.login(), s.login(), s.login()
            time.sleep(0.1)
            self.assert_alive(first)
            self.assert_alive(third)
            self.assert_alive(s.login())
            self.assert_dead(second)
            for session in (first, third, other):
                self.assert_alive(session)

    def test_quota_spares_those_in_use(self):
        with server(sessions={"per-user": 2}, sim={"vms": 1, "start-ms": 4000}) as s:
            busy, watching = s.login(), s.login()
            admin = Session(s, s.json("session.login_with_password", "root", "secret", "1", "admin"))
            vms = admin.call("VM.get_all_records")
            vm = next(ref for ref, r in vms.items() if not r["is_control_domain"] and not r["is_a_template"])
            if vms[vm]["power_state"] != "Halted":
                admin.call("VM.hard_shutdown", vm)
            task = busy.call("Async.VM.start", vm, False, False)
            token = watching.call("event.from", ["sr"], "", 0.1)["token"]
            wait = ("127.0.0.1", s, "event.from", watching.ref, ["sr"], token, 5.0)
            watcher = threading.Thread(target=post_from, args=wait)
            watcher.start()
            time.sleep(0.3)
            with self.fails("TOO_BUSY"):
                s.login()
            self.assert_alive(busy)
            time.sleep(0.1)
            self.assert_alive(watching)
            watcher.join()
            admin.wait(task)
            s.login()
            self.assert_dead(busy)  # nothing of it is under way any more

    def test_one_user_cannot_crowd_out_others(self):
        with server(sessions={"total": 10}) as s:
            root = s.login()
            add_subject(root, "u:alice", "read-only")
            for i in range(30):
                s.json("session.login_with_password", "alice", "wonderland", "1", f"client {i}")
            self.assert_alive(root)


class Roles(Case):
    def test_by_message_and_key(self):
        with server(sim={"vms": 1}) as s:
            root = s.login()
            vm = next(ref for ref, r in root.call("VM.get_all_records").items() if not r["is_control_domain"])
            add_subject(root, "u:alice", "read-only")
            subject = add_subject(root, "u:bob", "vm-operator")
            alice, bob = s.login("alice"), s.login("bob")
            for session in (alice, bob):
                session.call("VM.get_record", vm)
                self.assert_denied("vm.set_name_label", session, "VM.set_name_label", vm, "mine")
                self.assert_denied("vm.destroy", session, "VM.destroy", vm)
                self.assert_denied("vm.destroy", session, "Async.VM.destroy", vm)
                self.assert_denied("vm.add_to_other_config", session, "VM.add_to_other_config", vm, "any", "x")
                self.assert_denied("subject.create", session, "subject.create", {"subject_identifier": "u:eve"})
                self.assert_denied("session.change_password", session, "session.change_password", "a", "b")
            self.assert_denied("vm.start", alice, "VM.start", vm, False, False)
            self.assert_denied("vm.add_to_other_config/key:folder", alice, "VM.add_to_other_config", vm, "folder", "x")
            bob.call("VM.add_to_other_config", vm, "folder", "x")
            bob.call("VM.remove_from_other_config", vm, "folder")
            # Whole maps are another matter than one key.
            self.assert_denied("vm.set_other_config", bob, "VM.set_other_config", vm, {"folder": "x"})
            root.call("subject.add_to_roles", subject, role_refs(root)["vm-admin"])
            bob.call("VM.set_name_label", vm, "mine")  # at once, in the session that lives

    def test_local_root(self):
        with server(roles={"admin-groups": "daemon"}) as s:
            admin = s.login("daemon")
            self.assertFalse(admin.call("session.get_is_local_superuser", admin.ref))
            add_subject(admin, "u:bob", "read-only")
            self.assert_denied("session.change_password", admin, "session.change_password", "a", "b")

    def test_groups(self):
        with server() as s:
            root = s.login()
            with self.fails("SESSION_AUTHORIZATION_FAILED"):
                s.login("daemon")
            subject = add_subject(root, "g:daemon", "vm-admin")
            session = s.login("daemon")
            self.assertEqual(session.call("session.get_subject", session.ref), subject)
            self.assertIn("vm-admin", session.call("session.get_rbac_permissions", session.ref))

    def test_revocation(self):
        with server() as s:
            root = s.login()
            subject = add_subject(root, "u:alice", "pool-operator", "read-only")
            alice = s.login("alice")
            permissions = alice.call("session.get_rbac_permissions", alice.ref)
            self.assertIn("sr.create", permissions)
            root.call("subject.remove_from_roles", subject, role_refs(root)["pool-operator"])
            self.assertNotIn("sr.create", alice.call("session.get_rbac_permissions", alice.ref))
            self.assert_denied("network.create", alice, "network.create", {"name_label": "n"})
            root.call("subject.destroy", subject)
            self.assert_dead(alice)
            with self.fails("SESSION_AUTHORIZATION_FAILED"):
                s.login("alice")

    def test_subjects(self):
        with server() as s:
            root = s.login()
            self.assertEqual(root.call("auth.get_subject_identifier", "daemon"), "u:daemon")
            self.assertIn("g:daemon", root.call("auth.get_group_membership", "u:daemon"))
            information = root.call("auth.get_subject_information_from_identifier", "u:daemon")
            self.assertEqual(information["subject-name"], "daemon")
            with self.fails("SUBJECT_CANNOT_BE_RESOLVED"):
                root.call("auth.get_subject_identifier", "nobody-of-that-name")
            task = root.call("Async.auth.get_subject_identifier", "daemon")
            self.assertIn("u:daemon", root.wait(task)["result"])
            subject = root.call("subject.create", {"subject_identifier": "u:daemon", "other_config": information})
            self.assertEqual(root.call("subject.get_roles", subject), [POOL_ADMIN])
            with self.fails("SUBJECT_ALREADY_EXISTS"):
                root.call("subject.create", {"subject_identifier": "u:daemon"})
            with self.fails("ROLE_ALREADY_EXISTS"):
                root.call("subject.add_to_roles", subject, POOL_ADMIN)
            root.call("subject.remove_from_roles", subject, POOL_ADMIN)
            with self.fails("ROLE_NOT_FOUND"):
                root.call("subject.remove_from_roles", subject, POOL_ADMIN)

    def test_roles_as_clients_read_them(self):
        """A desktop client looks for the roles among the session's permissions: those that have subroles."""
        with server() as s:
            root = s.login()
            add_subject(root, "u:alice", "vm-power-admin")
            alice = s.login("alice")
            permissions = set(alice.call("session.get_rbac_permissions", alice.ref))
            roles = alice.call("role.get_all_records")
            found = {r["name_label"] for r in roles.values() if r["subroles"] and r["name_label"] in permissions}
            self.assertEqual(found, {"vm-power-admin", "vm-admin", "vm-operator", "read-only"})
            power = role_refs(root)["vm-power-admin"]
            self.assertEqual({r["name_label"] for r in roles.values() if not r["subroles"]} & permissions,
                             {p for p in permissions if "." in p})
            for r in roles.values():
                self.assertLessEqual(set(r["subroles"]), set(roles))
            self.assertEqual(set(alice.call("role.get_all")), set(roles))
            start = alice.call("role.get_by_name_label", "vm.start")[0]
            where = alice.call("role.get_all_records_where", 'field "name__label" = "vm.start"')
            self.assertEqual(where, {start: alice.call("role.get_record", start)})
            self.assertEqual(where, {start: roles[start]})
            names = set(alice.call("role.get_permissions_name_label", power))
            self.assertEqual(names, {p for p in permissions if "." in p})
            refs = alice.call("role.get_permissions", power)
            self.assertEqual(len(refs), len(names))
            self.assertIn(alice.call("role.get_name_label", refs[0]), names)
            name = alice.call("role.get_name_label", refs[0])
            self.assertEqual(alice.call("role.get_by_permission", refs[0]),
                             alice.call("role.get_by_permission_name_label", name))

    def test_secrets(self):
        with server() as s:
            root = s.login()
            secret = root.call("secret.create", {"value": "shh", "other_config": {}})
            add_subject(root, "u:alice", "vm-admin")
            alice = s.login("alice")
            for name in ("get_value", "get_record"):
                self.assert_denied(f"secret.{name}", alice, f"secret.{name}", secret)
            for name in ("get_all", "get_all_records"):
                self.assert_denied(f"secret.{name}", alice, f"secret.{name}")
            self.assertNotIn("shh", json.dumps(alice.call("event.from", ["*"], "", 0.5)))
            self.assertEqual(root.call("secret.get_value", secret), "shh")

    def test_sessions_of_others(self):
        with server() as s:
            root = s.login()
            add_subject(root, "u:alice", "pool-operator")
            alice = s.login("alice")
            uuid = root.call("session.get_uuid", root.ref)
            with self.fails("UUID_INVALID", "session"):
                alice.call("session.get_by_uuid", uuid)
            for name in ("get_record", "get_uuid", "get_this_host"):
                with self.fails("HANDLE_INVALID", "session"):
                    alice.call(f"session.{name}", root.ref)
            own = alice.call("session.get_record", alice.ref)
            self.assertEqual(own["auth_user_name"], "alice")
            self.assertEqual(alice.call("session.get_by_uuid", own["uuid"]), alice.ref)
            self.assertEqual(root.call("session.get_by_uuid", own["uuid"]), alice.ref)
            self.assertEqual(root.call("session.get_all_subject_identifiers"), ["u:alice"])
            root.call("session.logout_subject_identifier", "u:alice")
            self.assert_dead(alice)
            self.assert_alive(root)

    def test_emergency_sessions(self):
        with server() as s:
            root = s.login()
            with self.fails("SESSION_INVALID"):
                root.call("session.local_logout")
            add_subject(root, "u:alice", "pool-operator")
            with self.fails("SESSION_AUTHORIZATION_FAILED"):
                s.json("session.slave_local_login_with_password", "alice", "wonderland")
            local = Session(s, s.json("session.slave_local_login_with_password", "root", "secret"))
            self.assert_alive(local)
            self.assert_denied("vm.get_all_records", local, "VM.get_all_records")
            local.call("session.local_logout")
            self.assert_dead(local)


if __name__ == "__main__":
    unittest.main()
