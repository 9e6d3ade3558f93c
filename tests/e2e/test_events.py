"""event.from and the older event.register/next: what watchers hear, when, and what is lost when."""
import os
import resource
import threading
import time
import unittest

from harness import Failure, Server


def token_parts(token):
    epoch, generation = token.split(",")
    return int(epoch), int(generation)


class Events(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(conf={"sim": {"vms": 5, "metrics": "no"}, "events": {"tombstones": 100}}).start()
        cls.s = cls.server.login()
        cls.pool = cls.s.call("pool.get_all")[0]

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()
        cls.server.clean()

    def watch(self, classes, token="", timeout=5.0, session=None):
        return (session or self.s).call("event.from", classes, token, timeout)

    def now(self, classes=("*",)):
        """A token after which nothing has happened yet."""
        return self.watch(list(classes), "", 0.0)["token"]

    def touch(self, key="k", value="v"):
        self.s.call("pool.remove_from_other_config", self.pool, key)
        self.s.call("pool.add_to_other_config", self.pool, key, value)

    def test_empty_token_gives_everything_as_add(self):
        batch = self.watch(["vm"])
        self.assertEqual({e["operation"] for e in batch["events"]}, {"add"})
        self.assertEqual({e["ref"] for e in batch["events"]}, set(self.s.call("VM.get_all")))
        for e in batch["events"]:
            self.assertEqual(e["class"], "vm")
            self.assertIsInstance(e["id"], str)
            self.assertIsInstance(e["timestamp"], str)
            self.assertEqual(e["snapshot"], self.s.call("VM.get_record", e["ref"]))
        self.assertEqual(batch["valid_ref_counts"], {"vm": len(batch["events"])})

    def test_class_names_match_in_any_case(self):
        self.assertEqual(len(self.watch(["VM"])["events"]), len(self.watch(["vm"])["events"]))

    def test_star_is_every_class_but_sessions(self):
        classes = {e["class"] for e in self.watch(["*"])["events"]}
        self.assertLessEqual({"pool", "host", "vm", "vif", "network", "sr", "role"}, classes)
        self.assertNotIn("session", classes)
        self.assertEqual(self.watch(["session"], "", 0.0)["events"], [])

    def test_one_object(self):
        vm = self.s.call("VM.get_all")[1]
        batch = self.watch([f"vm/{vm}"])
        self.assertEqual([e["ref"] for e in batch["events"]], [vm])
        token = batch["token"]
        self.s.call("VM.set_name_description", self.s.call("VM.get_all")[2], "another")
        self.assertEqual(self.watch([f"VM/{vm}"], token, 0.1)["events"], [])
        self.s.call("VM.set_name_description", vm, "this one")
        self.assertEqual([e["ref"] for e in self.watch([f"VM/{vm}"], token)["events"]], [vm])

    def test_timeout_answers_no_events_and_a_token_that_is_not_older(self):
        token = self.now(["blob"])
        began = time.monotonic()
        batch = self.watch(["blob"], token, 0.4)
        self.assertGreaterEqual(time.monotonic() - began, 0.35)
        self.assertEqual(batch["events"], [])
        self.assertGreaterEqual(token_parts(batch["token"]), token_parts(token))

    def test_integer_timeouts_are_taken(self):
        self.assertEqual(self.watch(["blob"], self.now(["blob"]), 0)["events"], [])

    def test_a_change_wakes_a_waiting_watcher(self):
        token, heard = self.now(["pool"]), []
        thread = threading.Thread(target=lambda: heard.append(
            self.watch(["pool"], token, 30.0, self.server.login(kind="https"))))
        thread.start()
        time.sleep(0.3)
        self.assertEqual(heard, [])
        self.touch()
        thread.join(10)
        self.assertFalse(thread.is_alive())
        self.assertEqual([(e["class"], e["operation"]) for e in heard[0]["events"]], [("pool", "mod")])

    def test_changes_coalesce(self):
        token = self.now(["pool"])
        for i in range(10):
            self.touch("coalesce", str(i))
        events = self.watch(["pool"], token)["events"]
        self.assertEqual(len(events), 1)
        self.assertEqual(events[0]["snapshot"]["other_config"]["coalesce"], "9")

    def test_a_network_from_its_creation_to_its_end(self):
        token = self.now(["network"])
        ref = self.s.call("network.create", {"name_label": "short-lived"})
        batch = self.watch(["network"], token)
        self.assertEqual([(e["operation"], e["ref"]) for e in batch["events"]], [("add", ref)])
        after_add = batch["token"]
        self.s.call("network.set_name_label", ref, "renamed")
        batch = self.watch(["network"], after_add)
        self.assertEqual([(e["operation"], e["ref"]) for e in batch["events"]], [("mod", ref)])
        self.s.call("network.destroy", ref)
        batch = self.watch(["network"], batch["token"])
        self.assertEqual([(e["operation"], e["ref"]) for e in batch["events"]], [("del", ref)])
        self.assertNotIn("snapshot", batch["events"][0])
        # Who saw the object learns that it is gone; who never did hears nothing.
        self.assertEqual([e["operation"] for e in self.watch(["network"], after_add)["events"]], ["del"])
        self.assertEqual([e for e in self.watch(["network"], token, 0.1)["events"] if e["operation"] != "del"], [])

    def test_inject_comes_after_its_token(self):
        token = self.s.call("event.inject", "pool", self.pool)
        events = self.watch(["pool"], token)["events"]
        self.assertEqual([(e["operation"], e["ref"]) for e in events], [("mod", self.pool)])
        with self.assertRaises(Failure) as f:
            self.s.call("event.inject", "pool", "OpaqueRef:none")
        self.assertEqual((f.exception.code, f.exception.params), ("HANDLE_INVALID", ["pool", "OpaqueRef:none"]))

    def test_bad_tokens_and_subscriptions(self):
        for token in ("x", "1", "1,2,3", "-1,2", "1,x", "1, 2"):
            with self.assertRaises(Failure) as f:
                self.watch(["vm"], token)
            self.assertEqual((f.exception.code, f.exception.params), ("EVENT_FROM_TOKEN_PARSE_FAILURE", [token]))
        for what in ("vm/a/b", "/x", "vm/", ""):
            with self.assertRaises(Failure) as f:
                self.watch([what])
            self.assertEqual((f.exception.code, f.exception.params), ("EVENT_SUBSCRIPTION_PARSE_FAILURE", [what]))

    def test_tokens_of_another_epoch_or_from_the_future_are_lost(self):
        epoch, generation = token_parts(self.now(["vm"]))
        for token in (f"{epoch - 1:020d},{generation:020d}", f"{epoch:020d},{generation + 1000000:020d}"):
            with self.assertRaises(Failure) as f:
                self.watch(["vm"], token)
            self.assertEqual(f.exception.code, "EVENTS_LOST")

    def test_more_deletions_than_are_remembered_are_lost(self):
        token = self.now(["task"])
        for _ in range(110):
            self.s.call("task.destroy", self.s.call("task.create", "t", ""))
        with self.assertRaises(Failure) as f:
            self.watch(["task"], token)
        self.assertEqual(f.exception.code, "EVENTS_LOST")
        self.watch(["task"], self.now(["task"]), 0.0)

    def test_register_and_next(self):
        s = self.server.login()
        with self.assertRaises(Failure) as f:
            s.call("event.next")
        self.assertEqual((f.exception.code, f.exception.params), ("SESSION_NOT_REGISTERED", [s.ref]))
        s.call("event.register", ["pool"])
        self.touch("next")
        events = s.call("event.next")
        self.assertEqual([e["class"] for e in events], ["pool"])
        self.assertEqual(events[0]["obj_uuid"], self.s.call("pool.get_uuid", self.pool))
        self.touch("next", "again")
        self.assertEqual(len(s.call("event.next")), 1)
        s.call("event.unregister", ["pool"])
        with self.assertRaises(Failure):
            s.call("event.next")

    def test_next_waits_for_what_was_registered(self):
        s, heard = self.server.login(kind="https"), []
        s.call("event.register", [])  # the older API's way to say all
        thread = threading.Thread(target=lambda: heard.append(s.call("event.next")))
        thread.start()
        time.sleep(0.2)
        self.touch("late")
        thread.join(10)
        self.assertIn("pool", [e["class"] for e in heard[0]])

    def test_a_session_that_ends_frees_its_watcher(self):
        s, failed = self.server.login(kind="https"), []

        def watch():
            try:
                self.watch(["blob"], self.now(["blob"]), 60.0, s)
            except Failure as e:
                failed.append(e)

        thread = threading.Thread(target=watch)
        thread.start()
        time.sleep(0.3)
        self.server.json("session.logout", s.ref)
        thread.join(10)
        self.assertFalse(thread.is_alive())
        self.assertEqual((failed[0].code, failed[0].params), ("SESSION_INVALID", [s.ref]))

    def test_a_thousand_watchers_hold_no_thread(self):
        front = self.server.pid_of("xenapid-front")
        threads = len(os.listdir(f"/proc/{front}/task"))
        token, waiting = self.now(["pool"]), []
        body = ('{"jsonrpc":"2.0","id":1,"method":"event.from","params":["%s",["pool"],"%s",60.0]}'
                % (self.s.ref, token)).encode()
        resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
        for _ in range(1000):
            c = self.server.connection("unix")
            c.request("POST", "/jsonrpc", body)
            waiting.append(c)
        time.sleep(1)
        self.assertLessEqual(len(os.listdir(f"/proc/{front}/task")), threads + 2)
        self.touch("wake")
        for c in waiting:
            self.assertIn(b'"mod"', c.getresponse().read())
            c.close()


class Restart(unittest.TestCase):
    def test_a_token_from_before_a_restart_is_lost_and_the_session_too(self):
        server = Server().start()
        try:
            s = server.login()
            token = s.call("event.from", ["vm"], "", 0.0)["token"]
            server.stop()
            server.start()
            with self.assertRaises(Failure) as f:
                s.call("event.from", ["vm"], token, 0.0)
            self.assertEqual((f.exception.code, f.exception.params), ("SESSION_INVALID", [s.ref]))
            s = server.login()
            with self.assertRaises(Failure) as f:
                s.call("event.from", ["vm"], token, 0.0)
            self.assertEqual(f.exception.code, "EVENTS_LOST")
        finally:
            server.stop()
            server.clean()


class Gathering(unittest.TestCase):
    """Changes that come one after another are told together; one that comes alone does not wait for others."""

    def test_alone(self):
        with Server(conf={"sim": {"metrics": "no"}, "events": {"batch-ms": 1000}}) as server:
            s, watcher = server.login(), server.login(kind="https")
            pool, heard = s.call("pool.get_all")[0], []

            def watch(token):
                watcher.call("event.from", ["pool"], token, 30.0)
                heard.append(time.monotonic())

            for i in range(10):
                time.sleep(1.2)
                thread = threading.Thread(target=watch, args=(s.call("event.from", ["pool"], "", 0.0)["token"],))
                thread.start()
                time.sleep(0.2)
                begin = time.monotonic()
                s.call("pool.add_to_other_config", pool, f"key{i}", "value")
                thread.join()
                if heard[-1] - begin < 0.9:
                    return
            self.fail("every change waited for others")
