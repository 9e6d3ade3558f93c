"""Every class, field and message of --describe-api against a server with something of everything: what is there has the
right form, what can be read is what is there, what can be written is kept, what is not built says so."""
import functools
import json
import os
import re
import subprocess

from harness import BUILD, Case, Failure

NULL = "OpaqueRef:NULL"
NOWHERE = "OpaqueRef:00000000-0000-4000-8000-000000000000"
DATE = re.compile(r"^\d{8}T\d\d:\d\d:\d\dZ$")
REF = re.compile(r"^OpaqueRef:(NULL|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$")
PLAIN = {"string": str, "int": int, "float": float, "bool": bool}

# Codes that no call may answer, whatever its arguments are, as long as these have the right types.
NEVER = {"INTERNAL_ERROR", "NOT_IMPLEMENTED", "MESSAGE_METHOD_UNKNOWN", "MESSAGE_PARAMETER_COUNT_MISMATCH",
         "FIELD_TYPE_ERROR", "SESSION_INVALID", "MESSAGE_REMOVED"}


@functools.cache
def api():
    text = subprocess.run([os.path.join(BUILD, "xenapid"), "--describe-api"], check=True, capture_output=True).stdout
    return json.loads(text)


def classes():
    return api()["classes"]


def implicit(class_):
    return {m["name"]: m for m in class_["implicit_messages"]}


def element(type_name):
    """What a set or map holds: (key type or None, value type); None for anything else."""
    if type_name.endswith(" set"):
        return None, type_name[:-len(" set")]
    if type_name.endswith(" map"):
        inner, depth = type_name[1:-len(") map")], 0
        for i, c in enumerate(inner):
            depth += (c == "(") - (c == ")")
            if depth == 0 and inner.startswith(" -> ", i):
                return inner[:i], inner[i + 4:]
    return None


def has_kind(type_name, value, class_):
    """Is value what JSON has for that type?"""
    if type_name in PLAIN:
        return type(value) is PLAIN[type_name]
    if type_name == "datetime":
        return isinstance(value, str) and bool(DATE.match(value))
    if type_name.endswith(" ref"):
        return isinstance(value, str) and bool(REF.match(value))
    if type_name.endswith(" set"):
        return isinstance(value, list) and all(has_kind(element(type_name)[1], v, class_) for v in value)
    if type_name.endswith(" map"):
        key, of = element(type_name)
        return isinstance(value, dict) and all((key in ("int", "float") or has_kind(key, k, class_)) and
                                               has_kind(of, v, class_) for k, v in value.items())
    if type_name.endswith(" record"):
        return isinstance(value, dict)
    if type_name.startswith("enum "):
        return value in class_["enums"][type_name[len("enum "):]]
    raise AssertionError(f"a type that this test does not know: {type_name}")


def refs_in(type_name, value):
    """All references in a value as (class, reference)."""
    if type_name.endswith(" ref"):
        return [(type_name[:-len(" ref")], value)]
    inside = element(type_name)
    if not inside:
        return []
    key, of = inside
    if key is None:
        return [r for v in value for r in refs_in(of, v)]
    return [r for k, v in value.items() for r in refs_in(key, k) + refs_in(of, v)]


