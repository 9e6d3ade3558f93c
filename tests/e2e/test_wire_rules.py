"""What goes over the wire, byte for byte where a client that exists would break otherwise: one test for each rule."""
import functools
import http.client
import json
import math
import os
import re
import socket
import ssl
import subprocess
import threading
import time
import unittest
import xmlrpc.client

import libxen
from harness import BUILD, Failure, Server, no_verify

NAME = "sim-00001"
server = session = None


def setUpModule():
    global server, session
    server = Server(conf={"sim": {"vms": 4, "metrics": "no"}}).start()
    session = server.login()


def tearDownModule():
    server.stop()
    server.clean()


@functools.cache
def api():
    text = subprocess.run([os.path.join(BUILD, "xenapid"), "--describe-api"], check=True, capture_output=True).stdout
    return json.loads(text)


def records():
    return {c["name"]: {f["name"]: f["type"] for f in c["fields"]} for c in api()["classes"]}


def vm(name=NAME):
    return session.call("VM.get_by_name_label", name)[0]


def post(path, body, headers=None, kind="http"):
    """(status, headers, body) of a POST with no more headers than given."""
    return server.request("POST", path, body, headers or {}, kind)


def xml_bytes(method, *params):
    return post("/RPC2", xmlrpc.client.dumps(params, method))[2]


def json_answer(method, *params, **more):
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params, **more}
    return json.loads(post("/jsonrpc", json.dumps({k: v for k, v in body.items() if v is not None}))[2])


def raw_xml(method, *values):
    """A call whose arguments are XML as they stand."""
    params = "".join(f"<param><value>{v}</value></param>" for v in (session.ref, *values))
    return post("/RPC2", f"<methodCall><methodName>{method}</methodName><params>{params}</params></methodCall>")[2]


def value_of(body):
    """The bytes of the Value of a successful answer."""
    m = re.fullmatch(rb"<\?xml version=\"1.0\"[^>]*\?><methodResponse><params><param><value><struct><member>"
                     rb"<name>Status</name><value>Success</value></member><member><name>Value</name>(.*)</member></struct>"
                     rb"</value></param></params></methodResponse>\s*", body, re.S)
    if not m:
        raise AssertionError(body[:300])
    return m[1]


