"""Python's own xmlrpc.client, over HTTPS with and without a check of the certificate, and over the UNIX socket."""
import os
import ssl
import threading
import unittest
import xmlrpc.client

from clients import ClientTest, live
from harness import UnixHTTPConnection, no_verify


class Failed(Exception):
    def __init__(self, description):
        super().__init__(*description)
        self.description = description


class UnixTransport(xmlrpc.client.Transport):
    def __init__(self, path):
        super().__init__()
        self.path = path

    def make_connection(self, host):
        return UnixHTTPConnection(self.path)


class Proxy:
    """What most scripts write around ServerProxy: unwraps {Status, Value}, adds the session."""

    def __init__(self, proxy, user="root", password=""):
        self.proxy = proxy
        self.session = self.unwrap(proxy.session.login_with_password(user, password, "1.0", "a script"))

    @staticmethod
    def unwrap(answer):
        if answer["Status"] != "Success":
            raise Failed(answer["ErrorDescription"])
        return answer["Value"]

    def call(self, method, *arguments):
        function = self.proxy
        for part in method.split("."):
            function = getattr(function, part)
        return self.unwrap(function(self.session, *arguments))

    def in_task(self, method, *arguments):
        """As an Async call whose task is polled, then destroyed."""
        task = self.call("Async." + method, *arguments)
        while self.call("task.get_status", task) == "pending":
            pass
        record = self.call("task.get_record", task)
        self.call("task.destroy", task)
        if record["status"] != "success":
            raise Failed(record["error_info"])
        result = record["result"]
        return result.removeprefix("<value>").removesuffix("</value>")


