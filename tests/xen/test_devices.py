"""Devices, memory, CPUs and consoles of running guests on real Xen; part of test_xen.py."""
from case import GUEST, MIB, Case
from client import dom0

PAGE = "import urllib.request as u; print(u.urlopen('http://10.0.2.78/init', timeout={}).read(14))"


class Disks(Case):
    def plugged(self, kind, content, method):
        ref, shell = self.linux()
        vdi, path = self.disk(kind)
        vbd = self.vbd(ref, vdi)
        before = dom0("losetup -a")
        method("VBD.plug", vbd)
        self.assertTrue(self.call("VBD.get_currently_attached", vbd))
        shell.shell("until [ -s /sys/block/xvdb/size ] && dd if=/dev/xvdb of=/dev/null count=1; do sleep 0.1; done")
        self.assertEqual(str(8 * MIB // 512), shell.shell("cat /sys/block/xvdb/size"))
        shell.shell(f"echo written-in-{kind} | dd of=/dev/xvdb conv=fsync")
        method("VBD.unplug", vbd)
        self.assertFalse(self.call("VBD.get_currently_attached", vbd))
        self.assertEqual("gone", shell.shell("[ -e /dev/xvdb ] || echo gone"))
        self.assertEqual(before, dom0("losetup -a"))
        self.assertIn(f"written-in-{kind}", dom0(content.format(path)))

    def test_raw(self):
        self.plugged("raw", "head -c 64 {}", self.call)

    def test_qcow2(self):
        self.plugged("qcow2", "qemu-img convert -O raw {} /tmp/disk && head -c 64 /tmp/disk; rm -f /tmp/disk", self.s.task)


class Interfaces(Case):
    def page(self, patience=20):
        return dom0(f'python3 -c "{PAGE.format(patience)}" 2>&1')

    def reached(self, shell):
        """In both directions, the guest first: frames for a port that its bridge has not learned go to all, and QEMU's
        own network would refuse the connection in the guest's name."""
        self.assertEqual("yes", shell.shell("until ping -c 1 -W 1 10.0.2.15 >/dev/null; do sleep 0.1; done; echo yes"))
        self.assertIn("busybox", self.page())

    def test_plug(self):
        ref, shell = self.linux()
        links = dom0("ls /sys/class/net")
        network = next(n for n, r in self.call("network.get_all_records").items() if r["bridge"] == "xenbr0")
        vif = self.call("VIF.create", {"VM": ref, "network": network, "device": "0", "MAC": "00:16:3e:0a:0b:0c",
                                       "MTU": "1500", "other_config": {}, "qos_algorithm_type": "",
                                       "qos_algorithm_params": {}})
        self.call("VIF.plug", vif)
        self.assertTrue(self.call("VIF.get_currently_attached", vif))
        shell.shell("until ifconfig eth0 10.0.2.78 up 2>/dev/null; do sleep 0.1; done; httpd -p 80 -h /")
        self.reached(shell)
        self.assertIn("00:16:3e:0a:0b:0c", shell.shell("cat /sys/class/net/eth0/address"))
        self.call("VIF.set_locking_mode", vif, "disabled")
        self.assertNotIn("busybox", self.page(3))
        self.call("VIF.set_locking_mode", vif, "unlocked")
        self.reached(shell)
        self.call("VIF.unplug", vif)
        self.assertFalse(self.call("VIF.get_currently_attached", vif))
        self.assertEqual("gone", shell.shell("[ -e /sys/class/net/eth0 ] || echo gone"))
        self.assertEqual(links, dom0("ls /sys/class/net"))


class Tuning(Case):
    def test_memory(self):
        ref, shell = self.linux(memory_static_min=str(64 * MIB), memory_dynamic_min=str(64 * MIB))
        inside = "awk '/MemTotal/ { print $2 }' /proc/meminfo"
        before = int(shell.shell(inside))
        self.call("VM.set_memory_dynamic_range", ref, str(104 * MIB), str(112 * MIB))
        self.call("VM.wait_memory_target_live", ref)
        self.assertAlmostEqual(before - 16 * 1024, int(shell.shell(inside)), delta=1024)
        self.assertAlmostEqual(112, int(dom0("xl list test_memory").split()[-4]), delta=2)
        self.s.task("VM.set_memory_target_live", ref, str(120 * MIB))
        self.s.task("VM.wait_memory_target_live", ref)
        self.assertAlmostEqual(before - 8 * 1024, int(shell.shell(inside)), delta=1024)

    def test_vcpus(self):
        ref, shell = self.linux()
        self.assertEqual("1", shell.shell("nproc"))
        self.call("VM.set_VCPUs_number_live", ref, "2")
        shell.shell("until echo 1 >/sys/devices/system/cpu/cpu1/online; do sleep 0.1; done 2>/dev/null")
        self.assertEqual("2", shell.shell("nproc"))
        self.s.task("VM.set_VCPUs_number_live", ref, "1")
        shell.shell("while [ $(nproc) = 2 ]; do sleep 0.1; done")
        self.assertEqual("1", shell.shell("nproc"))

    def test_scheduler(self):
        ref = self.vm("tiny", 4)
        self.call("VM.start", ref, False, False)
        for key, value in ("weight", "300"), ("cap", "50"), ("mask", "1"):
            self.call("VM.add_to_VCPUs_params_live", ref, key, value)
        name, _, weight, cap = dom0("xl sched-credit2 -d test_scheduler").splitlines()[-1].split()
        self.assertEqual(("test_scheduler", "300", "50"), (name, weight, cap))
        self.assertEqual("1", dom0("xl vcpu-list test_scheduler").splitlines()[1].split()[6])
        self.assertEqual("1", self.call("VM.get_VCPUs_params", ref)["mask"])


class Consoles(Case):
    def test_text(self):
        ref, shell = self.linux()
        self.assertEqual(200, shell.status)
        self.assertEqual("42", shell.shell("echo $((6 * 7))"))
        shell.close()
        browser = self.console(ref, websocket=True)
        self.assertEqual(101, browser.status)
        self.assertEqual("42", browser.shell("echo $((6 * 7))"))


class Screens(Case):
    def test_hvm(self):
        vdi, path = self.disk(mib=1)
        dom0(f"cp {GUEST}/boot.img {path}", check=True)
        ref = self.vm("tiny", 32, PV_kernel="", VCPUs_max="1", HVM_boot_policy="BIOS order",
                      HVM_boot_params={"order": "c", "firmware": "bios"})
        self.vbd(ref, vdi, userdevice="0", bootable=True)
        self.call("VM.start", ref, False, False)
        screen = self.console(ref)
        self.assertEqual(200, screen.status)
        screen.until("RFB 003.008")
        screen.close()
        self.console(ref, websocket=True).until("RFB 003.008")
