"""What the tests of the clients share: the life of a VM as every one of them leads it, and programs that may be missing."""
import json
import os
import shutil
import subprocess
import unittest

from harness import BUILD, Server

HERE = os.path.dirname(os.path.abspath(__file__))
CONF = {"sim": {"vms": 3, "metrics": "no"}}
# From a clone to its end: message, further arguments, power state after it.
LIFE = [("start", (False, False), "Running"), ("pause", (), "Paused"), ("unpause", (), "Running"),
        ("suspend", (), "Suspended"), ("resume", (False, False), "Running"), ("clean_reboot", (), "Running"),
        ("clean_shutdown", (), "Halted")]
MIB = 1 << 20


def vm_record(name):
    """What VM.create is given by the clients that build VMs from nothing."""
    memory = str(256 * MIB)
    return {"name_label": name, "name_description": "", "user_version": "1", "is_a_template": False,
            "affinity": "OpaqueRef:NULL", "memory_static_max": memory, "memory_static_min": "0",
            "memory_dynamic_max": memory, "memory_dynamic_min": memory, "VCPUs_params": {}, "VCPUs_max": "1",
            "VCPUs_at_startup": "1", "actions_after_shutdown": "destroy", "actions_after_reboot": "restart",
            "actions_after_crash": "restart", "PV_bootloader": "pygrub", "PV_kernel": "", "PV_ramdisk": "", "PV_args": "",
            "PV_bootloader_args": "", "PV_legacy_args": "", "HVM_boot_policy": "", "HVM_boot_params": {}, "platform": {},
            "PCI_bus": "", "other_config": {}, "recommendations": "", "xenstore_data": {}, "ha_always_run": False,
            "ha_restart_priority": "", "blocked_operations": {}, "HVM_shadow_multiplier": 1.0, "blobs": {}}


def live(test, call, run=None):
    """Takes a clone through LIFE and a created VM from create to destroy. call(method, *arguments) answers the value or
    raises; run does the same for long operations, perhaps in another way (Async and a task)."""
    run = run or call
    template = call("VM.get_by_name_label", "sim-00001")[0]
    vm = run("VM.clone", template, "life")
    test.assertEqual(call("VM.get_name_label", vm), "life")
    for message, arguments, state in LIFE:
        run("VM." + message, vm, *arguments)
        test.assertEqual(call("VM.get_power_state", vm), state, message)
    run("VM.destroy", vm)
    test.assertEqual(call("VM.get_by_name_label", "life"), [])

    made = call("VM.create", vm_record("made"))
    test.assertIn(made, call("VM.get_all"))
    call("VM.add_to_other_config", made, "key", "value")
    test.assertEqual(call("VM.get_other_config", made)["key"], "value")
    call("VM.destroy", made)


def need(*programs):
    """Skips, with the reason, when a program is missing."""
    for p in programs:
        if shutil.which(p) is None:
            raise unittest.SkipTest(f"{p} is not installed")


def node_modules():
    """The build directory in which xen-api is installed (npm ci), done once."""
    need("node", "npm")
    source = os.path.join(HERE, "xen-api")
    target = os.path.join(os.path.abspath(BUILD), "tests", "clients", "xen-api")
    os.makedirs(target, exist_ok=True)
    lock = os.path.join(source, "package-lock.json")
    done = os.path.join(target, "installed")
    with open(lock) as f:
        wanted = f.read()
    if not (os.path.exists(done) and open(done).read() == wanted):
        for name in ("package.json", "package-lock.json"):
            shutil.copy(os.path.join(source, name), target)
        r = subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=target, capture_output=True, text=True, timeout=600)
        if r.returncode != 0:
            raise unittest.SkipTest(f"npm ci failed: {r.stderr[-500:]}")
        with open(done, "w") as f:
            f.write(wanted)
    for name in os.listdir(source):
        if name.endswith(".mjs"):
            shutil.copy(os.path.join(source, name), target)
    return target


def run_program(test, *args, cwd=None, env=None, stdin="", timeout=120):
    """Runs a client's program, which must succeed; its output."""
    r = subprocess.run(args, cwd=cwd, env={**os.environ, **(env or {})}, input=stdin, capture_output=True, text=True,
                       timeout=timeout)
    test.assertEqual(r.returncode, 0, f"{args}\n{r.stdout}\n{r.stderr}")
    return r


class ClientTest(unittest.TestCase):
    """One server for all tests of a class, and a session of the test's own to look at what the client did."""
    conf = CONF

    @classmethod
    def setUpClass(cls):
        cls.server = Server(conf=json.loads(json.dumps(cls.conf))).start()
        cls.addClassCleanup(cls.stop)
        cls.session = cls.server.login()

    @classmethod
    def stop(cls):
        try:
            cls.server.stop()
        except AssertionError:
            cls.server.print_log()
            raise
        finally:
            cls.server.clean()