class World(Case):
    """A host on which something of everything has happened."""
    conf = {"sim": {"vms": 5}}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.fill()

    @classmethod
    def fill(cls):
        host, sr = cls.call("host.get_all")[0], cls.call("SR.get_all")[0]
        cls.until(lambda: cls.call("PBD.get_currently_attached", cls.call("SR.get_PBDs", sr)[0]))
        vms = sorted(r for r, v in cls.call("VM.get_all_records").items() if not v["is_control_domain"])
        vdi = cls.call("VDI.create", {"name_label": "disk", "SR": sr, "virtual_size": 1 << 20, "type": "user"})
        cls.call("VDI.snapshot", vdi, {})
        for drive, mode in (("0", "RW"), ("3", "RO")):
            cls.call("VBD.create", {"VM": vms[0], "VDI": vdi if mode == "RW" else NULL, "userdevice": drive, "mode": mode,
                                    "bootable": False, "type": "Disk" if mode == "RW" else "CD", "empty": mode == "RO",
                                    "other_config": {}, "qos_algorithm_type": "", "qos_algorithm_params": {}})
        cls.call("VM.snapshot", vms[0], "before", [])
        cls.call("VM.start", vms[0], False, False)
        cls.call("VM.start", vms[1], False, False)
        cls.call("VM.suspend", vms[1])
        cls.call("VM.start", vms[2], True, False)
        cls.call("message.create", "TEST", 3, "VM", cls.call("VM.get_uuid", vms[0]), "words")
        cls.call("host.create_new_blob", host, "notes", "text/plain", False)
        cls.call("secret.create", {"value": "hidden", "other_config": {}})
        cls.call("task.create", "a client's own", "")
        cls.call("network.create", {"name_label": "private", "name_description": "", "other_config": {}})
        cls.until(lambda: cls.call("VM_guest_metrics.get_all"))

    def records(self, class_):
        if not self.listed(class_, "get_all_records"):
            return {}
        return self.call(f"{class_['name']}.get_all_records")

    @staticmethod
    def listed(class_, name):
        return any(m["name"] == name and m.get("built") for m in class_["messages"] + class_["implicit_messages"])

    def check_forms(self):
        for class_ in classes():
            kinds = {f["name"]: f["type"] for f in class_["fields"]}
            for ref, record in self.records(class_).items():
                self.assertRegex(ref, REF)
                self.assertEqual(sorted(record), sorted(kinds), class_["name"])
                for name, value in record.items():
                    self.assertTrue(has_kind(kinds[name], value, class_),
                                    f'{class_["name"]}.{name} should be a {kinds[name]}: {value!r}')

    def check_references(self):
        """Twice, where something may have come or gone in between."""
        for _ in (1, 2):
            every = {c["name"]: self.records(c) for c in classes()}
            targets = {}
            for c in classes():
                for ref, record in every[c["name"]].items():
                    for f in c["fields"]:
                        for pair in refs_in(f["type"], record[f["name"]]):
                            targets.setdefault(pair, f'{c["name"]}.{f["name"]} of {ref}')
            dangling = {pair: where for pair, where in targets.items()
                        if pair[1] != NULL and self.is_kept(pair[0]) and pair[1] not in every[pair[0]]
                        and not self.leads_somewhere(*pair)}
            if not dangling:
                return
        self.fail("\n".join(f"{where} -> {to} {ref}" for (to, ref), where in list(dangling.items())[:20]))

    def leads_somewhere(self, class_name, ref):
        """For the permissions among the roles, too, which are not told with the others."""
        try:
            return bool(self.call(f"{class_name}.get_record", ref))
        except Failure:
            return False

    @staticmethod
    def is_kept(class_name):
        return any(c["name"] == class_name and "get_all_records" in
                   [m["name"] for m in c["implicit_messages"] + c["messages"]] for c in classes())


