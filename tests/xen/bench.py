"""Measures xenapid on real Xen and prints a table: python3 bench.py [ROUNDS [TINY]] in dom0; tests/xen/run -b starts it.

xl does the same things in turn with the API, so that the ratios are of one machine at one time. TINY domains sleep while the
helper's use of the processor is measured."""
import os
import re
import statistics
import subprocess
import sys
import threading
import time

from case import MIB, Case
from client import Session

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 3
TINY = int(sys.argv[2]) if len(sys.argv) > 2 else 50
IDLE = 10  # seconds
IMAGE = "/var/tmp/bench.save"
CONFIG = """name="beside"
type="pv"
kernel="/lab/guest/vmlinux"
ramdisk="/lab/guest/initrd"
extra="console=hvc0 quiet"
memory=128
vcpus=1
maxvcpus=2
"""


def xl(*args):
    return subprocess.run(["xl", *args], check=True, capture_output=True, text=True).stdout


def took(function, *args):
    begin = time.monotonic()
    function(*args)
    return time.monotonic() - begin


def read(path):
    return subprocess.run(["xenstore-read", path], check=False, capture_output=True, text=True).stdout.strip()


def domid(name):
    return subprocess.run(["xl", "domid", name], check=False, capture_output=True, text=True).stdout.strip()


class Bench(Case):
    def runTest(self):  # pylint: disable=invalid-name
        """A Case has the guests that are measured; it is not run as a test."""

    # ---- the same with xl ----

    def xl_up(self):
        while read(f"/local/domain/{domid('beside')}/data/lab") != "up":
            time.sleep(0.2)

    def xl_reboot(self):
        """Until the new domain runs, which is when the API answers."""
        before = domid("beside")
        xl("reboot", "beside")
        while True:
            now = domid("beside")
            listed = subprocess.run(["xl", "list", now], check=False, capture_output=True, text=True)
            if now not in ("", before) and listed.returncode == 0 and re.search(r" [r-][b-]---- ", listed.stdout):
                return
            time.sleep(0.02)

    def xl_round(self, times):
        with open("/tmp/beside.cfg", "w", encoding="ascii") as f:
            f.write(CONFIG)
        times["VM.start"].append(took(xl, "create", "/tmp/beside.cfg"))
        self.xl_up()
        times["VM.clean_reboot"].append(took(self.xl_reboot))
        self.xl_up()
        times["VM.suspend"].append(took(xl, "save", "beside", IMAGE))
        times["VM.resume"].append(took(xl, "restore", IMAGE))
        xl("destroy", "beside")
        os.unlink(IMAGE)

    # ---- through the API ----

    def api_round(self, ref, times):
        times["VM.start"].append(took(self.call, "VM.start", ref, False, False))
        self.guest_up(ref)
        times["VM.clean_reboot"].append(took(self.call, "VM.clean_reboot", ref))
        self.guest_up(ref)
        times["VM.suspend"].append(took(self.call, "VM.suspend", ref))
        times["VM.resume"].append(took(self.call, "VM.resume", ref, False, False))
        self.call("VM.hard_shutdown", ref)

    def ratios(self):
        names = ("VM.start", "VM.clean_reboot", "VM.suspend", "VM.resume")
        api, beside = {n: [] for n in names}, {n: [] for n in names}
        ref = self.vm(name_label="measured")
        for _ in range(ROUNDS):
            self.xl_round(beside)
            self.api_round(ref, api)
        for name in names:
            a, x = statistics.median(api[name]), statistics.median(beside[name])
            print(f"{name:<34} {a:7.2f} s   xl {x:6.2f} s   ratio {a / x:5.2f}   (aim 1.10 at most)", flush=True)

    # ---- from a change to its event ----

    def latency(self):
        """From xenstore's news that a domain is gone to the client's event that says so."""
        gone, told = [], []
        watch = subprocess.Popen(["stdbuf", "-oL", "xenstore-watch", "@releaseDomain"], stdout=subprocess.PIPE)
        watch.stdout.readline()  # each watch fires once when it is set
        threading.Thread(target=lambda: [gone.append(time.monotonic()) for _ in watch.stdout], daemon=True).start()
        ref = self.vm("tiny", 4, name_label="goes")
        session = Session()
        token = session.call("event.from", [f"VM/{ref}"], "", 0.0)["token"]

        def follow():
            nonlocal token
            while True:
                batch = session.call("event.from", [f"VM/{ref}"], token, 30.0)
                token = batch["token"]
                if any(e.get("snapshot", {}).get("power_state") == "Halted" for e in batch["events"]):
                    told.append(time.monotonic())
                    return

        delays = []
        for _ in range(max(3, ROUNDS)):
            self.call("VM.start", ref, False, False)
            token = session.call("event.from", [f"VM/{ref}"], "", 0.0)["token"]
            gone.clear()
            told.clear()
            follower = threading.Thread(target=follow)
            follower.start()
            time.sleep(0.5)
            xl("destroy", "goes")
            follower.join(30)
            delays.append((told[0] - gone[0]) * 1000)
        watch.kill()
        session.close()
        print(f"{'from a change to its event':<34} {statistics.median(delays):7.1f} ms, worst {max(delays):.1f} ms   (aim 50 ms)",
              flush=True)

    # ---- rest ----

    def helper_use(self):
        """Of one processor, in percent."""
        pid = subprocess.run(["pgrep", "-o", "xenapid-xen"], check=True, capture_output=True, text=True).stdout.strip()

        def ticks():
            with open(f"/proc/{pid}/stat", encoding="ascii") as f:
                fields = f.read().rsplit(")", 1)[1].split()
            return int(fields[11]) + int(fields[12])

        before = ticks()
        time.sleep(IDLE)
        return (ticks() - before) / os.sysconf("SC_CLK_TCK") / IDLE * 100

    def rest(self):
        alone = self.helper_use()
        for i in range(TINY):
            self.call("VM.start", self.vm("tiny", 4, name_label=f"tiny{i}"), False, False)
        with_them = self.helper_use()
        print(f"{'helper at rest':<34} {alone:7.2f} %  with {TINY} domains {with_them:.2f} %   (aim: none measurable)", flush=True)


Bench.setUpClass()
bench = Bench()
try:
    print(f"{ROUNDS} rounds, guests of {128 * MIB >> 20} MiB, medians")
    bench.ratios()
    bench.latency()
    bench.rest()
finally:
    bench.doCleanups()
    Bench.doClassCleanups()
