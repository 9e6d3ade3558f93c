"""Services that a single host does not have: each answer is the API's own, and nothing is pretended."""
import os
import uuid

from harness import Case

NULL = "OpaqueRef:NULL"


class Absent(Case):
    conf = {"sim": {"vms": 2}}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.halted, cls.running = cls.guests()
        cls.call("VM.start", cls.running, False, False)

    def refused(self, code, params, method, *args):
        self.assertEqual(self.fails(code, method, *args), params)

    def test_workload_balancing(self):
        self.refused("WLB_NOT_INITIALIZED", [], "VM.retrieve_wlb_recommendations", self.halted)
        self.refused("WLB_NOT_INITIALIZED", [], "host.retrieve_wlb_evacuate_recommendations", self.host)
        for message in ("retrieve_wlb_recommendations", "retrieve_wlb_configuration", "deconfigure_wlb"):
            self.refused("WLB_NOT_INITIALIZED", [], f"pool.{message}")
        self.refused("HANDLE_INVALID", ["VM", "OpaqueRef:x"], "VM.retrieve_wlb_recommendations", "OpaqueRef:x")

    def test_high_availability(self):
        self.refused("HA_NOT_INSTALLED", [self.host], "pool.enable_ha", [], {})
        self.refused("HA_NOT_ENABLED", [], "pool.disable_ha")
        self.assertEqual([self.call("pool.ha_failover_plan_exists", n) for n in (0, 1)], [True, False])
        self.assertEqual(self.call("pool.ha_compute_max_host_failures_to_tolerate"), 0)
        self.call("pool.set_ha_host_failures_to_tolerate", self.pool, 0)
        self.refused("HA_TOO_FEW_HOSTS", [], "pool.set_ha_host_failures_to_tolerate", self.pool, 1)
        self.refused("INVALID_VALUE", ["value", "-1"], "pool.set_ha_host_failures_to_tolerate", self.pool, -1)

    def test_directories_of_users(self):
        self.refused("AUTH_UNKNOWN_TYPE", ["AD"], "host.enable_external_auth", self.host, {}, "example.org", "AD")
        self.refused("AUTH_UNKNOWN_TYPE", ["AD"], "pool.enable_external_auth", self.pool, {}, "example.org", "AD")
        self.call("pool.disable_external_auth", self.pool, {})
        self.assertEqual(self.call("host.get_external_auth_type", self.host), "")

    def test_licenses(self):
        edition = self.call("host.get_edition", self.host)
        self.call("host.apply_edition", self.host, edition, False)
        self.call("pool.apply_edition", self.pool, edition)
        self.refused("INVALID_EDITION", ["platinum"], "host.apply_edition", self.host, "platinum", False)
        self.refused("LICENSE_PROCESSING_ERROR", [], "host.license_add", self.host, "YQ==")
        self.refused("MESSAGE_REMOVED", [], "host.license_apply", self.host, "YQ==")

    def test_other_hosts(self):
        self.refused("HOST_CANNOT_DESTROY_SELF", [self.host], "host.destroy", self.host)
        self.refused("HOST_IS_LIVE", [self.host], "host.declare_dead", self.host)
        self.call("pool.designate_new_master", self.host)
        self.assertEqual(self.call("pool.get_master", self.pool), self.host)
        self.refused("NO_HOSTS_AVAILABLE", [], "VM.assert_can_migrate", self.running, {}, True, {}, {}, {}, {})

    def test_interfaces_are_not_ours(self):
        management = self.call("host.get_management_interface", self.host)
        self.call("PIF.plug", management)
        self.call("host.management_reconfigure", management)
        self.refused("PIF_IS_MANAGEMENT_INTERFACE", [management], "PIF.unplug", management)
        other = next(p for p in self.call("host.get_PIFs", self.host) if p != management)
        self.call("PIF.set_disallow_unplug", other, True)
        self.assertTrue(self.call("PIF.get_disallow_unplug", other))
        if self.call("PIF.get_currently_attached", other):
            self.refused("PIF_DOES_NOT_ALLOW_UNPLUG", [other], "PIF.unplug", other)
        self.call("PIF.set_disallow_unplug", other, False)
        before = self.call("PIF.get_record", other)
        for method, *args in (("PIF.reconfigure_ip", "Static", "192.0.2.9", "255.255.255.0", "", ""), ("PIF.forget",),
                              ("PIF.set_primary_address_type", "IPv6"), ("host.management_reconfigure",)):
            self.fails("OPERATION_NOT_ALLOWED", method, other, *args)
        self.assertEqual(self.call("PIF.get_record", other), before)

    def test_security_policies(self):
        """What xm asks when it shows labels."""
        self.assertEqual(self.call("XSPolicy.get_xstype"), 0)
        self.assertEqual(self.call("XSPolicy.get_xspolicy")["type"], "0")
        self.assertEqual(self.call("XSPolicy.get_labeled_resources"), {})
        self.assertEqual(self.call("XSPolicy.get_resource_label", "file:/disk"), "")
        self.assertEqual(self.call("VM.get_security_label", self.halted), "")
        self.fails("SECURITY_ERROR", "VM.set_security_label", self.halted, "label", "")
        self.fails("SECURITY_ERROR", "XSPolicy.set_resource_label", "file:/disk", "label", "")

    def test_VMs(self):
        self.refused("CANNOT_RESTART_DEVICE_MODEL", [self.running], "VM.restart_device_models", self.running)
        self.refused("VM_BAD_POWER_STATE", [self.halted, "running", "halted"], "VM.restart_device_models", self.halted)
        self.refused("XENAPI_MISSING_PLUGIN", ["backup"], "VM.call_plugin", self.running, "backup", "now", {})
        self.refused("VM_LACKS_FEATURE", [self.running], "VM.call_plugin", self.running, "guest-agent-operation",
                     "request-network-config", {})
        self.fails("VM_BAD_POWER_STATE", "VM.call_plugin", self.halted, "backup", "now", {})
        self.fails("MESSAGE_REMOVED", "VM.set_protection_policy", self.halted, NULL)
        now = self.call("VM.get_HVM_shadow_multiplier", self.running)
        self.call("VM.set_shadow_multiplier_live", self.running, now)
        self.assertEqual(self.fails("VALUE_NOT_SUPPORTED", "VM.set_shadow_multiplier_live", self.running, now + 1)[0],
                         "multiplier")
        self.fails("INVALID_VALUE", "VM.set_shadow_multiplier_live", self.running, 0.5)

    def test_nothing_is_fetched_from_elsewhere(self):
        sr = self.call("pool.get_default_SR", self.pool)
        before = set(self.call("VM.get_all"))
        for url in ("http://169.254.169.254/", "file:///etc/shadow"):
            self.fails("OPERATION_NOT_ALLOWED", "VM.import", url, sr, False, False)
        self.assertEqual(set(self.call("VM.get_all")), before)

    def test_a_repository_is_made_without_a_record(self):
        where = os.path.join(self.server.state_dir, f"sr-{uuid.uuid4()}")
        before = self.call("SR.get_all")
        made = self.call("SR.make", self.host, {"location": where}, 0, "n", "", "file", "user", {})
        self.assertTrue(os.path.isdir(where))
        self.assertEqual(self.call("SR.get_all"), before)
        sr = self.call("SR.introduce", made, "introduced", "", "file", "user", False, {})
        self.call("PBD.plug", self.call("PBD.create", {"host": self.host, "SR": sr, "device_config": {"location": where}}))
        self.assertTrue(self.call("SR.get_physical_size", sr) > 0)
        self.refused("SR_UNKNOWN_DRIVER", ["tape"], "SR.make", self.host, {}, 0, "n", "", "tape", "", {})
