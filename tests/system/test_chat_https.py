"""shoal chat with a server behind a proxy that speaks TLS, as people run it: which certificates it takes, what it says of
others, that answers stream and Ctrl-C arrives."""
import contextlib
import os
import pathlib
import select
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import unittest

import harness
from fake_openai import FakeServer, data, delta

KEY = "sk-system-test-0123456789"
OPENSSL = shutil.which("openssl")
TRUST = ("SSL_CERT_FILE", "CURL_CA_BUNDLE")  # what this machine may set is none of the tests' business


def openssl(*arguments):
    subprocess.run([OPENSSL, *arguments], check=True, capture_output=True, timeout=60)


class Authority:
    """Certificates of a CA of its own, as Caddy's or a company's: `pem` is what a client has to trust."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.pem, self.key = self.path("ca.pem"), self.path("ca.key")
        self.request("ca", "-x509", "-subj", "/CN=Shoal test CA", "-days", "2", "-out", self.pem)

    def path(self, name):
        return str(self.folder / name)

    def request(self, name, *arguments):
        openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", self.path(f"{name}.key"),
                *arguments)

    def certificate(self, name):
        """(certificate, key) of a host."""
        chain, signing, extensions = (self.path(f"{name}.{kind}") for kind in ("pem", "csr", "ext"))
        self.request(name, "-subj", f"/CN={name}", "-out", signing)
        pathlib.Path(extensions).write_text(f"subjectAltName=DNS:{name}\n")
        openssl("x509", "-req", "-in", signing, "-CA", self.pem, "-CAkey", self.key, "-CAcreateserial", "-days", "2", "-out", chain,
                "-extfile", extensions)
        return chain, self.path(f"{name}.key")


class TlsProxy:
    """Decrypts what comes and passes it on to `port` of this machine, both ways and at once. A peer that leaves is left."""

    def __init__(self, certificate, port):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(*certificate)
        self.target = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.url = f"https://localhost:{self.port}"
        threading.Thread(target=self.accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        try:
            # One thread for both ways: an SSL object is not for two.
            with self.context.wrap_socket(connection, server_side=True) as client, \
                    socket.create_connection(("127.0.0.1", self.target)) as server:
                while True:
                    ready = [client] if client.pending() else select.select([client, server], [], [])[0]
                    for source in ready:
                        piece = source.recv(1 << 16)
                        if not piece:
                            return
                        (server if source is client else client).sendall(piece)
        except OSError:  # a client that does not trust the certificate, or a peer that has left
            connection.close()


def environment(**more):
    return {**{name: value for name, value in os.environ.items() if name not in TRUST}, **more}


def chat(url, *arguments, env=None):
    return subprocess.run([harness.SHOAL, "chat", "--url", url, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=60 * harness.SLOWDOWN, env=environment(**(env or {})), check=False)


@unittest.skipUnless(OPENSSL, "needs openssl")
class Https(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.authority = Authority(cls.folder.name)
        cls.localhost = cls.authority.certificate("localhost")
        cls.other = cls.authority.certificate("other.example")

    def proxy(self, port, certificate=None):
        proxy = TlsProxy(certificate or self.localhost, port)
        self.addCleanup(proxy.__exit__)
        return proxy

    def fake(self, **kwargs):
        server = FakeServer(**kwargs)
        self.addCleanup(server.__exit__)
        return server

    def test_an_answer_of_a_server_behind_a_proxy(self):
        keys = pathlib.Path(self.folder.name) / "api-keys"
        keys.touch(mode=0o600)
        keys.write_text(KEY + "\n")
        with harness.Server(workers=1, args=["--api-keys", str(keys)]) as server:
            server.client.headers["Authorization"] = f"Bearer {KEY}"
            expected = server.client.chat_text("What is 2 plus 3?", temperature=0)
            url = self.proxy(server.client.port).url
            asked = ("What is 2 plus 3?", "--temperature", "0", "--ca-file", self.authority.pem)
            done = chat(url, *asked, env={"SHOAL_API_KEY": KEY})
            self.assertEqual((done.stdout, done.stderr, done.returncode), (expected + "\n", "", 0))
            done = chat(url, *asked, env={"SHOAL_API_KEY": "wrong-wrong-wrong"})
            self.assertEqual((done.stdout, done.returncode), ("", 1))
            self.assertIn("key", done.stderr)

    def test_a_certificate_that_nobody_vouches_for(self):
        server = self.fake()
        url = self.proxy(server.port).url
        done = chat(url, "hi")
        self.assertEqual((done.stdout, done.returncode), ("", 1))
        self.assertRegex(done.stderr, rf"\Ashoal chat: cannot reach {url}/v1: .*certificate.*--ca-file FILE\n\Z")
        self.assertEqual(server.requests, [])  # nothing was sent, a key least of all

    def test_ways_to_trust_it(self):
        url = self.proxy(self.fake().port).url
        pem, other = self.authority.pem, self.localhost[1]
        itself = self.localhost[0]
        for arguments, env in ((("--ca-file", pem), {}), ((), {"SSL_CERT_FILE": pem}), ((), {"CURL_CA_BUNDLE": pem}),
                               ((), {"SSL_CERT_FILE": pem, "CURL_CA_BUNDLE": other}), (("--ca-file", pem), {"SSL_CERT_FILE": other}),
                               (("--ca-file", itself), {})):
            with self.subTest(arguments=arguments, env=env):
                done = chat(url, "hi", *arguments, env=env)
                self.assertEqual((done.stdout, done.stderr, done.returncode), ("You said: hi\n", "", 0))

    def test_a_certificate_of_another_name(self):
        server = self.fake()
        url = self.proxy(server.port, self.other).url
        done = chat(url, "hi", "--ca-file", self.authority.pem)
        self.assertEqual((done.stdout, done.returncode), ("", 1))
        self.assertRegex(done.stderr, r"name.*'localhost'\n\Z")  # trusting more would not help
        self.assertEqual(server.requests, [])

    def test_files_that_hold_no_certificates(self):
        server = self.fake()
        url = self.proxy(server.port).url
        for path in (f"{self.folder.name}/missing.pem", self.folder.name):
            done = chat(url, "hi", "--ca-file", path)
            self.assertEqual((done.stdout, done.returncode), ("", 2), done.stderr)
            self.assertIn("the certificates to trust", done.stderr)
            self.assertIn(path, done.stderr)
        done = chat(url, "hi", "--ca-file", self.localhost[1])  # a key
        self.assertEqual((done.stdout, done.returncode), ("", 1))
        self.assertIn(self.localhost[1], done.stderr)
        # Where no certificates count none have to be there.
        done = chat(server.url, "hi", env={"SSL_CERT_FILE": f"{self.folder.name}/missing.pem"})
        self.assertEqual((done.stdout, done.returncode), ("You said: hi\n", 0))

    def test_the_other_protocol(self):
        server = self.fake()
        done = chat(f"https://localhost:{server.port}", "hi")
        self.assertEqual(done.returncode, 1)
        self.assertIn("is it http that is spoken there?", done.stderr)
        proxy = self.proxy(server.port)
        done = chat(f"http://localhost:{proxy.port}", "hi")
        self.assertEqual(done.returncode, 1)
        self.assertIn("is it https that is spoken there?", done.stderr)

    @contextlib.contextmanager
    def asking(self, answer):
        """A chat that has asked a server that answers so, through the proxy."""
        url = self.proxy(self.fake(answer=answer).port).url
        process = subprocess.Popen([harness.SHOAL, "chat", "--url", url, "--ca-file", self.authority.pem, "hi"], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment())
        try:
            yield process
        finally:
            process.kill()
            process.communicate()

    def test_text_is_shown_as_it_comes(self):
        seen = threading.Event()

        def answer(handler, _):
            handler.begin_stream()
            handler.put(data(delta("first ")))
            if seen.wait(30 * harness.SLOWDOWN):
                handler.put(data(delta("second")) + data("[DONE]"))

        with self.asking(answer) as process:
            self.assertEqual(os.read(process.stdout.fileno(), 100), b"first ")
            seen.set()
            self.assertEqual(process.communicate(timeout=60 * harness.SLOWDOWN)[0], b"second\n")
            self.assertEqual(process.returncode, 0)

    def test_ctrl_c_reaches_the_server(self):
        gone = threading.Event()

        def answer(handler, _):
            handler.begin_stream()
            try:
                while True:
                    handler.put(data(delta("more ")))
            except OSError:
                gone.set()

        with self.asking(answer) as process:
            self.assertEqual(process.stdout.read(5), b"more ")
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60 * harness.SLOWDOWN)
            self.assertEqual(process.returncode, 130)
            self.assertTrue(gone.wait(30 * harness.SLOWDOWN), "the server still sends to a client that has left")


if __name__ == "__main__":
    harness.main()
