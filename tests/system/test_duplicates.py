"""Workers that should not be there, restarted for ever, cost the service nothing."""
import pathlib
import socket
import subprocess
import tempfile
import threading
import time
import unittest

import harness


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Cluster:
    """`shoal coordinator` for one worker, w0, and the keys of w0 and w1."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        subprocess.run([harness.SHOAL, "keygen", "--dir", f"{folder}/keys", "--workers", "w0", "w1"], check=True,
                       capture_output=True)
        self.control = free_port()
        path = self.folder / "cluster.yaml"
        path.write_text("\n".join([
            "model:", f"  path: {harness.TINY_DENSE}", "coordinator:", "  listen: 127.0.0.1:0",
            f"  control: 127.0.0.1:{self.control}", f"  keys: {folder}/keys", "workers:", "  - name: w0",
            "    host: 127.0.0.1"]) + "\n")
        self.processes = []
        self.argv = [harness.SHOAL, "coordinator", "--config", str(path)]
        self.coordinator = self.start(self.argv)

    def start(self, argv):
        self.processes.append(harness.Process(argv))
        return self.processes[-1]

    def restart_coordinator(self):
        """kill -9, and another one at once."""
        self.coordinator.process.kill()
        self.coordinator.process.wait()
        self.coordinator = self.start(self.argv)

    def wait_ready(self):
        url = self.coordinator.wait_for_line(r"ready.*(http://[^\s/]+)", 60).group(1)
        return harness.Client(url)

    def worker_argv(self, name="w0", key="w0"):
        return [harness.SHOAL, "worker", "--coordinator", f"tcp://127.0.0.1:{self.control}", "--server-key-file",
                f"{self.folder}/keys/coordinator.pub", "--key-file", f"{self.folder}/keys/{key}.key", "--name", name,
                "--threads", "1"]

    def close(self):
        for process in reversed(self.processes):
            process.stop(10)


class Loop(threading.Thread):
    """What systemd's Restart=always would do with a worker that is refused."""

    def __init__(self, argv, stop):
        super().__init__()
        self.argv, self.stop, self.exits, self.output = argv, stop, [], ""
        self.start()

    def run(self):
        while not self.stop.is_set():
            process = harness.Process(self.argv)
            while process.process.poll() is None and not self.stop.is_set():
                time.sleep(0.01)
            over = process.process.poll() is not None
            code = process.stop(5)
            if over:
                self.exits.append(code)
                self.output = process.output()


def other_host(argv):
    """The same program with a /dev/shm of its own: another host as far as workers can tell."""
    return ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /dev/shm && exec "$0" "$@"', *argv]


class Duplicates(unittest.TestCase):
    def watch(self, client, seconds):
        """(polls of /ready, those that said 503) over a while."""
        polls = bad = 0
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            bad += client.get("/ready").status != 200
            polls += 1
            time.sleep(0.01)
        return polls, bad

    def test_restart_loops_of_one_name(self):
        can_unshare = subprocess.run(other_host(["true"]), capture_output=True, check=False).returncode == 0
        with tempfile.TemporaryDirectory() as folder:
            cluster = Cluster(folder)
            stop = threading.Event()
            loops = []
            try:
                steady = cluster.start(cluster.worker_argv())
                client = cluster.wait_ready()
                before = client.get("/cluster").json()
                duplicate = cluster.worker_argv()
                expected = [(duplicate, f"there is a live worker 'w0', pid {before['workers'][0]['pid']} on"),
                            (other_host(duplicate) if can_unshare else duplicate, "there is a live worker 'w0'"),
                            (cluster.worker_argv(name="w9"), "this key belongs to worker 'w0', not to 'w9'"),
                            (cluster.worker_argv(name="w1", key="w1"), "worker 'w1' is not in the configuration")]
                loops = [Loop(argv, stop) for argv, _ in expected]
                polls, bad = self.watch(client, 8)
                answer = client.chat_text("What is 1 plus 8?", max_tokens=16, temperature=0)
                harness.wait_until(lambda: all(len(loop.exits) >= 3 for loop in loops), 60, "refusals in every loop")
                after = client.get("/cluster").json()
                stop.set()
                for loop, (_, message) in zip(loops, expected):
                    loop.join()
                    self.assertNotIn(0, loop.exits)
                    self.assertIn(message, loop.output)
                print(f"{polls} polls of /ready, {bad} not ready, {[len(loop.exits) for loop in loops]} refusals")
                self.assertLess(bad, polls / 100)
                self.assertIn("9", answer)
                self.assertEqual(before["epoch"], after["epoch"])
                self.assertEqual(before["workers"][0]["pid"], after["workers"][0]["pid"])
                self.assertIsNone(steady.process.poll())
            except AssertionError as error:
                raise AssertionError(f"{error}\n" + "\n".join(p.output()[-3000:] for p in cluster.processes)) from None
            finally:
                stop.set()
                for loop in loops:
                    loop.join()
                cluster.close()

    def test_a_coordinator_killed_and_started_again(self):
        """Workers keep their weights and take the new coordinator's first plan, however soon it comes."""
        with tempfile.TemporaryDirectory() as folder:
            cluster = Cluster(folder)
            try:
                worker = cluster.start(cluster.worker_argv())
                epochs = [cluster.wait_ready().get("/cluster").json()["epoch"]]
                for quickly in (False, True):
                    cluster.restart_coordinator()
                    if quickly:
                        cluster.restart_coordinator()
                    client = cluster.wait_ready()
                    state = client.get("/cluster").json()
                    epochs.append(state["epoch"])
                    self.assertEqual(state["workers"][0]["pid"], worker.pid)
                    self.assertIn("9", client.chat_text("What is 1 plus 8?", max_tokens=16, temperature=0))
                print(f"epochs {epochs}")
                self.assertEqual(epochs, sorted(set(epochs)), "each newer than those before")
                self.assertLess(epochs[-1], 100, "they count up")
                self.assertEqual(worker.output().count("keeping the weights of rank"), 2)
            except AssertionError as error:
                raise AssertionError(f"{error}\n" + "\n".join(p.output()[-3000:] for p in cluster.processes)) from None
            finally:
                cluster.close()


if __name__ == "__main__":
    harness.main()
