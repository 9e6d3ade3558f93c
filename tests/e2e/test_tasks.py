"""Tasks: synchronous and asynchronous forms of one operation, progress, cancellation, limits, restarts."""
import json
import threading
import time
import unittest

from harness import Failure, Server, eventually

SLOW = {"start-ms": 1500, "jitter": 0}


class Tasks(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server(conf={"sim": {"vms": 40, **SLOW}, "tasks": {"workers": 4, "max-pending": 30}}).start()
        cls.s = cls.server.login()
        cls.vms = [r for r, v in cls.s.call("VM.get_all_records").items() if not v["is_control_domain"]]

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()
        cls.server.clean()

    def take(self):
        """A halted VM that no other test uses."""
        return type(self).vms.pop()

    def record(self, task):
        return self.s.call("task.get_record", task)

    until = staticmethod(eventually)

    def test_a_session_knows_its_own_tasks(self):
        vm, other = self.take(), self.server.login()
        task = self.s.call("Async.VM.start", vm, False, False)
        self.assertEqual(self.s.call("session.get_tasks", self.s.ref), [task])
        self.assertEqual(self.s.call("session.get_record", self.s.ref)["tasks"], [task])
        self.assertEqual(self.s.call("session.get_tasks", other.ref), [])
        self.assertEqual(self.record(task)["session"], "OpaqueRef:NULL")  # a session's reference is as good as a password
        self.s.wait(task)
        self.assertEqual(self.s.call("session.get_tasks", self.s.ref), [])

    def test_async_answers_at_once_and_ends_with_a_result(self):
        vm = self.take()
        began = time.monotonic()
        task = self.s.call("Async.VM.start", vm, False, False)
        self.assertLess(time.monotonic() - began, 1.0)
        record = self.record(task)
        self.assertEqual((record["status"], record["name_label"]), ("pending", "Async.VM.start"))
        self.assertEqual(record["allowed_operations"], ["cancel", "destroy"])
        self.assertEqual(self.s.call("VM.get_current_operations", vm), {task: "start"})
        self.until(lambda: self.s.call("task.get_status", task) != "pending")
        record = self.record(task)
        self.assertEqual((record["status"], record["result"], record["error_info"]), ("success", "", []))
        self.assertEqual(record["progress"], 1.0)
        self.assertNotEqual(record["finished"], "19700101T00:00:00Z")
        self.assertEqual(self.s.call("VM.get_power_state", vm), "Running")
        self.assertEqual(self.s.call("VM.get_current_operations", vm), {})
        self.s.call("task.destroy", task)
        with self.assertRaises(Failure) as f:
            self.record(task)
        self.assertEqual((f.exception.code, f.exception.params), ("HANDLE_INVALID", ["task", task]))

    def test_a_result_is_an_xml_value(self):
        task = self.s.call("Async.VM.clone", self.take(), "copy")
        result = self.s.wait(task)["result"]
        self.assertRegex(result, "^<value>OpaqueRef:[0-9a-f-]{36}</value>$")
        self.assertEqual(self.s.call("VM.get_name_label", result[len("<value>"):-len("</value>")]), "copy")

    def test_a_synchronous_call_waits_and_leaves_no_task(self):
        vm = self.take()
        before = set(self.s.call("task.get_all"))
        self.s.call("VM.start", vm, False, False)
        self.assertEqual(self.s.call("VM.get_power_state", vm), "Running")
        self.assertLessEqual(set(self.s.call("task.get_all")), before)

    def test_a_synchronous_caller_that_goes_away_does_not_cancel_the_work(self):
        vm = self.take()
        c = self.server.connection("unix")
        c.request("POST", "/jsonrpc", json.dumps({"jsonrpc": "2.0", "id": 1, "method": "VM.start",
                                                   "params": [self.s.ref, vm, False, False]}))
        self.until(lambda: self.s.call("VM.get_current_operations", vm))
        c.close()
        self.until(lambda: self.s.call("VM.get_power_state", vm) == "Running")

    def test_what_fails_says_so_in_the_task(self):
        vm = self.take()
        with self.assertRaises(Failure) as f:
            self.s.wait(self.s.call("Async.VM.pause", vm))
        self.assertEqual((f.exception.code, f.exception.params), ("VM_BAD_POWER_STATE", [vm, "running", "halted"]))

    def test_progress_moves(self):
        vm, seen = self.take(), set()
        task = self.s.call("Async.VM.start", vm, False, False)
        while self.s.call("task.get_status", task) == "pending":
            seen.add(self.s.call("task.get_progress", task))
            time.sleep(0.02)
        self.assertGreaterEqual(len(seen), 3)
        self.assertTrue(all(0.0 <= p <= 1.0 for p in seen))

    def test_a_running_task_is_cancelled_and_undone(self):
        vm = self.take()
        self.s.call("VM.add_to_other_config", vm, "sim:start-ms", "60000")
        task = self.s.call("Async.VM.start", vm, False, False)
        self.until(lambda: self.s.call("task.get_progress", task) > 0)
        self.s.call("task.cancel", task)
        with self.assertRaises(Failure) as f:
            self.s.wait(task)
        self.assertEqual((f.exception.code, f.exception.params), ("TASK_CANCELLED", [task]))
        self.assertEqual(self.s.call("VM.get_power_state", vm), "Halted")
        self.assertEqual(self.s.call("VM.get_current_operations", vm), {})
        self.s.call("VM.remove_from_other_config", vm, "sim:start-ms")
        self.s.call("VM.start", vm, False, False)

    def test_a_pending_task_that_is_cancelled_never_starts(self):
        busy = [self.s.call("Async.VM.start", self.take(), False, False) for _ in range(4)]
        vm = self.take()
        waiting = self.s.call("Async.VM.start", vm, False, False)
        self.s.call("task.cancel", waiting)
        self.assertEqual(self.s.call("task.get_status", waiting), "cancelled")
        self.assertEqual(self.s.call("VM.get_current_operations", vm), {})
        for t in busy:
            self.s.wait(t)
        self.assertEqual(self.s.call("VM.get_power_state", vm), "Halted")

    def test_a_finished_task_cannot_be_cancelled(self):
        vm = self.take()
        task = self.s.call("Async.VM.start", vm, False, False)
        self.until(lambda: self.s.call("task.get_status", task) != "pending")
        with self.assertRaises(Failure) as f:
            self.s.call("task.cancel", task)
        self.assertEqual(f.exception.code, "OPERATION_NOT_ALLOWED")

    def test_a_second_operation_is_refused_while_one_is_in_progress(self):
        vm = self.take()
        task = self.s.call("Async.VM.start", vm, False, False)
        with self.assertRaises(Failure) as f:
            self.s.call("VM.start", vm, False, False)
        self.assertEqual((f.exception.code, f.exception.params),
                         ("OTHER_OPERATION_IN_PROGRESS", ["VM", vm, "start", task]))
        self.s.wait(task)

    def test_a_client_manages_a_task_of_its_own(self):
        task = self.s.call("task.create", "upload", "of something")
        self.assertEqual(self.record(task)["status"], "pending")
        self.s.call("task.set_progress", task, 0.25)
        self.assertEqual(self.s.call("task.get_progress", task), 0.25)
        self.s.call("task.set_result", task, "<value>x</value>")
        self.s.call("task.set_status", task, "success")
        record = self.record(task)
        self.assertEqual((record["status"], record["result"], record["progress"]), ("success", "<value>x</value>", 1.0))
        with self.assertRaises(Failure):
            self.s.call("task.set_status", task, "pending")
        self.s.call("task.destroy", task)
        task = self.s.call("task.create", "to be cancelled", "")
        self.s.call("task.cancel", task)
        self.assertEqual(self.s.call("task.get_status", task), "cancelled")
        self.s.call("task.destroy", task)

    def test_too_many_pending_tasks_are_refused(self):
        vms = [self.s.call("VM.clone", self.vms[0], f"many-{i}") for i in range(40)]
        tasks, refused = [], None
        for vm in vms:
            try:
                tasks.append(self.s.call("Async.VM.start", vm, False, False))
            except Failure as f:
                refused = f
        self.assertEqual(refused.code, "TOO_MANY_PENDING_TASKS")
        for t in tasks:
            try:
                self.s.call("task.cancel", t)
            except Failure:
                pass
        self.until(lambda: all(self.s.call("task.get_status", t) not in ("pending", "cancelling") for t in tasks))

    def test_one_session_with_many_tasks_does_not_starve_another(self):
        vms = [self.s.call("VM.clone", self.vms[0], f"fair-{i}") for i in range(12)]
        greedy = [self.s.call("Async.VM.start", vm, False, False) for vm in vms]
        other = self.server.login()
        vm = self.take()
        other.wait(other.call("Async.VM.start", vm, False, False))
        left = [t for t in greedy if self.s.call("task.get_status", t) == "pending"]
        self.assertTrue(left, "the second session waited for all tasks of the first")
        for t in greedy:
            self.s.wait(t)

    def test_getters_answer_while_operations_run(self):
        vm = self.take()
        done = threading.Event()
        s = self.server.login(kind="https")
        thread = threading.Thread(target=lambda: (s.call("VM.start", vm, False, False), done.set()))
        thread.start()
        n = 0
        while not done.is_set():
            self.s.call("VM.get_name_label", vm)
            n += 1
        thread.join()
        self.assertGreater(n, 100)


class Restart(unittest.TestCase):
    def test_tasks_that_were_cut_off_have_failed_and_their_vm_is_free(self):
        server = Server(conf={"sim": {"vms": 2, "start-ms": 60000}}).start()
        try:
            s = server.login()
            vm = [r for r, v in s.call("VM.get_all_records").items() if not v["is_control_domain"]][0]
            task = s.call("Async.VM.start", vm, False, False)
            time.sleep(0.3)
            server.kill()
            server.start()
            s = server.login()
            record = s.call("task.get_record", task)
            self.assertEqual(record["status"], "failure")
            self.assertEqual(record["error_info"][0], "INTERNAL_ERROR")
            self.assertIn("restarted", record["error_info"][1])
            self.assertEqual(s.call("VM.get_current_operations", vm), {})
            self.assertIn("start", s.call("VM.get_allowed_operations", vm))
        finally:
            server.stop()
            server.clean()

    def test_finished_tasks_are_collected_at_their_deadline(self):
        with Server(conf={"sim": {"vms": 1}, "tasks": {"keep-finished": 1}}) as server:
            s = server.login()
            task = s.call("task.create", "own", "")
            s.call("task.set_status", task, "success")
            deadline = time.monotonic() + 40
            while task in s.call("task.get_all"):
                self.assertLess(time.monotonic(), deadline)
                time.sleep(0.2)
