"""What is said to guests, where they start, and what is left of those that crash, on real Xen; part of test_xen.py."""
from case import Case
from client import NULL, Failure, dom0


class Signals(Case):
    def test_sysrq(self):
        ref, shell = self.linux()
        self.call("VM.send_sysrq", ref, "h")
        self.assertIn("sysrq: HELP", shell.shell("until dmesg | grep HELP; do sleep 0.1; done"))
        first = self.domid(ref)
        self.call("VM.set_actions_after_crash", ref, "restart")
        self.s.task("VM.send_sysrq", ref, "c")
        self.s.wait("VM", ref, lambda r: r["power_state"] == "Running" and int(r["domid"]) > first)

    def test_nmi(self):
        ref, shell = self.linux()
        self.call("VM.send_trigger", ref, "nmi")
        self.assertIn("NMI", shell.shell("until dmesg | grep 'NMI received'; do sleep 0.1; done"))
        with self.assertRaises(Failure) as caught:
            self.s.task("VM.send_trigger", ref, "reset")
        self.assertEqual("VM_HVM_REQUIRED", caught.exception.code)
        with self.assertRaises(Failure) as caught:
            self.call("VM.send_trigger", ref, "bell")
        self.assertEqual("INVALID_VALUE", caught.exception.code)


class Power(Case):
    def test_on_this_host(self):
        ref = self.vm("tiny", 4)
        self.call("VM.start_on", ref, self.host, True, False)
        self.assertEqual("Paused", self.state(ref))
        self.call("VM.hard_shutdown", ref)
        self.s.task("VM.start_on", ref, self.host, False, False)
        self.assertEqual("Running", self.state(ref))

    def test_reset(self):
        """Only the record changes: for a domain that is known to be gone."""
        ref = self.vm("tiny", 4)
        self.call("VM.start", ref, False, False)
        dom0("xl destroy test_reset", check=True)
        self.call("VM.power_state_reset", ref)
        self.assertEqual(("Halted", -1), (self.state(ref), self.domid(ref)))
        self.s.task("VM.start", ref, False, False)
        self.assertEqual("Running", self.state(ref))


class Crashes(Case):
    def test_core(self):
        """The dump holds what was in the guest's memory."""
        disk, path = self.disk()
        self.call("host.set_crash_dump_sr", self.host, self.call("VDI.get_SR", disk))
        self.addCleanup(self.call, "host.set_crash_dump_sr", self.host, NULL)
        ref, shell = self.linux(memory=96, VCPUs_max="1", actions_after_crash="coredump_and_destroy")
        shell.shell("echo in-memory-$((6 * 7))-still >/word")
        shell.write(b"echo c >/proc/sysrq-trigger\n")
        record = self.until(ref, "Halted", 900)  # libxc maps one page after the other, which takes its time in an emulator
        dump, = record["crash_dumps"]
        vdi = self.call("crashdump.get_VDI", dump)
        self.assertEqual("crashdump", self.call("VDI.get_type", vdi))
        core = path.rsplit("/", 1)[0] + f"/{self.call('VDI.get_location', vdi)}.raw"
        self.assertEqual("ELF", dom0(f"head -c 4 {core} | tail -c 3"))
        self.assertIn("in-memory-42-still", dom0(f"grep -a -o -m 1 in-memory-42-still {core}"))
        self.s.task("crashdump.destroy", dump)
        self.assertEqual("gone", dom0(f"[ -e {core} ] || echo gone").strip())
        self.assertEqual([], self.call("VM.get_crash_dumps", ref))