class Reading(World):
    def test_the_world_has_something_of_most_classes(self):
        filled = {c["name"] for c in classes() if self.records(c)}
        self.assertLessEqual({"pool", "host", "host_metrics", "host_cpu", "network", "PIF", "PIF_metrics", "VM",
                              "VM_metrics", "VM_guest_metrics", "VBD", "VIF", "VDI", "SR", "PBD", "SM", "console", "task",
                              "message", "blob", "secret", "role"}, filled)

    def test_records_have_every_field_in_its_form(self):
        self.check_forms()

    def test_references_lead_somewhere(self):
        self.check_references()

    def test_all_records_of_a_class_have_the_same_fields_in_XML(self):
        s = self.server.login(codec="xml")
        for class_ in classes():
            if self.listed(class_, "get_all_records"):
                names = {f["name"] for f in class_["fields"]}
                for record in s.call(f'{class_["name"]}.get_all_records').values():
                    self.assertEqual(set(record), names, class_["name"])

    def test_every_getter_answers_what_the_record_says(self):
        for class_ in classes():
            if "get_record" not in implicit(class_):
                continue
            for ref in list(self.records(class_))[:3]:
                before = self.call(f'{class_["name"]}.get_record', ref)
                values = {f["name"]: self.call(f'{class_["name"]}.get_{f["name"]}', ref) for f in class_["fields"]}
                after = self.call(f'{class_["name"]}.get_record', ref)
                for name, value in values.items():
                    if before[name] == after[name]:
                        self.assertEqual(value, before[name], f'{class_["name"]}.get_{name}')

    def test_every_way_to_look_up(self):
        for class_ in classes():
            name, rows = class_["name"], implicit(class_)
            for ref, record in list(self.records(class_).items())[:3]:
                if "get_by_uuid" in rows:
                    self.assertEqual(self.call(f"{name}.get_by_uuid", record["uuid"]), ref, name)
                if "get_by_name_label" in rows:
                    self.assertIn(ref, self.call(f"{name}.get_by_name_label", record["name_label"]), name)
                if "get_all" in rows:
                    self.assertIn(ref, self.call(f"{name}.get_all"), name)
                by_uuid = f'field "uuid" = "{record.get("uuid")}"'
                if "get_all_records_where" in rows and "uuid" in record:
                    self.assertEqual(list(self.call(f"{name}.get_all_records_where", by_uuid)), [ref], name)
                if "get_all_where" in rows and "uuid" in record:
                    self.assertEqual(self.call(f"{name}.get_all_where", by_uuid), [ref], name)

    def test_what_is_not_there_is_not_found(self):
        for class_ in classes():
            name, rows = class_["name"], {n: r for n, r in implicit(class_).items() if r.get("built")}
            if "get_by_uuid" in rows:
                self.assertEqual(self.fails("UUID_INVALID", f"{name}.get_by_uuid", "nothing"), [name, "nothing"])
            if "get_by_name_label" in rows:
                self.assertEqual(self.call(f"{name}.get_by_name_label", "nothing has this name"), [])
            if "get_all_records_where" in rows:
                self.assertEqual(self.call(f"{name}.get_all_records_where", "false"), {})

    def test_every_implicit_message_refuses_an_unknown_reference(self):
        for class_ in classes():
            for name, row in implicit(class_).items():
                if not row.get("built") or not row["params"] or row["params"][0]["type"] != f'{class_["name"]} ref':
                    continue
                args = [plausible(p["type"], class_, {}) for p in row["params"][1:]]
                self.assertEqual(self.fails("HANDLE_INVALID", f'{class_["name"]}.{name}', NOWHERE, *args),
                                 [class_["name"], NOWHERE], f'{class_["name"]}.{name}')

    def test_what_Xen_Orchestra_reads_unasked_is_there(self):
        """It goes through these without asking whether they are; a missing one hides the whole object."""
        reads = {"pool": ["other_config", "ha_statefiles", "restrictions", "tags", "cpu_info", "master"],
                 "host": ["other_config", "software_version", "license_params", "chipset_info", "capabilities", "metrics",
                          "patches", "updates", "bios_strings", "PIFs", "PBDs", "PCIs", "PGPUs", "resident_VMs",
                          "control_domain", "cpu_info", "logging", "license_server", "updates_requiring_reboot",
                          "certificates"],
                 "VM": ["other_config", "platform", "VBDs", "VIFs", "VGPUs", "VTPMs", "HVM_boot_params", "recommendations",
                        "current_operations", "is_a_template", "is_a_snapshot", "is_control_domain", "snapshot_of",
                        "snapshot_time", "VCPUs_params", "blocked_operations", "tags", "bios_strings", "xenstore_data",
                        "resident_on", "metrics", "guest_metrics", "parent"],
                 "VM_guest_metrics": ["PV_drivers_version", "other", "networks", "memory", "os_version"],
                 "SR": ["other_config", "PBDs", "VDIs", "sm_config", "physical_size", "shared", "tags"],
                 "PBD": ["device_config", "host", "SR", "other_config", "currently_attached"],
                 "VDI": ["sm_config", "managed", "is_a_snapshot", "snapshot_of", "missing", "tags", "VBDs"],
                 "VIF": ["other_config", "qos_algorithm_params", "ipv4_allowed", "ipv6_allowed"],
                 "network": ["other_config", "PIFs", "VIFs", "purpose", "tags", "current_operations"],
                 "PIF": ["bond_master_of", "bond_slave_of", "metrics", "network", "host"],
                 "task": ["other_config", "created", "finished", "progress", "allowed_operations"],
                 "message": ["timestamp", "obj_uuid", "body", "name"],
                 "SM": ["configuration", "features", "required_cluster_stack", "vendor", "driver_filename"]}
        for name, fields in reads.items():
            records = self.call(f"{name}.get_all_records")
            self.assertTrue(records, name)
            for record in records.values():
                for field in fields:
                    self.assertIsNotNone(record.get(field), f"{name}.{field}")
        host = self.call("host.get_record", self.call("pool.get_master", self.call("pool.get_all")[0]))
        for key in ("product_version", "product_brand", "build_number", "platform_version", "xapi"):
            self.assertTrue(host["software_version"].get(key), key)
        self.assertRegex(host["license_params"]["expiry"], DATE)
        self.call("host_metrics.get_record", host["metrics"])
        for vbd in self.call("VBD.get_all_records").values():
            self.call("VM.get_record", vbd["VM"])


