"""Hosts in every form people write them: where a server listens, how workers find it, and what is refused."""
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import unittest

import harness
import test_gloo_hosts

SHOAL = harness.SHOAL


def has_ipv6():
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
            return True
        except OSError:
            return False


def needs_ipv6(test):
    return unittest.skipUnless(has_ipv6(), "needs IPv6 on the loopback interface")(test)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def refusal(*argv, env=None):
    """What a command that must end with 2 says."""
    done = subprocess.run([SHOAL, *argv], capture_output=True, text=True, timeout=60 * harness.SLOWDOWN, check=False,
                          env={**os.environ, **(env or {})})
    if done.returncode != 2:
        raise AssertionError(f"{argv}: {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stderr


class Listening(unittest.TestCase):
    def answers(self, host, port):
        return harness.Client(f"http://{host}:{port}").get("/health").status == 200

    def refuses(self, host, port):
        with self.assertRaises(OSError):
            harness.Client(f"http://{host}:{port}").get("/health")

    @needs_ipv6
    def test_every_interface_is_both_families(self):
        with harness.Server(workers=1, args=("--host", "::", "--allow-unauthenticated")) as server:
            self.assertEqual(server.client.host, "::1")  # the URL can be followed
            self.assertTrue(self.answers("127.0.0.1", server.client.port))
            self.assertTrue(self.answers("[::1]", server.client.port))
            self.assertTrue(server.client.chat_text("What is 1 plus 2?", max_tokens=4))

    @needs_ipv6
    def test_one_address_is_itself_alone(self):
        with harness.Server(workers=1, args=("--host", "[::1]")) as server:
            self.assertEqual(server.client.url, f"http://[::1]:{server.client.port}")
            self.assertTrue(self.answers("[::1]", server.client.port))
            self.refuses("127.0.0.1", server.client.port)
        with harness.Server(workers=1, args=("--host", "::ffff:127.0.0.2")) as server:
            self.assertEqual(server.client.url, f"http://127.0.0.2:{server.client.port}")
            self.refuses("127.0.0.1", server.client.port)
        with harness.Server(workers=1, args=("--host", "0.0.0.0", "--allow-unauthenticated")) as server:
            self.assertEqual(server.client.url, f"http://127.0.0.1:{server.client.port}")
            self.refuses("[::1]", server.client.port)

    def test_localhost_is_loopback_of_both_families(self):
        with harness.Server(workers=1, args=("--host", "LocalHost")) as server:
            self.assertTrue(self.answers("127.0.0.1", server.client.port))
            self.assertTrue(not has_ipv6() or self.answers("[::1]", server.client.port))

    def test_what_is_no_host_is_refused_by_flag_and_reason(self):
        for host, why in (("127.0.0.1:8081", "has a port behind it"), ("http://127.0.0.1", "is a URL"),
                          ("", "is empty"), (" ::1", "has spaces"), ("[::1]:80", "has a port"), ("*", "0.0.0.0"),
                          ("127.1", "is no IPv4 address"), ("fd00::7%eth0", "only link-local"), ("a b", "spaces")):
            with self.subTest(host=host):
                text = refusal("serve", harness.TINY_DENSE, "--host", host, "--port", "0")
                self.assertIn("--host: not a host: ", text)
                self.assertIn(why, text)
        self.assertIn("--port", refusal("serve", harness.TINY_DENSE, "--port", "65536"))
        env = {"SHOAL_COORDINATOR_LISTEN": "::1:8080"}
        text = refusal("serve", harness.TINY_DENSE, env=env)
        self.assertIn("SHOAL_COORDINATOR_LISTEN: coordinator.listen: '::1:8080'", text)
        self.assertIn("in brackets", text)

    def test_what_others_can_reach_needs_keys(self):
        for host in ("0.0.0.0", "::", "[::]", "10.9.8.7", "fd00::7", "::ffff:10.9.8.7", "example.org"):
            with self.subTest(host=host):
                text = refusal("serve", harness.TINY_DENSE, "--host", host, "--port", "0")
                self.assertIn("--host: coordinator.listen: ", text)
                self.assertIn("--allow-unauthenticated", text)

    def test_an_address_of_nobody_here_and_a_name_of_nobody(self):
        for host in ("203.0.113.7", "2001:db8::7", "no-such-host.invalid"):
            process = subprocess.run([SHOAL, "serve", harness.TINY_DENSE, "--host", host, "--port", "0",
                                      "--allow-unauthenticated"], capture_output=True, text=True, timeout=60, check=False)
            self.assertIn(process.returncode, (1, 2))
            self.assertIn(host, process.stderr)


class Cluster:
    """A coordinator and its workers, which need not share a network namespace."""

    def __init__(self, folder, listen, control, workers, engine="auto"):
        self.folder, self.workers, self.processes = pathlib.Path(folder), workers, []
        subprocess.run([SHOAL, "keygen", "--dir", f"{folder}/keys", "--workers", *workers], check=True,
                       capture_output=True)
        self.config = self.folder / "cluster.yaml"
        self.config.write_text("\n".join([
            "model:", f"  path: {harness.TINY_DENSE}", "coordinator:", f"  listen: '{listen}'",
            f"  control: '{control}'", f"  keys: {folder}/keys", "  allow_unauthenticated: true", "parallel:",
            f"  engine: {engine}", "workers:", *[f"  - name: {name}" for name in workers], ""]))

    def coordinator(self, where=lambda argv: argv):
        self.processes.append(harness.Process(where([SHOAL, "coordinator", "--config", str(self.config)])))
        return self.processes[0]

    def worker(self, name, coordinator, *args, where=lambda argv: argv):
        self.processes.append(harness.Process(where([
            SHOAL, "worker", "--coordinator", coordinator, "--server-key-file", f"{self.folder}/keys/coordinator.pub",
            "--key-file", f"{self.folder}/keys/{name}.key", "--name", name, "--threads", "1", *args])))

    def ready(self):
        try:
            return self.processes[0].wait_for_line(r"ready.*(http://[^\s/]+)", 60).group(1)
        except AssertionError as error:
            raise AssertionError(f"{error}\n" + "\n".join(p.output()[-3000:] for p in self.processes)) from None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.stop(10)


class Joining(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def joins(self, control, coordinator, *args, workers=("w0",), engine="auto"):
        port = free_port()
        listen = "[::1]:0" if has_ipv6() else "localhost:0"
        with Cluster(self.folder, listen, control.format(port), workers, engine) as cluster:
            cluster.coordinator()
            for name in workers:
                cluster.worker(name, coordinator.format(port), *args)
            client = harness.Client(cluster.ready())
            self.assertTrue(client.chat_text("What is 2 plus 2?", max_tokens=4))

    @needs_ipv6
    def test_over_ipv6_activations_too(self):
        self.joins("[::1]:{}", "tcp://[::1]:{}", "--data-address", "[::1]", workers=("w0", "w1"), engine="gloo")

    def test_localhost_on_both_sides(self):
        self.joins("localhost:{}", "tcp://localhost:{}")

    @needs_ipv6
    def test_a_name_with_an_address_that_refuses(self):
        self.joins("[::1]:{}", "localhost:{}", "--data-address", "127.0.0.1")

    @needs_ipv6
    def test_every_interface(self):
        self.joins("[::]:{}", "127.0.0.1:{}")

    def test_data_addresses_of_two_families_are_told_apart(self):
        if not has_ipv6():
            self.skipTest("needs IPv6 on the loopback interface")
        port = free_port()
        with Cluster(self.folder, "127.0.0.1:0", f"127.0.0.1:{port}", ("w0", "w1"), "gloo") as cluster:
            coordinator = cluster.coordinator()
            cluster.worker("w0", f"127.0.0.1:{port}", "--data-address", "::1")
            cluster.worker("w1", f"127.0.0.1:{port}", "--data-address", "127.0.0.1")
            coordinator.wait_for_line("the data plane needs addresses of one family: worker 'w0'.*::1.*127.0.0.1", 30)

    def test_what_a_worker_refuses(self):
        with Cluster(self.folder, "127.0.0.1:0", "127.0.0.1:0", ("w0",)) as cluster:
            keys = ["--server-key-file", f"{cluster.folder}/keys/coordinator.pub", "--key-file",
                    f"{cluster.folder}/keys/w0.key", "--name", "w0"]
            for args, why in (
                    (("--coordinator", "tcp://::1:7070"), "--coordinator: '::1:7070' is not an address"),
                    (("--coordinator", "tcp://10.0.0.1"), "it has no port"),
                    (("--coordinator", "10.0.0.1:0"), "--coordinator: port 0"),
                    (("--coordinator", "http://10.0.0.1:1"), "leave 'http://' out"),
                    (("--coordinator", "no-such-host.invalid:1"), "cannot resolve 'no-such-host.invalid'"),
                    (("--coordinator", "127.0.0.1:1", "--data-address", "203.0.113.7"),
                     "--data-address: this host does not have address 203.0.113.7; it has: "),
                    (("--coordinator", "127.0.0.1:1", "--data-address", "127.0.0.1:80"), "--data-address: not a host"),
                    (("--coordinator", "127.0.0.1:1", "--data-address", "fe80::1%lo"), "means nothing on other hosts"),
                    (("--coordinator", "127.0.0.1:1", "--interface", "no-such"), "--interface: this host has no")):
                with self.subTest(args=args):
                    done = subprocess.run([SHOAL, "worker", *keys, *args], capture_output=True, text=True, timeout=60,
                                          check=False)
                    # 1 where a resolver could not be asked.
                    self.assertIn(done.returncode, (1, 2) if "no-such-host.invalid:1" in args else (2,), done.stderr)
                    self.assertIn(why, done.stderr)


class TwoHosts(unittest.TestCase):
    """Network namespaces: hosts with IPv6 only, and a name whose first address is nobody's."""

    def setUp(self):
        self.hosts = test_gloo_hosts.Hosts(2)
        self.addCleanup(self.hosts.close)
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)

    def call(self, host, *argv):
        return subprocess.run(self.hosts.argv(host, argv), capture_output=True, text=True, check=True).stdout

    def where(self, host):
        return lambda argv: self.hosts.argv(host, argv)

    def only_ipv6(self):
        for host in range(2):
            self.call(host, "ip", "addr", "flush", "dev", "eth0", "scope", "global")
            self.call(host, "ip", "addr", "add", f"fd77::{host + 1}/64", "dev", "eth0", "nodad")

    def test_a_cluster_without_ipv4(self):
        self.only_ipv6()
        with Cluster(self.folder, "[fd77::1]:8080", "[fd77::1]:7070", ("w0", "w1"), "gloo") as cluster:
            cluster.coordinator(self.where(0))
            for host in range(2):
                cluster.worker(f"w{host}", "tcp://[fd77::1]:7070", where=self.where(host))
            self.assertEqual(cluster.ready(), "http://[fd77::1]:8080")
            ask = "import urllib.request; print(urllib.request.urlopen('http://[fd77::1]:8080/ready').status)"
            self.assertEqual(self.call(1, "python3", "-c", ask).strip(), "200")

    def test_a_name_whose_first_address_is_dead(self):
        if not hasattr(os, "geteuid") or os.geteuid() != 0:
            self.skipTest("needs root")
        places = [pathlib.Path("/etc/netns", f"{self.hosts.tag}h{host}") for host in range(2)]
        for place in places:
            place.mkdir(parents=True)
            self.addCleanup(shutil.rmtree, place)
            # 10.77.0.9 is nobody's: packets to it vanish.
            (place / "hosts").write_text("10.77.0.9 head\n10.77.0.1 head\n")
        with Cluster(self.folder, "10.77.0.1:8080", "10.77.0.1:7070", ("w0", "w1"), "gloo") as cluster:
            cluster.coordinator(self.where(0))
            for host in range(2):
                cluster.worker(f"w{host}", "head:7070", where=self.where(host))
            cluster.ready()


if __name__ == "__main__":
    harness.main()
