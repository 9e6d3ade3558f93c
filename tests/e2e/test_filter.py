"""What a locked interface's rules let through, on a real bridge in a network namespace: frames are sent at one end and
looked for at the other."""
import os
import socket
import struct
import subprocess
import sys
import unittest

BUILD = os.environ.get("XENAPID_BUILD", os.path.join(os.path.dirname(__file__), "..", "..", "build"))
MAC, SPOOFED, WORLD, ALL = "00:16:3e:00:00:01", "00:16:3e:00:00:66", "00:16:3e:00:00:99", "ff:ff:ff:ff:ff:ff"
OURS, OTHER, ROUTER = "10.0.0.5", "10.0.0.6", "10.0.0.1"
OURS6, OTHER6, ROUTER6 = "fd00::5", "fd00::6", "fd00::1"
COMMANDS = """link add br0 type bridge
link add vif5.0 type veth peer name guest
link add port type veth peer name world
link set vif5.0 master br0
link set port master br0"""


def mac(text):
    return bytes.fromhex(text.replace(":", ""))


def frame(source, target, kind, payload):
    return mac(target) + mac(source) + struct.pack(">H", kind) + payload


def arp(source, target, sender_mac, sender, asked, operation=1, told=None):
    payload = (struct.pack(">HHBBH", 1, 0x800, 6, 4, operation) + mac(sender_mac) + socket.inet_aton(sender) +
               mac(told or "00:00:00:00:00:00") + socket.inet_aton(asked))
    return frame(source, target, 0x806, payload)


def ipv4(source, target, sender, to, ports=(1000, 2000)):
    udp = struct.pack(">HHHH", *ports, 12, 0) + b"text"
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, socket.inet_aton(sender), socket.inet_aton(to))
    words = sum(struct.unpack(">10H", head))
    words = (words & 0xffff) + (words >> 16)
    words += words >> 16
    return frame(source, target, 0x800, head[:10] + struct.pack(">H", ~words & 0xffff) + head[12:] + udp)


def ipv6(source, target, sender, to, kind=128, about=None):
    body = struct.pack(">BBHI", kind, 0, 0, 0) + (socket.inet_pton(socket.AF_INET6, about) if about else b"")
    head = struct.pack(">IHBB", 6 << 28, len(body), 58, 255)
    return frame(source, target, 0x86dd, head + b"".join(socket.inet_pton(socket.AF_INET6, a) for a in (sender, to)) + body)


def script(*args):
    out = subprocess.run([os.path.join(BUILD, "tests/e2e/filter-script"), *args], capture_output=True, text=True, check=False)
    return out.returncode == 0, out.stdout.strip()


