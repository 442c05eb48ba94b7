"""Workers on several hosts — network namespaces joined by a bridge — over CURVE and Gloo, against the reference."""
import os
import pathlib
import subprocess
import tempfile
import unittest

import harness
import test_oracle

TOLERANCE = 5e-4


def run(*argv):
    return subprocess.run(argv, capture_output=True, text=True, check=True)


class Hosts:
    """Namespaces host0 … on 10.77.0.0/24, removed at the end."""

    def __init__(self, count):
        self.tag = f"shoal{os.getpid()}"
        self.names = []
        try:
            run("ip", "netns", "add", f"{self.tag}sw")
            self.names.append(f"{self.tag}sw")
            self.switch("ip", "link", "add", "br0", "type", "bridge")
            self.switch("ip", "link", "set", "br0", "up")
            for i in range(count):
                name = f"{self.tag}h{i}"
                run("ip", "netns", "add", name)
                self.names.append(name)
                self.switch("ip", "link", "add", f"p{i}", "type", "veth", "peer", "name", "eth0", "netns", name)
                self.switch("ip", "link", "set", f"p{i}", "master", "br0", "up")
                for command in (("addr", "add", f"10.77.0.{i + 1}/24", "dev", "eth0"), ("link", "set", "eth0", "up"),
                                ("link", "set", "lo", "up")):
                    run("ip", "-n", name, *command)
        except (subprocess.CalledProcessError, FileNotFoundError) as error:
            self.close()
            raise unittest.SkipTest(f"needs root and network namespaces: {error}") from None

    def switch(self, *argv):
        run("ip", "netns", "exec", f"{self.tag}sw", *argv)

    def argv(self, host, argv):
        return ["ip", "netns", "exec", f"{self.tag}h{host}", *argv]

    def close(self):
        for name in reversed(self.names):
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


def config(model, keys, workers):
    lines = ["model:", f"  path: {model}", "coordinator:", "  listen: 10.77.0.1:8080", "  control: 10.77.0.1:7070",
             f"  keys: {keys}", "  allow_unauthenticated: true", "kv:", "  type: f32", "parallel:", "  engine: gloo",
             "workers:"]
    for name in workers:
        lines += [f"  - name: {name}", "    host: elsewhere"]
    return "\n".join(lines) + "\n"


class GlooHosts(unittest.TestCase):
    def serve(self, count):
        model, expected = harness.oracle("llama")
        hosts = Hosts(count)
        processes = []
        try:
            with tempfile.TemporaryDirectory() as folder:
                names = [f"node{i}" for i in range(count)]
                run(harness.SHOAL, "keygen", "--dir", f"{folder}/keys", "--workers", *names)
                path = pathlib.Path(folder) / "cluster.yaml"
                path.write_text(config(model, f"{folder}/keys", names))
                coordinator = harness.Process(hosts.argv(0, [harness.SHOAL, "coordinator", "--config", str(path)]))
                processes.append(coordinator)
                for i, name in enumerate(names):
                    processes.append(harness.Process(hosts.argv(i, [
                        harness.SHOAL, "worker", "--coordinator", "tcp://10.77.0.1:7070", "--server-key-file",
                        f"{folder}/keys/coordinator.pub", "--key-file", f"{folder}/keys/{name}.key", "--name", name,
                        "--threads", "1"])))
                coordinator.wait_for_line(r"ready: http", 60)
                self.compare(hosts, expected)
        except AssertionError as error:
            raise AssertionError(f"{error}\n" + "\n".join(p.output()[-3000:] for p in processes)) from None
        finally:
            for process in reversed(processes):
                process.stop(10)
            hosts.close()

    def compare(self, hosts, expected):
        # The requests are made by a child inside the first host's namespace.
        child = subprocess.run(hosts.argv(0, ["python3", __file__, "--child"]), capture_output=True, text=True,
                               timeout=200, check=False, env={**os.environ, "SHOAL_BUILD_DIR": str(harness.BUILD)})
        self.assertEqual(child.returncode, 0, child.stdout + child.stderr)
        print(child.stdout.strip())
        self.assertIn("worst", child.stdout)
        self.assertTrue(expected["cases"])

    def test_two_hosts(self):
        self.serve(2)

    def test_three_hosts(self):
        self.serve(3)


def child():
    _, expected = harness.oracle("llama")
    client = harness.Client("http://10.77.0.1:8080")
    checks = test_oracle.Oracle()
    worst = 0.0
    for case in expected["cases"]:
        worst = max(worst, checks.compare_logprobs(client, case, TOLERANCE))
        if case["greedy_min_margin"] > 2e-3:
            checks.compare_greedy(client, case)
    engines = [w["state"] for w in client.get("/cluster").json()["workers"]]
    print(f"{len(engines)} hosts over Gloo: worst {worst:.2e}")


if __name__ == "__main__":
    import sys
    if "--child" in sys.argv:
        child()
    else:
        harness.main()
