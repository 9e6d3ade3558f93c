"""The npm package xen-api, the library under Xen Orchestra, over both of its transports."""
import unittest

from clients import ClientTest, node_modules, run_program
from harness import free_port


class Scripts(ClientTest):
    @classmethod
    def setUpClass(cls):
        cls.modules = node_modules()
        super().setUpClass()

    def script(self, name, transport, kind="https"):
        run_program(self, "node", name, self.server.url(kind), "root", self.server.users["root"], transport,
                    cwd=self.modules)


class XenApi(Scripts):
    conf = {"sim": {"vms": 5, "metrics": "no"}}

    def test_cache_json(self):
        self.script("cache.mjs", "json-rpc")

    def test_cache_xml(self):
        self.script("cache.mjs", "xml-rpc")

    def test_life_json(self):
        self.script("life.mjs", "json-rpc")

    def test_life_xml(self):
        self.script("life.mjs", "xml-rpc")

    def test_session_json(self):
        self.script("session.mjs", "json-rpc")

    def test_session_xml(self):
        self.script("session.mjs", "xml-rpc")

    def test_transfer(self):
        self.script("transfer.mjs", "json-rpc")

    def test_auto_transport_stays_with_json(self):
        self.script("life.mjs", "auto", kind="http")
        self.assertNotIn("/xmlrpc", self.server.log())


class Backup(Scripts):
    """With @vates/nbd-client, which Xen Orchestra's backups read disks with."""
    conf = {"sim": {"vms": 1}, "nbd": {"listen": f"127.0.0.1:{free_port()}"}}

    def test_full_and_incremental(self):
        self.script("backup.mjs", "json-rpc")


class XenApiCommand(Scripts):
    """Its command line, as people use it in a shell."""

    def test_command(self):
        url = self.server.url().replace("https://", f"https://root:{self.server.users['root']}@")
        # At the end of its input it logs out, also while a call is under way: the input ends later.
        r = run_program(self, "sh", "-c", "(cat; sleep 5) | node node_modules/xen-api/cli.mjs --allow-unauthorized " + url,
                        cwd=self.modules, stdin="xapi.getField('pool', xapi.pool.$ref, 'master')\n")
        self.assertIn(self.session.call("host.get_all")[0], r.stdout, r.stderr)


if __name__ == "__main__":
    unittest.main()
