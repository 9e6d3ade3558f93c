"""Devices, memory, processors, consoles and figures of running VMs: the same on Xen and on the simulated host."""
from both_case import Case
from case import GUEST, MIB
from client import Failure, dom0


class Disks(Case):
    def plugged(self, kind, do, content):
        ref = self.start(self.big())
        self.guest_up(ref)
        shell = self.inside(ref)
        vdi, path = self.vdi(kind)
        vbd = self.vbd(ref, vdi)
        self.assertFalse(self.call("VBD.get_currently_attached", vbd))
        loops = None if self.differs("disk") else dom0("losetup -a")
        do("VBD.plug", vbd)
        self.assertTrue(self.call("VBD.get_currently_attached", vbd))
        self.fails(["DEVICE_ALREADY_ATTACHED", vbd], "VBD.plug", vbd)
        self.fails(["OPERATION_NOT_ALLOWED", None], "VBD.destroy", vbd)
        if shell:
            shell.shell("until [ -s /sys/block/xvdb/size ] && dd if=/dev/xvdb of=/dev/null count=1; do sleep 0.1; done")
            self.assertEqual(str(8 * MIB // 512), shell.shell("cat /sys/block/xvdb/size"))
            shell.shell(f"echo written-in-{kind} | dd of=/dev/xvdb conv=fsync")
        do("VBD.unplug", vbd)
        self.assertFalse(self.call("VBD.get_currently_attached", vbd))
        self.fails(["DEVICE_ALREADY_DETACHED", vbd], "VBD.unplug", vbd)
        if shell:
            self.assertEqual("gone", shell.shell("[ -e /dev/xvdb ] || echo gone"))
            self.assertEqual(loops, dom0("losetup -a"))
            self.assertIn(f"written-in-{kind}", dom0(content.format(path)))

    def test_raw(self):
        self.plugged("raw", self.call, "head -c 64 {}")

    def test_qcow2(self):
        self.plugged("qcow2", self.s.task, "qemu-img convert -O raw {} /tmp/disk && head -c 64 /tmp/disk; rm -f /tmp/disk")


class Interfaces(Case):
    def test_plug(self):
        ref = self.start(self.big())
        links = None if self.differs("bridge") else dom0("ls /sys/class/net")
        vif = self.vif(ref)
        self.call("VIF.plug", vif)
        self.assertTrue(self.call("VIF.get_currently_attached", vif))
        self.fails(["DEVICE_ALREADY_ATTACHED", vif], "VIF.plug", vif)
        for mode in "locked", "disabled", "unlocked", "network_default":
            self.call("VIF.set_locking_mode", vif, mode)
            self.assertEqual(mode, self.call("VIF.get_locking_mode", vif))
        self.call("VIF.set_ipv4_allowed", vif, ["192.0.2.1"])
        self.call("VIF.add_ipv6_allowed", vif, "2001:db8::1")
        self.fails(["INVALID_IP_ADDRESS_SPECIFIED", "ipv4_allowed"], "VIF.add_ipv4_allowed", vif, "::1")
        if not self.w.simulated:
            self.guest_up(ref)  # so that it hears of the end of its interface
        self.s.task("VIF.unplug", vif)
        self.assertFalse(self.call("VIF.get_currently_attached", vif))
        self.fails(["DEVICE_ALREADY_DETACHED", vif], "VIF.unplug", vif)
        if links is not None:
            self.assertEqual(links, dom0("ls /sys/class/net"))


class Tuning(Case):
    def test_memory(self):
        ref = self.start(self.big(memory_static_min=str(64 * MIB), memory_dynamic_min=str(64 * MIB)))
        self.guest_up(ref)
        shell, total = self.inside(ref), "awk '/MemTotal/ { print $2 }' /proc/meminfo"
        before = int(shell.shell(total)) if shell else 0
        self.call("VM.set_memory_dynamic_range", ref, str(104 * MIB), str(112 * MIB))
        self.call("VM.wait_memory_target_live", ref)
        self.assertEqual(112 * MIB, int(self.call("VM.get_memory_target", ref)))
        if shell:
            self.assertAlmostEqual(before - 16 * 1024, int(shell.shell(total)), delta=1024)
        self.s.task("VM.set_memory_target_live", ref, str(108 * MIB))
        self.s.task("VM.wait_memory_target_live", ref)
        if shell:
            self.assertAlmostEqual(before - 20 * 1024, int(shell.shell(total)), delta=1024)
            self.assertAlmostEqual(108, int(dom0("xl list test_memory").split()[-4]), delta=2)

    def test_vcpus(self):
        ref = self.start(self.big())
        self.guest_up(ref)
        shell = self.inside(ref)
        self.call("VM.set_VCPUs_number_live", ref, "2")
        if shell:
            shell.shell("until echo 1 >/sys/devices/system/cpu/cpu1/online; do sleep 0.1; done 2>/dev/null")
            self.assertEqual("2", shell.shell("nproc"))
        self.fails(["INVALID_VALUE", "nvcpu", "5"], "VM.set_VCPUs_number_live", ref, "5")
        self.s.task("VM.set_VCPUs_number_live", ref, "1")
        if shell:
            shell.shell("while [ $(nproc) = 2 ]; do sleep 0.1; done")

    def test_scheduler(self):
        ref = self.start(self.small())
        for key, value in ("weight", "300"), ("cap", "50"), ("mask", "1"):
            self.call("VM.add_to_VCPUs_params_live", ref, key, value)
        self.assertEqual({"weight": "300", "cap": "50", "mask": "1"}, self.call("VM.get_VCPUs_params", ref))
        if not self.differs("guest"):
            name, _, weight, cap = dom0("xl sched-credit2 -d test_scheduler").splitlines()[-1].split()
            self.assertEqual(("test_scheduler", "300", "50"), (name, weight, cap))
            self.assertEqual("1", dom0("xl vcpu-list test_scheduler").splitlines()[1].split()[6])


class Consoles(Case):
    def test_text(self):
        ref = self.start(self.big())
        self.guest_up(ref)
        for status, websocket in ((200, False), (101, True)):
            console = self.console(ref, websocket)
            self.assertEqual(status, console.status)
            if self.differs("console"):
                console.until("login: ")
            else:
                self.assertEqual("42", console.shell("echo $((6 * 7))"))
            console.close()

    def test_screen(self):
        vdi, path = self.vdi(mib=1)
        if not self.w.simulated:
            dom0(f"cp {GUEST}/boot.img {path}", check=True)
        ref = self.vm("tiny", 32, PV_kernel="", VCPUs_max="1", HVM_boot_policy="BIOS order",
                      HVM_boot_params={"order": "c", "firmware": "bios"})
        self.vbd(ref, vdi, userdevice="0", bootable=True)
        self.start(ref)
        for websocket in False, True:
            self.console(ref, websocket).until("RFB 003.008")


class Figures(Case):
    def test_vm(self):
        ref = self.start(self.big())
        record = self.call("VM.get_record", ref)
        metrics = self.call("VM_metrics.get_record", record["metrics"])
        self.assertAlmostEqual(128, int(metrics["memory_actual"]) // MIB, delta=2)
        self.assertEqual("1", metrics["VCPUs_number"])
        self.assertNotIn("1970", str(metrics["start_time"]))

    def test_host(self):
        metrics = self.call("host.get_metrics", self.host)
        total = int(self.call("host_metrics.get_memory_total", metrics))
        before = int(self.call("host.compute_free_memory", self.host))
        self.assertGreater(total, before)
        self.start(self.big())
        self.assertGreaterEqual(before - int(self.call("host.compute_free_memory", self.host)), 120 * MIB)
        record = self.call("host.get_record", self.host)
        self.assertEqual(len(record["host_CPUs"]), int(record["cpu_info"]["cpu_count"]))
        text = self.call("host.dmesg", self.host)
        if not self.differs("hypervisor"):
            self.assertIn("(XEN)", text)


class Errors(Case):
    def test_words(self):
        self.fails(["HANDLE_INVALID", "VM", "OpaqueRef:none"], "VM.start", "OpaqueRef:none", False, False)
        self.fails(["UUID_INVALID", "VM", None], "VM.get_by_uuid", "00000000-0000-0000-0000-000000000000")
        ref = self.small()
        self.fails(["VM_BAD_POWER_STATE", ref, "running", "halted"], "VM.pause", ref)
        vif = self.vif(ref)
        self.fails(["VM_BAD_POWER_STATE", ref, "running", "halted"], "VIF.plug", vif)
        with self.assertRaises(Failure) as caught:
            self.s.task("VM.clean_reboot", ref)
        self.assertEqual("VM_BAD_POWER_STATE", caught.exception.code)
