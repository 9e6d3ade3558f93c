"""Debian's python3-os-xenapi, the XenAPI of OpenStack's Nova: XenAPI.py, and the pool of sessions above it."""
import ssl
import sys
import threading
import unittest
import warnings

from clients import ClientTest, live

# Debian's modules come first: another python3 than Debian's may have its own of what these need.
sys.path.insert(0, "/usr/lib/python3/dist-packages")
XenAPI = pooled = missing = pooled_missing = None
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    try:
        from os_xenapi.client import XenAPI
    except ImportError as e:
        missing = f"python3-os-xenapi is not installed: {e}"
    try:
        from os_xenapi.client import session as pooled
    except Exception as e:
        pooled_missing = f"os_xenapi.client.session cannot be imported: {e}"
del sys.path[0]


@unittest.skipIf(missing, missing)
class XenApiPy(ClientTest):
    def login(self, *more):
        s = XenAPI.Session(self.server.url("http"))
        s.login_with_password("root", self.server.users["root"], *more)
        self.addCleanup(s.xenapi.session.logout)
        return s

    def call(self, session):
        return lambda method, *arguments: session.xenapi_request(method, arguments)

    def in_task(self, session):
        def run(method, *arguments):
            task = session.xenapi_request("Async." + method, arguments)
            while session.xenapi.task.get_status(task) == "pending":
                pass
            if session.xenapi.task.get_status(task) != "success":
                raise XenAPI.Failure(session.xenapi.task.get_error_info(task))
            result = session.xenapi.task.get_result(task)
            session.xenapi.task.destroy(task)
            return result.replace("<value>", "").replace("</value>", "")
        return run

    def test_login_with_two_three_and_four_arguments(self):
        for more in ((), ("1.0",), ("1.0", "originator")):
            s = self.login(*more)
            self.assertEqual(s.API_version, "{}.{}".format(
                *(self.session.call(f"host.get_API_version_{part}", self.session.call("host.get_all")[0])
                  for part in ("major", "minor"))))

    def test_life(self):
        live(self, self.call(self.login("2.1", "nova")))

    def test_life_in_tasks(self):
        s = self.login("2.1", "nova")
        live(self, self.call(s), self.in_task(s))

    def test_https(self):
        context, ssl._create_default_https_context = ssl._create_default_https_context, ssl._create_unverified_context
        try:
            s = XenAPI.Session(self.server.url())
            s.login_with_password("root", self.server.users["root"])
        finally:
            ssl._create_default_https_context = context
        self.assertEqual(len(s.xenapi.pool.get_all()), 1)
        s.logout()

    def test_where(self):
        s = self.login()
        pifs = s.xenapi.PIF.get_all_records()
        address = next(r["IP"] for r in pifs.values() if r["IP"])
        found = s.xenapi.PIF.get_all_records_where(f'field "IP"="{address}"')
        self.assertEqual(found, {ref: r for ref, r in pifs.items() if r["IP"] == address})
        self.assertEqual(s.xenapi.PIF.get_all_records_where('field "IP"="203.0.113.77"'), {})
        control = s.xenapi.VM.get_all_records_where('field "is_control_domain"="true"')
        self.assertEqual([r["is_control_domain"] for r in control.values()], [True])
        halted = s.xenapi.VM.get_all_records_where(
            'field "power_state"="Halted" and field "name_label"="sim-00001" and not (field "is_a_template"="true")')
        self.assertEqual([r["name_label"] for r in halted.values()], ["sim-00001"])

    def test_failure(self):
        s = self.login()
        with self.assertRaises(XenAPI.Failure) as failure:
            s.xenapi.VM.start("OpaqueRef:none", False, False)
        self.assertEqual(failure.exception.details, ["HANDLE_INVALID", "VM", "OpaqueRef:none"])

    def test_logs_in_again(self):
        """SESSION_INVALID makes the library log in again, by itself."""
        s = self.login("1.0", "again")
        first = s._session
        self.server.json("session.logout", first)
        self.assertEqual(len(s.xenapi.host.get_all()), 1)
        self.assertNotEqual(s._session, first)

    def test_event_from_by_its_other_name(self):
        """from is a word of Python: scripts write event_from."""
        s = self.login()
        batch = s.xenapi.event_from(["vm"], "", 5.0)
        self.assertEqual({e["class"] for e in batch["events"]}, {"vm"})

    def test_parallel_sessions(self):
        sessions = [self.login("2.1", "nova") for _ in range(5)]
        self.assertEqual(len({s._session for s in sessions}), 5)
        template = sessions[0].xenapi.VM.get_by_name_label("sim-00002")[0]
        wrong = []

        def work(s, i):
            try:
                vm = s.xenapi.VM.clone(template, f"parallel {i}")
                s.xenapi.VM.start(vm, False, False)
                s.xenapi.VM.hard_shutdown(vm)
                s.xenapi.VM.destroy(vm)
            except Exception as e:
                wrong.append(e)

        threads = [threading.Thread(target=work, args=(s, i)) for i, s in enumerate(sessions)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual(wrong, [])


@unittest.skipIf(missing or pooled_missing, missing or pooled_missing)
class XenApiSession(ClientTest):
    """The pool of sessions. It looks up the URL's host with the port still in it, and asks a plugin of Citrix's dom0 for
    its version: these two are stubbed, as OpenStack's own tests do."""

    def open(self):
        class Session(pooled.XenAPISession):
            def _get_ip_from_url(self, url):
                return "127.0.0.1"

            def _verify_plugin_version(self):
                pass

        return Session(self.server.url("http"), "root", self.server.users["root"], originator="nova")

    def test_pool(self):
        s = self.open()
        self.assertEqual(s.host_ref, self.session.call("host.get_all")[0])
        self.assertEqual(s.host_uuid, self.session.call("host.get_uuid", s.host_ref))
        self.assertEqual(len(s.product_version), 3)
        self.assertEqual(s._sessions.qsize(), 5)

    def test_objects(self):
        s = self.open()
        vms = dict(s.get_all_refs_and_recs("VM"))
        self.assertEqual(set(vms), set(self.session.call("VM.get_all")))
        vm = s.VM.get_by_name_label("sim-00001")[0]
        self.assertEqual(s.get_rec("VM", vm)["name_label"], "sim-00001")
        self.assertIsNone(s.get_rec("VM", "OpaqueRef:none"))
        live(self, s.call_xenapi)

    def test_devices(self):
        s = self.open()
        vm = s.VM.clone(s.VM.get_by_name_label("sim-00001")[0], "devices")
        sr = s.call_xenapi("pool.get_default_SR", s.call_xenapi("pool.get_all")[0])
        vdi = s.VDI.create({"name_label": "disk", "name_description": "", "SR": sr, "virtual_size": str(16 << 20),
                            "type": "User", "sharable": False, "read_only": False, "xenstore_data": {},
                            "other_config": {}, "sm_config": {}, "tags": []})
        vbd = s.VBD.create({"VM": vm, "VDI": vdi, "userdevice": s.VM.get_allowed_VBD_devices(vm)[0], "bootable": False,
                            "mode": "RW", "type": "disk", "unpluggable": True, "empty": False, "other_config": {},
                            "qos_algorithm_type": "", "qos_algorithm_params": {}, "qos_supported_algorithms": []})
        s.VM.start(vm, False, False)
        self.assertTrue(s.VBD.get_currently_attached(vbd))
        s.VBD.unplug(vbd, vm)
        self.assertFalse(s.VBD.get_currently_attached(vbd))
        s.VBD.plug(vbd, vm)
        s.VM.hard_shutdown(vm)
        s.VBD.destroy(vbd)
        s.VDI.destroy(vdi)
        s.VM.destroy(vm)

    def test_task_of_its_own(self):
        s = self.open()
        with s.custom_task("upload", "an image") as task:
            self.assertEqual(s.call_xenapi("task.get_name_label", task), "nova-upload")
        self.assertNotIn(task, s.call_xenapi("task.get_all"))


if __name__ == "__main__":
    unittest.main()
