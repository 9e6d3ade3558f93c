#!/usr/bin/python3
"""A storage driver of the form that is one executable: an XML-RPC call as its argument, the response on standard output.
Disks are files in device_config:folder; the API, whose socket is device_config:api, is told of them by this driver."""
import http.client
import json
import os
import shutil
import socket
import sys
import uuid
import xmlrpc.client

INFO = {"name": "Box", "description": "Disks in a box", "vendor": "Example", "copyright": "none", "driver_version": "7.1",
        "required_api_version": "1.0",
        "capabilities": ["SR_PROBE", "SR_UPDATE", "VDI_CREATE", "VDI_DELETE", "VDI_ATTACH", "VDI_DETACH", "VDI_ACTIVATE",
                         "VDI_DEACTIVATE", "VDI_SNAPSHOT", "VDI_CLONE", "VDI_RESIZE", "VDI_RESET_ON_BOOT/2"],
        "configuration": [{"key": "folder", "description": "where the disks are"}]}


class Refused(Exception):
    pass


class Connection(http.client.HTTPConnection):
    path = None

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self.path)


class Transport(xmlrpc.client.Transport):
    def __init__(self, path):
        super().__init__()
        self.path = path

    def make_connection(self, host):
        connection = Connection("localhost")
        connection.path = self.path
        return connection


class Driver:
    def __init__(self, p):
        self.p = p
        self.config = p["device_config"]
        self.folder = self.config.get("folder", "")
        self.proxy = xmlrpc.client.ServerProxy("http://localhost/", Transport(self.config.get("api", "")))

    def api(self, method, *args):
        answer = getattr(self.proxy, method)(self.p["session_ref"], *args)
        if answer["Status"] != "Success":
            raise Refused(" ".join(answer["ErrorDescription"]))
        return answer["Value"]

    def note(self, what):
        with open(os.path.join(self.folder, "calls"), "a") as f:
            f.write(json.dumps([self.p["command"], what]) + "\n")

    def file(self, name):
        return os.path.join(self.folder, name + ".disk")

    def introduce(self, name, label=""):
        size = str(os.path.getsize(self.file(name)))
        self.api("VDI.db_introduce", name, label, "made by the box", self.p["sr_ref"], "user", False, False, {}, name, {},
                 {"box": "yes"}, True, size, size, "", False, xmlrpc.client.DateTime("19700101T00:00:00Z"), "", False)

    def sizes(self):
        disks = [f for f in os.listdir(self.folder) if f.endswith(".disk")]
        total = sum(os.path.getsize(os.path.join(self.folder, f)) for f in disks)
        self.api("SR.set_virtual_allocation", self.p["sr_ref"], str(total))
        self.api("SR.set_physical_utilisation", self.p["sr_ref"], str(total))
        self.api("SR.set_physical_size", self.p["sr_ref"], str(1 << 30))

    # ---- what is asked ----

    def sr_get_driver_info(self):
        return INFO

    def sr_create(self, size):
        assert self.api("SR.get_uuid", self.p["sr_ref"]) == self.p["sr_uuid"]
        assert self.api("host.get_uuid", self.p["host_ref"])
        if self.config.get("fault"):
            raise xmlrpc.client.Fault(int(self.config["fault"]), "as asked for")
        os.mkdir(self.folder)
        with open(os.path.join(self.folder, "id"), "w") as f:
            f.write(self.p["sr_uuid"])

    def sr_delete(self):
        shutil.rmtree(self.folder)

    def sr_attach(self):
        assert self.config["SRmaster"] == "true"
        if not os.path.isdir(self.folder):
            raise xmlrpc.client.Fault(47, "The SR is not available")

    def sr_detach(self):
        pass

    def sr_probe(self):
        with open(os.path.join(self.folder, "id")) as f:
            return f"<?xml version='1.0'?><SRlist><SR>\n<UUID>\n{f.read()}\n</UUID></SR></SRlist>"

    def sr_update(self):
        self.sizes()

    def sr_scan(self):
        records = self.api("VDI.get_all_records")
        known = {r["location"]: ref for ref, r in records.items() if r["SR"] == self.p["sr_ref"]}
        there = {f[:-5] for f in os.listdir(self.folder) if f.endswith(".disk")}
        for name in there - set(known):
            self.introduce(name)
        for name in set(known) - there:
            self.api("VDI.db_forget", known[name])
        self.sizes()

    def vdi_create(self, size, label, words, pool, is_snapshot, time, of, read_only):
        assert (pool, is_snapshot, of, read_only) == ("", "false", "", "false"), sys.argv
        name = str(uuid.uuid4())
        with open(self.file(name), "w") as f:
            f.truncate(int(size))
        self.introduce(name, label)
        self.note(self.p["vdi_sm_config"])
        return {"uuid": name, "location": name}

    def vdi_delete(self):
        assert self.api("VDI.get_uuid", self.p["vdi_ref"]) == self.p["vdi_uuid"]
        os.unlink(self.file(self.p["vdi_location"]))
        self.api("VDI.db_forget", self.p["vdi_ref"])
        self.note(self.p["vdi_uuid"])

    def copy(self):
        name = str(uuid.uuid4())
        shutil.copy(self.file(self.p["vdi_location"]), self.file(name))
        self.introduce(name)
        return {"uuid": name, "location": name}

    vdi_snapshot = vdi_clone = copy

    def vdi_resize(self, size):
        os.truncate(self.file(self.p["vdi_location"]), int(size))
        self.api("VDI.set_virtual_size", self.p["vdi_ref"], size)
        return {"uuid": self.p["vdi_uuid"], "location": self.p["vdi_location"]}

    def vdi_update(self):
        pass

    def vdi_attach(self, writable):
        self.note(writable)
        return {"params": self.file(self.p["vdi_location"]), "xenstore_data": {}}

    def vdi_detach(self):
        self.note("")

    def vdi_activate(self, writable):
        self.note(writable)

    def vdi_deactivate(self):
        self.note("")


def main():
    params, method = xmlrpc.client.loads(sys.argv[1])
    try:
        result = getattr(Driver(params[0]), method)(*params[0]["args"])
        print(xmlrpc.client.dumps((result,), methodresponse=True, allow_none=True))
    except xmlrpc.client.Fault as fault:
        print(xmlrpc.client.dumps(fault))


main()
