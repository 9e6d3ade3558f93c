"""Runs one file of unittest tests and prints a line per test: ok, not ok or skip, with the traceback of failures."""
import importlib.util
import os
import sys
import traceback
import unittest


class Lines(unittest.TestResult):
    def _say(self, word, test, more=""):
        print(f"{word} {test.id().split('.', 1)[-1]}{more}", flush=True)

    def addSuccess(self, test):
        self._say("ok", test)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self._say("skip", test, f": {reason}")

    def _bad(self, test, err):
        self._say("not ok", test)
        traceback.print_exception(*err)

    def addError(self, test, err):
        super().addError(test, err)
        self._bad(test, err)

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self._bad(test, err)

    def addSubTest(self, test, subtest, err):
        super().addSubTest(test, subtest, err)
        if err:
            self._bad(subtest, err)


def main(path):
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:0] = [here, os.path.dirname(os.path.abspath(path))]
    spec = importlib.util.spec_from_file_location(os.path.splitext(os.path.basename(path))[0], path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    only = sys.argv[2:]
    suite = (unittest.defaultTestLoader.loadTestsFromNames(only, module) if only
             else unittest.defaultTestLoader.loadTestsFromModule(module))
    result = Lines()
    suite.run(result)
    sys.exit(0 if result.wasSuccessful() else 1)


if __name__ == "__main__":
    main(sys.argv[1])
