"""Templates: those of a new pool, and how a client makes a VM of one; templates of the user's own; recovery."""
import unittest
import uuid
import xml.etree.ElementTree as xml

from harness import Failure, Server, eventually
from test_snapshots import A, B, Case, MIB, NULL, write

GIB = 1 << 30


class Templates(Case):
    conf = {"daemon": {"templates": "yes"}, "tasks": {"clean-shutdown-timeout": 1}}

    def built_in(self):
        return {r["name_label"]: (ref, r) for ref, r in self.call("VM.get_all_records").items() if r["is_default_template"]}

    def template(self, name):
        return self.built_in()[name][0]

    def test_a_new_pool_has_some(self):
        all_of_them = self.built_in()
        self.assertLessEqual({"Other install media", "Debian 12", "Ubuntu 22.04", "Ubuntu 24.04", "AlmaLinux 9", "Rocky Linux 9",
                              "Windows 10 (64-bit)", "Windows 11", "Windows Server (64-bit)", "PV guest with kernel"},
                             set(all_of_them))
        self.assertEqual(len({r["uuid"] for _, r in all_of_them.values()}), len(all_of_them))
        self.assertEqual(all_of_them["Debian 12"][1]["uuid"], "b1a2942a-4ccc-4fab-b658-4c744be73e40")
        for name, (ref, r) in all_of_them.items():
            with self.subTest(name):
                self.assertEqual((r["is_a_template"], r["is_control_domain"], r["power_state"], r["other_config"]["default_template"]),
                                 (True, False, "Halted", "true"))
                self.assertTrue(r["memory_static_min"] <= r["memory_dynamic_min"] <= r["memory_dynamic_max"]
                                <= r["memory_static_max"])
                self.assertTrue(1 <= r["VCPUs_at_startup"] <= r["VCPUs_max"])
                rules = {e.get("field") or e.get("property"): e for e in xml.fromstring(r["recommendations"])}
                self.assertGreaterEqual(int(rules["memory-static-max"].get("max")), r["memory_static_max"])
                self.assertGreaterEqual(int(rules["vcpus-max"].get("max")), r["VCPUs_max"])
                self.assertIn("number-of-vbds", rules)
                self.assertIn("number-of-vifs", rules)
                self.assertIn("cores-per-socket", r["platform"])
                hvm = r["domain_type"] == "hvm"
                self.assertEqual((hvm, hvm), (r["HVM_boot_policy"] != "", "order" in r["HVM_boot_params"]))
                for disk in xml.fromstring(r["other_config"].get("disks", "<provision/>")):
                    self.assertEqual((disk.get("bootable"), disk.get("sr")), ("true", ""))
                    self.assertGreaterEqual(int(disk.get("size")), 8 * GIB)
                self.allows(ref, {"clone", "copy", "provision"}, {"destroy", "start", "make_into_template"})

    def test_they_can_neither_be_destroyed_nor_started(self):
        ref = self.template("Debian 12")
        self.fails(["VM_CANNOT_DELETE_DEFAULT_TEMPLATE", ref], "VM.destroy", ref)
        self.fails(["VM_IS_TEMPLATE", ref], "VM.start", ref, False, False)
        self.fails(["OPERATION_NOT_ALLOWED", None], "VM.set_is_a_template", ref, False)

    def made_of(self, name, vm_name="made"):
        vm = self.call("VM.clone", self.template(name), vm_name)
        self.addCleanup(self.clear, vm)
        return vm

    def test_every_one_makes_a_VM_that_starts(self):
        for name in self.built_in():
            with self.subTest(name):
                vm = self.made_of(name)
                self.call("VM.set_memory_limits", vm, *[self.call(f"VM.get_memory_static_min", vm)] * 4)
                self.call("VM.provision", vm)
                r = self.call("VM.get_record", vm)
                self.assertEqual((r["is_a_template"], r["is_default_template"], "disks" in r["other_config"],
                                  "default_template" in r["other_config"], r["other_config"]["base_template_name"]),
                                 (False, False, False, False, name))
                self.assertIn("mac_seed", r["other_config"])
                self.call("VM.start", vm, False, False)
                self.call("VM.hard_shutdown", vm)

    def test_as_XenCenter_does_it(self):
        """Clone, say where the disks go, provision, a CD, an interface, start."""
        vm = self.made_of("Debian 12", "mine")
        sr = self.call("SR.get_uuid", self.sr)
        disks = self.call("VM.get_other_config", vm)["disks"].replace('sr=""', f'sr="{sr}"')
        self.call("VM.remove_from_other_config", vm, "disks")
        self.call("VM.add_to_other_config", vm, "disks", disks)
        self.call("VM.provision", vm)
        disk, = self.disks(vm)
        record = self.call("VDI.get_record", disk)
        self.assertEqual((record["SR"], record["virtual_size"], record["type"]), (self.sr, 10 * GIB, "system"))
        self.assertLess(record["physical_utilisation"], 2 * MIB)
        vbd, = self.call("VM.get_VBDs", vm)
        self.assertEqual((self.call("VBD.get_bootable", vbd), self.call("VBD.get_userdevice", vbd)), (True, "0"))
        self.assertIn("owner", self.call("VBD.get_other_config", vbd))
        self.call("VBD.create", {"VM": vm, "VDI": NULL, "userdevice": "3", "bootable": False, "mode": "RO", "type": "CD",
                                 "empty": True, "other_config": {}})
        self.call("VIF.create", {"VM": vm, "network": self.call("network.get_all")[0], "device": "0", "MAC": "", "MTU": 1500,
                                 "other_config": {}})
        self.call("VM.start", vm, False, False)
        self.assertEqual(self.state(vm), "Running")

    def test_as_XO_does_it(self):
        """Clone, take the layout away, set what the user said, and provision without disks; then disks one by one."""
        vm = self.s.wait(self.call("Async.VM.clone", self.template("Windows 10 (64-bit)"), "xo"))["result"][7:-8]
        self.addCleanup(self.clear, vm)
        self.call("VM.set_name_description", vm, "d")
        self.call("VM.remove_from_other_config", vm, "disks")
        self.call("VM.add_to_other_config", vm, "xo:x", "y")
        self.s.wait(self.call("Async.VM.provision", vm))
        vdi = self.s.wait(self.call("Async.VDI.create", {"name_label": "d", "SR": self.sr, "virtual_size": GIB,
                                                               "type": "user", "other_config": {}}))["result"][7:-8]
        self.call("VBD.create", {"VM": vm, "VDI": vdi, "userdevice": "0", "bootable": True, "mode": "RW", "type": "Disk",
                                 "empty": False, "other_config": {}})
        self.call("VM.start", vm, False, False)

    def test_a_layout_that_does_not_work_leaves_nothing(self):
        before = set(self.call("VDI.get_all"))
        for text, fault in (
                ('<provision><disk device="0" size="4194304" sr="" bootable="true" type="system"/>'
                 '<disk device="0" size="4194304" sr="" bootable="true" type="system"/></provision>', "DEVICE_ALREADY_EXISTS"),
                ('<provision><disk device="0" size="4194304" sr=""/><disk device="1" size="0" sr=""/></provision>', "INVALID_VALUE"),
                (f'<provision><disk device="0" size="1" sr="{uuid.uuid4()}"/></provision>', "UUID_INVALID"),
                ('<provision><disk', "INVALID_VALUE")):
            vm = self.made_of("Debian 12")
            self.call("VM.remove_from_other_config", vm, "disks")
            self.call("VM.add_to_other_config", vm, "disks", text)
            with self.assertRaises(Failure) as f:
                self.call("VM.provision", vm)
            self.assertEqual(f.exception.code, fault)
            self.assertEqual(set(self.call("VDI.get_all")), before)
            self.assertTrue(self.call("VM.get_is_a_template", vm))
        self.agree()

    def test_SIGKILL_in_the_middle_of_a_provision(self):
        layout = "<provision>" + "".join(f'<disk device="{i}" size="4194304" sr="" type="user"/>' for i in range(3)) + "</provision>"
        vm = self.call("VM.clone", self.template("Debian 12"), "cut off")
        self.call("VM.remove_from_other_config", vm, "disks")
        self.call("VM.add_to_other_config", vm, "disks", layout)
        before = set(self.call("VDI.get_all"))
        self.sim("fault", method="vdi.create", kind="slow", ms="1")
        self.sim("fault", method="vdi.create", kind="slow", ms="2000")
        self.call("Async.VM.provision", vm)
        eventually(lambda: len(self.call("VDI.get_all")) > len(before))
        self.server.kill()
        self.server.start()
        type(self).s = self.server.login()
        self.attach()
        eventually(lambda: set(self.call("VDI.get_all")) == before)
        self.agree()
        self.assertTrue(self.call("VM.get_is_a_template", vm))
        self.call("VM.provision", vm)
        self.assertEqual(len(self.disks(vm)), 3)
        self.clear(vm)

    def test_a_VM_becomes_a_template_with_its_disks(self):
        vm = self.guest_with("qcow2", "raw")
        self.write(vm, A)
        self.call("VM.set_is_a_template", vm, True)
        self.allows(vm, {"clone", "copy", "destroy", "provision", "export"}, {"start", "make_into_template"})
        twins = [self.call("VM.clone", vm, "one"), self.call("VM.copy", vm, "two", NULL)]
        for twin in twins:
            self.addCleanup(self.clear, twin)
            self.assertTrue(self.call("VM.get_is_a_template", twin))
            self.call("VM.provision", twin)
            self.check(twin, A)
            self.write(twin, B)
            self.call("VM.start", twin, False, False)
        self.check(vm, A)
        snapshot = self.call("VM.snapshot", vm, "s", [])
        self.write(vm, B)
        self.call("VM.revert", snapshot)
        self.check(vm, A)
        self.assertTrue(self.call("VM.get_is_a_template", vm))
        self.call("VM.set_is_a_template", vm, False)
        self.call("VM.start", vm, False, False)
        self.fails(["VM_BAD_POWER_STATE", vm, "halted", "running"], "VM.set_is_a_template", vm, True)
        self.agree()

    def test_provision_is_for_templates(self):
        self.fails(["PROVISION_ONLY_ALLOWED_ON_TEMPLATE"], "VM.provision", self.vm())

    def test_bios_strings(self):
        vm = self.vm()
        self.fails(["INVALID_VALUE", "nonsense", "Unknown key"], "VM.set_bios_strings", vm, {"nonsense": "x"})
        self.call("VM.set_bios_strings", vm, {"bios-vendor": "me"})
        self.assertEqual(self.call("VM.get_bios_strings", vm), {"bios-vendor": "me"})
        host = self.call("host.get_all")[0]
        self.fails(["VM_BIOS_STRINGS_ALREADY_SET"], "VM.copy_bios_strings", vm, host)
        other = self.vm()
        self.call("VM.copy_bios_strings", other, host)
        self.assertEqual(self.call("VM.get_bios_strings", other), self.call("host.get_bios_strings", host))

    def test_blocked_operations(self):
        vm = self.made_of("Other install media")
        self.call("VM.add_to_blocked_operations", vm, "provision", "no")
        self.fails(["OPERATION_BLOCKED", vm, "no"], "VM.provision", vm)
        self.call("VM.set_blocked_operations", vm, {"destroy": "kept"})
        self.fails(["OPERATION_BLOCKED", vm, "kept"], "VM.destroy", vm)
        self.call("VM.set_blocked_operations", vm, {})
        self.call("VM.provision", vm)
        self.call("VM.add_to_blocked_operations", vm, "make_into_template", "no")
        self.fails(["OPERATION_BLOCKED", vm, "no"], "VM.set_is_a_template", vm, True)


