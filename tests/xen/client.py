"""A client of the Xen-API as others are: Python's xmlrpc over HTTPS, with the events that came."""
import os
import shlex
import ssl
import subprocess
import time
import xmlrpc.client

URL = os.environ.get("XENAPID_URL", "https://127.0.0.1:18443")
USER, PASSWORD = os.environ.get("XENAPID_LOGIN", "root:xenlab").split(":")
NULL = "OpaqueRef:NULL"


class Failure(Exception):
    def __init__(self, description):
        super().__init__(" ".join(map(str, description)))
        self.code, self.params = description[0], list(description[1:])


class Session:
    def __init__(self):
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self.proxy = xmlrpc.client.ServerProxy(URL, context=context)
        self.session = self.raw("session.login_with_password", USER, PASSWORD, "1.0", "xenlab")
        self.token = ""

    def raw(self, method, *args):
        answer = getattr(self.proxy, method)(*args)
        if answer["Status"] != "Success":
            raise Failure(answer["ErrorDescription"])
        return answer["Value"]

    def call(self, method, *args):
        return self.raw(method, self.session, *args)

    def task(self, method, *args, patience=300):
        """As a task: waits by events, answers its result."""
        return self.finish(self.call("Async." + method, *args), patience)

    def finish(self, task, patience=300):
        end = time.time() + patience
        token = ""
        while time.time() < end:
            batch = self.call("event.from", [f"task/{task}"], token, 30.0)
            token = batch["token"]
            record = self.call("task.get_record", task)
            if record["status"] != "pending":
                self.call("task.destroy", task)
                if record["status"] != "success":
                    raise Failure(record["error_info"])
                return record["result"]
        raise TimeoutError(method_of(task))

    def wait(self, cls, ref, test, patience=60):
        """Waits by events until the object's record passes the test; answers it."""
        end = time.time() + patience
        token = ""
        while time.time() < end:
            batch = self.call("event.from", [f"{cls}/{ref}"], token, 10.0)
            token = batch["token"]
            for event in batch["events"]:
                if event["ref"] == ref and "snapshot" in event and test(event["snapshot"]):
                    return event["snapshot"]
        raise TimeoutError(f"{cls} {ref}: {self.call(cls + '.get_record', ref)}")

    def close(self):
        self.call("session.logout")
        self.proxy("close")()


def method_of(task):
    return f"the task {task} does not end"


def dom0(command, check=False):
    """Runs a command in dom0, as somebody would who sits there."""
    run = shlex.split(os.environ["LAB_RUN"]) + [command]
    return subprocess.run(run, check=check, capture_output=True, text=True).stdout
