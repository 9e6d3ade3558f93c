"""What the tests of both worlds have in common: VMs, disks and interfaces, and where the worlds differ."""
import case
import differs
import world
from case import MIB
from client import Failure


class Case(case.Case):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.w = world.WORLD

    def differs(self, name):
        """Whether this is the simulated host; the name is the difference's in the table."""
        self.assertIn(name, differs.TABLE)
        return self.w.simulated

    def fails(self, expected, method, *args):
        """expected: code and parameters; None stands for anything."""
        with self.assertRaises(Failure) as caught:
            self.call(method, *args)
        got = [caught.exception.code, *caught.exception.params]
        self.assertEqual([e if e is not None else g for e, g in zip(expected, got)], got, method)

    def guest_up(self, ref, patience=case.PATIENCE):
        metrics = self.w.guest_up(self, ref, patience)
        return self.call("VM_guest_metrics.get_record", metrics)

    def setUp(self):
        self.refs = []

    def vm(self, *args, **more):
        self.refs.append(super().vm(*args, **more))
        return self.refs[-1]

    def remove(self, ref):
        super().remove(ref)
        self.refs = [r for r in self.refs if r != ref]

    def halt_all(self):
        """Nobody has a disk any more."""
        for ref in self.refs:
            if self.state(ref) != "Halted":
                self.call("VM.hard_shutdown", ref)

    def small(self, **more):
        """A VM that costs next to nothing; its guest does nothing, unless more says otherwise."""
        return self.vm(**{"kernel": "tiny", "memory": 4, **more})

    def big(self, **more):
        """A VM whose guest is a small Linux."""
        return self.vm(**more)

    def start(self, ref):
        self.call("VM.start", ref, False, False)
        return ref

    def inside(self, ref):
        """The shell in a Linux guest; None where nothing runs in guests."""
        if self.differs("guest"):
            return None
        return self.console(ref)

    def network(self):
        """One with a bridge that guests can be ports of."""
        for ref, record in self.call("network.get_all_records").items():
            if self.w.bridge in (None, record["bridge"]):
                return ref
        raise LookupError(self.w.bridge)

    def sr(self):
        for ref, record in self.call("SR.get_all_records").items():
            if record["name_label"] == "both":
                return ref
        return self.call("SR.create", self.host, {"location": self.w.disks}, "0", "both", "", "file", "user", False, {})

    def vdi(self, kind="raw", mib=8):
        """A disk, and its file on the host."""
        sr = self.sr()
        vdi = self.call("VDI.create", {"name_label": "disk", "name_description": "", "SR": sr, "type": "user",
                                       "virtual_size": str(mib * MIB), "sharable": False, "read_only": False,
                                       "other_config": {}, "xenstore_data": {}, "sm_config": {"type": kind}, "tags": []})
        self.addCleanup(self.gone, "VDI", vdi)
        self.addCleanup(self.halt_all)
        return vdi, f"{self.w.disks}/{self.call('VDI.get_location', vdi)}.{kind}"

    def gone(self, cls, ref):
        """Destroys an object if it is still there."""
        try:
            self.call(f"{cls}.destroy", ref)
        except Failure as e:
            self.assertEqual("HANDLE_INVALID", e.code)

    def vif(self, ref, **more):
        return self.call("VIF.create", {"VM": ref, "network": self.network(), "device": "0", "MAC": "00:16:3e:0a:0b:0c",
                                        "MTU": "1500", "other_config": {}, "qos_algorithm_type": "",
                                        "qos_algorithm_params": {}, **more})
