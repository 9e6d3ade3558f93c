"""xenapid-sim over its wire: domains, devices, guests that misbehave, faults, a kill in the middle of it all."""
import os
import shutil
import time
import unittest
import uuid

from sim_helper import MIB, Fault, Sim, cd, config, eventually, vif


class Case(unittest.TestCase):
    def sim(self, **conf):
        s = Sim(**conf)
        self.addCleanup(s.close)
        return s

    def fails(self, code, fn, *args, **kwargs):
        with self.assertRaises(Fault) as caught:
            fn(*args, **kwargs)
        self.assertEqual(caught.exception.code, code, caught.exception.params)
        return caught.exception.params

    def start(self, s, **more):
        c = config(**more)
        s.call("domain.start", config=c)
        return c["uuid"]


class Host(Case):
    def test_info(self):
        s = self.sim(cpus=6, memory=8192)
        info = s.call("host.info")
        self.assertEqual(len(info["cpus"]), 6)
        self.assertEqual(info["memory_total"], 8192 * MIB)
        self.assertGreater(info["memory_free"], 6000 * MIB)
        self.assertEqual(info["dom0"]["uuid"], s.call("domain.list")["domains"][0]["uuid"])
        self.assertEqual(len(s.call("host.metrics")["cpu_utilisation"]), 6)
        self.assertEqual(len({i["mac"] for i in info["interfaces"]}), len(info["interfaces"]))

    def test_dmesg(self):
        s = self.sim()
        s.call("host.debug_keys", keys="h")
        self.assertIn("'h' pressed", s.call("host.dmesg", clear=True)["text"])
        self.assertEqual(s.call("host.dmesg")["text"], "")
        for _ in range(400):
            s.call("host.debug_keys", keys="abcdef")
        self.assertLess(len(s.call("host.dmesg")["text"]), 20000)

    def test_dom0_is_left_alone(self):
        s = self.sim()
        dom0 = s.call("host.info")["dom0"]["uuid"]
        for method in ("domain.destroy", "domain.pause", "domain.shutdown"):
            self.fails("OPERATION_NOT_ALLOWED", s.call, method, uuid=dom0)
        self.assertEqual(s.call("domain.metrics", uuid=dom0)["state"], ["running"])

    def test_metrics_move(self):
        s = self.sim(metrics="yes")
        vm = self.start(s)
        usage = s.wait_note("domain.usage")
        self.assertIn(vm, [d["uuid"] for d in usage["domains"]])
        s.wait_note("host.changed")


