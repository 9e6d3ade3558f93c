"""The certificate of the host, replaced through the API."""
import hashlib
import os
import shutil
import socket
import ssl
import subprocess
import tempfile

import harness
from harness import Failure, Server

SUBJECT = "/CN=host.example.org"


def openssl(*args):
    return subprocess.run(["openssl", *args], check=True, capture_output=True, text=True).stdout


def shown(port):
    return ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate(("127.0.0.1", port)))


def fingerprint(der):
    text = hashlib.sha256(der).hexdigest().upper()
    return ":".join(text[i:i + 2] for i in range(0, len(text), 2))


class Certificates(harness.Case):
    @classmethod
    def setUpClass(cls):
        cls.dir = tempfile.mkdtemp()
        cls.addClassCleanup(shutil.rmtree, cls.dir)
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=authority", "-days", "9",
                "-keyout", cls.file("ca.key"), "-out", cls.file("ca.pem"))
        cls.key, cls.cert = cls.signed("server", "-days", "8")
        cls.ca = cls.read("ca.pem")
        super().setUpClass()

    @classmethod
    def file(cls, name):
        return os.path.join(cls.dir, name)

    @classmethod
    def read(cls, name):
        with open(cls.file(name)) as f:
            return f.read()

    @classmethod
    def signed(cls, name, *how, newkey=("rsa:2048",), digest="-sha256"):
        """A key, and a certificate for it by our authority."""
        openssl("req", "-newkey", *newkey, "-nodes", "-subj", SUBJECT, "-keyout", cls.file(name + ".key"),
                "-out", cls.file(name + ".csr"))
        openssl("x509", "-req", digest, "-in", cls.file(name + ".csr"), "-CA", cls.file("ca.pem"),
                "-CAkey", cls.file("ca.key"), "-set_serial", "7", *how, "-out", cls.file(name + ".pem"))
        return cls.read(name + ".key"), cls.read(name + ".pem")

    def install(self, cert=None, key=None, chain=""):
        self.call("host.install_server_certificate", self.host, cert or self.cert, key or self.key, chain)

    def refused(self, code, **what):
        before = shown(self.server.port), self.call("Certificate.get_all_records")
        with self.assertRaises(Failure) as f:
            self.install(**what)
        self.assertEqual(f.exception.code, code, f.exception)
        self.assertEqual((shown(self.server.port), self.call("Certificate.get_all_records")), before)
        return f.exception.params

    def check_record(self):
        """There is one record of this host's, and it is of what clients see."""
        [certificate] = self.call("host.get_certificates", self.host)
        record = self.call("Certificate.get_record", certificate)
        self.assertEqual((record["type"], record["host"], record["name"]), ("host", self.host, ""))
        self.assertEqual(record["fingerprint"], fingerprint(shown(self.server.port)))
        self.assertLess(record["not_before"], record["not_after"])
        return record

    def test_installed_shown_at_once_kept_and_reset(self):
        first = self.check_record()
        c = self.server.connection("https")  # a connection that is there stays
        c.request("GET", "/")
        c.getresponse().read()
        self.install(chain=self.ca)
        self.assertEqual(shown(self.server.port), ssl.PEM_cert_to_DER_cert(self.cert))
        self.assertNotEqual(self.check_record()["fingerprint"], first["fingerprint"])
        trust = ssl.create_default_context(cadata=self.ca)
        trust.check_hostname = False
        c.request("GET", "/")
        self.assertEqual(c.getresponse().status, 200)
        with socket.create_connection(("127.0.0.1", self.server.port)) as s, trust.wrap_socket(s) as tls:
            self.assertTrue(tls.getpeercert())
        self.server.reload()
        self.assertEqual(shown(self.server.port), ssl.PEM_cert_to_DER_cert(self.cert))
        self.call("host.reset_server_certificate", self.host)
        own = self.check_record()
        self.assertNotIn(own["fingerprint"], (first["fingerprint"], fingerprint(ssl.PEM_cert_to_DER_cert(self.cert))))
        self.assertNotIn("PRIVATE KEY", self.server.log())

    def test_what_does_not_fit_is_refused(self):
        other_key, other = self.signed("other", "-days", "8")
        self.refused("SERVER_CERTIFICATE_KEY_MISMATCH", key=other_key)
        self.refused("SERVER_CERTIFICATE_KEY_INVALID", key="no key")
        self.refused("SERVER_CERTIFICATE_INVALID", cert="no certificate")
        self.refused("SERVER_CERTIFICATE_CHAIN_INVALID", chain="no chain")
        self.refused("SERVER_CERTIFICATE_CHAIN_INVALID", chain=other)

    def test_keys_and_times_that_clients_do_not_take(self):
        key, cert = self.signed("curve", "-days", "8", newkey=("ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"))
        self.assertEqual(self.refused("SERVER_CERTIFICATE_KEY_ALGORITHM_NOT_SUPPORTED", cert=cert, key=key),
                         ["1.2.840.10045.2.1"])
        key, cert = self.signed("short", "-days", "8", newkey=("rsa:1024",))
        self.assertEqual(self.refused("SERVER_CERTIFICATE_KEY_RSA_LENGTH_NOT_SUPPORTED", cert=cert, key=key), ["1024"])
        key, cert = self.signed("old", "-days", "-1")
        self.assertEqual(len(self.refused("SERVER_CERTIFICATE_EXPIRED", cert=cert, key=key)), 2)
        key, cert = self.signed("weak", "-days", "8", digest="-sha1")
        self.refused("SERVER_CERTIFICATE_SIGNATURE_NOT_SUPPORTED", cert=cert, key=key)

    def test_it_outlives_the_daemon(self):
        state = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, state, ignore_errors=True)
        os.chmod(state, 0o755)
        directory = os.path.join(state, "state")
        with Server(state=directory) as s:
            session = s.login()
            session.call("host.install_server_certificate", session.call("host.get_all")[0], self.cert, self.key, "")
            s.kill()
            s.start()
            self.assertEqual(shown(s.port), ssl.PEM_cert_to_DER_cert(self.cert))
            session = s.login()
            [record] = session.call("Certificate.get_all_records").values()
            self.assertEqual(record["fingerprint"], fingerprint(shown(s.port)))
            file = os.path.join(directory, "tls-installed.pem")
            self.assertEqual(os.stat(file).st_mode & 0o777, 0o600)

    def test_one_that_the_configuration_names_stays(self):
        for name in ("server.pem", "server.key"):
            os.chmod(self.file(name), 0o644)
        os.chmod(self.dir, 0o755)
        conf = {"daemon": {"tls-cert": self.file("server.pem"), "tls-key": self.file("server.key")}}
        with Server(conf=conf) as s:
            session = s.login()
            host = session.call("host.get_all")[0]
            for method, *args in (("install_server_certificate", self.cert, self.key, ""), ("reset_server_certificate",)):
                with self.assertRaises(Failure) as f:
                    session.call(f"host.{method}", host, *args)
                self.assertEqual(f.exception.code, "OPERATION_NOT_ALLOWED")
            self.assertEqual(shown(s.port), ssl.PEM_cert_to_DER_cert(self.cert))
