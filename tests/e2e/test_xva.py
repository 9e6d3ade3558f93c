"""Whole VMs over HTTP: /export, /import and their metadata, as this server and others write and read them."""
import gzip
import hashlib
import io
import os
import random
import signal
import socket
import subprocess
import tarfile
import time
import xmlrpc.client

from harness import Failure
from test_transfer import MIB, UNKNOWN, Transfers, sparse

NULL = "OpaqueRef:NULL"


def unpack(data):
    """name -> content, in order."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar}


def pack(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def ova(text):
    return xmlrpc.client.loads(b"<params><param>" + text + b"</param></params>")[0][0]


def ova_text(value):
    text = xmlrpc.client.dumps((value,), allow_none=True)
    return text[text.index("<value>"):text.rindex("</param>")].strip().encode()


def sealed(files):
    """Chunks with the SHA-1 files that older servers put beside them."""
    out = {}
    for name, content in files.items():
        out[name] = content
        if name.startswith("Ref:"):
            out[name + ".checksum"] = hashlib.sha1(content).hexdigest().encode()
    return out


class Xva(Transfers):
    def vm(self, *contents, name="original"):
        """A halted VM with these disks and an interface."""
        network = self.call("network.get_all")[0]
        vm = self.call("VM.create", {
            "name_label": name, "name_description": "a & b <c>", "user_version": 1, "is_a_template": False,
            "affinity": NULL, "memory_static_max": 256 * MIB, "memory_dynamic_max": 256 * MIB,
            "memory_dynamic_min": 128 * MIB, "memory_static_min": 64 * MIB, "VCPUs_params": {"weight": "300"},
            "VCPUs_max": 3, "VCPUs_at_startup": 2, "actions_after_shutdown": "destroy",
            "actions_after_reboot": "restart", "actions_after_crash": "restart", "PV_bootloader": "",
            "PV_kernel": "", "PV_ramdisk": "", "PV_args": "", "PV_bootloader_args": "", "PV_legacy_args": "",
            "HVM_boot_policy": "BIOS order", "HVM_boot_params": {"order": "cd"}, "platform": {"acpi": "1"},
            "PCI_bus": "", "other_config": {"note": "kept"}, "recommendations": ""})
        for i, content in enumerate(contents):
            vdi = self.vdi(len(content))
            self.assertEqual(self.put(vdi, content)[0], 200)
            self.vbd(vm, vdi, str(i))
        self.vbd(vm, NULL, "3")
        self.call("VIF.create", {"VM": vm, "network": network, "device": "0", "MAC": "02:11:22:33:44:55", "MTU": 1500,
                                 "other_config": {}, "qos_algorithm_type": "", "qos_algorithm_params": {}})
        return vm

    def vbd(self, vm, vdi, device):
        cd = vdi == NULL
        return self.call("VBD.create", {
            "VM": vm, "VDI": vdi, "userdevice": device, "bootable": device == "0", "mode": "RO" if cd else "RW",
            "type": "CD" if cd else "Disk", "empty": cd, "unpluggable": True, "other_config": {},
            "qos_algorithm_type": "", "qos_algorithm_params": {}})

    def export(self, vm, handler="export", **query):
        url = f"/{handler}/?session_id={self.s.ref}&ref={vm}" + "".join(f"&{k}={v}" for k, v in query.items())
        status, headers, body = self.server.request("GET", url, timeout=60)
        self.assertEqual(status, 200, body)
        return body

    def send(self, data, handler="import", kind="http", **query):
        query.setdefault("session_id", self.s.ref)
        url = f"/{handler}?" + "&".join(f"{k}={v}" for k, v in query.items())
        return self.server.request("PUT", url, data, kind=kind, timeout=60)

    def import_(self, data, **query):
        """The reference of the VM that came."""
        task = self.task()
        status, _, body = self.send(data, task_id=task, **query)
        self.assertEqual((status, body), (200, b""))
        record = self.ended(task)
        self.assertEqual(record["status"], "success")
        refs = xmlrpc.client.loads(f"<params><param>{record['result']}</param></params>")[0][0]
        self.assertEqual(len(refs), 1)
        return refs[0]

    def refused(self, data, code, **query):
        """The import fails with that code, and nothing is left of it."""
        before = self.everything()
        task = self.task()
        status, _, body = self.send(data, task_id=task, **query)
        self.assertNotEqual(status, 200)
        self.assertEqual(self.ended(task)["error_info"][0], code)
        self.assertIn(code.encode(), body)
        self.call("SR.scan", self.sr)
        self.assertEqual(self.everything(), before)
        self.assertEqual(self.leftovers(), [])

    def everything(self):
        return ({c: sorted(self.call(f"{c}.get_all")) for c in ("VM", "VDI", "VBD", "VIF", "network")},
                sorted(f for f in self.files() if not f.endswith(".tmp")))

    def disks(self, vm):
        """userdevice -> content"""
        found = {}
        for ref in self.call("VM.get_VBDs", vm):
            vbd = self.call("VBD.get_record", ref)
            if vbd["type"] == "Disk":
                found[vbd["userdevice"]] = self.content(vbd["VDI"])
        return found

    def same(self, a, b):
        """The records of two VMs, but for what must differ."""
        own = {"uuid", "VBDs", "VIFs", "consoles", "metrics", "other_config", "snapshots", "children", "parent"}
        x, y = self.call("VM.get_record", a), self.call("VM.get_record", b)
        self.assertEqual({k: v for k, v in x.items() if k not in own}, {k: v for k, v in y.items() if k not in own})
        self.assertEqual(y["other_config"].get("note"), "kept")

    # ---- there and back ----

    def test_format(self):
        vm = self.vm(sparse(7 * MIB + 512), bytes(3 * MIB))
        first = self.export(vm)
        self.assertEqual(first, self.export(vm), "not the same bytes twice")
        files = unpack(first)
        self.assertEqual(next(iter(files)), "ova.xml")
        head = ova(files["ova.xml"])
        self.assertEqual(head["version"]["export_vsn"], 2)
        objects = {o["id"]: o for o in head["objects"]}
        self.assertEqual([o["class"] for o in head["objects"]].count("VM"), 1)
        for o in objects.values():
            for value in o["snapshot"].values():
                self.assertFalse(isinstance(value, str) and value.startswith("OpaqueRef:") and value != NULL)
        disks = sorted(o["id"] for o in objects.values() if o["class"] == "VDI")
        pieces = [n for n in files if n.startswith("Ref:") and not n.endswith(".xxhash")]
        self.assertEqual([p.split("/")[0] for p in pieces], sorted(p.split("/")[0] for p in pieces))
        self.assertEqual({p.split("/")[0] for p in pieces}, set(disks))
        for p in pieces:
            self.assertEqual(len(files[p + ".xxhash"]), 16)
        small = next(d for d in disks if objects[d]["snapshot"]["virtual_size"] == str(3 * MIB))
        self.assertEqual([p for p in pieces if p.startswith(small + "/")], [small + "/00000000", small + "/00000002"])

    def test_there_and_back(self):
        a, b = sparse(5 * MIB + 1024), sparse(3 * MIB, 2)
        vm = self.vm(a, b)
        for method in "false", "true", "gzip", "zstd":
            with self.subTest(compression=method):
                data = self.export(vm, use_compression=method)
                copy = self.import_(data, sr_id=self.sr)
                self.assertEqual(self.disks(copy), {"0": a, "1": b})
                self.same(vm, copy)
                vif = self.call("VIF.get_record", self.call("VM.get_VIFs", copy)[0])
                self.assertNotEqual(vif["MAC"], "02:11:22:33:44:55")
                self.assertEqual(vif["network"], self.call("network.get_all")[0])
                drive = [r for r in map(lambda x: self.call("VBD.get_record", x), self.call("VM.get_VBDs", copy))
                         if r["type"] == "CD"]
                self.assertEqual([(d["empty"], d["VDI"]) for d in drive], [(True, NULL)])
                self.call("VM.start", copy, False, False)
                self.call("VM.hard_shutdown", copy)

    def test_restore_keeps_identities(self):
        content = sparse(2 * MIB)
        vm = self.vm(content)
        before = self.call("VM.get_record", vm)
        vdi = next(v for v in (self.call("VBD.get_VDI", x) for x in before["VBDs"]) if v != NULL)
        vdi_uuid = self.call("VDI.get_uuid", vdi)
        data = self.export(vm)
        beside = self.import_(data, restore="true")
        self.assertNotEqual(self.call("VM.get_uuid", beside), before["uuid"])
        self.call("VM.destroy", vm)
        self.call("VDI.destroy", vdi)
        again = self.import_(data, restore="true")
        self.assertEqual(self.call("VM.get_uuid", again), before["uuid"])
        self.assertEqual(self.call("VIF.get_MAC", self.call("VM.get_VIFs", again)[0]), "02:11:22:33:44:55")
        self.assertEqual(self.disks(again), {"0": content})
        self.call("VDI.get_by_uuid", vdi_uuid)

    def test_snapshots_come_along(self):
        vm = self.vm(sparse(2 * MIB), name="with snapshots")
        snapshot = self.call("VM.snapshot", vm, "earlier", [])
        copy = self.import_(self.export(vm))
        snapshots = self.call("VM.get_snapshots", copy)
        self.assertEqual([self.call("VM.get_name_label", s) for s in snapshots], ["earlier"])
        self.assertEqual(self.disks(snapshots[0]), self.disks(vm))
        alone = self.import_(self.export(vm, export_snapshots="false"))
        self.assertEqual(self.call("VM.get_snapshots", alone), [])
        self.import_(self.export(snapshot))

    def suspended(self, content):
        vm = self.vm(content, name="suspended")
        self.call("VM.start", vm, False, False)
        self.call("VM.suspend", vm)
        self.assertNotEqual(self.call("VM.get_suspend_VDI", vm), NULL)
        return vm

    def test_suspended(self):
        content = sparse(2 * MIB)
        vm = self.suspended(content)
        data = self.export(vm)
        self.assertEqual(data, self.export(vm), "not the same bytes twice")
        self.assertEqual(self.call("VM.get_power_state", vm), "Suspended")
        copy = self.import_(data)
        again = self.import_(self.export(copy))
        for new in copy, again:
            self.assertEqual(self.call("VM.get_power_state", new), "Suspended")
            image = self.call("VM.get_suspend_VDI", new)
            self.assertEqual(self.call("VDI.get_type", image), "suspend")
            self.assertEqual(self.call("VDI.get_sm_config", image)["type"], "raw")
            self.assertTrue(all(self.call("VIF.get_currently_attached", v) for v in self.call("VM.get_VIFs", new)))
            self.call("VM.resume", new, False, False)
            self.assertEqual(self.call("VM.get_power_state", new), "Running")
            with self.assertRaises(Failure):
                self.call("VDI.get_uuid", image)
            self.call("VM.suspend", new)  # an image of its own, under its own name
            self.call("VM.resume", new, False, False)
            self.call("VM.hard_shutdown", new)
            self.assertEqual(self.disks(new), {"0": content})
        self.call("VM.resume", vm, False, False)
        self.call("VM.hard_shutdown", vm)

    def test_suspended_without_memory(self):
        vm = self.suspended(sparse(MIB))
        for data, handler in ((self.export(vm, preserve_power_state="false"), "import"),
                              (self.export(vm, "export_metadata"), "import_metadata")):
            records = [o["snapshot"] for o in ova(unpack(data)["ova.xml"])["objects"] if o["class"] == "VM"]
            self.assertEqual([(r["power_state"], r["suspend_VDI"]) for r in records], [("Halted", NULL)])
            copy = self.import_(data, handler=handler)
            self.assertEqual(self.call("VM.get_power_state", copy), "Halted")
            self.assertFalse(any(self.call("VBD.get_currently_attached", v) for v in self.call("VM.get_VBDs", copy)))
        self.call("VM.hard_shutdown", vm)

    def test_checkpoint_comes_along(self):
        vm = self.vm(sparse(MIB))
        self.call("VM.start", vm, False, False)
        checkpoint = self.call("VM.checkpoint", vm, "c")
        self.call("VM.hard_shutdown", vm)
        copy = self.import_(self.export(vm))
        there = self.call("VM.get_snapshots", copy)[0]
        self.assertEqual(self.call("VM.get_power_state", there), self.call("VM.get_power_state", checkpoint))
        self.assertNotEqual(self.call("VM.get_suspend_VDI", there), NULL)
        self.call("VM.revert", there)
        self.call("VM.resume", copy, False, False)
        self.call("VM.hard_shutdown", copy)

    def test_metadata(self):
        vm = self.vm(sparse(2 * MIB))
        data = self.export(vm, "export_metadata")
        self.assertEqual(list(unpack(data)), ["ova.xml"])
        copy = self.import_(data, handler="import_metadata")
        self.same(vm, copy)
        self.assertEqual(self.disks(copy), self.disks(vm))
        before = self.everything()
        task = self.task()
        self.assertEqual(self.send(data, handler="import_metadata", dry_run="true", task_id=task)[0], 200)
        self.assertEqual(self.ended(task)["status"], "success")
        self.assertEqual(self.everything(), before)

    # ---- what others write ----

    def foreign(self):
        """As an older server writes it: only some of the fields, SHA-1, numbers with gaps, an empty piece, a disk that
        is filled up to a whole piece, classes that are not known here."""
        content = random.Random(3).randbytes(MIB) + bytes(4 * MIB) + b"end" + bytes(MIB // 2 - 3)
        head = {"version": {"hostname": "h", "date": "20190101T00:00:00Z", "product_version": "7.6.0",
                            "product_brand": "XenServer", "build_number": "1c", "xapi_major": 1, "xapi_minor": 9,
                            "export_vsn": 2},
                "objects": [
                    {"class": "VM", "id": "Ref:0", "snapshot": {
                        "uuid": "a44e5b8c-5a64-4b0c-8e9b-5b6f7b8c9d0e", "name_label": "foreign", "VCPUs_max": "2",
                        "VCPUs_at_startup": "2", "memory_static_max": str(512 * MIB),
                        "memory_dynamic_max": str(512 * MIB), "memory_dynamic_min": str(512 * MIB),
                        "memory_static_min": "0", "power_state": "Running", "VBDs": ["Ref:1"], "VIFs": ["Ref:3"],
                        "is_a_template": False, "other_config": {"x": "y"}, "no_such_field": "z",
                        "HVM_boot_policy": "BIOS order", "resident_on": "Ref:77", "domid": "5"}},
                    {"class": "VBD", "id": "Ref:1", "snapshot": {"VM": "Ref:0", "VDI": "Ref:12", "userdevice": "0",
                                                                 "type": "Disk", "mode": "RW", "bootable": True}},
                    {"class": "VDI", "id": "Ref:12", "snapshot": {"virtual_size": str(len(content)), "SR": "Ref:4",
                                                                  "name_label": "system", "type": "system"}},
                    {"class": "VIF", "id": "Ref:3", "snapshot": {"VM": "Ref:0", "network": "Ref:5", "device": "0",
                                                                 "MAC": "aa:bb:cc:00:11:22", "MTU": "1500"}},
                    {"class": "network", "id": "Ref:5", "snapshot": {"name_label": "far away", "bridge": "xenbr9"}},
                    {"class": "Warp_drive", "id": "Ref:6", "snapshot": {"uuid": "x"}}]}
        pieces = {"Ref:12/00000000": content[:MIB], "Ref:12/00000001": b"",
                  "Ref:12/00000006": content[5 * MIB:] + bytes(MIB // 2)}
        return head, pieces, content

    def test_foreign(self):
        head, pieces, content = self.foreign()
        data = pack(sealed({"ova.xml": ova_text(head), **pieces}))
        vm = self.import_(data)
        record = self.call("VM.get_record", vm)
        self.assertEqual((record["name_label"], record["power_state"], record["VCPUs_max"], record["domid"]),
                         ("foreign", "Halted", 2, -1))
        self.assertEqual(self.disks(vm), {"0": content})
        network = self.call("VIF.get_network", record["VIFs"][0])
        self.assertEqual(self.call("network.get_name_label", network), "far away")
        self.import_(gzip.compress(data))
        self.import_(pack({"ova.xml": b"<?xml version='1.0'?>\n" + ova_text(head), **pieces}))
        tail = {"checksum.xml": b"<value/>"}
        self.import_(pack({"ova.xml": ova_text(head), **pieces, **tail}))

    def test_damage(self):
        head, pieces, content = self.foreign()
        text = ova_text(head)
        good = sealed({"ova.xml": text, **pieces})
        whole = pack(good)
        self.refused(whole[:len(whole) // 2], "IMPORT_ERROR_PREMATURE_EOF")
        self.refused(gzip.compress(whole)[:200000], "IMPORT_ERROR_PREMATURE_EOF")
        self.refused(os.urandom(100000), "IMPORT_ERROR")
        self.refused(b"x", "IMPORT_ERROR_PREMATURE_EOF")
        self.refused(pack({}), "IMPORT_ERROR_PREMATURE_EOF")
        self.refused(pack({"ova.xml": b"<value>no</value>"}), "IMPORT_ERROR")
        self.refused(pack({"readme": b"hello"}), "IMPORT_ERROR_UNEXPECTED_FILE")
        self.refused(pack({"ova.xml": text, "Ref:99/00000000": b"x"}), "IMPORT_ERROR_UNEXPECTED_FILE")
        self.refused(pack({"ova.xml": text, "../../etc/passwd": b"x"}), "IMPORT_ERROR_UNEXPECTED_FILE")
        without_last = {k: v for k, v in good.items() if not k.startswith("Ref:12/00000006")}
        self.refused(pack(without_last), "IMPORT_ERROR_PREMATURE_EOF")
        self.refused(pack({**good, "Ref:12/00000007": b"x" * 512}), "IMPORT_ERROR")
        wrong = {**good, "Ref:12/00000000": b"y" * MIB}
        self.refused(pack(wrong), "IMPORT_ERROR_SOME_CHECKSUMS_FAILED")
        self.assertEqual(self.disks(self.import_(pack(wrong), force="true"))["0"][:MIB], b"y" * MIB)
        head["version"]["export_vsn"] = 3
        self.refused(pack({"ova.xml": ova_text(head)}), "IMPORT_INCOMPATIBLE_VERSION")

    def test_refusals(self):
        vm = self.vm(sparse(MIB))
        self.call("VM.start", vm, False, False)
        status, _, body = self.server.request("GET", f"/export?session_id={self.s.ref}&ref={vm}")
        self.assertEqual(status, 409)
        self.assertIn(b"VM_BAD_POWER_STATE", body)
        self.call("VM.hard_shutdown", vm)
        self.assertEqual(self.server.request("GET", f"/export?session_id={self.s.ref}&uuid=nothing")[0], 404)
        self.assertEqual(self.server.request("GET", f"/export?ref={vm}")[0], 401)
        self.assertEqual(self.send(b"")[0], 200)  # the probe
        self.assertEqual(self.send(b"x", sr_id="OpaqueRef:none")[0], 404)

    def test_unknown_length(self):
        data = self.export(self.vm(sparse(3 * MIB)))
        task = self.task()
        with socket.create_connection(("127.0.0.1", self.server.http_port), 20) as c:
            c.sendall(f"PUT /import/?session_id={self.s.ref}&task_id={task}&sr_id={self.sr} HTTP/1.1\r\nHost: x\r\n"
                      f"content-length: 1125899906842624\r\n\r\n".encode() + data)
        self.assertEqual(self.ended(task)["status"], "success")

    def test_small_and_of_unknown_length(self):
        """However few bytes have come: when they are all, the answer comes, though more was announced."""
        data, task = self.export(self.vm(), use_compression="gzip"), self.task()
        with socket.create_connection(("127.0.0.1", self.server.http_port), 20) as c:
            c.sendall(f"PUT /import?session_id={self.s.ref}&task_id={task} HTTP/1.1\r\nHost: x\r\n"
                      f"content-length: {UNKNOWN}\r\n\r\n".encode() + data)
            self.assertEqual(c.recv(15), b"HTTP/1.1 200 OK")
        self.assertEqual(self.ended(task)["status"], "success")

    def test_cut_import_leaves_nothing(self):
        data = self.export(self.vm(random.Random(5).randbytes(6 * MIB)))
        before = self.everything()
        task = self.task()
        with socket.create_connection(("127.0.0.1", self.server.http_port), 20) as c:
            c.sendall(f"PUT /import?session_id={self.s.ref}&task_id={task} HTTP/1.1\r\nHost: x\r\n"
                      f"content-length: {len(data)}\r\n\r\n".encode() + data[:4 * MIB])
        self.assertEqual(self.ended(task)["error_info"], ["IMPORT_ERROR_PREMATURE_EOF"])
        self.assertEqual(self.everything(), before)
        self.assertEqual(self.leftovers(), [])


class Killed(Xva):
    """Only the tests of this class; those of Xva are not run again."""
    allow_crash = True

    def test_backend_dies(self):
        data = self.export(self.vm(random.Random(5).randbytes(6 * MIB)))
        before = self.everything()
        task = self.task()
        with socket.create_connection(("127.0.0.1", self.server.http_port), 20) as c:
            c.sendall(f"PUT /import?session_id={self.s.ref}&task_id={task} HTTP/1.1\r\nHost: x\r\n"
                      f"content-length: {len(data)}\r\n\r\n".encode() + data[:4 * MIB])
            time.sleep(0.5)
            os.kill(self.server.pid_of("xenapid-sim"), signal.SIGKILL)
            try:
                c.sendall(data[4 * MIB:])
                c.recv(100)
            except OSError:
                pass
        self.assertEqual(self.ended(task)["status"], "failure")
        deadline = time.monotonic() + 20
        while True:
            try:
                self.call("SR.scan", self.sr)
                break
            except Failure:
                self.assertLess(time.monotonic(), deadline)
                time.sleep(0.1)
        self.assertEqual(self.everything(), before)
        self.assertEqual(self.leftovers(), [])


for _name in [n for n in dir(Xva) if n.startswith("test_")]:
    setattr(Killed, _name, None)
del Transfers