class Rules(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        try:
            if os.geteuid() != 0:
                raise OSError("not root")
            cls.libc().unshare(0x40000000)  # CLONE_NEWNET: of this thread, which is the only one
            subprocess.run(["ip", "-batch", "-"], input=COMMANDS, text=True, check=True, capture_output=True)
            for link in "br0", "vif5.0", "guest", "port", "world":
                with open(f"/proc/sys/net/ipv6/conf/{link}/disable_ipv6", "w", encoding="ascii") as f:
                    f.write("1")  # nobody else says anything
                subprocess.run(["ip", "link", "set", link, "up"], check=True, capture_output=True)
            subprocess.run(["nft", "list", "ruleset"], check=True, capture_output=True)
            cls.guest, cls.world = cls.end("guest"), cls.end("world")
        except (OSError, subprocess.CalledProcessError) as e:
            raise unittest.SkipTest(f"no bridge can be made and filtered here: {e}") from e

    @staticmethod
    def libc():
        import ctypes
        lib = ctypes.CDLL(None, use_errno=True)

        class Checked:
            def unshare(self, flags):
                if lib.unshare(flags) != 0:
                    raise OSError(ctypes.get_errno(), "unshare")
        return Checked()

    @staticmethod
    def end(link):
        s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        s.bind((link, 0))
        s.settimeout(10)
        return s

    def lock(self, ipv4_allowed="", ipv6_allowed=""):
        made, text = script(MAC, ipv4_allowed, ipv6_allowed, "vif5.0", "vif5.0-emu")
        self.assertTrue(made, text)
        self.nft(text)

    def nft(self, text):
        out = subprocess.run(["nft", text], capture_output=True, text=True, check=False)
        self.assertEqual((0, ""), (out.returncode, out.stderr))

    def passes(self, one, way="from", patience=0.15):
        """Whether the frame gets to the other end."""
        sender, receiver = (self.guest, self.world) if way == "from" else (self.world, self.guest)
        receiver.setblocking(False)
        try:
            while receiver.recv(2048):
                pass
        except BlockingIOError:
            pass
        receiver.settimeout(patience)
        sender.send(one)
        try:
            while True:
                got, where = receiver.recvfrom(2048)
                if where[2] != socket.PACKET_OUTGOING and got[:len(one)] == one:
                    return True
        except TimeoutError:
            return False

    def check(self, way, passing, stopped):
        for name, one in passing.items():
            with self.subTest(way=way, passes=name):
                self.assertTrue(self.passes(one, way, 10))
        for name, one in stopped.items():
            with self.subTest(way=way, stopped=name):
                self.assertFalse(self.passes(one, way))

    def test_ipv4(self):
        self.lock(f"{OURS},10.0.0.9")
        self.check("from", {
            "its packet": ipv4(MAC, WORLD, OURS, ROUTER),
            "its question": arp(MAC, ALL, MAC, OURS, ROUTER),
            "its probe": arp(MAC, ALL, MAC, "0.0.0.0", OURS),
            "a DHCP request": ipv4(MAC, ALL, "0.0.0.0", "255.255.255.255", (68, 67)),
        }, {
            "another's address": ipv4(MAC, WORLD, OTHER, ROUTER),
            "another's MAC": ipv4(SPOOFED, WORLD, OURS, ROUTER),
            "another's answer": arp(MAC, ALL, MAC, OTHER, ROUTER, 2),
            "another's MAC in an answer": arp(MAC, ALL, SPOOFED, OURS, ROUTER, 2),
            "a probe for another's address": arp(MAC, ALL, MAC, "0.0.0.0", OTHER),
            "an offer of a DHCP server": ipv4(MAC, ALL, OTHER, "255.255.255.255", (67, 68)),
            "no address": ipv4(MAC, WORLD, "0.0.0.0", ROUTER),
            "IPv6": ipv6(MAC, WORLD, OURS6, ROUTER6),
            "a tagged frame": frame(MAC, WORLD, 0x8100, b"\0\5" + ipv4(MAC, WORLD, OURS, ROUTER)[12:]),
            "another protocol": frame(MAC, WORLD, 0x88cc, b"hello"),
        })
        self.check("to", {
            "its packet": ipv4(WORLD, MAC, ROUTER, OURS),
            "a question for it": arp(WORLD, ALL, WORLD, ROUTER, OURS),
            "an answer": arp(WORLD, MAC, WORLD, ROUTER, OURS, 2, MAC),
            "a broadcast": ipv4(WORLD, ALL, ROUTER, "255.255.255.255"),
        }, {
            "a packet for another": ipv4(WORLD, MAC, ROUTER, OTHER),
            "a frame for another": ipv4(WORLD, SPOOFED, ROUTER, OURS),
            "a question for another": arp(WORLD, ALL, WORLD, ROUTER, OTHER),
            "IPv6": ipv6(WORLD, MAC, ROUTER6, OURS6),
        })

    def test_ipv6(self):
        self.lock("", OURS6)
        self.check("from", {
            "its packet": ipv6(MAC, WORLD, OURS6, ROUTER6),
            "its question": ipv6(MAC, WORLD, OURS6, ROUTER6, 135, ROUTER6),
            "its probe": ipv6(MAC, WORLD, "::", "ff02::1:ff00:5", 135, OURS6),
            "its answer": ipv6(MAC, WORLD, OURS6, ROUTER6, 136, OURS6),
        }, {
            "another's address": ipv6(MAC, WORLD, OTHER6, ROUTER6),
            "another's answer": ipv6(MAC, WORLD, OURS6, ROUTER6, 136, OTHER6),
            "a probe for another's": ipv6(MAC, WORLD, "::", "ff02::1:ff00:6", 135, OTHER6),
            "another's MAC": ipv6(SPOOFED, WORLD, OURS6, ROUTER6),
            "IPv4": ipv4(MAC, WORLD, OURS, ROUTER),
        })
        self.check("to", {"its packet": ipv6(WORLD, MAC, ROUTER6, OURS6)},
                   {"a packet for another": ipv6(WORLD, MAC, ROUTER6, OTHER6)})

    def test_no_address_no_traffic(self):
        self.lock()
        self.check("from", {}, {"a packet": ipv4(MAC, WORLD, OURS, ROUTER), "a question": arp(MAC, ALL, MAC, OURS, ROUTER),
                                "a DHCP request": ipv4(MAC, ALL, "0.0.0.0", "255.255.255.255", (68, 67))})
        self.check("to", {}, {"a broadcast": ipv4(WORLD, ALL, ROUTER, "255.255.255.255")})

    def test_removal(self):
        self.lock(OURS)
        self.lock(OTHER)  # new rules in place of the old ones
        self.assertFalse(self.passes(ipv4(MAC, WORLD, OURS, ROUTER)))
        for _ in range(2):  # once more is no mistake
            made, text = script("remove", "vif5.0", "vif5.0-emu")
            self.assertTrue(made, text)
            self.nft(text)
            listing = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout
            self.assertNotIn("vif", listing)
        self.check("from", {"anything": ipv4(SPOOFED, WORLD, OTHER, ROUTER)}, {})


class Words(unittest.TestCase):
    """What is no address gets into no script."""

    def test_refused(self):
        for args in ((MAC, "10.0.0.5; flush ruleset", "", "vif5.0"), (MAC, "", "fd00::5 }", "vif5.0"),
                     ("00:16:3e:00:00:0", OURS, "", "vif5.0"), (MAC + "; x", OURS, "", "vif5.0"),
                     (MAC, OURS, "", 'vif5.0" '), (MAC, OURS, "", "vif5.0-longer-than-names-are"),
                     (MAC, ",".join(f"10.0.{i // 250}.{i % 250}" for i in range(600)), "", "vif5.0")):
            made, text = script(*args)
            self.assertFalse(made, text)
            self.assertIn("INVALID_VALUE", text)

    def test_one_way_of_writing(self):
        made, text = script(MAC, OURS, "FD00:0::05,fd00::5", "vif5.0")
        self.assertTrue(made)
        self.assertIn("{ fd00::5 }", text)


if __name__ == "__main__":
    sys.exit(unittest.main())
