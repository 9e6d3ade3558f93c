"""Disks over NBD: what backup programs see, with the tools of libnbd and QEMU; and what strangers do not see."""
import base64
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import unittest

from harness import free_port
from test_storage import MIB, Storage, holds, write

TOOLS = all(shutil.which(t) for t in ("nbdinfo", "nbdcopy", "qemu-img"))


@unittest.skipUnless(TOOLS, "nbdinfo, nbdcopy (libnbd-bin) and qemu-img are needed")
class Nbd(Storage):
    env = None

    @classmethod
    def setUpClass(cls):
        cls.port = free_port()
        cls.conf = {"sim": {"vms": 2}, "nbd": {"listen": f"127.0.0.1:{cls.port}", "connections": 6}}
        super().setUpClass()
        cls.network = next(cls.call("PIF.get_network", p) for p in cls.call("PIF.get_all") if cls.call("PIF.get_IP", p))
        cls.certs = tempfile.mkdtemp(prefix="xenapid-nbd.")

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.certs, ignore_errors=True)
        super().tearDownClass()

    def setUp(self):
        super().setUp()
        self.purpose("nbd")

    def purpose(self, *wanted):
        for p in self.call("network.get_purpose", self.network):
            self.call("network.remove_purpose", self.network, p)
        for p in wanted:
            self.call("network.add_purpose", self.network, p)

    def info(self, vdi, session=None):
        info = (session or self.s).call("VDI.get_nbd_info", vdi)[0]
        with open(os.path.join(self.certs, "ca-cert.pem"), "w") as f:
            f.write(info["cert"])
        return info

    def uri(self, info, scheme="nbds", name=None):
        """The name of the export is to libnbd what follows the first slash."""
        name = (name or info["exportname"]).replace("?", "%3F").replace("=", "%3D").replace(":", "%3A")
        return f"{scheme}://127.0.0.1:{info['port']}/{name}?tls-certificates={self.certs}&tls-hostname={info['subject']}" \
            if scheme == "nbds" else f"{scheme}://127.0.0.1:{info['port']}/{name}"

    def credentials(self):
        """QEMU's own check wants a certificate that is its own authority to say so."""
        return f"tls-creds-x509,id=t,dir={self.certs},endpoint=client,verify-peer=yes,sanity-check=no"

    def run_tool(self, *args):
        return subprocess.run(args, capture_output=True, text=True, timeout=60)

    def nbdinfo(self, *args):
        done = self.run_tool("nbdinfo", "--json", *args)
        return json.loads(done.stdout) if done.returncode == 0 else done.stderr

    def disk(self, kind="qcow2", size=8 * MIB):
        vdi = self.new_vdi(None, size, sm_config={"type": kind})
        write(self.path(vdi), 0x5A, MIB, 2 * MIB)
        return vdi

    def idle(self, vdi):
        self.until(lambda: not self.call("VDI.get_current_operations", vdi))


    def connect(self):
        s = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        self.addCleanup(s.close)
        self.assertEqual(s.recv(18, socket.MSG_WAITALL), b"NBDMAGICIHAVEOPT\0\3")
        s.sendall(struct.pack(">I", 3))
        return s

    def option(self, s, number, data=b""):
        """The type and the text of the reply."""
        s.sendall(b"IHAVEOPT" + struct.pack(">II", number, len(data)) + data)
        head = s.recv(20, socket.MSG_WAITALL)
        if len(head) < 20:
            return None, b""
        _, option, kind, length = struct.unpack(">QIII", head)
        self.assertEqual(option, number)
        return kind, s.recv(length, socket.MSG_WAITALL) if length else b""

    def ended(self, s):
        try:
            return s.recv(1) == b""
        except ConnectionResetError:
            return True


