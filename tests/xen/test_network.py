"""What a guest's interface may send and receive, as the bridge of real Xen's dom0 has it; part of test_xen.py."""
import time

from case import Case
from client import Failure, dom0

MAC = "00:16:3e:0a:0b:0c"
OURS, OTHER, DOM0 = "10.0.2.78", "10.0.2.79", "10.0.2.15"
OURS6, OTHER6, DOM06 = "fd00::78", "fd00::79", "fd00::15"


class Network(Case):
    def vif(self, ref, **more):
        network = next(n for n, r in self.call("network.get_all_records").items() if r["bridge"] == "xenbr0")
        return self.call("VIF.create", {"VM": ref, "network": network, "device": "0", "MAC": MAC, "MTU": "1500",
                                        "other_config": {}, "qos_algorithm_type": "", "qos_algorithm_params": {}, **more})

    def up(self, shell, address=OURS):
        shell.shell(f"until ifconfig eth0 {address} netmask 255.255.255.0 up 2>/dev/null; do sleep 0.1; done")

    def passes(self, shell, to=DOM0):
        """Whether the guest's packets get through, and back. The first ones may be lost where nobody knows anybody."""
        return shell.shell(f"ping -c 1 -W 1 {to} >/dev/null || ping -c 2 -W 2 {to} >/dev/null && echo yes || echo no")

    def through(self, shell, to=DOM0):
        self.assertEqual("yes", shell.shell(f"until ping -c 1 -W 1 {to} >/dev/null; do sleep 0.1; done; echo yes"))

    def rules(self):
        return dom0("nft list ruleset")

    def test_locked(self):
        ref, shell = self.linux()
        vif = self.vif(ref)
        self.call("VIF.plug", vif)
        self.up(shell)
        self.through(shell)
        self.assertNotIn("vif", self.rules())
        with self.subTest("no address, no traffic"):
            self.call("VIF.set_locking_mode", vif, "locked")
            self.assertEqual("no", self.passes(shell))
        with self.subTest("its own address"):
            self.call("VIF.set_ipv4_allowed", vif, [OURS])
            self.through(shell)
        with self.subTest("another address"):
            self.up(shell, OTHER)
            self.assertEqual("no", self.passes(shell))
            self.call("VIF.add_ipv4_allowed", vif, OTHER)
            self.through(shell)
        with self.subTest("another MAC"):
            shell.shell("ifconfig eth0 down; ifconfig eth0 hw ether 00:16:3e:00:00:01; ifconfig eth0 up")
            self.assertEqual("no", self.passes(shell))
            shell.shell(f"ifconfig eth0 down; ifconfig eth0 hw ether {MAC}; ifconfig eth0 up")
            self.through(shell)
        with self.subTest("IPv6"):
            dom0(f"ip -6 addr replace {DOM06}/64 dev xenbr0 nodad", check=True)
            shell.shell(f"ip -6 addr add {OTHER6}/64 dev eth0; sleep 2")
            self.assertEqual("no", self.passes(shell, DOM06))
            self.call("VIF.set_ipv6_allowed", vif, [OURS6, OTHER6])
            self.through(shell, DOM06)
            dom0(f"ip -6 addr del {DOM06}/64 dev xenbr0")
        with self.subTest("unlocked"):
            self.call("VIF.set_locking_mode", vif, "unlocked")
            self.assertNotIn("xenapid", self.rules())
            self.up(shell, "10.0.2.80")
            self.through(shell)
        with self.subTest("no nft"):
            nft = dom0("command -v nft").strip()
            dom0(f"mv {nft} {nft}.away", check=True)
            try:
                with self.assertRaises(Failure) as caught:
                    self.call("VIF.set_locking_mode", vif, "locked")
                self.assertEqual("OPERATION_NOT_ALLOWED", caught.exception.code)
                self.assertEqual("unlocked", self.call("VIF.get_locking_mode", vif))
            finally:
                dom0(f"mv {nft}.away {nft}", check=True)
        self.call("VIF.set_locking_mode", vif, "locked")
        self.assertIn(f"vif{self.domid(ref)}.0", self.rules())
        self.call("VIF.unplug", vif)
        self.assertNotIn("xenapid", self.rules())

    def test_locked_from_the_start(self):
        refs = [self.vm("tiny", 4, name_label=f"locked{i}") for i in range(2)]
        for ref in refs:
            self.vif(ref, MAC="", locking_mode="locked", ipv4_allowed=[OURS])
            self.call("VM.start", ref, False, False)
        first, second = (f"vif{self.domid(ref)}.0" for ref in refs)
        self.assertIn(first, self.rules())
        dom0("xl destroy locked0", check=True)
        self.until(refs[0], "Halted")
        self.gone(first)
        self.assertIn(second, self.rules())
        # The rules of a domain that goes while nobody looks are found at the next start.
        self.call("VM.hard_reboot", refs[1])
        third = f"vif{self.domid(refs[1])}.0"
        self.gone(second)
        self.assertIn(third, self.rules())
        dom0("systemctl stop xenapid; xl destroy locked1; systemctl start xenapid")
        self.log_in_again()
        self.until(refs[1], "Halted")
        self.gone("xenapid")

    def gone(self, words, patience=30):
        end = time.time() + patience
        while words in self.rules() and time.time() < end:
            time.sleep(0.1)
        self.assertNotIn(words, self.rules())

    def test_rate(self):
        ref = self.vm()
        self.vif(ref, qos_algorithm_type="ratelimit", qos_algorithm_params={"kbps": "128"})
        self.call("VM.start", ref, False, False)
        self.guest_up(ref)
        shell = self.console(ref)
        backend = f"/local/domain/0/backend/vif/{self.domid(ref)}/0"
        self.assertEqual("6528,50000", dom0(f"xenstore-read {backend}/rate").strip())
        self.up(shell)
        shell.shell("dd if=/dev/zero of=/big bs=1024 count=640; httpd -p 80 -h /")
        self.through(shell)
        took = float(dom0(f'python3 -c "import time, urllib.request as u; b = time.time(); '
                          f'n = len(u.urlopen(\'http://{OURS}/big\', timeout=60).read()); '
                          f'assert n == 640 * 1024; print(time.time() - b)"'))
        # The first 128 KiB may go at once (the kernel's burst), the others at 128 KiB a second.
        self.assertGreater(took, 3)

    def test_move(self):
        ref = self.vm("tiny", 4)
        vif = self.vif(ref)
        self.call("VM.start", ref, False, False)
        port = f"vif{self.domid(ref)}.0"
        self.assertIn(port, dom0("ls /sys/class/net/xenbr0/brif"))
        other = next(n for n, r in self.call("network.get_all_records").items() if r["bridge"] == "xenbr1")
        self.call("VIF.move", vif, other)
        self.assertIn(port, dom0("ls /sys/class/net/xenbr1/brif"))
        self.assertNotIn(port, dom0("ls /sys/class/net/xenbr0/brif"))
        self.call("VM.hard_shutdown", ref)
        self.assertNotIn(port, dom0("ls /sys/class/net"))