class Writing(World):
    """Fields that clients may set, on objects that are there."""
    # What is more than a field answers this to a value out of the blue.
    REFUSED = {"network.set_MTU": "INVALID_VALUE", "VBD.set_userdevice": "DEVICE_ALREADY_ATTACHED"}
    # These stand for something that must be there, or named.
    NOT_MADE = {"PBD": "HANDLE_INVALID", "VBD": "HANDLE_INVALID", "VDI": "HANDLE_INVALID", "VIF": "HANDLE_INVALID",
                "console": "HANDLE_INVALID", "subject": "SUBJECT_CANNOT_BE_RESOLVED"}

    def sample(self, class_, field):
        return plausible(field["type"], class_, {})

    def value(self, class_, ref, field):
        return self.call(f'{class_["name"]}.get_{field["name"]}', ref)

    def writable(self):
        """Class, field, message and an object of the class for each implicit message that writes."""
        for class_ in classes():
            records = self.records(class_)
            for name, row in implicit(class_).items():
                field = next((f for f in class_["fields"] for prefix in ("set_", "add_to_", "remove_from_", "add_",
                              "remove_") if f["qualifier"] == "RW" and name == prefix + f["name"]), None)
                if field and row.get("built") and records:
                    yield class_, field, name, self.pick(class_, records)

    @staticmethod
    def pick(class_, records):
        """A halted guest rather than the control domain; any object of other classes."""
        if class_["name"] == "VM":
            return next(r for r, v in records.items() if v["power_state"] == "Halted" and not v["is_a_snapshot"])
        return next(iter(records))

    def test_what_is_set_is_kept(self):
        refused = {}
        for class_, field, name, ref in self.writable():
            if not name.startswith("set_"):
                continue
            before, wanted = self.value(class_, ref, field), self.sample(class_, field)
            try:
                self.call(f'{class_["name"]}.{name}', ref, wanted)
            except Failure as f:
                refused[f'{class_["name"]}.{name}'] = f.code
                self.assertEqual(self.value(class_, ref, field), before, f"{name} failed and changed the field")
                continue
            self.assertEqual(self.value(class_, ref, field), wanted, f'{class_["name"]}.{name}')
            self.call(f'{class_["name"]}.{name}', ref, before)
            self.assertEqual(self.value(class_, ref, field), before, f'{class_["name"]}.{name}')
        self.assertEqual(refused, self.REFUSED)

    def test_a_key_is_added_once_and_removed_as_often_as_one_likes(self):
        tried = 0
        for class_, field, name, ref in self.writable():
            if name != "add_to_" + field["name"] or field["type"] != "(string -> string) map":
                continue
            add, remove = (f'{class_["name"]}.{p}_{field["name"]}' for p in ("add_to", "remove_from"))
            self.call(add, ref, "a key", "1")
            self.assertEqual(self.value(class_, ref, field)["a key"], "1", add)
            record = self.call(f'{class_["name"]}.get_record', ref)
            self.assertEqual(self.fails("MAP_DUPLICATE_KEY", add, ref, "a key", "2"),
                             [class_["name"], field["name"], record["uuid"], "a key"])
            self.assertEqual(self.value(class_, ref, field)["a key"], "1", add)
            for _ in (1, 2):
                self.call(remove, ref, "a key")
            self.assertNotIn("a key", self.value(class_, ref, field), remove)
            tried += 1
        self.assertGreater(tried, 15)

    def test_an_element_is_in_a_set_once(self):
        tried = 0
        for class_, field, name, ref in self.writable():
            if name != "add_" + field["name"] or field["type"] != "string set":
                continue
            if class_["name"] == "cpu_pool":  # numbers only, and not while it is activated: test_cpu_pools
                continue
            add, remove = (f'{class_["name"]}.{p}_{field["name"]}' for p in ("add", "remove"))
            for _ in (1, 2):
                self.call(add, ref, "an element")
            self.assertEqual(self.value(class_, ref, field).count("an element"), 1, add)
            for _ in (1, 2):
                self.call(remove, ref, "an element")
            self.assertNotIn("an element", self.value(class_, ref, field), remove)
            tried += 1
        self.assertGreaterEqual(tried, 5)

    def test_an_argument_of_the_wrong_type_is_refused(self):
        for class_, field, name, ref in self.writable():
            if name.startswith("set_") and field["type"] in ("int", "bool", "(string -> string) map", "string set"):
                before = self.value(class_, ref, field)
                self.fails("FIELD_TYPE_ERROR", f'{class_["name"]}.{name}', ref, "no such thing")
                self.assertEqual(self.value(class_, ref, field), before)

    def test_references_that_lead_nowhere_are_not_written(self):
        tried = 0
        for class_, field, name, ref in self.writable():
            if name.startswith("set_") and field["type"].endswith(" ref"):
                target = field["type"][:-len(" ref")]
                self.assertEqual(self.fails("HANDLE_INVALID", f'{class_["name"]}.{name}', ref, NOWHERE), [target, NOWHERE],
                                 name)
                tried += 1
        self.assertGreater(tried, 3)

    def test_what_can_be_made_from_nothing_can_be_destroyed(self):
        """And what cannot says what it lacks, and leaves nothing behind."""
        outcomes = {}
        for class_ in classes():
            name, row = class_["name"], implicit(class_).get("create")
            if not row or not row.get("built") or "get_all" not in implicit(class_):
                continue
            before = set(self.call(f"{name}.get_all"))
            try:
                ref = self.call(f"{name}.create", {})
            except Failure as f:
                outcomes[name] = f.code
            else:
                self.assertEqual(set(self.call(f"{name}.get_all")) - before, {ref})
                self.call(f"{name}.destroy", ref)
                self.assertEqual(self.fails("HANDLE_INVALID", f"{name}.get_record", ref), [name, ref])
            self.assertEqual(set(self.call(f"{name}.get_all")), before, name)
        self.assertEqual(outcomes, self.NOT_MADE)