class XmlRpc(unittest.TestCase):
    def test_W1_status_first_then_value_or_error_and_nothing_else(self):
        self.assertTrue(value_of(xml_bytes("VM.get_name_label", session.ref, vm())))
        body = xml_bytes("VM.get_name_label", session.ref, "OpaqueRef:none")
        self.assertRegex(body, rb"<struct><member><name>Status</name><value>Failure</value></member><member>"
                               rb"<name>ErrorDescription</name><value><array><data><value>HANDLE_INVALID</value>"
                               rb"<value>VM</value><value>OpaqueRef:none</value></data></array></value></member></struct>")
        with self.assertRaises(libxen.Fault) as fault:
            libxen.result(body)
        self.assertEqual(fault.exception.description, ["HANDLE_INVALID", "VM", "OpaqueRef:none"])

    def test_W2_no_white_space_between_elements_and_one_declaration(self):
        for method, *params in (("VM.get_all_records", session.ref), ("system.listMethods",), ("VM.nothing", session.ref),
                                ("event.from", session.ref, ["*"], "", 1.0), ("host.get_all_records", session.ref)):
            body = xml_bytes(method, *params)
            self.assertTrue(body.startswith(b"<?xml"), method)
            libxen.document(body)  # one declaration; text only where there are no elements

    def test_W3_int64_is_untyped_text(self):
        self.assertEqual(value_of(xml_bytes("VM.get_memory_static_max", session.ref, vm())), b"<value>268435456</value>")
        everything = xml_bytes("VM.get_all_records", session.ref) + xml_bytes("host.get_all_records", session.ref)
        for tag in (b"<int>", b"<i8>", b"<i4>"):
            self.assertNotIn(tag, everything)

    def test_W4_valid_ref_counts_are_i4_and_numbers(self):
        body = xml_bytes("event.from", session.ref, ["vm", "task"], "", 1.0)
        counts = re.search(rb"<name>valid_ref_counts</name><value><struct>(.*?)</struct>", body)[1]
        self.assertIn(b"<member><name>task</name><value><i4>0</i4></value></member>", counts)
        self.assertIn(b"<name>vm</name><value><i4>%d</i4>" % len(session.call("VM.get_all")), counts)
        counts = session.call("event.from", ["vm"], "", 1.0)["valid_ref_counts"]
        self.assertIs(type(counts["vm"]), int)

    def test_W5_ints_are_read_in_every_way_that_clients_write_them(self):
        for i, form in enumerate(("<int>{}</int>", "<i4>{}</i4>", "<i8>{}</i8>", "<string>{}</string>", "{}")):
            value_of(raw_xml("VM.set_user_version", vm(), form.format(i + 10)))
            self.assertEqual(session.call("VM.get_user_version", vm()), i + 10, form)
        for i, n in ((20, 20), (21, "21")):
            self.assertNotIn("error", json_answer("VM.set_user_version", session.ref, vm(), n))
            self.assertEqual(session.call("VM.get_user_version", vm()), i)

    def test_W6_each_type_has_its_own_form(self):
        self.assertEqual(value_of(xml_bytes("VM.get_HVM_shadow_multiplier", session.ref, vm())),
                         b"<value><double>1</double></value>")
        self.assertEqual(value_of(xml_bytes("VM.get_is_a_template", session.ref, vm())),
                         b"<value><boolean>0</boolean></value>")
        self.assertEqual(value_of(xml_bytes("VM.get_snapshot_time", session.ref, vm())),
                         b"<value><dateTime.iso8601>19700101T00:00:00Z</dateTime.iso8601></value>")
        self.assertEqual(value_of(xml_bytes("VM.set_name_description", session.ref, vm(), "")), b"<value></value>")
        self.assertEqual(value_of(xml_bytes("VM.get_VBDs", session.ref, vm())),
                         b"<value><array><data></data></array></value>")
        self.assertEqual(value_of(xml_bytes("VM.get_affinity", session.ref, vm())), b"<value>OpaqueRef:NULL</value>")
        self.assertEqual(value_of(xml_bytes("VM.get_power_state", session.ref, vm())), b"<value>Halted</value>")
        self.assertRegex(value_of(xml_bytes("VM.get_VIFs", session.ref, vm())),
                         rb"^<value><array><data>(<value>OpaqueRef:[0-9a-f-]{36}</value>)+</data></array></value>$")

    def test_W6_empty_text_is_the_null_reference(self):
        session.call("VM.set_affinity", vm(), "")
        self.assertEqual(session.call("VM.get_affinity", vm()), "OpaqueRef:NULL")

    def test_W6_floats_keep_sixteen_digits(self):
        for n in (1.0, 1.1, 4 / 3, 12.345678901234567, 1 + 2**-50):
            session.call("VM.set_HVM_shadow_multiplier", vm("sim-00002"), n)
            body = value_of(xml_bytes("VM.get_HVM_shadow_multiplier", session.ref, vm("sim-00002")))
            self.assertTrue(math.isclose(float(re.search(rb"<double>(.*)</double>", body)[1]), n, rel_tol=1e-15))

    def test_W7_text_is_escaped_and_control_characters_are_gone(self):
        session.call("VM.set_name_description", vm(), "a&b<c>d\"e\t\n\r\x01\x1f\x7fZ\u00fc\U0001f600")
        body = value_of(xml_bytes("VM.get_name_description", session.ref, vm()))
        self.assertIn(b"a&amp;b&lt;c&gt;d&quot;e\t\n", body)
        self.assertNotRegex(body, rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")
        self.assertIn("Z\u00fc\U0001f600".encode(), body)
        session.call("VM.set_name_description", vm(), "")

    def test_W7_every_record_has_every_field_in_the_form_of_its_type(self):
        client = libxen.Client(server, "root", "secret", records())
        for c in api()["classes"]:
            if not any(m["name"] == "get_all_records" for m in c["messages"] + c["implicit_messages"]):
                continue
            try:
                client.call(f"{c['name']}.get_all_records", type_name=f"({c['name']} ref -> {c['name']} record) map")
            except libxen.Fault as e:
                self.assertIn(e.description[0], ("NOT_IMPLEMENTED", "MESSAGE_REMOVED", "MESSAGE_METHOD_UNKNOWN"), c["name"])

    def test_the_c_bindings_take_a_vm_through_its_life(self):
        c = libxen.Client(server, "root", "secret", records(), kind="http")
        new = c.call("VM.clone", vm("sim-00002"), "libxen", type_name="VM ref")
        for message, more, state in (("start", (False, False), "Running"), ("pause", (), "Paused"), ("unpause", (), "Running"),
                                     ("suspend", (), "Suspended"), ("resume", (False, False), "Running"),
                                     ("clean_reboot", (), "Running"), ("clean_shutdown", (), "Halted")):
            c.call("VM." + message, new, *more)
            self.assertEqual(c.call("VM.get_power_state", new, type_name="enum vm_power_state"), state)
        record = c.call("VM.get_record", new, type_name="VM record")
        self.assertEqual((record["memory_static_max"], record["is_a_template"]), (256 << 20, False))
        c.call("VM.set_VCPUs_max", new, 2)
        self.assertEqual(c.call("VM.get_VCPUs_max", new, type_name="int"), 2)
        c.call("VM.destroy", new)

    def test_W12_listMethods_needs_no_session_and_is_a_bare_array(self):
        body = xml_bytes("system.listMethods")
        self.assertRegex(body, rb"<methodResponse><params><param><value><array><data><value>[A-Za-z_]+\.[A-Za-z_.]+</value>")
        self.assertNotIn(b"Status", body[:200])
        methods = json_answer("system.listMethods")["result"]
        self.assertEqual(sorted(methods), sorted(xmlrpc.client.loads(body)[0][0]))
        for m in methods:  # each class named there will be fetched
            if m.endswith(".get_all_records"):
                self.assertIsInstance(session.call(m), dict, m)


class JsonRpc(unittest.TestCase):
    def test_W8_content_types_have_no_parameters_and_failures_are_200(self):
        for method in ("VM.get_all", "VM.nothing"):
            body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": [session.ref]}
            status, headers, _ = post("/jsonrpc", json.dumps(body), {"Content-Type": "application/json; charset=utf-8"})
            self.assertEqual((status, headers["Content-Type"]), (200, "application/json"))
            status, headers, _ = post("/xmlrpc", xmlrpc.client.dumps((session.ref,), method))
            self.assertEqual((status, headers["Content-Type"]), (200, "text/xml"))

    def test_W9_version_2_has_a_result_or_an_error_never_both(self):
        answer = json_answer("VM.get_name_label", session.ref, vm())
        self.assertEqual(answer, {"jsonrpc": "2.0", "id": 1, "result": NAME})
        for id in (0, 7, "a-b-c", -1):
            self.assertEqual(json_answer("system.listMethods", id=id)["id"], id)
        answer = json_answer("VM.pause", session.ref, vm())
        self.assertNotIn("result", answer)
        self.assertEqual(answer["error"], {"code": 1, "message": "VM_BAD_POWER_STATE",
                                           "data": [vm(), "running", "halted"]})
        self.assertIs(type(answer["error"]["code"]), int)

    def test_W10_version_1_has_both_and_one_is_null(self):
        answer = json_answer("VM.get_name_label", session.ref, vm(), jsonrpc=None)
        self.assertEqual(answer, {"id": 1, "result": NAME, "error": None})
        answer = json_answer("VM.get_name_label", session.ref, "OpaqueRef:none", jsonrpc=None)
        self.assertEqual(answer, {"id": 1, "result": None, "error": ["HANDLE_INVALID", "VM", "OpaqueRef:none"]})

    def test_W11_numbers_are_numbers_dates_are_text_and_floats_keep_their_fraction(self):
        record = session.call("VM.get_record", vm())
        self.assertIs(type(record["memory_static_max"]), int)
        self.assertEqual(record["snapshot_time"], "19700101T00:00:00Z")
        task = session.call("task.create", "progress", "")
        session.call("task.set_progress", task, 0.64)
        record = session.call("task.get_record", task)
        self.assertEqual(record["progress"], 0.64)
        self.assertRegex(record["created"], r"^\d{8}T\d\d:\d\d:\d\dZ$")
        session.call("task.destroy", task)
        for n in ("NaN", "Infinity", "1e999"):
            body = '{"jsonrpc":"2.0","id":1,"method":"VM.set_HVM_shadow_multiplier","params":["%s","%s",%s]}'
            answer = post("/jsonrpc", body % (session.ref, vm(), n))[2]
            self.assertNotIn(b"NaN", answer)
        raw_xml("VM.set_HVM_shadow_multiplier", vm(), "<double>nan</double>")
        _, _, body = post("/jsonrpc", json.dumps({"jsonrpc": "2.0", "id": 1, "method": "VM.get_record",
                                                  "params": [session.ref, vm()]}))
        json.loads(body, parse_constant=lambda c: self.fail(c))


class Events(unittest.TestCase):
    def change(self):
        session.call("VM.set_name_description", vm(), str(time.monotonic()))

    def test_W13_an_event_has_the_members_that_clients_read(self):
        token = session.call("event.from", ["vm"], "", 1.0)["token"]
        self.change()
        body = xml_bytes("event.from", session.ref, ["VM"], token, 5.0)
        event = xmlrpc.client.loads(body)[0][0]["Value"]["events"][0]
        self.assertEqual((event["class"], event["operation"], event["ref"]), ("vm", "mod", vm()))
        self.assertIsInstance(event["id"], str)
        self.assertIsInstance(event["timestamp"], xmlrpc.client.DateTime)
        self.assertEqual(event["snapshot"]["name_label"], NAME)
        event = session.call("event.from", ["vm"], token, 5.0)["events"][0]
        self.assertIsInstance(event["timestamp"], str)

    def test_W13_del_has_no_snapshot(self):
        token = session.call("event.from", ["vm"], "", 1.0)["token"]
        new = session.call("VM.clone", vm(), "to be destroyed")
        batch = session.call("event.from", ["vm"], token, 5.0)
        self.assertEqual(next(e for e in batch["events"] if e["ref"] == new)["operation"], "add")
        session.call("VM.destroy", new)
        batch = session.call("event.from", ["vm"], batch["token"], 5.0)
        gone = next(e for e in batch["events"] if e["ref"] == new and e["operation"] == "del")
        self.assertNotIn("snapshot", gone)

    def test_W13_event_next_tells_obj_uuid_and_a_date(self):
        s = server.login()
        s.call("event.register", ["VM"])
        self.change()
        body = post("/RPC2", xmlrpc.client.dumps((s.ref,), "event.next"))[2]
        event = xmlrpc.client.loads(body)[0][0]["Value"][0]
        self.assertEqual(event["obj_uuid"], session.call("VM.get_uuid", vm()))
        self.assertIsInstance(event["timestamp"], xmlrpc.client.DateTime)
        with self.assertRaisesRegex(Failure, "SESSION_NOT_REGISTERED"):
            server.login().call("event.next")

    def test_W14_subscriptions_in_all_their_forms(self):
        for classes, seen in ((["vm"], {"vm"}), (["VM"], {"vm"}), (["Vm", "HOST"], {"vm", "host"})):
            batch = session.call("event.from", classes, "", 1.0)
            self.assertEqual({e["class"] for e in batch["events"]}, seen, classes)
            self.assertEqual({e["operation"] for e in batch["events"]}, {"add"})
        self.assertLess({"vm", "host", "pool", "sr"}, {e["class"] for e in session.call("event.from", ["*"], "", 1.0)["events"]})
        batch = session.call("event.from", ["vm/" + vm()], "", 1.0)
        self.assertEqual([e["ref"] for e in batch["events"]], [vm()])

    def test_W14_tokens_and_timeouts(self):
        token = session.call("event.from", ["vm"], "", 1.0)["token"]
        for timeout in (0.2, "0.2", 1):
            began = time.monotonic()
            batch = session.call("event.from", ["vm"], token, timeout)
            self.assertEqual(batch["events"], [])
            self.assertLess(time.monotonic() - began, 10)
            token = batch["token"]
        for token, code in (("nonsense", "EVENT_FROM_TOKEN_PARSE_FAILURE"),):
            with self.assertRaises(Failure) as failure:
                session.call("event.from", ["vm"], token, 1.0)
            self.assertEqual(failure.exception.code, code)
        with self.assertRaises(Failure) as failure:
            session.call("event.from", ["vm/a/b"], "", 1.0)
        self.assertEqual(failure.exception.code, "EVENT_SUBSCRIPTION_PARSE_FAILURE")

    def test_W15_inject_answers_a_token_before_its_own_event(self):
        for class_ in ("vm", "VM"):
            token = session.call("event.inject", class_, vm())
            batch = session.call("event.from", ["vm"], token, 5.0)
            self.assertIn((vm(), "mod"), [(e["ref"], e["operation"]) for e in batch["events"]])
        with self.assertRaises(Failure) as failure:
            session.call("event.inject", "vm", "OpaqueRef:none")
        self.assertEqual(failure.exception.code, "HANDLE_INVALID")


class Calls(unittest.TestCase):
    def test_W16_methods_have_a_second_name_and_an_async_form(self):
        self.assertEqual(session.call("VM_get_name_label", vm()), NAME)
        self.assertIn("token", session.call("event_from", ["vm"], "", 0.1))
        for name in ("Async.VM.clone", "Async.VM_clone"):
            record = session.wait(session.call(name, vm(), "async"))
            session.call("VM.destroy", re.search("OpaqueRef:[^<]*", record["result"])[0])

    def test_W17_login_takes_two_three_and_four_arguments(self):
        for more in ((), ("1.0",), ("1.0", "a client"), ("", "")):
            for codec in (server.json, server.xml):
                ref = codec("session.login_with_password", "root", "secret", *more)
                self.assertTrue(ref.startswith("OpaqueRef:"))
                codec("session.logout", ref)

    def test_W18_a_task_ends_with_a_fragment_of_xml_or_a_reason(self):
        record = session.wait(session.call("Async.VM.clone", vm(), "result"))
        self.assertRegex(record["result"], r"^<value>OpaqueRef:[0-9a-f-]{36}</value>$")
        new = record["result"][len("<value>"):-len("</value>")]
        record = session.wait(session.call("Async.VM.destroy", new))
        self.assertIn(record["result"], ("", "<value></value>"))
        task = session.call("Async.VM.pause", vm())
        while session.call("task.get_status", task) == "pending":
            time.sleep(0.01)
        self.assertEqual(session.call("task.get_status", task), "failure")
        self.assertEqual(session.call("task.get_error_info", task), ["VM_BAD_POWER_STATE", vm(), "running", "halted"])
        self.assertIn(task, session.call("task.get_all"))  # until somebody destroys it
        session.call("task.destroy", task)
        self.assertNotIn(task, session.call("task.get_all"))

    def test_W19_any_path_takes_a_call(self):
        body = xmlrpc.client.dumps((session.ref, vm()), "VM.get_name_label")
        for path in ("/", "/RPC2", "/xmlrpc", "/RPC2/", "/some/other/path"):
            self.assertIn(NAME.encode(), post(path, body)[2], path)
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "VM.get_name_label", "params": [session.ref, vm()]})
        for path in ("/jsonrpc", "/json"):
            self.assertEqual(json.loads(post(path, body)[2])["result"], NAME)

    def test_W20_headers_do_not_matter(self):
        body = xmlrpc.client.dumps((session.ref, vm()), "VM.get_name_label").encode()
        for type in (None, "application/x-www-form-urlencoded", "text/plain", "application/json"):
            c = server.connection("http")
            c.putrequest("POST", "/", skip_accept_encoding=True)
            if type:
                c.putheader("Content-Type", type)
            c.putheader("Content-Length", str(len(body)))
            c.endheaders(body)
            r = c.getresponse()
            self.assertIn(NAME.encode(), r.read(), type)
            c.close()

    def test_W20_expect_100_continue(self):
        with socket.create_connection(("127.0.0.1", server.http_port), 10) as s:
            body = xmlrpc.client.dumps((session.ref, vm()), "VM.get_name_label").encode()
            s.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
                      % len(body))
            self.assertTrue(s.recv(1000).startswith(b"HTTP/1.1 100 "))
            s.sendall(body)
            answer = b""
            while part := s.recv(65536):
                answer += part
            self.assertIn(NAME.encode(), answer)

    def test_W21_many_connections_stay_open(self):
        """Twenty calls at once and a watcher, each on a TLS connection of its own, used again and again."""
        done = []
        body = json.dumps({"jsonrpc": "2.0", "id": 0, "method": "VM.get_name_label", "params": [session.ref, vm()]})

        def work():
            c = server.connection("https")
            for _ in range(20):
                c.request("POST", "/jsonrpc", body)
                r = c.getresponse()
                done.append(json.loads(r.read())["result"])
                self.assertNotEqual(r.headers.get("Connection", "").lower(), "close")
            c.close()

        threads = [threading.Thread(target=work) for _ in range(21)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(done, [NAME] * 420)

    def test_W21_tls_1_2_with_the_go_sdks_ciphers(self):
        for cipher in ("ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384"):
            context = no_verify()
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            context.set_ciphers(cipher)
            context.set_alpn_protocols(["http/1.1"])
            c = http.client.HTTPSConnection("127.0.0.1", server.port, context=context, timeout=10)
            c.request("GET", "/")
            self.assertEqual(c.getresponse().status, 200)
            self.assertEqual((c.sock.cipher()[0], c.sock.version()), (cipher, "TLSv1.2"))
            c.close()

    def test_W22_enums_are_those_that_strict_clients_know(self):
        known = {"snapshot", "clone", "copy", "create_template", "revert", "checkpoint", "snapshot_with_quiesce", "provision",
                 "start", "start_on", "pause", "unpause", "clean_shutdown", "clean_reboot", "hard_shutdown",
                 "power_state_reset", "hard_reboot", "suspend", "csvm", "resume", "resume_on", "pool_migrate",
                 "migrate_send", "get_boot_record", "send_sysrq", "send_trigger", "query_services", "shutdown",
                 "call_plugin", "changing_memory_live", "awaiting_memory_live", "changing_dynamic_range",
                 "changing_static_range", "changing_memory_limits", "changing_shadow_memory",
                 "changing_shadow_memory_live", "changing_VCPUs", "changing_VCPUs_live", "assert_operation_valid",
                 "data_source_op", "update_allowed_operations", "make_into_template", "import", "export",
                 "metadata_export", "reverting", "destroy"}
        new = session.call("VM.clone", vm(), "enums")
        session.call("VM.start", new, False, False)
        for r in session.call("VM.get_all_records").values():
            self.assertLessEqual(set(r["allowed_operations"]), known)
        session.call("VM.hard_shutdown", new)
        session.call("VM.destroy", new)

    def test_W23_error_codes_and_their_parameters(self):
        uuid = "00000000-0000-4000-8000-000000000000"
        session.call("VM.set_other_config", vm(), {"k": "v"})
        for expected, method, *params in (
                (["MESSAGE_METHOD_UNKNOWN", "VM.nothing"], "VM.nothing"),
                (["MESSAGE_PARAMETER_COUNT_MISMATCH", "VM.get_name_label", "1", "2"], "VM.get_name_label", vm(), "more"),
                (["MESSAGE_PARAMETER_COUNT_MISMATCH", "VM.start", "3", "1"], "VM.start", vm()),
                (["HANDLE_INVALID", "VM", "OpaqueRef:none"], "VM.get_record", "OpaqueRef:none"),
                (["UUID_INVALID", "VM", uuid], "VM.get_by_uuid", uuid)):
            with self.assertRaises(Failure) as failure:
                session.call(method, *params)
            self.assertEqual([failure.exception.code, *failure.exception.params], expected)
        with self.assertRaises(Failure) as failure:
            session.call("VM.add_to_other_config", vm(), "k", "again")
        self.assertEqual(failure.exception.code, "MAP_DUPLICATE_KEY")
        session.call("VM.remove_from_other_config", vm(), "never there")
        session.call("VM.set_other_config", vm(), {})
        with self.assertRaises(Failure) as failure:
            server.json("VM.get_all", "OpaqueRef:none")
        self.assertEqual([failure.exception.code, *failure.exception.params], ["SESSION_INVALID", "OpaqueRef:none"])
        with self.assertRaises(Failure) as failure:
            server.json("session.login_with_password", "root", "wrong")
        self.assertEqual((failure.exception.code, failure.exception.params[0], len(failure.exception.params)),
                         ("SESSION_AUTHENTICATION_FAILED", "root", 2))


if __name__ == "__main__":
    unittest.main()
