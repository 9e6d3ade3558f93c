"""The suite of tests/both on the simulated host; tests/xen/test_xen.py runs it on Xen. What differs is in a table."""
import glob
import os
import re
import sys
import unittest

from harness import Server

HERE = os.path.dirname(os.path.abspath(__file__))
BOTH = os.path.join(HERE, "..", "both")
sys.path += [BOTH, os.path.join(HERE, "..", "xen")]

import both_boot  # noqa: E402
import both_devices  # noqa: E402
import both_life  # noqa: E402
import client  # noqa: E402
import differs  # noqa: E402
import world  # noqa: E402

server = None


def setUpModule():  # pylint: disable=invalid-name
    global server
    server = Server(conf={"tasks": {"clean-shutdown-timeout": 1}}).start()
    client.URL, client.USER, client.PASSWORD = server.url(), "root", server.users["root"]
    world.WORLD = world.Simulated(server)
    os.mkdir(world.WORLD.disks)
    os.chmod(world.WORLD.disks, 0o777)  # xenapid-sim runs as an ordinary user


def tearDownModule():  # pylint: disable=invalid-name
    try:
        server.stop()
    finally:
        server.clean()


# As classes of this module, so that they find the server.
globals().update({name: type(name, (cls,), {"__module__": __name__})
                  for module in (both_life, both_devices, both_boot) for name, cls in vars(module).items()
                  if isinstance(cls, type) and cls.__module__ == module.__name__})


class Differences(unittest.TestCase):
    """The table, the suite and the page that shows it agree."""

    def test_each_counts_somewhere(self):
        text = ""
        for path in glob.glob(os.path.join(BOTH, "both_*.py")):
            with open(path, encoding="ascii") as f:
                text += f.read()
        self.assertEqual(set(differs.TABLE), set(re.findall(r'differs\("([^"]+)"\)', text)))

    def test_the_page_shows_them(self):
        with open(os.path.join(HERE, "..", "..", "docs", "simulator.md"), encoding="utf-8") as f:
            self.assertIn(differs.markdown(), f.read(), "python3 tests/both/differs.py prints the table")


if __name__ == "__main__":
    unittest.main()
