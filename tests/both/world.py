"""The two worlds that the suite runs in, where they are reached by other ways than the API: what happens in a guest,
what another toolstack does, the host's boot. WORLD is set by who runs the suite."""
import json
import os
import shlex
import subprocess

from client import NULL, dom0

WORLD = None


class Xen:
    """Of tests/xen: a machine, whose dom0 takes commands."""
    simulated = False
    kernel, small = "vmlinux", "tiny"
    disks = "/var/lib/lab-both"
    bridge = "xenbr0"
    prompt = "GUEST READY"
    dmesg = "(XEN)"

    def guest_up(self, case, ref, patience):
        metrics = case.s.wait("VM", ref, lambda r: r["guest_metrics"] != NULL, patience)["guest_metrics"]
        case.s.wait("VM_guest_metrics", metrics, lambda r: r["other"].get("lab") == "up", patience)
        return metrics

    def stop_by_itself(self, case, ref, how):
        """The guest that has been started with guest_that(how) is one that does it."""

    def guest_that(self, how):
        """What a VM's record needs so that its guest does it."""
        return {"kernel": "tiny", "memory": 4, "PV_args": {"poweroff": "0", "reboot": "1", "crash": "3"}[how] + "2"}

    deaf = {}

    def others_make(self, case):
        dom0("xl create /lab/guest/tiny.cfg", check=True)
        return "tiny"

    def others_end(self, case, name):
        dom0(f"xl destroy {shlex.quote(name)}", check=True)

    def remove(self, path):
        dom0(f"rm -f {shlex.quote(path)}", check=True)

    def boot(self):
        # At once, as when the power fails. An orderly shutdown would first let Debian's xendomains wait for the deaf
        # guests. It is the end of the machine; the lab starts it again.
        dom0("sync; echo b >/proc/sysrq-trigger; sleep 100")
        subprocess.run(shlex.split(os.environ["LAB_AGAIN"]), check=True)


class Simulated:
    """Of tests/e2e: a daemon of its own."""
    simulated = True
    kernel, small = "", ""
    prompt = "login: "
    dmesg = ""

    def __init__(self, server):
        self.server = server
        self.disks = os.path.join(server.dir, "both")

    def sim(self, case, function, **args):
        return json.loads(case.call("host.call_plugin", case.host, "xenapid-sim", function, args) or "{}")

    @property
    def bridge(self):
        return None

    def guest_up(self, case, ref, patience):
        return case.s.wait("VM", ref, lambda r: r["guest_metrics"] != NULL, patience)["guest_metrics"]

    def guest_that(self, how):
        return {}

    def stop_by_itself(self, case, ref, how):
        self.sim(case, "guest", uuid=case.call("VM.get_uuid", ref), do=how)

    deaf = {"other_config": {"sim:shutdown": "ignore"}}

    def others_make(self, case):
        self.sim(case, "guest", uuid="2cb0ee6a-7a56-4c0f-8a0f-0f1d4a2b7b11", do="appear", name="tiny",
                 memory=str(4 << 20), vcpus="1")
        return "tiny"

    def others_end(self, case, name):
        self.sim(case, "guest", uuid=case.call("VM.get_uuid", case.call("VM.get_by_name_label", name)[0]), do="vanish")

    def remove(self, path):
        os.unlink(path)

    def boot(self):
        self.server.kill()
        for name in os.listdir(self.server.runtime_dir):
            if name.startswith("sim"):
                os.unlink(os.path.join(self.server.runtime_dir, name))
        self.server.start()
