"""I/O priorities of a guest's disks: VBD.qos_algorithm_type "ionice"; part of test_xen.py."""
from case import Case
from client import dom0
from test_faults import eventually

KERNEL = (r"for t in $(grep -lE '^(blkback\.)?%d\.xvdb(-[0-9]+)?$' /proc/[0-9]*/comm); "
          "do ionice -p $(echo $t | cut -d/ -f3); done")
MODEL = "ionice -p $(ls /proc/$(xenstore-read /local/domain/%d/image/device-model-pid)/task)"


class Ionice(Case):
    def given(self, ref, command):
        """What those that serve the guest's second disk have."""
        return set(dom0(command % self.domid(ref)).split("\n")) - {""}

    def assert_gets(self, ref, command, text):
        eventually(lambda: self.given(ref, command) == {text})

    def check(self, kind, command):
        ref, _ = self.linux()
        vdi, _ = self.disk(kind)
        vbd = self.vbd(ref, vdi, qos_algorithm_type="ionice", qos_algorithm_params={"sched": "idle"})
        self.call("VBD.plug", vbd)
        self.assert_gets(ref, command, "idle")
        self.call("VBD.set_qos_algorithm_params", vbd, {"sched": "rt", "class": "2"})
        self.assert_gets(ref, command, "realtime: prio 2")
        self.call("VM.hard_reboot", ref)
        self.guest_up(ref)
        self.assert_gets(ref, command, "realtime: prio 2")
        self.call("VBD.set_qos_algorithm_type", vbd, "")
        self.assert_gets(ref, command, "none: prio 0")
        self.call("VBD.set_qos_algorithm_type", vbd, "ionice")
        self.assert_gets(ref, command, "realtime: prio 2")
        self.call("VBD.unplug", vbd)

    def test_of_the_kernels_backend(self):
        self.check("raw", KERNEL)

    def test_of_a_device_model(self):
        self.check("qcow2", MODEL)
