"""xenapid-xen on real Xen, driven over its wire inside dom0: python3 test_backend.py PROGRAM [-v] [TEST...]."""
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.request
import uuid as uuids

import again
from backend import Backend, Fault

PROGRAM = sys.argv.pop(1) if len(sys.argv) > 1 and os.path.sep in sys.argv[1] else "/usr/libexec/xenapid/xenapid-xen"
MIB = 1 << 20
GUEST = "/lab/guest"


def shell(command):
    return subprocess.run(command, shell=True, check=False, capture_output=True, text=True).stdout


def page(url, timeout=20):
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer:
            return answer.read().decode()
    except OSError as e:
        return str(e)


def leftovers():
    """What a domain leaves behind if somebody forgets to take it away."""
    return {
        "domains": [line.split()[0] for line in shell("xl list").splitlines()[1:]],
        "loops": shell("losetup -a").splitlines(),
        "links": [line.split(":")[1] for line in shell("ip -o link").splitlines()],
        "store": [line for path in ("/local/domain", "/libxl", "/vm", "/local/domain/0/backend/vbd",
                                    "/local/domain/0/backend/vif", "/local/domain/0/backend/qdisk",
                                    "/local/domain/0/backend/console")
                  for line in shell(f"xenstore-list -p {path}").splitlines()],
        "models": shell("pgrep -f xen-qemu-system -c").split(),
    }


def new_uuid():
    return str(uuids.uuid4())


def tiny(args="", memory=4, **more):
    return {"uuid": new_uuid(), "name": "tiny", "type": "pv", "vcpus_max": 1, "vcpus": 1,
            "memory_static_max": memory * MIB, "memory_target": memory * MIB, "kernel": f"{GUEST}/tiny", "args": args,
            "vbds": [], "vifs": [], "consoles": [], "xenstore_data": {"vm-data/colour": "green"}, **more}


def linux(kind="pv", args="", **more):
    c = {"uuid": new_uuid(), "name": "linux, with a comma", "type": kind, "vcpus_max": 2, "vcpus": 1,
         "memory_static_max": 128 * MIB, "memory_target": 128 * MIB, "kernel": f"{GUEST}/vmlinux",
         "ramdisk": f"{GUEST}/initrd", "args": f"console=hvc0 quiet {args}", "vbds": [], "vifs": [], "consoles": [],
         "weight": 512, "cap": 0}
    c.update(more)
    return c


class OnXen(unittest.TestCase):
    """Each test has a backend of its own and must leave the host as it found it."""

    def setUp(self):
        self.before = leftovers()
        self.state = tempfile.mkdtemp(prefix="xenapid-")
        self.log = open(os.path.join(self.state, "log"), "w+")
        self.b = self.backend()
        self.addCleanup(self.tidy)

    def backend(self):
        return Backend(PROGRAM, f"--state-dir={self.state}", f"--runtime-dir={self.state}/run", "--log-level=info",
                       log=self.log)

    def tidy(self):
        self.b.close()
        self.log.seek(0)
        said = self.log.read()
        self.log.close()
        if os.environ.get("VERBOSE"):
            print(said, file=sys.stderr)
        for _ in range(50):  # dying domains and interfaces take a moment
            now = leftovers()
            if now == self.before:
                break
            time.sleep(0.2)
        shutil.rmtree(self.state, ignore_errors=True)
        self.assertEqual(self.before, now, said[-3000:])

    def start(self, config):
        answer = self.b.call("domain.start", config=config)
        self.addCleanup(self.end, config["uuid"])
        return answer

    def end(self, uuid):
        self.b.call("domain.destroy", uuid=uuid)

    def power(self, uuid, power, patience=30, since=0.0):
        return self.b.wait("domain.changed", lambda p: p["uuid"] == uuid and p["power"] == power, patience, since)

    def ready(self, uuid, since=0.0, patience=120):
        return self.b.wait("domain.guest", lambda p: p["uuid"] == uuid and p.get("other", {}).get("lab") == "up",
                           patience, since)

    def one(self, uuid):
        return next((d for d in self.b.call("domain.list")["domains"] if d["uuid"] == uuid), None)

    def fails(self, code, method, **params):
        with self.assertRaises(Fault) as caught:
            self.b.call(method, **params)
        self.assertEqual(code, caught.exception.code, caught.exception.params)
        return caught.exception.params


