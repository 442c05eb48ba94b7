"""Servers that cannot become ready say why and end; those that can, or could once, keep trying."""
import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

import harness

SHOAL = harness.SHOAL


def children(pid):
    """Pids of the living children of a process."""
    out = []
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):
            out += [int(word) for word in (task / "children").read_text().split()]
    return out


def run(argv, seconds, **popen):
    return subprocess.run([SHOAL, *argv], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                          timeout=seconds * harness.SLOWDOWN, check=False, **popen)


def bad_disk(**what):
    """Environment of a program whose disk misbehaves (bad_disk.cc), or a visible skip."""
    library = harness.BUILD / "tests" / "system" / "libbad_disk.so"
    if harness.SLOWDOWN > 1 or not library.exists():
        raise unittest.SkipTest("sanitizers want to come before what is preloaded, or it is not built")
    return {**os.environ, "LD_PRELOAD": str(library), **{f"SHOAL_TEST_{key}": name for key, name in what.items()}}


class Permanent(unittest.TestCase):
    def test_a_model_that_workers_cannot_load_ends_the_server(self):
        done = run(["serve", harness.TINY_DENSE, "--workers", "2", "--port", "0"], 30,
                   env=bad_disk(CUT=os.path.basename(harness.TINY_DENSE)))
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertRegex(done.stderr, r"(?m)^shoal serve: worker 'w[01]' \(rank [01]\) failed: .*was truncated")
        self.assertNotIn("ready: ", done.stdout)

    def test_a_worker_that_refuses_to_run_ends_the_server(self):
        """This machine has no such core: each of its workers ends at once with code 2."""
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "c.yaml")
            path.write_text('workers:\n  - {name: w0, cores: "1000"}\n')
            begin = time.monotonic()
            done = run(["serve", harness.TINY_DENSE, "--port", "0", "--config", str(path)], 40)
            self.assertLess(time.monotonic() - begin, 30 * harness.SLOWDOWN)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("shoal serve: worker w0 exited with 2 at once, 5 times in a row", done.stderr)
        self.assertIn("1000", done.stderr)  # the worker's own words

    def test_a_coordinator_waits_for_somebody_to_mend_a_host(self):
        with tempfile.TemporaryDirectory() as folder:
            keys = f"{folder}/keys"
            run(["keygen", "--dir", keys, "--workers", "w0"], 10)
            path = pathlib.Path(folder, "c.yaml")
            path.write_text("\n".join([
                "model:", f"  path: {harness.TINY_DENSE}", "coordinator:", "  listen: 127.0.0.1:0",
                "  control: 127.0.0.1:0", f"  keys: {keys}", "workers:", "  - {name: w0}", ""]))
            env = bad_disk(CUT=os.path.basename(harness.TINY_DENSE))
            coordinator = harness.Process([SHOAL, "coordinator", "--config", str(path), "--log-level", "debug"])
            worker = None
            try:
                ports = harness.wait_until(lambda: listening(coordinator.pid), 20, "it listens")
                worker = harness.Process([SHOAL, "worker", "--coordinator", f"tcp://127.0.0.1:{ports['control']}",
                                          "--server-key-file", f"{keys}/coordinator.pub", "--key-file",
                                          f"{keys}/w0.key", "--name", "w0"], env=env)
                client = harness.Client(f"http://127.0.0.1:{ports['http']}")
                harness.wait_until(lambda: "was truncated" in client.get("/ready").body.decode(), 20, "/ready says why")
                time.sleep(2)
                self.assertIsNone(coordinator.process.poll())
                self.assertEqual(client.get("/health").status, 200)
                self.assertEqual(coordinator.stop(), 0)
            finally:
                coordinator.stop(1)
                if worker:
                    worker.stop()


def listening(pid):
    """{"http": port, "control": port} once a coordinator listens on both."""
    inodes = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            inodes.add(os.readlink(f"/proc/{pid}/fd/{name}"))
    ports = []
    with open("/proc/net/tcp") as lines:
        next(lines)
        for line in lines:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in inodes:
                ports.append(int(words[1].split(":")[1], 16))
    out = {}
    for port in ports:
        with contextlib.suppress(OSError, ValueError, AssertionError):
            if harness.Client(f"http://127.0.0.1:{port}").get("/health", timeout=2).status == 200:
                out = {"http": port, "control": next(other for other in ports if other != port)}
    return out


class KeepsTrying(unittest.TestCase):
    def test_workers_that_are_killed_while_they_load_are_started_again(self):
        server = harness.Process([SHOAL, "serve", harness.TINY_DENSE, "--workers", "2", "--port", "0"])
        try:
            killed = set()
            while len(killed) < 3:
                for pid in harness.wait_until(lambda: set(children(server.pid)) - killed, 20, "a worker"):
                    os.kill(pid, signal.SIGKILL)
                    killed.add(pid)
                time.sleep(0.05 * len(killed))
            server.wait_for_line(r"ready: http", 60)
        finally:
            self.assertEqual(server.stop(), 0)

    def test_more_failures_than_five_are_no_reason_to_give_up(self):
        """And a model file that changes is reason to try at once."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        model = shutil.copy(harness.TINY_DENSE, folder.name)
        with harness.Server(model=model, workers=2) as server:
            first, victim = server.worker_pids()

            def successor():
                return next(iter(set(children(server.pid)) - {first, victim}), None)

            failures = 8
            for count in range(1, failures + 1):
                os.kill(victim, signal.SIGKILL)
                text = harness.wait_until(
                    lambda: (lambda body: f"worker w1 failed {count} time" in body and body)(
                        server.client.get("/ready").body.decode()), 10, f"/ready counts {count}")
                self.assertIn("next try in", text)
                if count < failures:
                    victim = harness.wait_until(successor, 20, "another is started")
            self.assertGreater(int(text.split("next try in ")[1].split(" ")[0]), 9)
            os.utime(model)
            harness.wait_until(successor, 5, "hope ends the pause")
            harness.wait_until(lambda: server.client.get("/ready").status == 200, 30, "ready again")
            self.assertIn("9", server.client.chat_text("What is 1 plus 8?", max_tokens=16, temperature=0))


class Signals(unittest.TestCase):
    def hanging(self, argv, hangs, number):
        """A program whose reads of a file never come back ends when it is asked to."""
        env = bad_disk(HANGS=hangs)
        with subprocess.Popen([SHOAL, *argv], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL) as process:
            try:
                time.sleep(1)
                self.assertIsNone(process.poll(), "it did not hang")
                process.send_signal(number)
                return process.wait(15 * harness.SLOWDOWN)
            finally:
                process.kill()

    def test_a_disk_that_hangs_does_not_keep_signals_off(self):
        name = os.path.basename(harness.TINY_DENSE)
        with tempfile.TemporaryDirectory() as folder:
            keys = pathlib.Path(folder, "api.keys")
            keys.write_text("sk-shoal-0123456789012345678901234567890123456789012\n")
            keys.chmod(0o600)
            serve = ["serve", harness.TINY_DENSE, "--port", "0"]
            self.assertEqual(self.hanging(serve, name, signal.SIGTERM), 0)
            self.assertEqual(self.hanging(serve, name, signal.SIGINT), 0)
            self.assertEqual(self.hanging([*serve, "--api-keys", str(keys)], "api.keys", signal.SIGTERM), 0)
            for argv in (["inspect", harness.TINY_DENSE], ["bench", "latency", harness.TINY_DENSE]):
                self.assertEqual(self.hanging(argv, name, signal.SIGTERM), -signal.SIGTERM)


if __name__ == "__main__":
    harness.main()
