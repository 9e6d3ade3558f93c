"""What goes wrong on real Xen: processes that are killed, guests that do not obey, starts that fail half-way, xenstored that
does not answer; part of test_xen.py."""
import concurrent.futures
import os
import re
import time

import world
from case import GUEST, MIB, PATIENCE, Case
from client import Failure, Session, dom0

# Where a guest leaves something while it runs.
TRACES = ("xl list", "xenstore-ls -f /", "losetup -a", "ls /sys/class/net", "ps -eo args=",
          "find /var/lib/xenapid /run/xenapid /var/lib/xen /run/xen")
# Directories that are made for the first one and stay, empty; files that come and go by themselves.
LASTING = re.compile(r"(/tool/xenapid(/building)?|/libxl|/vm|/local/domain/\d+/xenapid/(vbd|vif|doing)|"
                     r"/libxl/\d+/device(/\w+)?|/local/domain/\d+/(device|backend|error)(/\w+)?(/\w+)?(/\d+)?|"
                     r"/run/xen/domid-history|/var/lib/xenapid/suspend|.*\.db-\w+)$")
PROCESSES = re.compile(r"\S*(qemu-system\S* .*domid [1-9]|libxl-save-helper|/etc/xen/scripts/|/bin/sh /etc/xen/scripts/)")
# Disks that are attached while /run/hold is there wait, and leave a file in /run/held. They start no process meanwhile.
HOLD = r"""
mkdir -p /run/held
[ -e /run/never ] || mkfifo /run/never
cd /etc/xen/scripts
[ -e block.real ] || mv block block.real
cat >block <<'END'
#!/bin/bash
if [ "$1" = add ] && [ -e /run/hold ]; then
	exec 3<>/run/never
	: >/run/held/$$
	while [ -e /run/hold ]; do read -r -t 0.5 -u 3; done
	exec 3<&-
fi
exec /etc/xen/scripts/block.real "$@"
END
chmod +x block
"""
UNHOLD = "rm -rf /run/hold /run/held /run/never; cd /etc/xen/scripts; [ ! -e block.real ] || mv block.real block"
# Kills a process when a key has the text that is wanted, or did not come to have it; says which one it was.
KILL = """
: >/job/looking
n=0
until xenstore-read {key} 2>/dev/null | grep -q '^{word}' || [ $((n += 1)) -gt 8 ]; do sleep 0.05; done
pid=$(pidof {program})
kill -9 $pid
rm -f /job/looking
until new=$(pidof {program}) && [ "$new" != $pid ]; do sleep 0.1; done
echo $pid
"""
# The domains whose guests have begun: numbers and names.
READY = """
for id in $(xenstore-list /local/domain); do
	[ "$id" = 0 ] || case $(xenstore-read /local/domain/$id/xenapid/state 2>/dev/null) in
	ready | suspending*) xenstore-read /local/domain/$id/name | sed "s/^/$id /" ;;
	esac
done
"""

# What is being built, started, plugged.
UNFINISHED = """
exec 2>/dev/null
xenstore-list /tool/xenapid/building
for n in $(xenstore-list /local/domain); do
	xenstore-read /local/domain/$n/xenapid/state | grep -v ready
	xenstore-list /local/domain/$n/xenapid/doing
done"""


def traces():
    """All of that, a line each."""
    domains, keys, loops, links, processes, files = dom0("; echo ==; ".join(TRACES)).split("==\n")
    found = {"domain " + line.split()[0] for line in domains.splitlines()}
    found |= {line.split(" = ")[0] for line in keys.splitlines()}
    found |= {"loop " + line.split(" ", 1)[1] for line in loops.splitlines()} | set(links.splitlines())
    found |= {line for line in processes.splitlines() if PROCESSES.match(line)} | set(files.splitlines())
    return {line for line in found if not LASTING.match(line)}


def eventually(test, patience=PATIENCE):
    """Waits until test() is true; answers how long that took."""
    begin = time.time()
    while not test():
        if time.time() - begin > patience:
            raise TimeoutError(test)
        time.sleep(0.2)
    return time.time() - begin


class Faults(Case):
    """Nothing may be left of a test's guests when they are gone."""
    settle = PATIENCE
    maxDiff = None

    def setUp(self):
        self.before = traces()
        self.addCleanup(self.nothing_left)

    def nothing_left(self):
        self.as_before(self.before)

    def as_before(self, before, look=traces):
        """What was left over, and what is missing, if that does not pass."""
        try:
            eventually(lambda: look() == before, self.settle)
        except TimeoutError:
            after = look()
            self.assertEqual((sorted(before - after), sorted(after - before)), ([], []))

    def fails(self, code, method, *args):
        with self.assertRaises(Failure) as caught:
            self.call(method, *args)
        if code is not None:
            self.assertEqual(code, caught.exception.code, caught.exception)
        return caught.exception

    def log_in_again(self, patience=PATIENCE):
        end = time.time() + patience
        while True:
            try:
                type(self).s = Session()
                return
            except (OSError, Failure):  # it is not there yet
                if time.time() > end:
                    raise
                time.sleep(0.2)

    def true(self):
        """What the records say against what there is; what is being built or taken away counts for nothing."""
        running = {int(r["domid"]): r["name_label"] for r in self.call("VM.get_all_records").values()
                   if r["power_state"] in ("Running", "Paused") and not r["is_control_domain"]}
        listed = dom0(READY).splitlines()
        return running == {int(line.split()[0]): line.split()[1] for line in listed}