class Host(OnXen):
    def test_info(self):
        info = self.b.call("host.info")
        xl = dict(line.split(":", 1) for line in shell("xl info").splitlines() if ":" in line)
        xl = {k.strip(): v.strip() for k, v in xl.items()}
        self.assertEqual(int(xl["nr_cpus"]), len(info["cpus"]))
        self.assertEqual(int(xl["total_memory"]), info["memory_total"] // MIB)
        self.assertAlmostEqual(int(xl["free_memory"]), info["memory_free"] // MIB, delta=8)
        self.assertEqual(xl["xen_version"], info["software_version"]["xen"])
        self.assertEqual(xl["xen_caps"].split(), info["capabilities"])
        self.assertEqual(xl["xen_scheduler"], info["scheduler"])
        self.assertEqual("10.0.2.15", info["address"])
        bridges = {i["bridge"]: i for i in info["interfaces"]}
        self.assertIn("xenbr0", bridges)
        self.assertEqual("52:54:00:12:34:56", bridges["xenbr0"]["mac"])
        self.assertTrue(bridges["xenbr0"]["physical"])
        self.assertEqual("10.0.2.2", bridges["xenbr0"]["gateway"])
        self.assertAlmostEqual(time.time() - float(shell("cat /proc/uptime").split()[0]), info["boot_time"], delta=3)

    def test_dom0(self):
        info = self.b.call("host.info")
        state = self.one(info["dom0"]["uuid"])
        self.assertEqual((0, "Domain-0", "running"), (state["domid"], state["name"], state["power"]))
        metrics = self.b.call("domain.metrics", uuid=info["dom0"]["uuid"])
        self.assertEqual(info["dom0"]["vcpus"], len([v for v in metrics["vcpus"] if "online" in v["flags"]]))
        self.fails("OPERATION_NOT_ALLOWED", "domain.destroy", uuid=info["dom0"]["uuid"])
        self.fails("OPERATION_NOT_ALLOWED", "domain.pause", uuid=info["dom0"]["uuid"])

    def test_console_ring(self):
        self.b.call("host.debug_keys", keys="h")
        self.assertIn("pressed", self.b.call("host.dmesg", clear=False)["text"])

    def test_usage(self):
        usage = self.b.wait("domain.usage", patience=15)
        self.assertTrue(any(d["cpu"] for d in usage["domains"]))


class Life(OnXen):
    def test_start_and_destroy(self):
        c = tiny()
        answer = self.start(c)
        state = answer["state"]
        self.assertEqual((c["uuid"], "tiny", "running", True, "pv"),
                         (state["uuid"], state["name"], state["power"], state["ours"], state["type"]))
        self.power(c["uuid"], "running")
        self.assertEqual("green", shell(f"xenstore-read /local/domain/{answer['domid']}/vm-data/colour").strip())
        self.assertIn("tiny", shell("xl list"))
        self.assertAlmostEqual(time.time(), state["start_time"], delta=20)
        self.fails("DOMAIN_EXISTS", "domain.start", config=c)
        self.b.call("domain.destroy", uuid=c["uuid"])
        gone = self.b.wait("domain.gone", lambda p: p["uuid"] == c["uuid"])
        self.assertEqual("destroyed", gone["reason"])
        self.assertIsNone(self.one(c["uuid"]))
        self.b.call("domain.destroy", uuid=c["uuid"])

    def test_pause(self):
        c = tiny(paused=True)
        self.assertEqual("paused", self.start(c)["state"]["power"])
        for method, power in (("unpause", "running"), ("pause", "paused"), ("unpause", "running")):
            since = time.time()
            self.b.call(f"domain.{method}", uuid=c["uuid"])
            self.b.call(f"domain.{method}", uuid=c["uuid"])
            self.power(c["uuid"], power, since=since)
            self.assertEqual(power, self.one(c["uuid"])["power"])

    def test_same_name(self):
        first, second = tiny(), tiny()
        self.start(first)
        self.assertEqual("tiny", self.start(second)["state"]["name"])
        self.assertEqual(2, shell("xl list").count("tiny"))

    def test_two_at_once(self):
        configs = [tiny(name=f"t{i}") for i in range(4)]
        numbers = [self.b.begin("domain.start", config=c) for c in configs]
        for c, number in zip(configs, numbers):
            self.b.end(number)
            self.addCleanup(self.end, c["uuid"])
        self.assertEqual(5, len(self.b.call("domain.list")["domains"]))

    def test_guest_stops_by_itself(self):
        for digit, power, reason in (("0", "shutdown", "poweroff"), ("1", "shutdown", "reboot"), ("3", "crashed", "crash")):
            c = tiny(digit + "1")
            self.start(c)
            state = self.power(c["uuid"], power)
            self.assertEqual(reason, state["shutdown_reason"])
            self.assertEqual(power, self.one(c["uuid"])["power"])
            self.b.call("domain.destroy", uuid=c["uuid"])
            self.assertEqual(reason, self.b.wait("domain.gone", lambda p: p["uuid"] == c["uuid"])["reason"])

    def test_fault_in_guest(self):
        c = tiny("f")
        self.start(c)
        self.power(c["uuid"], "crashed")

    def test_deaf_guest(self):
        c = tiny()
        domid = self.start(c)["domid"]
        begin = time.time()
        self.assertEqual([c["uuid"]], self.fails("VM_FAILED_SHUTDOWN_ACKNOWLEDGMENT", "domain.shutdown", uuid=c["uuid"],
                                                 reason="poweroff", timeout=3))
        self.assertLess(time.time() - begin, 8)
        self.assertEqual("", shell(f"xenstore-read /local/domain/{domid}/control/shutdown").strip())

    def test_destroy_ends_a_shutdown(self):
        c = tiny()
        self.start(c)
        waiting = self.b.begin("domain.shutdown", uuid=c["uuid"], reason="poweroff", timeout=60)
        time.sleep(1)
        self.b.call("domain.destroy", uuid=c["uuid"])
        self.assertEqual({}, self.b.end(waiting, 20))

    def test_cancel_shutdown(self):
        c = tiny()
        self.start(c)
        waiting = self.b.begin("domain.shutdown", uuid=c["uuid"], reason="poweroff", timeout=60)
        time.sleep(1)
        self.b.cancel(waiting)
        with self.assertRaises(Fault) as caught:
            self.b.end(waiting, 20)
        self.assertEqual("TASK_CANCELLED", caught.exception.code)

    def test_start_that_fails(self):
        for change, code in (({"kernel": "/nowhere"}, "DOMAIN_BUILDER_ERROR"),
                             ({"kernel": "/etc/passwd"}, "DOMAIN_BUILDER_ERROR"),
                             ({"kernel": f"{GUEST}/initrd"}, "DOMAIN_BUILDER_ERROR"),
                             ({"kernel": ""}, "DOMAIN_BUILDER_ERROR"),
                             ({"kernel": "", "bootloader": "/bin/sh"}, "UNKNOWN_BOOTLOADER"),
                             ({"memory_static_max": 1 << 40, "memory_target": 1 << 40}, "HOST_NOT_ENOUGH_FREE_MEMORY"),
                             ({"vifs": [{"uuid": new_uuid(), "device": "0", "mac": "00:16:3e:00:00:01", "mtu": 1500,
                                         "bridge": "nobridge"}]}, "DOMAIN_BUILDER_ERROR"),
                             ({"vbds": [{"uuid": new_uuid(), "device": "xvda", "mode": "RW", "type": "Disk",
                                         "empty": False, "sr": new_uuid(), "vdi": new_uuid()}]}, None)):
            with self.subTest(change=change):
                c = tiny(**change)
                with self.assertRaises(Fault) as caught:
                    self.b.call("domain.start", config=c)
                if code:
                    self.assertEqual(code, caught.exception.code, caught.exception.params)
                self.assertIsNone(self.one(c["uuid"]))

    def test_memory_numbers(self):
        needed, available = self.fails("HOST_NOT_ENOUGH_FREE_MEMORY", "domain.start", config=tiny(memory=1 << 20))
        self.assertGreater(int(needed), 1 << 40)
        self.assertAlmostEqual(int(shell("xl info free_memory")), int(available) // MIB, delta=8)

    def test_other_toolstack(self):
        begin = time.time()
        shell(f"xl create -p {GUEST}/tiny.cfg")
        created = time.time()
        state = self.b.wait("domain.changed", lambda p: p["name"] == "tiny", since=begin)
        self.assertFalse(state["ours"])
        when = max(t for t, m, p in self.b.news if m == "domain.changed" and p["uuid"] == state["uuid"])
        self.assertLess(when - created, 1)
        shell("xl unpause tiny")
        self.power(state["uuid"], "running")
        shell("xl destroy tiny")
        self.b.wait("domain.gone", lambda p: p["uuid"] == state["uuid"])

    def test_xl_on_ours(self):
        c = tiny(name="mine")
        self.start(c)
        shell("xl pause mine")
        self.power(c["uuid"], "paused")
        shell("xl unpause mine")
        self.power(c["uuid"], "running", since=time.time() - 0.1)
        shell("xl destroy mine")
        self.b.wait("domain.gone", lambda p: p["uuid"] == c["uuid"])


class Helper(OnXen):
    def test_killed(self):
        c = linux()
        self.start(c)
        self.ready(c["uuid"])
        self.b.kill()
        begin = time.time()
        self.b = self.backend()
        state = self.one(c["uuid"])
        self.assertLess(time.time() - begin, 2)
        self.assertEqual((c["name"], "running", True), (state["name"], state["power"], state["ours"]))
        self.ready(c["uuid"])
        self.b.call("domain.shutdown", uuid=c["uuid"], reason="poweroff", timeout=60)

    def test_killed_while_starting(self):
        for delay in (0.05, 0.2, 0.4, 0.7):
            with self.subTest(delay=delay):
                c = linux(vifs=[{"uuid": new_uuid(), "device": "0", "mac": "00:16:3e:00:00:02", "mtu": 1500,
                                 "bridge": "xenbr0"}])
                self.b.begin("domain.start", config=c)
                time.sleep(delay)
                self.b.kill()
                self.b = self.backend()
                self.b.call("host.metrics")
                self.end(c["uuid"])


class Linux(OnXen):
    def test_life(self):
        c = linux()
        self.start(c)
        guest = self.ready(c["uuid"])
        self.assertEqual("Busybox in the lab", guest["os_version"]["name"])
        self.assertEqual("1", guest["PV_drivers_version"]["major"])
        since = time.time()
        self.b.call("domain.shutdown", uuid=c["uuid"], reason="poweroff", timeout=60)
        state = self.power(c["uuid"], "shutdown", since=since)
        self.assertEqual("poweroff", state["shutdown_reason"])
        self.b.call("domain.destroy", uuid=c["uuid"])

    def test_console(self):
        c = linux()
        self.start(c)
        self.fails("INVALID_VALUE", "console.open", uuid=c["uuid"], protocol="rfb")
        self.b.call("console.open", uuid=c["uuid"], protocol="vt100")
        for _ in range(50):
            if self.b.fds:
                break
            time.sleep(0.1)
        end, said = time.time() + 60, b""
        while b"GUEST READY" not in said and time.time() < end:
            said += os.read(self.b.fds[0], 4096)
        os.close(self.b.fds.pop())
        self.assertIn(b"GUEST UP", said)

    def test_reboot(self):
        c = linux()
        first = self.start(c)["domid"]
        self.ready(c["uuid"])
        since = time.time()
        second = self.b.call("domain.reboot", config=c, clean=True, timeout=60)["domid"]
        self.assertNotEqual(first, second)
        self.assertEqual("reboot", self.b.wait("domain.gone", lambda p: p["domid"] == first)["reason"])
        self.ready(c["uuid"], since)
        third = self.b.call("domain.reboot", config=c, clean=False, timeout=60)["domid"]
        self.assertNotEqual(second, third)

    def test_suspend(self):
        c = linux()
        self.start(c)
        self.ready(c["uuid"])
        path = f"{self.state}/suspend/{c['uuid']}"
        size = self.b.call("domain.suspend", uuid=c["uuid"], path=path, timeout=100)["size"]
        self.assertEqual(os.stat(path).st_size, size)
        self.assertEqual("suspend", self.b.wait("domain.gone", lambda p: p["uuid"] == c["uuid"])["reason"])
        ticks = self.ticks(c["uuid"])
        since = time.time()
        self.b.call("domain.resume", config=c, path=path, paused=False)
        self.b.wait("domain.guest", lambda p: int(p.get("other", {}).get("tick", 0)) > ticks, 60, since)
        self.b.call("domain.shutdown", uuid=c["uuid"], reason="poweroff", timeout=60)
        self.b.call("domain.destroy", uuid=c["uuid"], path=path)
        self.assertFalse(os.path.exists(path))

    def ticks(self, uuid):
        return max(int(p["other"].get("tick", 0)) for _, m, p in self.b.news
                   if m == "domain.guest" and p["uuid"] == uuid and "other" in p)

    def test_suspend_that_fails(self):
        c = tiny()
        self.start(c)
        self.assertIn(self.b.fault("domain.suspend", uuid=c["uuid"], path=f"{self.state}/suspend/{c['uuid']}", timeout=3),
                      ("VM_SUSPEND_TIMEOUT", "VM_FAILED_SUSPEND_ACKNOWLEDGMENT"))
        self.assertEqual("running", self.one(c["uuid"])["power"])
        self.assertEqual([], os.listdir(f"{self.state}/suspend"))
        for path in ("/etc/" + c["uuid"], f"{self.state}/../{c['uuid']}", f"{self.state}/suspend/other"):
            self.assertEqual("INVALID_VALUE", self.b.fault("domain.suspend", uuid=c["uuid"], path=path, timeout=3))

    def test_tune(self):
        c = linux()
        domid = self.start(c)["domid"]
        self.ready(c["uuid"])
        self.b.call("domain.set_memory_target", uuid=c["uuid"], target=100 * MIB, wait=True)
        self.assertAlmostEqual(100, self.one(c["uuid"])["memory_actual"] // MIB, delta=5)
        self.assertEqual(100 * MIB, self.one(c["uuid"])["memory_target"])
        self.b.call("domain.set_memory_target", uuid=c["uuid"], target=128 * MIB, wait=True)
        self.fails("INVALID_VALUE", "domain.set_memory_target", uuid=c["uuid"], target=256 * MIB, wait=True)
        self.b.call("domain.set_vcpus", uuid=c["uuid"], vcpus=2)
        self.assertEqual("online", shell(f"xenstore-read /local/domain/{domid}/cpu/1/availability").strip())
        self.fails("INVALID_VALUE", "domain.set_vcpus", uuid=c["uuid"], vcpus=3)
        self.b.call("domain.set_scheduler", uuid=c["uuid"], weight=300, cap=50, affinity=[[1], [0, 1]])
        vcpus = self.b.call("domain.metrics", uuid=c["uuid"])["vcpus"]
        self.assertEqual(("300", "50", "1"), tuple(vcpus[0]["params"][k] for k in ("weight", "cap", "mask")))
        self.assertIn(" 300 ", shell("xl sched-credit2"))
        self.b.call("domain.set_scheduler", uuid=c["uuid"], affinity=[])
        self.fails("INVALID_VALUE", "domain.set_scheduler", uuid=c["uuid"], affinity=[[99999]])
        self.fails("VM_HVM_REQUIRED", "domain.trigger", uuid=c["uuid"], trigger="power")
        self.b.call("domain.sysrq", uuid=c["uuid"], key="c")
        self.power(c["uuid"], "crashed")


class Devices(OnXen):
    def setUp(self):
        super().setUp()
        self.sr = new_uuid()
        where = {"sr": self.sr, "type": "file", "device_config": {"location": f"{self.state}/sr"}}
        os.mkdir(f"{self.state}/sr")
        self.b.call("sr.create", size=0, **where)
        self.b.call("sr.attach", **where)

    def disk(self, kind="raw", device="xvda", mib=8):
        vdi = new_uuid()
        made = self.b.call("vdi.create", sr=self.sr, vdi=vdi, virtual_size=mib * MIB, type=kind, sm_config={})
        path = f"{self.state}/sr/{made['location']}.{kind}"
        if kind == "raw":
            shell(f"mke2fs -q -F -t ext4 {path}; echo 'words of dom0' >{self.state}/words;"
                  f"debugfs -w -R 'write {self.state}/words from-dom0' {path}")
        return path, {"uuid": new_uuid(), "device": device, "userdevice": "0", "mode": "RW", "type": "Disk",
                      "bootable": False, "empty": False, "sr": self.sr, "vdi": vdi, "vdi_type": kind}

    def test_disk_of_a_start(self):
        path, vbd = self.disk()
        c = linux(vbds=[vbd])
        self.assertEqual([vbd["uuid"]], self.start(c)["state"]["vbds"])
        self.ready(c["uuid"])
        self.b.call("domain.shutdown", uuid=c["uuid"], reason="poweroff", timeout=60)
        self.b.call("domain.destroy", uuid=c["uuid"])
        self.assertIn(c["uuid"], shell(f"debugfs -R 'cat from-guest' {path}"))

    def test_plug_disks(self):
        c = linux()
        self.start(c)
        self.ready(c["uuid"])
        for kind in ("raw", "qcow2"):
            _, vbd = self.disk(kind, "xvdb")
            self.assertEqual("xvdb", self.b.call("domain.vbd_plug", uuid=c["uuid"], vbd=vbd)["device"])
            self.fails("DEVICE_ALREADY_ATTACHED", "domain.vbd_plug", uuid=c["uuid"], vbd=vbd)
            self.assertEqual([vbd["uuid"]], self.one(c["uuid"])["vbds"])
            self.frontend_connects(c["uuid"], "vbd")
            self.b.call("domain.vbd_unplug", uuid=c["uuid"], vbd=vbd, force=False)
            self.assertEqual([], self.one(c["uuid"])["vbds"])
            self.fails("DEVICE_ALREADY_DETACHED", "domain.vbd_unplug", uuid=c["uuid"], vbd=vbd, force=False)

    def frontend_connects(self, uuid, kind):
        domid = self.one(uuid)["domid"]
        for _ in range(100):
            if "4" in shell(f"for i in $(xenstore-list /local/domain/{domid}/device/{kind});"
                            f"do xenstore-read /local/domain/{domid}/device/{kind}/$i/state; done").split():
                return
            time.sleep(0.2)
        self.fail("the guest does not take the device")

    def test_interfaces(self):
        vif = {"uuid": new_uuid(), "device": "0", "mac": "00:16:3e:01:02:03", "mtu": 1500, "bridge": "xenbr0",
               "locking_mode": "unlocked"}
        c = linux(args="labip=10.0.2.77", vifs=[vif])
        state = self.start(c)["state"]
        self.assertEqual([vif["uuid"]], state["vifs"])
        guest = self.ready(c["uuid"])
        self.assertEqual("10.0.2.77", guest["networks"]["0/ip"])
        self.assertIn("GUEST UP", page("http://10.0.2.77/init"))
        second = dict(vif, uuid=new_uuid(), device="1", mac="00:16:3e:01:02:04")
        self.b.call("domain.vif_plug", uuid=c["uuid"], vif=second)
        self.assertEqual({vif["uuid"], second["uuid"]}, set(self.one(c["uuid"])["vifs"]))
        self.b.call("domain.vif_unplug", uuid=c["uuid"], vif=second, force=False)
        self.assertEqual([vif["uuid"]], self.one(c["uuid"])["vifs"])
        self.b.call("domain.vif_update", uuid=c["uuid"], vif=dict(vif, locking_mode="disabled"))
        self.assertNotIn("GUEST UP", page("http://10.0.2.77/init", 3))
        self.b.call("domain.vif_update", uuid=c["uuid"], vif=vif)
        self.assertIn("GUEST UP", page("http://10.0.2.77/init"))


class Kinds(Devices):
    """PVH and HVM guests."""

    def test_pvh(self):
        c = linux("pvh", vbds=[self.disk("qcow2")[1]])
        state = self.start(c)["state"]
        self.assertEqual("pvh", state["type"])
        self.ready(c["uuid"])
        self.b.call("domain.shutdown", uuid=c["uuid"], reason="poweroff", timeout=100)

    def hvm(self, **more):
        path, vbd = self.disk("raw", "hda", 1)
        shutil.copyfile(f"{GUEST}/boot.img", path)
        drive = {"uuid": new_uuid(), "device": "hdc", "userdevice": "3", "mode": "RO", "type": "CD", "bootable": False,
                 "empty": True}
        return {"uuid": new_uuid(), "name": "windowless", "type": "hvm", "vcpus_max": 1, "vcpus": 1,
                "memory_static_max": 32 * MIB, "memory_target": 32 * MIB, "hvm_boot_order": "c", "platform": {},
                "vbds": [vbd, drive], "vifs": [], "consoles": [{"uuid": new_uuid(), "protocol": "rfb"}], **more}

    def test_hvm(self):
        c = self.hvm()
        state = self.start(c)["state"]
        self.assertEqual("hvm", state["type"])
        self.assertEqual({v["uuid"] for v in c["vbds"]}, set(state["vbds"]))
        with socket.create_connection(("127.0.0.1", state["console"]["vnc_port"]), 10) as screen:
            self.assertEqual(b"RFB 003.008", screen.recv(11))
        self.says(state["console"]["tty"], "TINY HVM UP")
        begin = time.time()
        self.fails("VM_SHUTDOWN_TIMEOUT", "domain.shutdown", uuid=c["uuid"], reason="poweroff", timeout=2)
        self.assertLess(time.time() - begin, 15)
        disk, medium = self.disk("raw", "hdc", 1)
        medium.update(uuid=c["vbds"][1]["uuid"], type="CD", mode="RO")
        self.b.call("domain.vbd_insert", uuid=c["uuid"], vbd=medium)
        self.assertIn(disk, shell("pgrep -af xen-qemu") + shell("xenstore-ls -f /local/domain/0/backend/qdisk"))
        self.fails("VBD_NOT_EMPTY", "domain.vbd_insert", uuid=c["uuid"], vbd=medium)
        self.b.call("domain.vbd_eject", uuid=c["uuid"], vbd=medium)
        self.fails("VBD_IS_EMPTY", "domain.vbd_eject", uuid=c["uuid"], vbd=medium)

    def test_hvm_suspend(self):
        c = self.hvm()
        self.says(self.start(c)["state"]["console"]["tty"], "TINY HVM UP")
        path = f"{self.state}/suspend/{c['uuid']}"
        self.b.call("domain.suspend", uuid=c["uuid"], path=path, timeout=100)
        state = self.b.call("domain.resume", config=c, path=path, paused=False)["state"]
        self.says(state["console"]["tty"], "....")

    def says(self, tty, words, patience=90):
        end, said = time.time() + patience, b""
        with open(tty, "rb", buffering=0) as line:
            os.set_blocking(line.fileno(), False)
            while time.time() < end and words.encode() not in said:
                said += line.read() or b""
                time.sleep(0.1)
        self.assertIn(words, said.decode(errors="replace"))


for name in ("test_disk_of_a_start", "test_plug_disks", "test_interfaces"):
    setattr(Kinds, name, None)  # they are run once

if __name__ == "__main__":
    again.main()