class Start(unittest.TestCase):
    def test_changes_stay_and_none_comes_twice(self):
        with Server(conf={"daemon": {"templates": "yes"}, "sim": {"vms": 3}}) as server:
            s = server.login()
            ref = s.call("VM.get_by_name_label", "Debian 12")[0]
            s.call("VM.set_name_label", ref, "Debian of ours")
            before = s.call("VM.get_all_records")
            self.assertEqual(len([r for r in before.values() if not r["is_a_template"] and not r["is_control_domain"]]), 3)
            server.stop()
            server.start()
            s = server.login()
            self.assertEqual(set(s.call("VM.get_all")), set(before))
            self.assertEqual(s.call("VM.get_name_label", ref), "Debian of ours")

    def test_none_if_not_wanted(self):
        with Server(conf={"daemon": {"templates": "no"}}) as server:
            self.assertEqual(len(server.login().call("VM.get_all")), 1)


class Recovery(Case):
    def test_what_a_VM_needs(self):
        vm, here = self.guest_with("qcow2"), self.s.ref
        self.assertEqual(self.call("VM.get_SRs_required_for_recovery", vm, here), [self.sr])
        self.call("VM.assert_can_be_recovered", vm, here)
        self.fails(["VM_TO_IMPORT_IS_NOT_NEWER_VERSION", vm, "0", "0"], "VM.recover", vm, here, False)
        self.call("VM.recover", vm, here, True)
        self.assertEqual(int(self.call("VM.get_version", vm)), 1)
        self.fails(["HANDLE_INVALID", "session", "OpaqueRef:nobody"], "VM.assert_can_be_recovered", vm, "OpaqueRef:nobody")

    def test_a_repository_that_is_not_there(self):
        sr = self.call("SR.create", self.host, {"location": self.server.state_dir + "/other"}, 0, "other", "", "file", "user",
                       False, {})
        vm = self.vm()
        vdi = self.call("VDI.create", {"name_label": "d", "SR": sr, "virtual_size": MIB, "type": "user"})
        self.call("VBD.create", {"VM": vm, "VDI": vdi, "userdevice": "0", "bootable": False, "mode": "RW", "type": "Disk",
                                 "empty": False, "other_config": {}})
        pbd, = self.call("SR.get_PBDs", sr)
        self.call("PBD.unplug", pbd)
        self.fails(["VM_REQUIRES_SR", vm, sr], "VM.assert_can_be_recovered", vm, self.s.ref)
        self.call("PBD.plug", pbd)

    def test_an_appliance_recovers_as_a_whole(self):
        appliance = self.call("VM_appliance.create", {"name_label": "a", "name_description": ""})
        vm, here = self.guest_with("raw"), self.s.ref
        self.call("VM.set_appliance", vm, appliance)
        self.fails(["VM_IS_PART_OF_AN_APPLIANCE", vm, appliance], "VM.assert_can_be_recovered", vm, here)
        self.assertEqual(self.call("VM_appliance.get_SRs_required_for_recovery", appliance, here), [self.sr])
        self.call("VM_appliance.assert_can_be_recovered", appliance, here)
        self.fails(["VM_TO_IMPORT_IS_NOT_NEWER_VERSION", vm, None, None], "VM_appliance.recover", appliance, here, False)
        self.call("VM_appliance.recover", appliance, here, True)
        self.call("VM.set_appliance", vm, NULL)
        self.call("VM_appliance.destroy", appliance)

    def test_no_disaster_recovery(self):
        self.fails(["OPERATION_NOT_ALLOWED", None], "DR_task.create", "lvmoiscsi", {}, [])
        self.fails(["HANDLE_INVALID", "DR_task", "OpaqueRef:x"], "DR_task.destroy", "OpaqueRef:x")

    def test_services(self):
        self.assertEqual(self.call("VM.query_services", self.vm()), {})


del Case
