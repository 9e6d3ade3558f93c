#!/usr/bin/python3
"""LVM's commands, as far as the driver uses them, on a state in a file: this program under each of their names. Volumes
exist only as lines; what it was called with is in the file "calls" beside the state."""
import json
import os
import sys

PLACE = os.environ.get("FAKE_LVM") or os.path.dirname(os.path.abspath(__file__))
STATE = os.path.join(PLACE, "state")
EXTENT = 4 << 20
WITH_VALUE = {"--devices", "--units", "-o", "--reportformat", "-L", "-V", "--thinpool", "--name", "--addtag", "--deltag"}


def fail(words):
    print("  " + words, file=sys.stderr)
    sys.exit(5)


def main():
    name, options, rest, args = os.path.basename(sys.argv[0]), {}, [], sys.argv[1:]
    with open(os.path.join(PLACE, "calls"), "a") as f:
        f.write(json.dumps([name] + args) + "\n")
    while args:
        one = args.pop(0)
        if one in WITH_VALUE:
            options[one] = args.pop(0)
        elif one.startswith("-"):
            options[one] = True
        else:
            rest.append(one)
    if options.get("--devices") != "/dev/a,/dev/b":
        fail("other devices would be looked at")
    with open(STATE) as f:
        state = json.load(f)
    volumes = state["volumes"]
    if name == "lvs":
        print(json.dumps({"report": [{"lv": [
            {"lv_name": n, "lv_size": str(v["size"]), "lv_tags": ",".join(v["tags"]), "data_percent": v["percent"]}
            for n, v in volumes.items()]}]}))
    elif name == "vgs":
        print(json.dumps({"report": [{"vg": [{"vg_size": str(state["size"]), "vg_free": str(state["free"]),
                                             "vg_extent_size": str(EXTENT)}]}]}))
    elif name == "lvcreate" and "-s" in options:
        origin = rest[0].split("/")[1]
        volumes[options["--name"]] = {**volumes[origin], "tags": [options["--addtag"]]}
    elif name == "lvcreate":
        size = int((options.get("-V") or options["-L"]).rstrip("b"))
        if "-L" in options and size > state["free"]:
            fail("Volume group has insufficient free space (0 extents): 1 required.")
        volumes[options["--name"]] = {"size": size, "tags": [], "percent": "0.00"}
    elif name == "lvrename":
        if rest[1] not in volumes or rest[2] in volumes:
            fail("cannot rename")
        volumes[rest[2]] = volumes.pop(rest[1])
    elif name == "lvremove":
        del volumes[rest[0].split("/")[1]]
    elif name == "lvextend":
        volumes[rest[0].split("/")[1]]["size"] = int(options["-L"].rstrip("b"))
    else:
        fail("not known: " + name)
    with open(STATE + ".new", "w") as f:
        json.dump(state, f)
    os.rename(STATE + ".new", STATE)


main()
