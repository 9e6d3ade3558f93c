"""Runs a file's tests, and with $XENAPID_AGAIN those that failed once more, which is said: an emulated machine beside
other work is at times too slow for a guest's patience. What fails twice has failed."""
import os
import sys
import unittest


def _run(suite):
    return unittest.TextTestRunner(verbosity=2).run(suite)


def _names(result):
    """The tests that failed, without the module; a class whose setUpClass failed counts as a whole."""
    names = []
    for test, _ in result.failures + result.errors:
        test = getattr(test, "test_case", test)  # a subtest's
        name = test.id()
        name = name.split("(", 1)[1].rstrip(")") if name.startswith("setUpClass") else name
        name = name.split(".", 1)[1]
        if name not in names:
            names.append(name)
    return names


def main():
    module = sys.modules["__main__"]
    load = unittest.defaultTestLoader
    names = [a for a in sys.argv[1:] if not a.startswith("-")]
    result = _run(load.loadTestsFromNames(names, module) if names else load.loadTestsFromModule(module))
    if not result.wasSuccessful() and os.environ.get("XENAPID_AGAIN"):
        print("AGAIN, for they failed once:", *_names(result), file=sys.stderr, flush=True)
        result = _run(load.loadTestsFromNames(_names(result), module))
    sys.exit(0 if result.wasSuccessful() else 1)