class PythonXmlRpc(ClientTest):
    def https(self, context=None, path="/RPC2"):
        return xmlrpc.client.ServerProxy(self.server.url() + path, context=context or no_verify())

    def login(self, proxy=None):
        return Proxy(proxy or self.https(), "root", self.server.users["root"])

    def test_life_over_https(self):
        p = self.login()
        live(self, p.call)

    def test_life_in_tasks(self):
        p = self.login()
        live(self, p.call, p.in_task)
        self.assertEqual(p.call("task.get_all"), [])

    def test_life_over_unix_socket(self):
        p = self.login(xmlrpc.client.ServerProxy("http://localhost/", transport=UnixTransport(self.server.socket_path)))
        live(self, p.call)

    def test_root_on_unix_socket_needs_no_password(self):
        p = Proxy(xmlrpc.client.ServerProxy("http://localhost/", transport=UnixTransport(self.server.socket_path)), "", "")
        self.assertTrue(p.call("session.get_is_local_superuser", p.session))
        self.assertEqual(len(p.call("host.get_all")), 1)

    def test_certificate_can_be_verified(self):
        context = ssl.create_default_context(cafile=os.path.join(self.server.state_dir, "tls-cert.pem"))
        p = self.login(xmlrpc.client.ServerProxy(f"https://localhost:{self.server.port}/", context=context))
        self.assertEqual(len(p.call("pool.get_all")), 1)

    def test_certificate_is_of_this_server_alone(self):
        with self.assertRaises(ssl.SSLCertVerificationError):
            self.https(ssl.create_default_context()).system.listMethods()

    def test_multicall(self):
        p = self.login()
        vms = p.call("VM.get_all")
        multi = xmlrpc.client.MultiCall(p.proxy)
        for vm in vms:
            multi.VM.get_name_label(p.session, vm)
        multi.VM.get_name_label(p.session, "OpaqueRef:none")
        multi.system.listMethods()
        answers = list(multi())
        self.assertEqual([Proxy.unwrap(a) for a in answers[:-2]], [p.call("VM.get_name_label", vm) for vm in vms])
        self.assertEqual(answers[-2]["ErrorDescription"], ["HANDLE_INVALID", "VM", "OpaqueRef:none"])
        self.assertIn("VM.start", answers[-1])

    def test_introspection(self):
        p = self.https()
        methods = p.system.listMethods()
        self.assertIn("VM.get_all_records", methods)
        self.assertEqual(p.system.methodSignature("VM.start")[0][1:], ["string", "string", "boolean", "boolean"])
        self.assertIn("VM", p.system.methodHelp("VM.start"))

    def test_types(self):
        p = self.login()
        vm = p.call("VM.get_by_name_label", "sim-00002")[0]
        record = p.call("VM.get_record", vm)
        self.assertIsInstance(record["memory_static_max"], str)  # int64 is text
        self.assertIsInstance(record["HVM_shadow_multiplier"], float)
        self.assertIsInstance(record["is_a_template"], bool)
        self.assertIsInstance(record["snapshot_time"], xmlrpc.client.DateTime)
        self.assertIsInstance(record["VIFs"], list)
        self.assertIsInstance(record["other_config"], dict)
        p.call("VM.set_user_version", vm, 7)  # sent as <int>
        self.assertEqual(p.call("VM.get_user_version", vm), "7")
        p.call("VM.set_user_version", vm, "8")
        self.assertEqual(p.call("VM.get_user_version", vm), "8")
        text = "Zürich <&> \" ' \U0001f600\ttab\nline"
        p.call("VM.set_name_description", vm, text)
        self.assertEqual(p.call("VM.get_name_description", vm), text)
        self.assertEqual(p.call("VM.set_tags", vm, ["b", "a"]), "")
        self.assertEqual(sorted(p.call("VM.get_tags", vm)), ["a", "b"])

    def test_event_from(self):
        p, other = self.login(), self.login()
        vm = p.call("VM.get_by_name_label", "sim-00002")[0]
        batch = p.call("event.from", ["VM", "host"], "", 5.0)
        self.assertEqual({e["class"] for e in batch["events"]}, {"vm", "host"})
        self.assertEqual({e["operation"] for e in batch["events"]}, {"add"})
        self.assertEqual(batch["valid_ref_counts"]["vm"], len(p.call("VM.get_all")))
        timer = threading.Timer(0.2, other.call, ("VM.set_name_description", vm, "from another session"))
        timer.start()
        batch = p.call("event.from", ["vm"], batch["token"], 20.0)
        timer.join()
        event = next(e for e in batch["events"] if e["ref"] == vm)
        self.assertEqual((event["operation"], event["snapshot"]["name_description"]), ("mod", "from another session"))
        quiet = p.call("event.from", ["vm/OpaqueRef:none"], batch["token"], 0.2)
        self.assertEqual(quiet["events"], [])

    def test_event_register_and_next(self):
        p, other = self.login(), self.login()
        vm = p.call("VM.get_by_name_label", "sim-00002")[0]
        with self.assertRaises(Failed) as failed:
            p.call("event.next")
        self.assertEqual(failed.exception.description[0], "SESSION_NOT_REGISTERED")
        p.call("event.register", ["vm"])
        timer = threading.Timer(0.2, other.call, ("VM.set_name_description", vm, "next"))
        timer.start()
        events = p.call("event.next")
        timer.join()
        self.assertEqual([(e["ref"], e["operation"]) for e in events], [(vm, "mod")])
        self.assertEqual(events[0]["snapshot"]["name_description"], "next")
        p.call("event.unregister", ["vm"])

    def test_failures(self):
        p = self.login()
        vm = p.call("VM.get_by_name_label", "sim-00002")[0]
        for code, method, *arguments in (
                ("HANDLE_INVALID", "VM.get_name_label", "OpaqueRef:none"), ("UUID_INVALID", "VM.get_by_uuid", "none"),
                ("MESSAGE_METHOD_UNKNOWN", "VM.none"), ("MESSAGE_METHOD_UNKNOWN", "Async.event.from", ["vm"], "", 1.0),
                ("MESSAGE_PARAMETER_COUNT_MISMATCH", "VM.get_record", vm, "more"),
                ("VM_BAD_POWER_STATE", "VM.pause", vm)):
            with self.assertRaises(Failed) as failed:
                p.call(method, *arguments)
            self.assertEqual(failed.exception.description[0], code)
        p.call("session.logout")
        with self.assertRaises(Failed) as failed:
            p.call("VM.get_all")
        self.assertEqual(failed.exception.description, ["SESSION_INVALID", p.session])

    def test_threads(self):
        """Scripts share a session among threads, each with a proxy of its own."""
        p = self.login()
        vms, wrong = p.call("VM.get_all"), []

        def ask():
            mine = self.https()
            for vm in vms * 10:
                if mine.VM.get_uuid(p.session, vm)["Status"] != "Success":
                    wrong.append(vm)

        threads = [threading.Thread(target=ask) for _ in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(wrong, [])


if __name__ == "__main__":
    unittest.main()