class Killed(Faults):
    """Each process in the middle of operations."""

    def prepare(self):
        self.addCleanup(dom0, UNHOLD)
        dom0(HOLD, check=True)
        disk, other = self.disk()[0], self.disk()[0]
        self.steady, self.starting = [self.vm("tiny", 4, name_label=n) for n in ("steady", "starting")]
        self.guest = self.vm(name_label="guest", memory=96)
        for ref in self.guest, self.steady:
            self.call("VM.start", ref, False, False)
        self.vbd(self.starting, disk, userdevice="0")
        self.plugged = self.vbd(self.steady, other)
        self.guest_up(self.guest)

    def begin(self, program, method):
        """Three operations at once: the process is killed when two wait for their disks and the third has been begun."""
        key, word = ("xenapid/state", "suspending") if method == "VM.suspend" else ("control/shutdown", "reboot")
        script = KILL.format(key=f"/local/domain/{self.domid(self.guest)}/{key}", word=word, program=program)
        dom0("rm -f /run/held/*; touch /run/hold", check=True)
        tasks = {name: self.call(f"Async.{name}", *args) for name, args in
                 (("VM.start", (self.starting, False, False)), ("VBD.plug", (self.plugged,)))}
        dom0('n=0; until set -- /run/held/*; [ -e "$2" ]; do sleep 0.1; [ $((n += 1)) -lt 200 ] || exit 1; done', check=True)
        with concurrent.futures.ThreadPoolExecutor() as pool:
            killing = pool.submit(dom0, script, True)
            eventually(lambda: os.path.exists(os.environ["LAB_SHARE"] + "/looking"))
            tasks[method] = self.call(f"Async.{method}", self.guest)
            killed = killing.result()
        if program != "xenapid-xen":
            self.log_in_again()
        self.assertRegex(killed, r"^\d+\n$")
        return tasks

    def outcome(self, tasks):
        """Of each task: how it ended, and with which error."""
        ends = {}
        for name, task in tasks.items():
            self.s.wait("task", task, lambda r: r["status"] != "pending", PATIENCE)
            record = self.call("task.get_record", task)
            ends[name] = record["status"], record["error_info"]
            self.call("task.destroy", task)
        return ends

    def go_on(self):
        """Everything as it was before, once nobody is at anything; the guest lives."""
        eventually(lambda: dom0(UNFINISHED) == "")
        if self.state(self.starting) == "Running":
            self.call("VM.hard_shutdown", self.starting)
        if self.call("VBD.get_currently_attached", self.plugged):
            self.call("VBD.unplug_force", self.plugged)
        if self.state(self.guest) == "Suspended":
            self.call("VM.resume", self.guest, False, False)
        tick = self.guest_up(self.guest)["other"].get("tick")
        metrics = self.call("VM.get_guest_metrics", self.guest)
        self.s.wait("VM_guest_metrics", metrics, lambda r: r["other"].get("tick", tick) != tick, PATIENCE)

    def traces_of_others(self):
        """Without the guest's own: it writes keys as it likes, and has another number after a reboot."""
        n, uuid = self.domid(self.guest), self.call("VM.get_uuid", self.guest)
        own = re.compile(rf"domain guest$|^(/local/domain|/libxl)/{n}(/|$)|/backend/\w+/{n}(/|$)|{uuid}")
        return {t for t in traces() if not own.search(t)}

    def test_in_the_middle(self):
        self.prepare()
        steady, before = self.domid(self.steady), self.traces_of_others()
        for program, method in (("xenapid-xen", "VM.suspend"), ("xenapid-front", "VM.clean_reboot"),
                                ("xenapid", "VM.suspend")):
            with self.subTest(killed=program):
                tasks = self.begin(program, method)
                print(f"{program}: all true after {eventually(self.true):.1f} s", flush=True)
                dom0("rm -f /run/hold", check=True)
                ends = self.outcome(tasks)
                self.assertEqual({"failure"}, {ends[name][0] for name in ("VM.start", "VBD.plug")}, ends)
                for status, error in ends.values():
                    self.assertEqual(status != "success", bool(error), ends)
                self.go_on()
                self.assertEqual(steady, self.domid(self.steady))
                self.as_before(before, self.traces_of_others)

    def test_auth(self):
        """A login that is being checked fails or waits; the next one is checked by the new process."""
        ref = self.vm("tiny", 4)
        self.call("VM.start", ref, False, False)
        dom0("kill -9 $(pidof xenapid-auth)")
        self.log_in_again()
        self.assertTrue(self.true())