class Domains(Case):
    def test_life(self):
        s = self.sim()
        free = s.call("host.metrics")["memory_free"]
        c = config(vifs=[vif()], vbds=[cd()])
        vm = c["uuid"]
        answer = s.call("domain.start", config=c)
        self.assertEqual(answer["state"]["power"], "running")
        self.assertEqual(answer["state"]["vifs"], [c["vifs"][0]["uuid"]])
        self.assertEqual(s.wait_note("domain.changed", uuid=vm)["domid"], answer["domid"])
        self.assertEqual(s.call("host.metrics")["memory_free"], free - 128 * MIB)
        self.fails("DOMAIN_EXISTS", s.call, "domain.start", config=c)
        s.call("domain.pause", uuid=vm)
        self.assertEqual(s.state(vm)["power"], "paused")
        cpu = s.state(vm)["cpu_time"]
        time.sleep(0.05)
        self.assertEqual(s.state(vm)["cpu_time"], cpu)
        self.fails("VM_BAD_POWER_STATE", s.call, "domain.shutdown", uuid=vm, reason="poweroff", timeout=1)
        s.call("domain.unpause", uuid=vm)
        s.call("domain.unpause", uuid=vm)
        s.call("domain.shutdown", uuid=vm, reason="poweroff", timeout=10)
        self.assertEqual((s.state(vm)["power"], s.state(vm)["shutdown_reason"]), ("shutdown", "poweroff"))
        s.call("domain.destroy", uuid=vm)
        self.assertEqual(s.wait_note("domain.gone", uuid=vm)["reason"], "poweroff")
        self.assertIsNone(s.state(vm))
        s.call("domain.destroy", uuid=vm)
        self.assertEqual(s.call("host.metrics")["memory_free"], free)
        self.assertEqual(self.fails("VM_BAD_POWER_STATE", s.call, "domain.pause", uuid=vm), [vm, "running", "halted"])
        self.assertGreater(s.call("domain.start", config=c)["domid"], answer["domid"])

    def test_paused_start(self):
        s = self.sim()
        self.assertEqual(s.call("domain.start", config=config(paused=True))["state"]["power"], "paused")

    def test_bad_configs(self):
        s = self.sim()
        self.fails("VM_MEMORY_SIZE_TOO_LOW", s.call, "domain.start", config=config(memory=0))
        self.fails("VM_NO_VCPUS", s.call, "domain.start", config=config(vcpus=0))
        self.fails("INVALID_VALUE", s.call, "domain.start", config={})
        self.fails("INVALID_VALUE", s.call, "domain.start")
        self.fails("VM_REQUIRES_VDI", s.call, "domain.start", config=config(vbds=[cd(empty=False)]))
        disk = cd(empty=False, sr=str(uuid.uuid4()), vdi=str(uuid.uuid4()))
        self.fails("SR_NOT_ATTACHED", s.call, "domain.start", config=config(vbds=[disk]))
        self.fails("BOOTLOADER_FAILED", s.call, "domain.start",
                   config=config(other_config={"sim:fail-start": "BOOTLOADER_FAILED,a,b"}))
        self.assertEqual(len(s.call("domain.list")["domains"]), 1)

    def test_memory(self):
        s = self.sim(memory=1024)
        free = s.call("host.metrics")["memory_free"]
        numbers = [s.ask("domain.start", config=config(memory=free // 4)) for _ in range(6)]
        faults = []
        for n in numbers:
            try:
                s.wait(n)
            except Fault as f:
                faults.append(f)
        self.assertEqual([f.code for f in faults], ["HOST_NOT_ENOUGH_FREE_MEMORY"] * 2)
        self.assertEqual(int(faults[0].params[0]), free // 4)
        self.assertLess(int(faults[0].params[1]), free // 4)

    def test_reboot(self):
        s = self.sim()
        c = config()
        self.fails("VM_BAD_POWER_STATE", s.call, "domain.reboot", config=c, clean=True, timeout=5)
        first = s.call("domain.start", config=c)["domid"]
        for clean in (True, False):
            again = s.call("domain.reboot", config={**c, "vcpus": 3}, clean=clean, timeout=5)
            self.assertGreater(again["domid"], first)
            self.assertEqual(again["state"]["vcpus"], 3)
            self.assertEqual(s.wait_note("domain.gone", domid=first)["reason"], "reboot")
            first = again["domid"]
        self.fails("VM_NO_VCPUS", s.call, "domain.reboot", config={**c, "vcpus": 0}, clean=False)

    def test_suspend(self):
        s = self.sim()
        c = config()
        vm, image = c["uuid"], s.image(c["uuid"])
        s.call("domain.start", config=c)
        s.call("domain.set_vcpus", uuid=vm, vcpus=1)
        size = s.call("domain.suspend", uuid=vm, path=image, timeout=10)["size"]
        self.assertEqual(os.path.getsize(image), size)
        self.assertEqual(s.wait_note("domain.gone", uuid=vm)["reason"], "suspend")
        other = config()
        shutil.copy(image, s.image(other["uuid"]))
        self.fails("DOMAIN_BUILDER_ERROR", s.call, "domain.resume", config=other, path=s.image(other["uuid"]))
        self.fails("SR_BACKEND_FAILURE", s.call, "domain.resume", config=c, path=image + "x")
        self.fails("INVALID_VALUE", s.call, "domain.resume", config=c, path="../" + vm)
        self.fails("INVALID_VALUE", s.call, "domain.resume", config=c, path="/etc/passwd")
        with open(image, "rb") as f:
            good = f.read()
        for bad in (b"", b"nonsense", good[:-20]):
            with open(image + ".bad", "wb") as f:
                f.write(bad)
            self.fails("DOMAIN_BUILDER_ERROR", s.call, "domain.resume", config=c, path=image + ".bad")
        answer = s.call("domain.resume", config=c, path=image, paused=True)
        self.assertEqual(answer["state"]["power"], "paused")
        self.fails("INVALID_VALUE", s.call, "domain.destroy", uuid=vm, path="/etc/passwd")
        for _ in range(2):
            s.call("domain.destroy", uuid=vm, path=image)
        self.assertFalse(os.path.exists(image))

    @unittest.skipUnless(shutil.which("qemu-img"), "qemu-img")
    def test_suspend_into_vdi(self):
        s = self.sim()
        c = config()
        sr, vdi, qcow2 = (str(uuid.uuid4()) for _ in range(3))
        params = {"sr": sr, "type": "file", "device_config": {"location": s.path("sr")}}
        s.call("sr.create", **params)
        s.call("sr.attach", **params)
        s.call("vdi.create", sr=sr, vdi=vdi, virtual_size=MIB, type="raw")
        s.call("vdi.create", sr=sr, vdi=qcow2, virtual_size=MIB, type="qcow2")
        s.call("domain.start", config=c)
        self.fails("VDI_INCOMPATIBLE_TYPE", s.call, "domain.suspend", uuid=c["uuid"], sr=sr, vdi=qcow2)
        s.call("domain.suspend", uuid=c["uuid"], sr=sr, vdi=vdi, timeout=10)
        self.assertEqual(s.call("vdi.stat", sr=sr, vdi=vdi)["virtual_size"], MIB)
        s.call("domain.resume", config=c, sr=sr, vdi=vdi)

    def test_cancel_undoes(self):
        s = self.sim(**{"start-ms": 30000, "suspend-ms": 30000, "shutdown-ms": 30000})
        free = s.call("host.metrics")["memory_free"]
        c = config()
        start = s.ask("domain.start", config=c)
        eventually(lambda: c["uuid"] in s.call("sim.state")["starting"])
        self.assertLess(s.call("host.metrics")["memory_free"], free)
        eventually(lambda: s.progress.get(start))
        s.cancel(start)
        self.fails("TASK_CANCELLED", s.wait, start)
        self.assertEqual(s.call("host.metrics")["memory_free"], free)
        c["other_config"] = {"sim:start-ms": "0"}
        s.call("domain.start", config=c)
        for method, params in (("domain.suspend", {"path": s.image(c["uuid"])}), ("domain.shutdown", {"reason": "poweroff"})):
            n = s.ask(method, uuid=c["uuid"], timeout=100, **params)
            time.sleep(0.05)
            s.cancel(n)
            self.fails("TASK_CANCELLED", s.wait, n)
            self.assertEqual(s.state(c["uuid"])["power"], "running")
        self.assertFalse(os.path.exists(s.image(c["uuid"])))

    def test_destroy_while_starting(self):
        s = self.sim(**{"start-ms": 30000})
        c = config()
        n = s.ask("domain.start", config=c)
        eventually(lambda: s.call("sim.state")["starting"])
        s.call("domain.destroy", uuid=c["uuid"])
        self.fails("TASK_CANCELLED", s.wait, n)
        self.assertEqual(s.call("sim.state")["starting"], [])

    def test_memory_target(self):
        s = self.sim(memory=2048)
        vm = self.start(s, memory=512 * MIB, other_config={"sim:balloon-mib-per-s": "1000"})
        begin = time.monotonic()
        s.call("domain.set_memory_target", uuid=vm, target=256 * MIB, wait=True)
        self.assertGreater(time.monotonic() - begin, 0.15)
        self.assertEqual(s.state(vm)["memory_actual"], 256 * MIB)
        s.call("domain.set_memory_target", uuid=vm, target=1024 * MIB, wait=False)
        self.assertLess(s.state(vm)["memory_actual"], 1024 * MIB)
        eventually(lambda: s.state(vm)["memory_actual"] == 1024 * MIB)
        self.fails("INVALID_VALUE", s.call, "domain.set_memory_target", uuid=vm, target=4096 * MIB)
        other = self.start(s, memory=256 * MIB, memory_static_max=4096 * MIB, other_config={"sim:balloon": "ignore"})
        self.fails("HOST_NOT_ENOUGH_FREE_MEMORY", s.call, "domain.set_memory_target", uuid=other, target=2000 * MIB)
        self.fails("VM_MEMORY_TARGET_WAIT_TIMEOUT", s.call, "domain.set_memory_target", uuid=other, target=128 * MIB,
                   wait=True, timeout=1)

    def test_cpus(self):
        s = self.sim(cpus=4)
        vm = self.start(s)
        s.call("domain.set_vcpus", uuid=vm, vcpus=4)
        self.fails("INVALID_VALUE", s.call, "domain.set_vcpus", uuid=vm, vcpus=5)
        s.call("domain.set_scheduler", uuid=vm, weight=512, cap=50, affinity=[[3], [2]])
        m = s.call("domain.metrics", uuid=vm)
        self.assertEqual([v["cpu"] for v in m["vcpus"]][:2], [3, 2])
        self.assertEqual(m["vcpus"][0]["params"], {"weight": "512", "cap": "50"})
        self.fails("INVALID_VALUE", s.call, "domain.set_scheduler", uuid=vm, affinity=[[4]])
        self.fails("INVALID_VALUE", s.call, "domain.set_scheduler", uuid=vm, weight=0)

    def test_keys(self):
        s = self.sim()
        for method, params, power in (("domain.sysrq", {"key": "c"}, "crashed"),
                                      ("domain.sysrq", {"key": "o"}, "shutdown"),
                                      ("domain.sysrq", {"key": "h"}, "running"),
                                      ("domain.trigger", {"trigger": "reset"}, "shutdown"),
                                      ("domain.trigger", {"trigger": "nmi"}, "running")):
            vm = self.start(s)
            s.call(method, uuid=vm, **params)
            self.assertEqual(s.state(vm)["power"], power)
        self.fails("INVALID_VALUE", s.call, "domain.trigger", uuid=vm, trigger="lever")


class Devices(Case):
    def test_vif(self):
        s = self.sim()
        vm = self.start(s)
        v = vif()
        s.call("domain.vif_plug", uuid=vm, vif=v)
        self.assertEqual(s.state(vm)["vifs"], [v["uuid"]])
        self.fails("DEVICE_ALREADY_ATTACHED", s.call, "domain.vif_plug", uuid=vm, vif=v)
        self.fails("DEVICE_ALREADY_EXISTS", s.call, "domain.vif_plug", uuid=vm, vif=vif())
        s.call("domain.vif_update", uuid=vm, vif={**v, "locking_mode": "locked"})
        s.call("domain.vif_unplug", uuid=vm, vif=v)
        self.fails("DEVICE_ALREADY_DETACHED", s.call, "domain.vif_unplug", uuid=vm, vif=v)
        self.fails("DEVICE_NOT_ATTACHED", s.call, "domain.vif_update", uuid=vm, vif=v)
        self.fails("VM_BAD_POWER_STATE", s.call, "domain.vif_plug", uuid=str(uuid.uuid4()), vif=v)

    def test_guest_holds_on(self):
        s = self.sim()
        v = vif()
        vm = self.start(s, vifs=[v], other_config={"sim:unplug": "reject"})
        self.assertEqual(self.fails("DEVICE_DETACH_REJECTED", s.call, "domain.vif_unplug", uuid=vm, vif=v)[:2],
                         ["VIF", v["uuid"]])
        s.call("sim.guest", uuid=vm, do="option", key="sim:unplug", value="ignore")
        self.fails("DEVICE_DETACH_TIMEOUT", s.call, "domain.vif_unplug", uuid=vm, vif=v, timeout=1)
        s.call("domain.vif_unplug", uuid=vm, vif=v, force=True)

    @unittest.skipUnless(shutil.which("qemu-img"), "qemu-img")
    def test_disks(self):
        s = self.sim()
        sr, vdi, iso_sr = (str(uuid.uuid4()) for _ in range(3))
        params = {"sr": sr, "type": "file", "device_config": {"location": s.path("sr")}}
        s.call("sr.create", size=0, **params)
        s.call("sr.attach", **params)
        s.call("sr.attach", **params)
        disk = s.call("vdi.create", sr=sr, vdi=vdi, virtual_size=64 * MIB, type="qcow2", sm_config={})
        self.assertEqual((disk["vdi"], disk["virtual_size"], disk["type"]), (vdi, 64 * MIB, "qcow2"))
        self.assertEqual(s.wait_note("sr.changed", sr=sr)["virtual_allocation"], 64 * MIB)
        os.mkdir(s.path("iso"))
        with open(s.path("iso", "debian.iso"), "wb") as f:
            f.truncate(MIB)
        s.call("sr.attach", sr=iso_sr, type="iso", device_config={"location": s.path("iso")})
        iso = s.call("sr.scan", sr=iso_sr)["vdis"][0]
        self.assertEqual((iso["location"], iso["read_only"]), ("debian.iso", True))
        self.fails("SR_OPERATION_NOT_SUPPORTED", s.call, "vdi.destroy", sr=iso_sr, vdi=iso["vdi"])

        drive = cd()
        vbd = {"uuid": str(uuid.uuid4()), "device": "xvda", "type": "Disk", "mode": "RW", "empty": False, "sr": sr, "vdi": vdi}
        vm = self.start(s, vbds=[vbd, drive])
        full = {**drive, "empty": False, "sr": iso_sr, "vdi": iso["vdi"]}
        self.fails("VBD_IS_EMPTY", s.call, "domain.vbd_eject", uuid=vm, vbd=drive)
        s.call("domain.vbd_insert", uuid=vm, vbd=full)
        self.fails("VBD_NOT_EMPTY", s.call, "domain.vbd_insert", uuid=vm, vbd=full)
        s.call("domain.vbd_eject", uuid=vm, vbd=drive)
        self.fails("VDI_MISSING", s.call, "domain.vbd_insert", uuid=vm, vbd={**full, "vdi": str(uuid.uuid4())})
        self.fails("VBD_NOT_REMOVABLE_MEDIA", s.call, "domain.vbd_eject", uuid=vm, vbd=vbd)
        self.assertEqual(s.call("domain.vbd_unplug", uuid=vm, vbd=vbd)["device"], "xvda")
        self.assertEqual(s.call("domain.vbd_plug", uuid=vm, vbd=vbd)["device"], "xvda")
        s.call("sim.guest", uuid=vm, do="option", key="sim:tray", value="locked")
        self.fails("VBD_TRAY_LOCKED", s.call, "domain.vbd_insert", uuid=vm, vbd=full)

        new = str(uuid.uuid4())
        s.call("vdi.snapshot", sr=sr, vdi=vdi, new=new)
        copy = s.ask("vdi.copy", sr=sr, vdi=vdi, dest_sr=sr, new=str(uuid.uuid4()))
        self.assertEqual(s.wait(copy)["virtual_size"], 64 * MIB)
        self.assertEqual(len(s.call("sr.scan", sr=sr)["vdis"]), 3)
        self.assertEqual(s.call("vdi.resize", sr=sr, vdi=new, virtual_size=128 * MIB)["virtual_size"], 128 * MIB)
        s.call("vdi.destroy", sr=sr, vdi=new)
        self.fails("VDI_MISSING", s.call, "vdi.stat", sr=sr, vdi=new)
        self.fails("UUID_INVALID", s.call, "vdi.create", sr=sr, vdi="../../etc/x", virtual_size=1)
        self.fails("SR_UNKNOWN_DRIVER", s.call, "sr.attach", sr=sr, type="lvmohba", device_config={})
        s.call("sr.detach", sr=sr)
        s.call("sr.detach", sr=sr)
        self.fails("SR_NOT_ATTACHED", s.call, "sr.scan", sr=sr)
        self.assertEqual(s.call("sr.probe", type="file", device_config=params["device_config"])["srs"][0]["sr"], sr)
        self.fails("SR_NOT_EMPTY", s.call, "sr.destroy", **params)


class Guests(Case):
    def test_ignores_shutdown(self):
        s = self.sim()
        vm = self.start(s, other_config={"sim:shutdown": "ignore"})
        self.fails("VM_FAILED_SHUTDOWN_ACKNOWLEDGMENT", s.call, "domain.shutdown", uuid=vm, reason="poweroff", timeout=1)
        s.call("sim.guest", uuid=vm, do="option", key="sim:shutdown", value="hang")
        self.assertEqual(self.fails("VM_SHUTDOWN_TIMEOUT", s.call, "domain.shutdown", uuid=vm, reason="poweroff",
                                    timeout=1), [vm, "1"])
        s.call("sim.guest", uuid=vm, do="obey_shutdown")
        s.call("domain.shutdown", uuid=vm, reason="poweroff", timeout=5)

    def test_destroy_ends_shutdown(self):
        s = self.sim()
        vm = self.start(s, other_config={"sim:shutdown": "hang"})
        off = s.ask("domain.shutdown", uuid=vm, reason="poweroff", timeout=1000)
        reboot = s.ask("domain.reboot", config=config(vm), clean=True, timeout=1000)
        time.sleep(0.05)
        s.call("domain.destroy", uuid=vm)
        self.assertEqual(s.wait(off, 5), {})
        self.fails("VM_BAD_POWER_STATE", s.wait, reboot, 5)
        self.assertIsNone(s.state(vm))

    def test_acts_by_itself(self):
        s = self.sim()
        for option, power, reason in (("poweroff", "shutdown", "poweroff"), ("reboot", "shutdown", "reboot"),
                                      ("crash", "crashed", "crash")):
            vm = self.start(s, other_config={f"sim:{option}-after": "0.2"})
            note = s.wait_note("domain.changed", uuid=vm, power=power)
            self.assertEqual(note["shutdown_reason"], reason)
            self.assertEqual(s.state(vm)["power"], power)
            other = self.start(s)
            s.call("sim.guest", uuid=other, do=option)
            s.wait_note("domain.changed", uuid=other, power=power)
            self.fails("VM_BAD_POWER_STATE", s.call, "sim.guest", uuid=other, do=option)
            s.call("domain.destroy", uuid=other)
            self.assertEqual(s.wait_note("domain.gone", uuid=other)["reason"], reason)

    def test_crashes_while_it_shuts_down(self):
        s = self.sim()
        vm = self.start(s, other_config={"sim:shutdown": "hang"})
        n = s.ask("domain.shutdown", uuid=vm, reason="poweroff", timeout=1000)
        time.sleep(0.05)
        s.call("sim.guest", uuid=vm, do="crash")
        self.fails("VM_CRASHED", s.wait, n)

    def test_metrics(self):
        s = self.sim()
        vm = self.start(s, vifs=[vif("0"), vif("1")], other_config={"sim:boot-metrics-ms": "100"})
        guest = s.wait_note("domain.guest", uuid=vm)
        self.assertEqual(guest["networks"]["0/ip"], f"10.0.0.{s.state(vm)['domid']}")
        self.assertIn("1/ip", guest["networks"])
        self.assertEqual(guest["PV_drivers_version"]["major"], "7")
        s.call("sim.guest", uuid=vm, do="metrics", os_version='{"name": "Plan 9"}', networks={"0/ip": "192.0.2.7"})
        guest = s.wait_note("domain.guest", uuid=vm)
        self.assertEqual(guest["os_version"], {"name": "Plan 9"})
        self.assertEqual(guest["networks"], {"0/ip": "192.0.2.7"})

    def test_foreign(self):
        s = self.sim()
        vm = str(uuid.uuid4())
        s.call("sim.guest", do="appear", uuid=vm, name="by xl", memory=str(64 * MIB))
        self.assertFalse(s.wait_note("domain.changed", uuid=vm)["ours"])
        s.call("sim.guest", do="vanish", uuid=vm)
        s.wait_note("domain.gone", uuid=vm)


class Faults(Case):
    def test_fail(self):
        s = self.sim()
        s.call("sim.fault", method="domain.start", kind="fail", count="2", code="INTERNAL_ERROR", params='["x", "y"]')
        for _ in range(2):
            self.assertEqual(self.fails("INTERNAL_ERROR", s.call, "domain.start", config=config()), ["x", "y"])
        vm = self.start(s)
        s.call("sim.fault", method="*", kind="fail", uuid=vm, code="BROKEN")
        self.start(s)
        self.fails("BROKEN", s.call, "domain.pause", uuid=vm)
        s.call("domain.pause", uuid=vm)
        self.fails("INVALID_VALUE", s.call, "sim.fault", kind="explode")

    def test_hang_and_slow(self):
        s = self.sim()
        s.call("sim.fault", method="domain.pause", kind="hang")
        s.call("sim.fault", method="domain.pause", kind="slow", ms=300)
        vm = self.start(s)
        hung = s.ask("domain.pause", uuid=vm)
        time.sleep(0.05)
        begin = time.monotonic()
        s.call("domain.pause", uuid=vm)
        self.assertGreater(time.monotonic() - begin, 0.29)
        s.cancel(hung)
        self.fails("TASK_CANCELLED", s.wait, hung)
        s.call("sim.fault", method="*", kind="hang", count=-1)
        self.assertEqual(len(s.call("sim.state")["faults"]), 1)
        s.call("sim.fault", clear=True)
        s.call("domain.unpause", uuid=vm)

    def test_die(self):
        s = self.sim()
        for when, there in (("before", False), ("after", True)):
            s.call("sim.fault", method="domain.start", kind="die", when=when)
            c = config()
            with self.assertRaises(EOFError):
                s.call("domain.start", config=c)
            s.end()
            s.start()
            self.assertEqual(s.state(c["uuid"]) is not None, there)


class Kill(Case):
    def test_domains_survive(self):
        s = self.sim()
        a = config(vifs=[vif()])
        domid = s.call("domain.start", config=a)["domid"]
        vm, paused, gone, stopped = a["uuid"], self.start(s), self.start(s), self.start(s)
        s.call("domain.pause", uuid=paused)
        s.call("domain.destroy", uuid=gone)
        s.call("sim.guest", uuid=stopped, do="crash")
        s.call("domain.set_vcpus", uuid=vm, vcpus=3)
        before = s.call("host.info")
        s.kill()
        with open(s.path("run", "sim-domains.json"), "a") as f:
            f.write('{"uuid": "cut o')
        s.start()
        state = s.state(vm)
        self.assertEqual((state["domid"], state["power"], state["vcpus"]), (domid, "running", 3))
        self.assertEqual(state["vifs"], [a["vifs"][0]["uuid"]])
        self.assertEqual(s.state(paused)["power"], "paused")
        self.assertEqual(s.state(stopped)["power"], "crashed")
        self.assertIsNone(s.state(gone))
        after = s.call("host.info")
        self.assertEqual((after["memory_free"], after["boot_time"], after["dom0"]),
                         (before["memory_free"], before["boot_time"], before["dom0"]))
        self.assertEqual(s.wait_note("domain.guest", uuid=vm)["uuid"], vm)
        s.kill()
        with open(s.path("run", "sim-domains.json")) as f:
            text = f.read()
        with open(s.path("run", "sim-domains.json"), "w") as f:
            f.write(text.replace('"boot":"', '"boot":"another', 1))
        s.start()
        self.assertEqual(len(s.call("domain.list")["domains"]), 1)

    def test_hundred_operations_under_way(self):
        s = self.sim(**{"start-ms": 400, "suspend-ms": 400, "reboot-ms": 400, "shutdown-ms": 400, "jitter": 90})
        first = [config(other_config={"sim:start-ms": "0"}) for _ in range(60)]
        answers = s.call("sim.populate", domains=first)
        self.assertEqual((len(answers["domains"]), answers["failed"]), (60, []))
        vms = [c["uuid"] for c in first]
        new = [config() for _ in range(40)]
        asked = {}
        for c in new:
            asked[s.ask("domain.start", config=c)] = ("start", c["uuid"])
        for vm in vms[:20]:
            asked[s.ask("domain.suspend", uuid=vm, path=s.image(vm), timeout=60)] = ("suspend", vm)
        for c in first[20:40]:
            asked[s.ask("domain.reboot", config=c, clean=True, timeout=60)] = ("reboot", c["uuid"])
        for vm in vms[40:]:
            asked[s.ask("domain.shutdown", uuid=vm, reason="poweroff", timeout=60)] = ("shutdown", vm)
        eventually(lambda: len(s.answers) > 10)
        s.kill()
        done = {asked[n]: a for n, a in s.answers.items() if n in asked}
        s.start()
        states = {d["uuid"]: d for d in s.call("domain.list")["domains"]}
        for (what, vm), answer in done.items():
            self.assertIn("result", answer)
            if what == "start" or what == "reboot":
                self.assertEqual(states[vm]["domid"], answer["result"]["domid"])
            elif what == "shutdown":
                self.assertEqual(states[vm]["power"], "shutdown")
            else:
                self.assertNotIn(vm, states)
        # Whatever had not ended: a domain is there and well, or not at all, and all of it can be done again.
        self.assertEqual(s.call("sim.state")["starting"], [])
        for vm in vms[:20]:
            self.assertTrue(vm in states or os.path.exists(s.image(vm)))
        for c in first + new:
            s.call("domain.destroy", uuid=c["uuid"])
        numbers = [s.ask("domain.start", config=c) for c in first + new]
        domids = [s.wait(n)["domid"] for n in numbers]
        self.assertEqual(len(set(domids)), 100)
        self.assertGreater(min(domids), max(d["domid"] for d in states.values()))

    def test_many_at_once(self):
        s = self.sim(memory=1024, metrics="yes", **{"start-ms": 100, "jitter": 50})
        answers = s.call("sim.populate", domains=[config(memory=64 * MIB) for _ in range(3000)])
        self.assertEqual(len(answers["domains"]), 3000)
        self.assertEqual(len(s.call("domain.list")["domains"]), 3001)
        s.call("sim.guest", do="appear", uuid=str(uuid.uuid4()), memory=1)
        for _ in range(3):
            s.wait_note("domain.usage")
        for d in answers["domains"][:200]:
            s.call("domain.destroy", uuid=d["uuid"])
        numbers = [s.ask("domain.start", config=config(memory=64 * MIB)) for _ in range(150)]
        for n in numbers:
            s.wait(n)
        s.kill()
        s.start()
        self.assertEqual(len(s.call("domain.list")["domains"]), 3001 + 1 - 200 + 150)


if __name__ == "__main__":
    unittest.main()
