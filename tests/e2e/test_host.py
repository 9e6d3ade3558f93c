"""The host, its pool, its networks and messages: what they say of themselves and what can be asked of them."""
import hashlib
import ssl
import unittest
from datetime import datetime, timedelta, timezone

import harness
from harness import Failure, Server

NULL = "OpaqueRef:NULL"
GIB = 1 << 30
EPOCH = "19700101T00:00:00Z"


def when(text):
    return datetime.strptime(text, "%Y%m%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)


class Case(harness.Case):
    conf = {"sim": {"vms": 4, "cpus": 6, "memory": 16384}}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.vms = cls.guests()


class Host(Case):
    def test_there_is_one_host_and_it_is_the_pool_s_master(self):
        self.assertEqual(self.call("host.get_all"), [self.host])
        self.assertEqual(self.call("pool.get_master", self.pool), self.host)
        self.assertEqual(self.call("session.get_this_host", self.s.ref), self.host)

    def test_its_CPUs(self):
        cpus = [self.call("host_cpu.get_record", c) for c in self.call("host.get_host_CPUs", self.host)]
        self.assertEqual(sorted(c["number"] for c in cpus), list(range(6)))
        self.assertTrue(all(c["host"] == self.host and c["speed"] > 0 and c["vendor"] for c in cpus))
        self.assertEqual(self.call("host.get_cpu_info", self.host)["cpu_count"], "6")
        self.assertEqual(self.call("pool.get_cpu_info", self.pool)["cpu_count"], "6")

    def test_its_memory(self):
        metrics = self.call("host_metrics.get_record", self.call("host.get_metrics", self.host))
        self.assertEqual(metrics["memory_total"], 16 * GIB)
        self.assertTrue(metrics["live"])
        self.assertLess(0, metrics["memory_free"])
        self.assertLess(metrics["memory_free"], metrics["memory_total"])
        self.assertEqual(self.call("host.compute_free_memory", self.host), metrics["memory_free"])
        self.assertEqual(self.call("host.compute_memory_overhead", self.host),
                         self.call("host.get_memory_overhead", self.host))

    def test_a_running_guest_takes_memory_and_gives_it_back(self):
        def free():
            return self.call("host.compute_free_memory", self.host)

        before, vm = free(), self.vms[0]
        self.call("VM.start", vm, False, False)
        self.until(lambda: free() <= before - self.call("VM.get_memory_static_max", vm))
        self.assertIn(vm, self.call("host.get_resident_VMs", self.host))
        self.call("VM.hard_shutdown", vm)
        self.until(lambda: free() == before)
        self.assertNotIn(vm, self.call("host.get_resident_VMs", self.host))

    def test_its_control_domain(self):
        dom0 = self.call("host.get_control_domain", self.host)
        record = self.call("VM.get_record", dom0)
        self.assertEqual((record["is_control_domain"], record["power_state"], record["domid"], record["resident_on"]),
                         (True, "Running", 0, self.host))
        self.assertIn(dom0, self.call("host.get_resident_VMs", self.host))
        self.fails("OPERATION_NOT_ALLOWED", "VM.hard_shutdown", dom0)

    def test_its_versions(self):
        versions = self.call("host.get_software_version", self.host)
        self.assertRegex(versions["platform_version"], r"^\d+\.\d+\.\d+$")
        self.assertEqual((self.call("host.get_API_version_major", self.host), self.call("host.get_API_version_minor",
                          self.host)), (2, 21))

    def test_disabled_it_starts_no_guest(self):
        self.call("host.disable", self.host)
        try:
            self.assertFalse(self.call("host.get_enabled", self.host))
            self.assertNotIn("vm_start", self.call("host.get_allowed_operations", self.host))
            with self.assertRaises(Failure) as f:
                self.call("VM.start", self.vms[0], False, False)
            self.assertIn(f.exception.code, ("HOST_DISABLED", "NO_HOSTS_AVAILABLE"))
            self.assertEqual(self.call("VM.get_power_state", self.vms[0]), "Halted")
        finally:
            self.call("host.enable", self.host)
        self.assertIn("vm_start", self.call("host.get_allowed_operations", self.host))
        self.call("VM.start", self.vms[0], False, False)
        self.call("VM.hard_shutdown", self.vms[0])

    def test_what_time_it_is(self):
        now = datetime.now(timezone.utc)
        self.assertLess(abs(when(self.call("host.get_servertime", self.host)) - now), timedelta(seconds=30))
        local = when(self.call("host.get_server_localtime", self.host)) - when(self.call("host.get_servertime", self.host))
        self.assertLessEqual(abs(local), timedelta(hours=14, seconds=1))

    def test_its_console_ring(self):
        text = self.call("host.dmesg", self.host)
        self.assertIn("Xen", text)
        self.call("host.send_debug_keys", self.host, "h")
        self.assertGreater(len(self.call("host.dmesg", self.host)), len(text))
        self.call("host.dmesg_clear", self.host)
        self.assertEqual(self.call("host.dmesg", self.host), "")

    def test_a_plugin_that_is_not_installed(self):
        self.assertEqual(self.fails("XENAPI_MISSING_PLUGIN", "host.call_plugin", self.host, "raid.py", "check", {}),
                         ["raid.py"])

    def test_an_extension_that_is_not_installed(self):
        self.assertIs(self.call("host.has_extension", self.host, "x.y"), False)
        self.assertIs(self.call("pool.has_extension", self.pool, "x.y"), False)
        self.assertEqual(self.fails("MESSAGE_METHOD_UNKNOWN", "host.call_extension", self.host, "x.y"), ["x.y"])

    def test_list_methods_are_those_that_work(self):
        methods = self.call("host.list_methods")
        self.assertIn("VM.start", methods)
        self.assertNotIn("host.bugreport_upload", methods)

    def test_evacuation_has_nowhere_to_go(self):
        self.call("host.assert_can_evacuate", self.host)
        vm = self.vms[1]
        self.call("VM.start", vm, False, False)
        try:
            self.assertEqual(self.call("host.get_vms_which_prevent_evacuation", self.host), {vm: ["NO_HOSTS_AVAILABLE"]})
            self.fails("NO_HOSTS_AVAILABLE", "host.assert_can_evacuate", self.host)
            self.assertEqual(self.call("host.get_uncooperative_resident_VMs", self.host), [])
        finally:
            self.call("VM.hard_shutdown", vm)

    def test_its_certificate_is_the_one_that_clients_see(self):
        pem = self.call("host.get_server_certificate", self.host)
        self.assertNotIn("PRIVATE", pem)
        shown = ssl.get_server_certificate(("127.0.0.1", self.server.port))
        self.assertEqual(hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest(),
                         hashlib.sha256(ssl.PEM_cert_to_DER_cert(shown)).hexdigest())

    def test_how_it_would_be_switched_on(self):
        self.call("host.set_power_on_mode", self.host, "wake-on-lan", {"a": "b"})
        self.assertEqual((self.call("host.get_power_on_mode", self.host), self.call("host.get_power_on_config", self.host)),
                         ("wake-on-lan", {"a": "b"}))
        self.call("host.set_power_on_mode", self.host, "", {})

    def test_old_TLS_cannot_be_switched_on(self):
        self.assertIs(self.call("host.get_ssl_legacy", self.host), False)
        self.call("host.set_ssl_legacy", self.host, False)
        self.call("pool.disable_ssl_legacy", self.pool)
        self.fails("VALUE_NOT_SUPPORTED", "host.set_ssl_legacy", self.host, True)

    def test_its_metrics_move(self):
        metrics = self.call("host.get_metrics", self.host)
        first = self.call("host_metrics.get_last_updated", metrics)
        self.assertNotEqual(first, EPOCH)
        self.until(lambda: self.call("host_metrics.get_last_updated", metrics) > first)


class HostAfterTheBackend(unittest.TestCase):
    def test_what_an_administrator_said_survives_a_restart(self):
        server = Server().start()
        try:
            s = server.login()
            host, uuids = s.call("host.get_all")[0], [r["uuid"] for r in s.call("PIF.get_all_records").values()]
            s.call("host.set_name_label", host, "a name of my own")
            s.call("host.disable", host)
            server.stop()
            server.start()
            s = server.login()
            self.assertEqual(s.call("host.get_all"), [host])
            self.assertEqual((s.call("host.get_name_label", host), s.call("host.get_enabled", host)),
                             ("a name of my own", False))
            self.assertEqual([r["uuid"] for r in s.call("PIF.get_all_records").values()], uuids)
            self.assertEqual(len(s.call("pool.get_all")), 1)
            self.assertEqual([v["is_control_domain"] for v in s.call("VM.get_all_records").values()], [True])
        finally:
            server.stop()
            server.clean()


class Pool(Case):
    def test_state_of_the_license(self):
        state = self.call("pool.get_license_state", self.pool)
        self.assertEqual(state["edition"], self.call("host.get_edition", self.host))
        self.assertGreater(when(state["expiry"]), datetime.now(timezone.utc))

    def test_sync_database(self):
        self.call("pool.sync_database")

    def test_settings_for_guest_agents(self):
        self.call("pool.add_to_guest_agent_config", self.pool, "auto_update_enabled", "no")
        self.assertEqual(self.call("pool.get_guest_agent_config", self.pool), {"auto_update_enabled": "no"})
        self.assertEqual(self.fails("MAP_DUPLICATE_KEY", "pool.add_to_guest_agent_config", self.pool,
                                    "auto_update_enabled", "x")[:2], ["pool", "guest_agent_config"])
        for _ in (1, 2):
            self.call("pool.remove_from_guest_agent_config", self.pool, "auto_update_enabled")
        self.assertEqual(self.call("pool.get_guest_agent_config", self.pool), {})

    def test_how_Xen_Orchestra_waits_for_its_own_write(self):
        token = self.call("event.from", ["pool"], "", 0.1)["token"]
        self.call("pool.add_to_other_config", self.pool, "xo:barrier:1", "now")
        batch = self.call("event.from", ["pool"], token, 5.0)
        self.assertEqual([e["snapshot"]["other_config"]["xo:barrier:1"] for e in batch["events"]], ["now"])
        self.call("pool.remove_from_other_config", self.pool, "xo:barrier:1")


class Networks(Case):
    def new(self, **args):
        return self.call("network.create", {"name_label": "n", "name_description": "", "other_config": {}, **args})

    def test_a_new_network(self):
        record = self.call("network.get_record", self.new(name_label="lab", tags=["t"], MTU=9000))
        self.assertEqual((record["name_label"], record["tags"], record["MTU"], record["PIFs"], record["VIFs"],
                          record["managed"], record["default_locking_mode"], record["purpose"]),
                         ("lab", ["t"], 9000, [], [], True, "unlocked", []))

    def test_each_gets_a_bridge_of_its_own(self):
        bridges = [self.call("network.get_bridge", self.new()) for _ in range(4)]
        self.assertEqual(len(set(bridges)), 4)
        self.assertTrue(all(0 < len(b) <= 15 for b in bridges))

    def test_a_bridge_that_was_asked_for(self):
        self.assertEqual(self.call("network.get_bridge", self.new(bridge="br-lab")), "br-lab")
        self.assertEqual(self.fails("BRIDGE_NAME_EXISTS", "network.create", {"name_label": "x", "bridge": "br-lab"}),
                         ["br-lab"])

    def test_names_that_no_bridge_can_have(self):
        before = self.call("network.get_all")
        for name in ("../x", "with space", "a-name-that-is-too-long", "-x", ".", "a/b"):
            self.assertEqual(self.fails("INVALID_VALUE", "network.create", {"name_label": "x", "bridge": name}),
                             ["bridge", name])
        self.assertEqual(self.call("network.get_all"), before)

    def test_sizes_that_no_packet_can_have(self):
        network = self.new()
        for mtu in (0, -1, 67, 65536):
            self.assertEqual(self.fails("INVALID_VALUE", "network.create", {"name_label": "x", "MTU": mtu}),
                             ["MTU", str(mtu)])
            self.assertEqual(self.fails("INVALID_VALUE", "network.set_MTU", network, mtu), ["MTU", str(mtu)])
        self.call("network.set_MTU", network, 9000)
        self.assertEqual(self.call("network.get_MTU", network), 9000)

    def test_destroy(self):
        network = self.new()
        self.call("network.destroy", network)
        self.assertEqual(self.fails("HANDLE_INVALID", "network.get_record", network), ["network", network])

    def test_a_network_with_interfaces_stays(self):
        pif = self.call("PIF.get_all")[0]
        network = self.call("PIF.get_network", pif)
        self.assertIn(pif, self.fails("NETWORK_CONTAINS_PIF", "network.destroy", network)[0])
        network = self.new()
        vif = self.call("VIF.create", {"VM": self.vms[0], "network": network, "device": "5", "MAC": "", "MTU": 1500,
                                       "other_config": {}, "qos_algorithm_type": "", "qos_algorithm_params": {}})
        self.assertEqual(self.fails("NETWORK_CONTAINS_VIF", "network.destroy", network), [vif])
        self.call("VIF.destroy", vif)
        self.call("network.destroy", network)

    def test_purposes(self):
        network = self.new()
        for _ in (1, 2):
            self.call("network.add_purpose", network, "nbd")
        self.assertEqual(self.call("network.get_purpose", network), ["nbd"])
        self.assertEqual(self.fails("NETWORK_INCOMPATIBLE_PURPOSES", "network.add_purpose", network, "insecure_nbd"),
                         ["insecure_nbd", "nbd"])
        for _ in (1, 2):
            self.call("network.remove_purpose", network, "nbd")
        self.call("network.add_purpose", network, "insecure_nbd")
        self.assertEqual(self.call("network.get_purpose", network), ["insecure_nbd"])
        self.fails("VALUE_NOT_SUPPORTED", "network.add_purpose", network, "storage")

    def test_the_locking_mode_cannot_change_under_an_attached_VIF(self):
        network, vm = self.new(), self.vms[1]
        vif = self.call("VIF.create", {"VM": vm, "network": network, "device": "5", "MAC": "", "MTU": 1500,
                                       "other_config": {}, "qos_algorithm_type": "", "qos_algorithm_params": {}})
        self.call("network.set_default_locking_mode", network, "disabled")
        self.call("VM.start", vm, False, False)
        self.assertEqual(self.fails("VIF_IN_USE", "network.set_default_locking_mode", network, "unlocked"), [network, vif])
        self.call("VM.hard_shutdown", vm)
        self.call("network.set_default_locking_mode", network, "unlocked")
        self.assertEqual(self.call("network.get_default_locking_mode", network), "unlocked")

    def test_the_host_s_own_interfaces(self):
        for ref, pif in self.call("PIF.get_all_records").items():
            self.assertEqual((pif["host"], pif["VLAN"], pif["physical"], pif["currently_attached"]),
                             (self.host, -1, True, True))
            self.assertRegex(pif["MAC"], r"^([0-9a-f]{2}:){5}[0-9a-f]{2}$")
            self.assertIn(ref, self.call("network.get_PIFs", pif["network"]))
            self.assertIn("carrier", self.call("PIF_metrics.get_record", pif["metrics"]))
        management = self.call("host.get_management_interface", self.host)
        self.assertTrue(self.call("PIF.get_management", management))
        self.assertEqual(self.call("PIF.get_IP", management), self.call("host.get_address", self.host))

    def test_a_scan_of_the_interfaces_finds_those_that_are_there_already(self):
        before = set(self.call("PIF.get_all")), set(self.call("network.get_all"))
        self.call("PIF.scan", self.host)
        self.assertEqual((set(self.call("PIF.get_all")), set(self.call("network.get_all"))), before)


class Messages(Case):
    def create(self, name="N", obj=None, cls="VM"):
        return self.call("message.create", name, 3, cls, obj or self.call("VM.get_uuid", self.vms[0]), "a body")

    def test_a_message_about_a_VM(self):
        before = datetime.now(timezone.utc).replace(microsecond=0)
        ref = self.create("SOMETHING")
        record = self.call("message.get_record", ref)
        self.assertEqual((record["name"], record["priority"], record["cls"], record["obj_uuid"], record["body"]),
                         ("SOMETHING", 3, "VM", self.call("VM.get_uuid", self.vms[0]), "a body"))
        self.assertGreaterEqual(when(record["timestamp"]), before)
        self.assertEqual(self.call("message.get_by_uuid", record["uuid"]), ref)
        self.assertIn(ref, self.call("message.get_all"))

    def test_messages_about_other_classes(self):
        for cls, uuid in (("Host", self.call("host.get_uuid", self.host)), ("Pool", self.call("pool.get_uuid", self.pool)),
                          ("SR", self.call("SR.get_uuid", self.call("SR.get_all")[0]))):
            self.assertEqual(self.call("message.get_record", self.create(obj=uuid, cls=cls))["cls"], cls)

    def test_about_nothing_is_refused(self):
        self.assertEqual(self.fails("UUID_INVALID", "message.create", "N", 3, "VM", "nothing", ""), ["VM", "nothing"])
        host = self.call("host.get_uuid", self.host)
        self.assertEqual(self.fails("UUID_INVALID", "message.create", "N", 3, "VM", host, ""), ["VM", host])

    def test_those_about_one_object(self):
        uuid = self.call("VM.get_uuid", self.vms[1])
        ref, other = self.create(obj=uuid), self.create()
        found = self.call("message.get", "VM", uuid, EPOCH)
        self.assertIn(ref, found)
        self.assertNotIn(other, found)
        self.assertEqual(found[ref]["obj_uuid"], uuid)
        self.assertEqual(self.call("message.get", "SR", uuid, EPOCH), {})

    def test_those_since_a_moment(self):
        ref = self.create()
        self.assertIn(ref, self.call("message.get_since", EPOCH))
        self.assertEqual(self.call("message.get_since", "20990101T00:00:00Z"), {})
        self.assertEqual(self.call("message.get", "VM", self.call("VM.get_uuid", self.vms[0]), "20990101T00:00:00Z"), {})

    def test_destroy(self):
        ref = self.create()
        self.call("message.destroy", ref)
        self.assertEqual(self.fails("HANDLE_INVALID", "message.get_record", ref), ["message", ref])

    def test_destroy_many_is_all_or_none(self):
        refs = [self.create() for _ in range(3)]
        self.assertEqual(self.fails("HANDLE_INVALID", "message.destroy_many", [*refs, "OpaqueRef:x"]),
                         ["message", "OpaqueRef:x"])
        self.assertLessEqual(set(refs), set(self.call("message.get_all")))
        self.call("message.destroy_many", refs)
        self.assertFalse(set(refs) & set(self.call("message.get_all")))

    def test_a_watcher_is_told(self):
        token = self.call("event.from", ["message"], "", 0.1)["token"]
        ref = self.create("TOLD")
        events = self.call("event.from", ["message"], token, 5.0)["events"]
        self.assertEqual([(e["operation"], e["ref"], e["snapshot"]["name"]) for e in events], [("add", ref, "TOLD")])


class BlobsAndSecrets(Case):
    def test_a_blob_belongs_to_its_object_under_a_name(self):
        network = self.call("network.get_all")[0]
        owners = {"host": self.host, "pool": self.pool, "SR": self.call("SR.get_all")[0], "network": network,
                  "VM": self.vms[0]}
        for cls, ref in owners.items():
            blob = self.call(f"{cls}.create_new_blob", ref, "notes", "text/plain", True)
            self.assertEqual(self.call(f"{cls}.get_blobs", ref), {"notes": blob})
            record = self.call("blob.get_record", blob)
            self.assertEqual((record["name_label"], record["mime_type"], record["public"], record["size"]),
                             ("notes", "text/plain", True, 0))
            self.assertEqual(self.fails("MAP_DUPLICATE_KEY", f"{cls}.create_new_blob", ref, "notes", "", False)[:2],
                             [cls, "blobs"])
            self.call("blob.destroy", blob)
            self.assertEqual(self.call(f"{cls}.get_blobs", ref), {})
            self.fails("HANDLE_INVALID", "blob.get_record", blob)
        self.assertEqual(self.call("blob.get_all"), [])

    def test_a_blob_of_nobody(self):
        blob = self.call("blob.create", "", False)
        self.assertEqual(self.call("blob.get_mime_type", blob), "application/octet-stream")
        self.call("blob.set_name_label", blob, "n")
        self.assertEqual(self.call("blob.get_by_name_label", "n"), [blob])
        self.call("blob.destroy", blob)

    def test_a_secret_is_kept_and_no_watcher_is_told(self):
        token = self.call("event.from", ["*"], "", 0.1)["token"]
        secret = self.call("secret.create", {"value": "pass word", "other_config": {"a": "b"}})
        self.assertEqual(self.call("secret.get_value", secret), "pass word")
        self.call("secret.set_value", secret, "another")
        self.assertEqual(self.call("secret.get_value", self.call("secret.get_by_uuid", self.call("secret.get_uuid",
                         secret))), "another")
        marker = self.call("event.inject", "pool", self.pool)
        self.assertTrue(marker)
        events = self.call("event.from", ["*"], token, 5.0)["events"]
        self.assertTrue(events)
        self.assertFalse([e for e in events if e["class"].lower() == "secret"])
        self.assertNotIn("pass word", self.server.log())
        self.call("secret.destroy", secret)
