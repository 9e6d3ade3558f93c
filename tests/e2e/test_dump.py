"""The store as XML: /pool/xmldbdump is taken, tried and restored."""
import os
import re
import time
import unittest
import xml.etree.ElementTree as ElementTree

from harness import Failure, Server


class Dump(unittest.TestCase):
    conf = {"sim": {"vms": 3}}

    def setUp(self):
        self.server = Server(conf=self.conf, users={"root": "secret", "daemon": "secret"}).start()
        self.addCleanup(self.server.clean)
        self.s = self.server.login()
        self.call = self.s.call
        self.pool = self.call("pool.get_all")[0]

    def tearDown(self):
        if self.server.process:
            self.server.stop()

    def get(self, **query):
        status, headers, body = self.server.request("GET", f"/pool/xmldbdump?session_id={self.s.ref}")
        self.assertEqual((status, headers["content-type"]), (200, "text/xml"))
        return body

    def put(self, body, dry=False, task=None):
        path = f"/pool/xmldbdump?session_id={self.s.ref}" + "&dry_run=true" * dry + (f"&task_id={task}" if task else "")
        return self.server.request("PUT", path, body)

    def front(self):
        return self.server.pid_of("xenapid-front")

    def restore(self, dump):
        """Until the front that has restored it answers."""
        before = self.front()
        status, _, body = self.put(dump)
        self.assertEqual((status, body), (200, b""))
        deadline = time.monotonic() + 60
        while True:
            try:
                if self.front() != before:
                    self.s = self.server.login()
                    self.call = self.s.call
                    return
            except (LookupError, OSError, Failure):
                pass
            self.assertLess(time.monotonic(), deadline, "no new front")
            time.sleep(0.05)

    def vms(self):
        """What clients see of VMs, but for what tells of time."""
        found = {}
        for ref, r in self.call("VM.get_all_records").items():
            found[ref] = {k: v for k, v in r.items() if not k.startswith(("current_op", "allowed_op", "domid"))}
        return found

    def names(self):
        return sorted(r["name_label"] for r in self.call("VM.get_all_records").values())

    def test_there_and_back(self):
        vm = [r for r, v in self.call("VM.get_all_records").items() if not v["is_control_domain"]][0]
        odd = "two  blanks \t a tab\nlines \r 100% <&\"'> %n (a) \\ ünïcødé '(\x01"
        self.call("VM.set_name_label", vm, odd)
        self.call("VM.set_tags", vm, ["a", odd, "", "it's"])
        self.call("VM.set_other_config", vm, {"k'1": odd, "": "x", "y": ""})
        before, secret = self.vms(), self.call("secret.create", {"value": "s", "other_config": {}})
        dump = self.get()
        tree = ElementTree.fromstring(dump)
        self.assertEqual((tree.tag, tree[0].tag), ("database", "manifest"))
        row = tree.find(f"./table[@name='VM']/row[@ref='{vm}']")
        self.assertTrue(row.get("name_label").startswith("two%.%.blanks%.%t%.a"))
        self.assertTrue(row.get("tags").startswith("('a'%.'two"))
        self.assertIsNone(tree.find("./table[@name='session']"))
        other = self.call("VM.clone", vm, "made later")
        self.call("VM.set_name_label", vm, "renamed")
        self.call("secret.destroy", secret)
        self.restore(dump)
        self.assertEqual(self.vms(), before)
        self.assertEqual(self.call("secret.get_value", secret), "s")
        with self.assertRaises(Failure):
            self.call("VM.get_uuid", other)
        self.assertTrue(os.path.exists(os.path.join(self.server.state_dir, "before-restore")))
        self.assertFalse(os.path.exists(os.path.join(self.server.state_dir, "restore")))
        self.call("VM.set_name_label", vm, "and on it goes")
        self.server.kill()
        self.server.start()
        self.s = self.server.login()
        self.assertEqual(self.s.call("VM.get_name_label", vm), "and on it goes")

    def test_what_runs(self):
        """VMs that run stay what they are, whatever the dump says."""
        vm = [r for r, v in self.call("VM.get_all_records").items() if not v["is_control_domain"]][0]
        halted = self.get()
        self.call("VM.start", vm, False, True)
        running = self.get()
        self.restore(halted)
        self.assertEqual(self.call("VM.get_power_state", vm), "Running")
        self.call("VM.hard_shutdown", vm)
        self.restore(running)
        self.assertEqual(self.call("VM.get_power_state", vm), "Halted")

    def test_dry_run(self):
        dump, before, names = self.get(), self.front(), self.names()
        task = self.call("task.create", "try", "")
        self.assertEqual(self.put(dump.replace(b"<table name=\"secret\">", b"<table name=\"secret\">"), True, task)[0], 200)
        self.assertEqual(self.s.wait(task)["status"], "success")
        self.assertEqual((self.front(), self.names()), (before, names))
        self.assertFalse([f for f in os.listdir(self.server.state_dir) if "restore" in f])

    def test_refused(self):
        dump, before, names = self.get().decode(), self.front(), self.names()
        vm_row = re.search(r"<row ref=\"OpaqueRef:[^>]*/>", dump[dump.index('<table name="VM">'):]).group()
        bad = [("RESTORE_INCOMPATIBLE_VERSION", dump.replace('vsn" value="1"', 'vsn" value="5"')),
               ("RESTORE_INCOMPATIBLE_VERSION", dump.replace('name="VM"', 'name="Unknown"')),
               ("RESTORE_INCOMPATIBLE_VERSION", dump.replace("<row ref", '<row unknown="1" ref', 1)),
               ("RESTORE_INCOMPATIBLE_VERSION", dump.replace('key="product"', 'key="other"')),
               ("DB_UNIQUENESS_CONSTRAINT_VIOLATION", dump.replace(vm_row, vm_row + vm_row)),
               ("DB_UNIQUENESS_CONSTRAINT_VIOLATION",
                dump.replace(vm_row, vm_row + re.sub(r'ref="[^"]*"', 'ref="OpaqueRef:a"', vm_row))),
               ("INVALID_VALUE", dump[:len(dump) // 2]), ("INVALID_VALUE", "nothing"),
               ("INVALID_VALUE", "<!DOCTYPE database [<!ENTITY a \"b\">]>" + dump.split("?>", 1)[1]),
               ("INVALID_VALUE", re.sub('<table name="pool">.*?</table>', "", dump, flags=re.S)),
               ("INVALID_VALUE", re.sub(r' uuid="[^"]*"', "", dump)), ("INVALID_VALUE", dump.replace("%.", "%q")),
               ("INVALID_VALUE", dump.replace(vm_row, vm_row.replace("<row", '<row memory_target="many"'))),
               ("INVALID_VALUE", dump.replace(vm_row, vm_row.replace("<row", '<row tags="(\'a\'"'))),
               ("INVALID_VALUE", dump.replace(vm_row, vm_row.replace("OpaqueRef:", "../")))]
        for code, text in bad:
            for dry in True, False:
                task = self.call("task.create", "bad", "")
                status, _, body = self.put(text.encode(), dry, task)
                self.assertNotEqual(status, 200)
                self.assertEqual(self.call("task.get_error_info", task)[0], code, text[:300])
        self.assertEqual((self.front(), self.names()), (before, names))
        self.assertFalse([f for f in os.listdir(self.server.state_dir) if "restore" in f])

    def test_roles(self):
        admin = self.call("role.get_by_name_label", "vm-admin")[0]
        subject = self.call("subject.create", {"subject_identifier": "u:daemon", "other_config": {}})
        for role in self.call("subject.get_roles", subject):
            self.call("subject.remove_from_roles", subject, role)
        self.call("subject.add_to_roles", subject, admin)
        eve = self.server.login("daemon")
        for method in "GET", "PUT":
            self.assertEqual(self.server.request(method, f"/pool/xmldbdump?session_id={eve.ref}", b"x")[0], 403)
            self.assertEqual(self.server.request(method, "/pool/xmldbdump", b"x")[0], 401)

    def test_half_a_restore(self):
        self.call("VM.clone", list(self.call("VM.get_all_records"))[-1], "made later")
        self.server.kill()
        self.server.start()
        self.s = self.server.login()
        self.call = self.s.call
        self.assertIn("made later", self.names())
        with open(os.path.join(self.server.state_dir, "restore.new"), "w") as f:  # half of one
            f.write("VM\tOpaqueRef:x\t{")
        self.server.kill()
        self.server.start()
        self.s = self.server.login()
        self.call = self.s.call
        self.assertIn("made later", self.names())


if __name__ == "__main__":
    unittest.main()
