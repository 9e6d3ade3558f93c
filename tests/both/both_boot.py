"""A boot of the host: what is to start with it does. The last of the suite, for it ends every session."""
from both_case import Case


class Boot(Case):
    def test_auto_power_on(self):
        self.differs("boot")
        wanted, other = self.small(name_label="wanted"), self.small(name_label="other")
        for ref in wanted, other:
            self.start(ref)
        self.call("VM.set_auto_power_on", wanted, True)
        self.w.boot()
        self.log_in_again()
        self.s.wait("VM", wanted, lambda r: r["power_state"] == "Running")
        self.assertEqual("Halted", self.state(other))