class Disobedient(Faults):
    def obey_within(self, seconds):
        dom0(f"sed -i '/^\\[tasks\\]$/,$d' /etc/xenapid/xenapid.conf; "
             f"printf '[tasks]\\nclean-shutdown-timeout={seconds}\\n' >>/etc/xenapid/xenapid.conf; systemctl reload xenapid",
             check=True)

    def test_that_do_not_obey(self):
        """One that does not listen at all, and one that says it heard."""
        dom0("cp /etc/xenapid/xenapid.conf /run/xenapid.conf", check=True)
        self.addCleanup(dom0, "cp /run/xenapid.conf /etc/xenapid/xenapid.conf; systemctl reload xenapid")
        ref = self.vm("tiny", 4)
        self.call("VM.start", ref, False, False)
        domid = self.domid(ref)
        self.obey_within(2)
        for method in "clean_shutdown", "clean_reboot":
            failure = self.fails("VM_FAILED_SHUTDOWN_ACKNOWLEDGMENT", f"VM.{method}", ref)
            self.assertEqual([ref], failure.params)
        # As a guest that acknowledges: what it was asked for is taken away.
        self.obey_within(50)
        task = self.call("Async.VM.clean_shutdown", ref)
        key = f"/local/domain/{domid}/control/shutdown"
        dom0(f"n=0; until [ -n \"$(xenstore-read {key})\" ] || [ $((n += 1)) -gt 100 ]; do sleep 0.1; done; "
             f"xenstore-write {key} ''")
        with self.assertRaises(Failure) as caught:
            self.s.finish(task)
        self.assertEqual(("VM_SHUTDOWN_TIMEOUT", [ref, "50"]), (caught.exception.code, caught.exception.params))
        self.assertEqual(("Running", domid), (self.state(ref), self.domid(ref)))
        self.assertTrue(self.true())


