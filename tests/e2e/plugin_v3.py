#!/usr/bin/python3
"""A storage driver of the form that is a directory of executables: this file under each of their names. It reads a JSON
object and prints its result, or, with status 1, its error. Disks are files in the folder that the SR is."""
import json
import os
import shutil
import sys
import uuid

QUERY = {"plugin": "folder", "name": "Folder", "description": "Disks in a folder", "vendor": "Example", "copyright": "none",
         "version": "3.2", "required_api_version": "5.0", "features": ["VDI_RESIZE", "VDI_MIRROR"],
         "configuration": {"folder": "where the disks are"}, "required_cluster_stack": []}


class Refused(Exception):
    pass


def read(path):
    with open(path) as f:
        return json.load(f)


def write(path, what):
    with open(path, "w") as f:
        json.dump(what, f)


def volume(sr, key):
    if not os.path.exists(f"{sr}/{key}.json"):
        raise Refused("Volume_does_not_exist", key)
    meta = read(f"{sr}/{key}.json")
    size = os.path.getsize(f"{sr}/{key}")
    return {"key": key, "uuid": meta["uuid"], "name": meta["name"], "description": meta["description"], "read_write": True,
            "sharable": False, "virtual_size": size, "physical_utilisation": os.stat(f"{sr}/{key}").st_blocks * 512,
            "uri": ["nosuch://x", f"file://{sr}/{key}"], "keys": {}}


def add(sr, name, description, make):
    key = f"disk{len(os.listdir(sr))}"
    make(f"{sr}/{key}")
    write(f"{sr}/{key}.json", {"uuid": str(uuid.uuid4()), "name": name, "description": description})
    return volume(sr, key)


def empty(size):
    def make(path):
        with open(path, "w") as f:
            f.truncate(size)
    return make


def sr_create(dbg, uuid, configuration, name, description):
    if configuration.get("fault"):
        raise Refused(configuration["fault"], "one", "two")
    os.mkdir(configuration["folder"])
    write(configuration["folder"] + "/sr", {"uuid": uuid, "name": name, "description": description})
    return {**configuration, "made": "yes"}


def sr_attach(dbg, configuration):
    if configuration["made"] != "yes" or read(configuration["folder"] + "/sr")["uuid"] != configuration["sr_uuid"]:
        raise Refused("SR_BACKEND_FAILURE_47", "not this one")
    return configuration["folder"]


def sr_probe(dbg, configuration):
    meta = read(configuration["folder"] + "/sr")
    return [{"configuration": {**configuration, "made": "yes"}, "complete": True, "extra_info": {"colour": "blue"},
             "sr": {"sr": configuration["folder"], "uuid": meta["uuid"], "name": meta["name"], "description": "",
                    "free_space": 5, "total_space": 7, "datasources": [], "clustered": False, "health": ["Healthy", ""]}}]


def sr_stat(dbg, sr):
    return {"sr": sr, "name": "", "description": "", "free_space": 400, "total_space": 1000, "datasources": [],
            "clustered": False, "health": ["Healthy", ""]}


def sr_ls(dbg, sr):
    return [volume(sr, f[:-5]) for f in os.listdir(sr) if f.endswith(".json")]


def volume_destroy(dbg, sr, key):
    volume(sr, key)
    if os.path.exists(f"{sr}/{key}.open"):
        raise Refused("SR_BACKEND_FAILURE_24", "it is open")
    os.unlink(f"{sr}/{key}")
    os.unlink(f"{sr}/{key}.json")


def volume_copy(dbg, sr, key):
    return add(sr, "copy of " + key, "", lambda path: shutil.copy(f"{sr}/{key}", path))


def attach(dbg, uri, domain):
    return {"implementations": [["Nbd", {"uri": "x"}], ["File", {"path": uri[len("file://"):]}]]}


def activate(dbg, uri, domain):
    with open(uri[len("file://"):] + ".open", "w"):
        pass


def deactivate(dbg, uri, domain):
    if os.path.exists(uri[len("file://"):] + ".open"):
        os.unlink(uri[len("file://"):] + ".open")


CALLS = {
    "Plugin.Query": lambda dbg: QUERY,
    "SR.create": sr_create,
    "SR.attach": sr_attach,
    "SR.detach": lambda dbg, sr: None,
    "SR.destroy": lambda dbg, sr: shutil.rmtree(sr),
    "SR.probe": sr_probe,
    "SR.stat": sr_stat,
    "SR.ls": sr_ls,
    "Volume.create": lambda dbg, sr, name, description, size, sharable: add(sr, name, description, empty(size)),
    "Volume.destroy": volume_destroy,
    "Volume.clone": volume_copy,
    "Volume.snapshot": volume_copy,
    "Volume.resize": lambda dbg, sr, key, new_size: os.truncate(f"{sr}/{key}", new_size),
    "Volume.stat": lambda dbg, sr, key: volume(sr, key),
    "Datapath.attach": attach,
    "Datapath.activate": activate,
    "Datapath.deactivate": deactivate,
    "Datapath.detach": lambda dbg, uri, domain: None,
}


def main():
    assert sys.argv[1] == "--json"
    try:
        print(json.dumps(CALLS[os.path.basename(sys.argv[0])](**json.load(sys.stdin))))
    except Refused as e:
        print(json.dumps({"code": e.args[0], "params": list(e.args[1:]), "backtrace": {"error": "", "files": [], "lines": []}}))
        sys.exit(1)


if __name__ == "__main__":
    main()
