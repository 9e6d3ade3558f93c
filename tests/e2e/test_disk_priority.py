"""VBD.qos_algorithm_*: the I/O priority of who serves a running VM's disk; here of the server that sends it to a client."""
import os
import socket
import subprocess

from harness import eventually
from test_disks import Disks
from test_storage import MIB


class Priority(Disks):
    def served(self, sr_vdi):
        """A client that takes its time: the disk's server, a process."""
        path = f"/export_raw_vdi?vdi={sr_vdi}&format=raw&session_id={self.s.ref}"
        c = socket.create_connection(("127.0.0.1", self.server.http_port), 20)
        self.addCleanup(c.close)
        c.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        self.assertEqual(c.recv(12), b"HTTP/1.1 200")
        image = os.path.basename(self.path(sr_vdi))
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/cmdline") as f:
                    args = f.read().split("\0")
            except OSError:
                continue
            if "qemu-nbd" in args[0] and any(a.endswith(image) for a in args):
                return int(pid)
        self.fail("the disk has no server")

    def priorities(self, pid):
        """Of its threads."""
        tasks = os.listdir(f"/proc/{pid}/task")
        return set(subprocess.run(["ionice", "-p", *tasks], capture_output=True, text=True, check=True).stdout.split("\n"))

    def assert_gets(self, pid, text):
        eventually(lambda: self.priorities(pid) - {""} == {text})

    def test_while_it_is_plugged(self):
        vdi = self.new_vdi(size=512 * MIB, sm_config={"type": "raw"})
        vm, vbd = self.running(vdi, mode="RO", qos_algorithm_type="ionice",
                               qos_algorithm_params={"sched": "idle"})
        self.assertEqual(self.call("VBD.get_qos_supported_algorithms", vbd), ["ionice"])
        pid = self.served(vdi)
        self.assert_gets(pid, "idle")
        for params, text in (({"sched": "best-effort", "class": "7"}, "best-effort: prio 7"),
                             ({"class": "highest"}, "best-effort: prio 0"), ({}, "best-effort: prio 4"),
                             ({"sched": "idle", "class": "3"}, "idle")):
            self.call("VBD.set_qos_algorithm_params", vbd, params)
            self.assert_gets(pid, text)
        # What is not known has no effect; what is written stays.
        for params in {"sched": "fair"}, {"sched": "best-effort", "class": "8"}, {"class": ""}, {"class": "-1"}:
            self.call("VBD.set_qos_algorithm_params", vbd, params)
            self.assert_gets(pid, "none: prio 0")
            self.assertEqual(self.call("VBD.get_qos_algorithm_params", vbd), params)
            self.call("VBD.set_qos_algorithm_params", vbd, {"sched": "idle"})
            self.assert_gets(pid, "idle")
        self.call("VBD.remove_from_qos_algorithm_params", vbd, "sched")
        self.call("VBD.add_to_qos_algorithm_params", vbd, "class", "lowest")
        self.assert_gets(pid, "best-effort: prio 7")
        self.call("VBD.set_qos_algorithm_type", vbd, "fair")
        self.assert_gets(pid, "none: prio 0")
        self.call("VBD.set_qos_algorithm_type", vbd, "ionice")
        self.assert_gets(pid, "best-effort: prio 7")

    def test_until_it_is_unplugged(self):
        vdi = self.new_vdi(size=512 * MIB, sm_config={"type": "raw"})
        vm, vbd = self.running(vdi, mode="RO")
        pid = self.served(vdi)
        self.assert_gets(pid, "none: prio 0")
        self.call("VBD.set_qos_algorithm_params", vbd, {"class": "6"})
        self.call("VBD.set_qos_algorithm_type", vbd, "ionice")
        self.assert_gets(pid, "best-effort: prio 6")
        self.call("VBD.unplug_force", vbd)
        self.assert_gets(pid, "none: prio 0")

    def test_of_two_the_first(self):
        vdi = self.new_vdi(size=512 * MIB, sm_config={"type": "raw"})
        for params in {"sched": "idle"}, {"class": "5"}:
            self.running(vdi, mode="RO", qos_algorithm_type="ionice", qos_algorithm_params=params)
        self.assert_gets(self.served(vdi), "best-effort: prio 5")