class Reading(Nbd):
    def test_the_record_tells_all_that_a_client_needs(self):
        vdi = self.disk()
        info = self.info(vdi)
        self.assertEqual(info["exportname"], f"/{self.call('VDI.get_uuid', vdi)}?session_id={self.s.ref}")
        self.assertEqual((info["address"], int(info["port"])), ("192.0.2.1", self.port))
        self.assertIn("BEGIN CERTIFICATE", info["cert"])
        self.assertTrue(info["subject"])

    def test_nbdinfo_sees_a_disk_that_is_read_only(self):
        for kind in ("qcow2", "raw"):
            vdi = self.disk(kind)
            seen = self.nbdinfo(self.uri(self.info(vdi)))
            self.assertEqual((seen["TLS"], seen["exports"][0]["export-size"], seen["exports"][0]["is_read_only"]),
                             (True, 8 * MIB, True), seen)
            self.idle(vdi)

    def test_nbdinfo_maps_what_is_data(self):
        vdi = self.disk()
        done = self.run_tool("nbdinfo", "--map", "--json", self.uri(self.info(vdi)))
        self.assertEqual([(e["offset"], e["length"]) for e in json.loads(done.stdout) if e["type"] == 0],
                         [(2 * MIB, MIB)])

    def test_nbdcopy_reads_all_of_it(self):
        vdi = self.disk()
        target = os.path.join(self.certs, "copy.raw")
        done = self.run_tool("nbdcopy", self.uri(self.info(vdi)), target)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(os.path.getsize(target), 8 * MIB)
        self.assertTrue(holds(target, 0x5A, MIB, 2 * MIB) and holds(target, 0, 2 * MIB, 0))

    def test_qemu_img_reads_all_of_it(self):
        vdi = self.disk("raw")
        info = self.info(vdi)
        target = os.path.join(self.certs, "converted.raw")
        image = (f"driver=nbd,host=127.0.0.1,port={info['port']},export={info['exportname']},tls-creds=t,"
                 f"tls-hostname={info['subject']}")
        done = self.run_tool("qemu-img", "convert", "--object",
                             self.credentials(), "--image-opts", image,
                             "-O", "raw", target)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertTrue(holds(target, 0x5A, MIB, 2 * MIB))

    def test_a_snapshot_of_a_running_VM_s_disk_is_read_and_the_disk_itself_is_not(self):
        vdi = self.disk()
        vm, _ = self.plug_into_running_vm(vdi)
        shot = self.call("VDI.snapshot", vdi, {})
        self.assertEqual(self.nbdinfo(self.uri(self.info(shot)))["exports"][0]["export-size"], 8 * MIB)
        self.assertIsInstance(self.nbdinfo(self.uri(self.info(vdi))), str)
        self.call("VM.hard_shutdown", vm)

    def test_a_disk_that_is_read_is_not_destroyed_and_its_task_ends_the_reading(self):
        vdi = self.disk()
        shell = subprocess.Popen(["qemu-io", "-r", "--object",
                                  self.credentials(), "--image-opts",
                                  f"driver=nbd,host=127.0.0.1,port={self.port},export={self.info(vdi)['exportname']},"
                                  f"tls-creds=t,tls-hostname={self.info(vdi)['subject']}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                 text=True)
        try:
            self.until(lambda: self.call("VDI.get_current_operations", vdi))
            self.fails("OTHER_OPERATION_IN_PROGRESS", "VDI.destroy", vdi)
            task, = self.call("VDI.get_current_operations", vdi)
            self.assertEqual(self.call("task.get_name_label", task), "nbd")
            self.call("task.cancel", task)
            self.idle(vdi)
            out, _ = shell.communicate("read 0 512\n", timeout=30)
            self.assertIn("read failed", out)
        finally:
            shell.kill()
            shell.wait()
        self.call("VDI.destroy", vdi)

    def test_changed_blocks_are_read_as_a_backup_program_does(self):
        vdi = self.disk()
        self.call("VDI.enable_cbt", vdi)
        first = self.call("VDI.snapshot", vdi, {})
        backup = os.path.join(self.certs, "backup.raw")
        self.assertEqual(self.run_tool("nbdcopy", self.uri(self.info(first)), backup).returncode, 0)
        self.call("VDI.data_destroy", first)
        write(self.path(vdi), 0x77, 70000, 5 * MIB)
        second = self.call("VDI.snapshot", vdi, {})
        bits = base64.b64decode(self.call("VDI.list_changed_blocks", first, second))
        whole = os.path.join(self.certs, "whole.raw")
        self.assertEqual(self.run_tool("nbdcopy", self.uri(self.info(second)), whole).returncode, 0)
        with open(backup, "r+b") as old, open(whole, "rb") as new:
            for i in range(8 * MIB // 65536):
                if bits[i // 8] & 0x80 >> i % 8:
                    new.seek(i * 65536)
                    old.seek(i * 65536)
                    old.write(new.read(65536))
        self.assertEqual(open(backup, "rb").read(), open(whole, "rb").read())


class Refusals(Nbd):
    def test_without_a_purpose_nobody_listens(self):
        vdi = self.disk()
        self.purpose()
        self.assertEqual(self.call("VDI.get_nbd_info", vdi), [])
        with self.assertRaises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def test_nothing_is_said_without_TLS(self):
        name = self.info(self.disk())["exportname"].encode()
        s = self.connect()
        go = struct.pack(">I", len(name)) + name + b"\0\0"
        for number, data in ((7, go), (6, go), (3, b""), (8, b"")):
            self.assertEqual(self.option(s, number, data)[0], 0x80000005)
        self.assertEqual(self.option(s, 1, name), (None, b""))

    def test_a_network_may_allow_it_without_TLS(self):
        self.purpose("insecure_nbd")
        vdi = self.disk()
        info = self.info(vdi)
        self.assertEqual(self.nbdinfo(self.uri(info, "nbd"))["exports"][0]["export-size"], 8 * MIB)
        self.assertEqual(self.nbdinfo(self.uri(info))["TLS"], True)
        s = self.connect()
        name = info["exportname"].encode()
        s.sendall(b"IHAVEOPT" + struct.pack(">II", 1, len(name)) + name)
        size, flags = struct.unpack(">QH", s.recv(10, socket.MSG_WAITALL))
        self.assertEqual((size, flags & 2), (8 * MIB, 2))

    def test_names_are_not_listed(self):
        done = self.run_tool("nbdinfo", "--list", self.uri(self.info(self.disk())))
        self.assertNotEqual(done.returncode, 0)

    def test_only_a_live_session_of_the_role_reads(self):
        vdi = self.disk()
        info = self.info(vdi)
        uuid = self.call("VDI.get_uuid", vdi)
        gone = self.server.login()
        dead = self.info(vdi, gone)["exportname"]
        gone.call("session.logout")
        for name in (dead, f"/{uuid}", f"/{uuid}?session_id=OpaqueRef:0", f"/{uuid}?session_id=", "",
                     f"/x?session_id={self.s.ref}", "/" + "x" * 600):
            self.assertNotIsInstance(self.nbdinfo(self.uri(info, name=name or "/")), dict, name)
        self.assertEqual(self.call("VDI.get_current_operations", vdi), {})

    def test_why_a_disk_is_not_read_is_told_to_who_may_know(self):
        self.purpose("insecure_nbd")
        vdi = self.disk()
        vm, _ = self.plug_into_running_vm(vdi)
        s = self.connect()
        for name, text in ((self.info(vdi)["exportname"], b"VDI_IN_USE"),
                           (f"/{self.call('VDI.get_uuid', vdi)}?session_id=OpaqueRef:1", b"no session")):
            data = struct.pack(">I", len(name)) + name.encode() + b"\0\0"
            kind, said = self.option(s, 7, data)
            self.assertEqual(kind, 0x80000002)
            self.assertIn(text, said)
        self.call("VM.hard_shutdown", vm)

    def test_the_end_of_the_session_is_the_end_of_the_reading(self):
        self.purpose("insecure_nbd")
        vdi = self.disk()
        session = self.server.login()
        name = self.info(vdi, session)["exportname"].encode()
        s = self.connect()
        s.sendall(b"IHAVEOPT" + struct.pack(">II", 1, len(name)) + name)
        self.assertEqual(len(s.recv(10, socket.MSG_WAITALL)), 10)
        session.call("session.logout")
        self.assertTrue(self.ended(s))
        self.idle(vdi)

    def test_the_end_of_the_purpose_is_the_end_of_the_reading(self):
        self.purpose("insecure_nbd")
        vdi = self.disk()
        name = self.info(vdi)["exportname"].encode()
        s = self.connect()
        s.sendall(b"IHAVEOPT" + struct.pack(">II", 1, len(name)) + name)
        self.assertEqual(len(s.recv(10, socket.MSG_WAITALL)), 10)
        self.purpose()
        self.assertTrue(self.ended(s))
        self.idle(vdi)

    def test_nonsense_ends_the_connection(self):
        for noise in (b"\0" * 16, b"IHAVEOPT" + struct.pack(">II", 7, 1 << 30), b"GET / HTTP/1.0\r\n\r\n"):
            s = self.connect()
            s.sendall(noise)
            self.assertTrue(self.ended(s))
        s = self.connect()
        self.assertEqual(self.option(s, 5)[0], 1)
        s.sendall(b"this is no handshake" * 100)
        self.until(lambda: self.ended(s))

    def test_there_are_only_so_many(self):
        held = [self.connect() for _ in range(6)]
        s = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        self.addCleanup(s.close)
        self.assertTrue(self.ended(s))
        held.pop().close()
        self.until(lambda: self.greets())

    def test_another_address_is_taken_up_at_a_reload(self):
        other = free_port()
        self.server.conf["nbd"]["listen"] = f"127.0.0.1:{other}"
        try:
            self.server.write_conf()
            self.server.process.send_signal(signal.SIGHUP)
            vdi = self.disk()
            self.until(lambda: int(self.info(vdi)["port"]) == other)
            self.assertEqual(self.nbdinfo(self.uri(self.info(vdi)))["exports"][0]["export-size"], 8 * MIB)
            with self.assertRaises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", self.port), timeout=10)
        finally:
            self.server.conf["nbd"]["listen"] = f"127.0.0.1:{self.port}"
            self.server.write_conf()
            self.server.process.send_signal(signal.SIGHUP)
            self.until(self.greets)

    def greets(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=30) as s:
                return s.recv(8) == b"NBDMAGIC"
        except OSError:
            return False

    def test_it_is_back_after_a_restart_and_ends_with_the_daemon(self):
        held = self.connect()
        self.server.stop()
        self.assertTrue(self.ended(held))
        self.server.start()
        type(self).s = self.server.login()
        self.until(lambda: self.attached(self.local))
        self.assertEqual(self.nbdinfo(self.uri(self.info(self.disk())))["exports"][0]["export-size"], 8 * MIB)


if __name__ == "__main__":
    unittest.main()
