"""Ruby's XMLRPC::Client, which fog-xenserver is built on."""
import os
import subprocess
import unittest

from clients import HERE, ClientTest, need, run_program


class Ruby(ClientTest):
    @classmethod
    def setUpClass(cls):
        need("ruby")
        r = subprocess.run(["ruby", "-e", "require 'xmlrpc/client'"], capture_output=True, text=True)
        if r.returncode != 0:
            raise unittest.SkipTest("ruby-xmlrpc is not installed")
        super().setUpClass()

    def life(self, kind):
        r = run_program(self, "ruby", os.path.join(HERE, "ruby", "life.rb"), self.server.url(kind) + "/", "root",
                        self.server.users["root"])
        self.assertEqual(r.stdout, "ok\n")

    def test_life_over_https(self):
        self.life("https")

    def test_life_over_http(self):
        self.life("http")


if __name__ == "__main__":
    unittest.main()