class NotBuilt(World):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.methods = set(cls.server.json("system.listMethods"))

    def explicit(self, built):
        for class_ in classes():
            for row in class_["messages"]:
                if bool(row.get("built")) == built:
                    yield class_, row

    def test_what_is_not_built_says_so_and_is_not_listed(self):
        s = self.server.login(kind="unix")
        n = 0
        for class_, row in self.explicit(built=False):
            full = f'{class_["name"]}.{row["name"]}'
            self.assertNotIn(full, self.methods)
            args = [plausible(p["type"], class_, {}) for p in row["params"]]
            with self.assertRaises(Failure, msg=full) as f:
                s.call(full, *args)
            answer = (f.exception.code, f.exception.params)
            if row.get("state") == "removed":
                self.assertEqual(answer, ("MESSAGE_REMOVED", []), full)
            else:
                self.assertEqual(answer, ("NOT_IMPLEMENTED", [full]))
            n += 1
        self.assertGreater(n, 0)

    def test_as_a_task_it_does_not_succeed_either(self):
        s = self.server.login(kind="unix")
        for class_, row in self.explicit(built=False):
            full = f'{class_["name"]}.{row["name"]}'
            args = [plausible(p["type"], class_, {}) for p in row["params"]]
            with self.assertRaises(Failure, msg=full) as f:
                s.wait(s.call(f"Async.{full}", *args))
            self.assertIn(f.exception.code, ("NOT_IMPLEMENTED", "MESSAGE_REMOVED", "MESSAGE_METHOD_UNKNOWN"), full)

    def test_what_is_built_is_listed(self):
        for class_, row in self.explicit(built=True):
            self.assertIn(f'{class_["name"]}.{row["name"]}', self.methods)
        for class_ in classes():
            for name, row in implicit(class_).items():
                self.assertEqual(f'{class_["name"]}.{name}' in self.methods, bool(row.get("built")))