class Memory(Faults):
    def free(self):
        return int(dom0("xl info free_memory")) * MIB

    def check(self, failure, needed, free):
        self.assertEqual("HOST_NOT_ENOUGH_FREE_MEMORY", failure.code, failure)
        self.assertAlmostEqual(needed, int(failure.params[0]), delta=64 * MIB)
        self.assertAlmostEqual(free, int(failure.params[1]), delta=8 * MIB)

    def test_too_little(self):
        free = self.free()
        ref = self.vm("tiny", free // MIB + 16)
        self.check(self.fails(None, "VM.start", ref, False, False), free + 16 * MIB, free)
        self.assertEqual("Halted", self.state(ref))
        self.call("VM.set_memory_limits", ref, str(4 * MIB), str(4 * MIB), str(4 * MIB), str(4 * MIB))
        self.call("VM.start", ref, False, False)

    def test_two_at_once(self):
        """There is enough for either."""
        free, size = self.free(), 1100
        refs = [self.vm("tiny", size, name_label=n) for n in ("one", "two")]
        failures = []
        for task in [self.call("Async.VM.start", ref, False, False) for ref in refs]:
            try:
                self.s.finish(task)
            except Failure as failure:
                failures.append(failure)
        self.assertEqual(1, len(failures), failures)
        self.check(failures[0], size * MIB, free - size * MIB)
        self.assertEqual(["Halted", "Running"], sorted(map(self.state, refs)))
        self.assertTrue(self.true())


class HalfWay(Faults):
    """Starts, and the plugging of devices, that fail when much of it has been done."""

    def broken(self, ref, device, missing):
        """Gives the VM a disk whose file is not there, or is no image."""
        vdi, path = self.disk("qcow2" if not missing else "raw")
        if missing:
            dom0(f"mv {path} {path}.away", check=True)
            self.addCleanup(dom0, f"mv {path}.away {path}")
        else:
            dom0(f"dd if=/dev/urandom of={path} bs=1k count=64 conv=notrunc status=none; sync", check=True)
        return self.vbd(ref, vdi, userdevice=device)

    def no_bridge(self, ref):
        network = self.call("network.create", {"name_label": "nowhere", "name_description": "", "other_config": {}, "tags": [],
                                               "MTU": "1500", "bridge": "nobr0", "managed": True})
        self.addCleanup(self.call, "network.destroy", network)
        return self.call("VIF.create", {"VM": ref, "network": network, "device": "0", "MAC": "00:16:3e:0a:0b:0d",
                                        "MTU": "1500", "other_config": {}, "qos_algorithm_type": "",
                                        "qos_algorithm_params": {}})

    def more_than(self, before):
        """What is there now and was not, but for a device model, which stays with its guest."""
        return {t for t in traces() - before if "qemu" not in t and "device-model" not in t and "/qmp-" not in t}

    def test_start(self):
        ref = self.vm("tiny", 4)
        whole = self.vbd(ref, self.disk()[0], userdevice="0")
        before = traces()
        kernel = self.call("VM.get_PV_kernel", ref)
        self.call("VM.set_PV_kernel", ref, "/nowhere")
        self.fails("DOMAIN_BUILDER_ERROR", "VM.start", ref, False, False)
        dom0("head -c 4096 /lab/guest/tiny >/lab/guest/cut; dd if=/dev/urandom of=/lab/guest/cut bs=64 seek=1 count=60 "
             "conv=notrunc status=none", check=True)
        self.call("VM.set_PV_kernel", ref, f"{GUEST}/cut")
        self.fails("DOMAIN_BUILDER_ERROR", "VM.start", ref, False, False)
        self.call("VM.set_PV_kernel", ref, kernel)
        for make in (lambda: self.broken(ref, "1", True), lambda: self.broken(ref, "1", False), lambda: self.no_bridge(ref)):
            device = make()
            failure = self.fails(None, "VM.start", ref, False, False)
            print(failure, flush=True)
            self.assertNotEqual("INTERNAL_ERROR", failure.code)
            self.assertEqual("Halted", self.state(ref))
            self.as_before(before)
            self.call("VIF.destroy" if failure.code == "VIF" or "vif" in failure.params else "VBD.destroy", device)
        self.call("VM.start", ref, False, False)
        self.assertTrue(self.call("VBD.get_currently_attached", whole))
        self.call("VM.hard_shutdown", ref)

    def test_plug(self):
        ref = self.vm("tiny", 4)
        self.call("VM.start", ref, False, False)
        before = traces()
        for make, method in ((lambda: self.broken(ref, "1", True), "VBD"), (lambda: self.broken(ref, "2", False), "VBD"),
                             (lambda: self.no_bridge(ref), "VIF")):
            device = make()
            failure = self.fails(None, f"{method}.plug", device)
            print(failure, flush=True)
            self.assertFalse(self.call(f"{method}.get_currently_attached", device))
            eventually(lambda: not self.more_than(before))
            self.call(f"{method}.destroy", device)
        self.assertEqual("Running", self.state(ref))


class Xenstore(Faults):
    def test_slow(self):
        """It is stopped, and goes on."""
        ref = self.vm("tiny", 4)
        other = self.vm("tiny", 4, name_label="other")
        self.call("VM.start", ref, False, False)
        dom0("kill -STOP $(pidof oxenstored)")
        try:
            begin = time.time()
            task = self.call("Async.VM.hard_shutdown", ref)
            failure = self.fails("INTERNAL_ERROR", "VM.start", other, False, False)
            self.assertIn("xenstored does not answer", failure.params)
            self.assertEqual("Running", self.state(ref))  # as far as anybody knows
            with self.assertRaises(Failure) as caught:
                self.s.finish(task)
            self.assertEqual("INTERNAL_ERROR", caught.exception.code)
            self.fails("INTERNAL_ERROR", "VM.pause", ref)  # at once
            self.assertLess(time.time() - begin, 60)
            self.assertIn("xenstored has not answered", dom0("journalctl -u xenapid -n 50 --no-pager"))
        finally:
            dom0("kill -CONT $(pidof oxenstored)")
        eventually(lambda: "xenstored answers again" in dom0("journalctl -u xenapid -n 50 --no-pager"))
        eventually(self.true)
        self.call("VM.start", other, False, False)
        eventually(self.true)


class XenstoreGone(Case):
    """It is killed: what it knew is lost, and only a boot of the host helps. The last of all, for it ends the machine."""

    def refused(self, method, *args):
        with self.assertRaises(Failure) as caught:
            self.call(method, *args)
        self.assertEqual("INTERNAL_ERROR", caught.exception.code, caught.exception)

    def test_killed(self):
        ref, other = self.vm("tiny", 4), self.vm("tiny", 4, name_label="other")
        self.call("VM.start", ref, False, False)
        dom0("kill -9 $(pidof oxenstored)")
        begin = time.time()
        self.refused("VM.start", other, False, False)
        self.refused("VM.hard_shutdown", ref)
        self.refused("VM.pause", ref)
        self.assertLess(time.time() - begin, 60)
        self.assertEqual("Running", self.state(ref))  # as far as anybody knows
        eventually(lambda: "xenstored" in dom0("journalctl -u xenapid -p crit -n 50 --no-pager"))
        world.WORLD.boot()
        self.log_in_again()
        self.until(ref, "Halted")
        self.call("VM.start", other, False, False)
