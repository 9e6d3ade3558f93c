"""The host as a machine: switched off, booted again, its daemon restarted, its name and settings."""
import threading

from harness import Case, Failure

NULL = "OpaqueRef:NULL"


class Machine(Case):
    conf = {"sim": {"vms": 3}}

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.vms = cls.guests()

    def live(self):
        return self.call("host_metrics.get_live", self.call("host.get_metrics", self.host))

    def state(self, vm):
        return self.call("VM.get_power_state", vm)

    def empty(self):
        for vm in self.vms:
            if self.state(vm) not in ("Halted", "Suspended"):
                self.call("VM.hard_shutdown", vm)


class Power(Machine):
    def tearDown(self):
        self.sim("power_on")
        self.until(self.live)
        self.call("host.enable", self.host)
        self.empty()

    def test_only_a_disabled_empty_host_goes_down(self):
        vm = self.vms[0]
        self.call("VM.start", vm, False, False)
        for down in ("host.reboot", "host.shutdown"):
            self.assertEqual(self.fails("HOST_NOT_DISABLED", down, self.host), [])
        self.call("host.disable", self.host)
        for down in ("host.reboot", "host.shutdown"):
            self.assertEqual(self.fails("HOST_IN_USE", down, self.host), [self.host, "VM", vm])
            self.assertEqual(self.fails("HANDLE_INVALID", down, "OpaqueRef:x"), ["host", "OpaqueRef:x"])
        self.assertEqual(self.state(vm), "Running")

    def test_a_reboot_enables_it_and_starts_what_is_to_be_started(self):
        wanted, other, suspended = self.vms
        self.call("VM.start", suspended, False, False)
        self.call("VM.suspend", suspended)
        self.call("VM.add_to_other_config", wanted, "auto_poweron", "true")
        self.addCleanup(self.call, "VM.remove_from_other_config", wanted, "auto_poweron")
        self.call("host.disable", self.host)
        self.s.wait(self.call("Async.host.reboot", self.host))
        self.assertTrue(self.call("host.get_enabled", self.host))
        self.assertTrue(self.live())
        self.until(lambda: self.state(wanted) == "Running")
        self.assertEqual((self.state(other), self.state(suspended)), ("Halted", "Suspended"))
        self.call("VM.resume", suspended, False, False)

    def test_a_host_that_is_off_runs_nothing(self):
        self.call("host.disable", self.host)
        self.call("host.shutdown", self.host)
        self.assertFalse(self.live())
        self.call("host.enable", self.host)
        self.fails("HOST_NOT_LIVE", "VM.start", self.vms[0], False, False)
        self.sim("power_on")
        self.until(self.live)
        self.call("VM.start", self.vms[0], False, False)

    def test_evacuation(self):
        self.call("host.evacuate", self.host, NULL, 0)  # empty already
        self.call("VM.start", self.vms[0], False, False)
        self.assertEqual(self.fails("NO_HOSTS_AVAILABLE", "host.evacuate", self.host, NULL, 0), [])
        self.assertEqual(self.state(self.vms[0]), "Running")


class Agent(Machine):
    def front(self):
        return self.server.pid_of("xenapid-front")

    def test_a_restart_keeps_the_sockets_and_the_guests_and_answers_first(self):
        vm = self.vms[0]
        self.call("VM.start", vm, False, False)
        domid, before = self.call("VM.get_domid", vm), self.front()
        self.call("pool.add_to_other_config", self.pool, "restart", "kept")
        self.assertEqual(self.call("host.restart_agent", self.host), "")
        self.until(lambda: before not in self.server.pids())
        with self.assertRaises(Failure) as f:  # on a connection that waited for the new one
            self.call("pool.get_all")
        self.assertEqual(f.exception.code, "SESSION_INVALID")
        self.assertNotEqual(self.front(), before)
        type(self).s = self.server.login()
        self.assertEqual(self.call("pool.get_other_config", self.pool)["restart"], "kept")
        self.assertEqual(self.call("VM.get_domid", vm), domid)

    def test_what_is_under_way_ends_first(self):
        vm, before = self.vms[1], self.front()
        self.sim("fault", method="domain.start", kind="slow", count="1", ms="700")
        ended = []
        other = self.server.login(kind="https")
        start = threading.Thread(target=lambda: ended.append(other.call("VM.start", vm, False, False)))
        start.start()
        self.until(lambda: self.call("VM.get_current_operations", vm))
        self.call("host.restart_agent", self.host)
        start.join()
        self.assertEqual(ended, [""])
        self.until(lambda: before not in self.server.pids())
        type(self).s = self.server.login()
        self.assertEqual(self.state(vm), "Running")

    def test_the_log(self):
        log = self.call("host.get_log", self.host)
        self.assertIn("login of", log)
        self.assertNotIn(self.s.ref, log)
        self.assertNotIn(self.server.users["root"], log.replace("\"root\"", ""))


class Stop(Machine):
    def test_the_agent_stops_when_it_is_asked_to(self):
        self.call("host.shutdown_agent")
        self.assertEqual(self.server.process.wait(60), 0)


class Settings(Machine):
    def again(self):
        """A new front reads from the host what is so."""
        before = self.server.pid_of("xenapid-front")
        self.call("host.restart_agent", self.host)
        self.until(lambda: before not in self.server.pids())
        type(self).s = self.server.login()

    def test_the_host_name(self):
        self.call("host.set_hostname_live", self.host, "new-name.example.org")
        for _ in (1, 2):
            self.assertEqual(self.call("host.get_hostname", self.host), "new-name.example.org")
            self.again()
        for bad in ("", "-a", "a-", "a..b", "a b", "a;reboot", "x" * 65, "--help", "é"):
            self.assertEqual(len(self.fails("HOST_NAME_INVALID", "host.set_hostname_live", self.host, bad)), 1)

    def test_the_name_of_its_iSCSI_initiator(self):
        iqn = "iqn.2026-11.org.example:host-1"
        self.call("host.set_iscsi_iqn", self.host, iqn)
        for _ in (1, 2):
            self.assertEqual(self.call("host.get_iscsi_iqn", self.host), iqn)
            self.assertEqual(self.call("host.get_other_config", self.host)["iscsi_iqn"], iqn)
            self.again()
        for bad in ("", "iqn.", "host", "iqn.a b", "iqn.a\nInitiatorName=b"):
            self.assertEqual(self.fails("INVALID_VALUE", "host.set_iscsi_iqn", self.host, bad), ["value", bad])

    def test_where_the_log_goes(self):
        self.call("host.set_logging", self.host, {"syslog_destination": "192.0.2.5"})
        self.call("host.syslog_reconfigure", self.host)
        self.assertEqual(self.sim("state")["syslog"], "192.0.2.5")
        self.call("host.set_logging", self.host, {})
        self.call("host.syslog_reconfigure", self.host)
        self.assertEqual(self.sim("state")["syslog"], "")

    def test_multipathing(self):
        self.call("host.set_multipathing", self.host, False)
        self.fails("VALUE_NOT_SUPPORTED", "host.set_multipathing", self.host, True)