class Everything(World):
    """Calls all that is listed once, with arguments of the right types; what it answers to them is its own affair, as
    long as it is an answer."""
    conf = {"sim": {"vms": 5, "start-ms": 1, "shutdown-ms": 1, "reboot-ms": 1, "suspend-ms": 1, "plug-ms": 1}}
    # Ends the session or the server, waits for something that never comes, or stands for a login.
    APART = {"event.next", "session.logout", "session.local_logout", "session.login_with_password",
             "session.slave_local_login", "session.slave_local_login_with_password", "session.change_password",
             "session.logout_subject_identifier", "session.destroy", "event.from", "host.restart_agent",
             "host.shutdown_agent", "host.reboot", "host.shutdown"}

    # No extension is installed; the debugging class fails as it is asked to.
    ITS_OWN = {"host.call_extension": {"MESSAGE_METHOD_UNKNOWN"}}

    def test_every_listed_method_answers(self):
        methods = [m for m in self.server.json("system.listMethods")
                   if not m.startswith(("system.", "Async.")) and m not in self.APART]
        methods.sort(key=lambda m: ("destroy" in m or "forget" in m, "shutdown" in m))
        rows = {f'{c["name"]}.{m["name"]}': (c, m) for c in classes() for m in c["messages"] + c["implicit_messages"]}
        s, wrong = self.server.login(kind="unix"), []
        for method in methods:
            class_, row = rows[method]
            known = {c: list(s.call(f"{c}.get_all")) for c in self.classes_in(row)}
            args = [plausible(p["type"], class_, known) for p in row["params"]]
            try:
                s.call(method, *args)
            except Failure as f:
                if f.code in NEVER - self.ITS_OWN.get(method, set()) or f.code not in api()["errors"]:
                    wrong.append(f"{method}{args}: {f}")
        self.assertEqual(wrong, [])
        self.check_forms()
        self.check_references()

    def classes_in(self, row):
        names = {c["name"] for c in classes() if "get_all" in implicit(c) or c["name"] == "message"}
        return {p["type"].split()[0] for p in row["params"] if p["type"].endswith(" ref")} & names


def plausible(type_name, class_, known):
    """A value of that type; for a reference the newest object in known, or one that is not there."""
    if type_name.endswith(" ref"):
        return (known.get(type_name[:-len(" ref")]) or [NULL])[-1]
    if type_name.endswith(" set"):
        return []
    if type_name.endswith((" map", " record")):
        return {}
    if type_name.startswith("enum "):
        return class_["enums"][type_name[len("enum "):]][0]
    return {"string": "x", "int": 1, "float": 0.5, "bool": True, "datetime": "20200101T00:00:00Z"}[type_name]
