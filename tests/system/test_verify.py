"""What is compared of model files between coordinator and workers: samples, or with --verify every byte."""
import json
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import unittest

import harness

# A file of the tiny model is larger than what is sampled of it; this place, in a tensor, is not.
PLACE = 3_000_000


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def flip(path):
    """One bit of one byte, where the file lies."""
    with open(path, "r+b") as file:
        file.seek(PLACE)
        byte = file.read(1)[0]
        file.seek(PLACE)
        file.write(bytes([byte ^ 1]))


def inspect(model, *flags):
    done = subprocess.run([harness.SHOAL, "inspect", model, "--json", *flags], capture_output=True, text=True,
                          timeout=60 * harness.SLOWDOWN, check=True)
    return json.loads(done.stdout)


class Verify(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.folder)
        self.model = os.path.join(self.folder, "model.gguf")
        shutil.copy(harness.TINY_DENSE, self.model)
        self.processes = []

    def tearDown(self):
        for process in reversed(self.processes):
            process.stop(10)

    def start(self, argv, **kwargs):
        self.processes.append(harness.Process(argv, **kwargs))
        return self.processes[-1]

    def cluster(self, flags=(), yaml=()):
        """A coordinator that has read the model, and the command line of its worker, w0."""
        subprocess.run([harness.SHOAL, "keygen", "--dir", f"{self.folder}/keys", "--workers", "w0"], check=True,
                       capture_output=True)
        control = free_port()
        path = pathlib.Path(self.folder) / "cluster.yaml"
        path.write_text("\n".join([
            "model:", f"  path: {self.model}", *yaml, "coordinator:", "  listen: 127.0.0.1:0",
            f"  control: 127.0.0.1:{control}", f"  keys: {self.folder}/keys", "workers:", "  - name: w0",
            "    host: 127.0.0.1"]) + "\n")
        coordinator = self.start([harness.SHOAL, "coordinator", "--config", str(path), *flags])
        harness.wait_until(lambda: self.listens(control), 60, "the coordinator has read the model")
        worker = [harness.SHOAL, "worker", "--coordinator", f"tcp://127.0.0.1:{control}", "--server-key-file",
                  f"{self.folder}/keys/coordinator.pub", "--key-file", f"{self.folder}/keys/w0.key", "--name", "w0",
                  "--threads", "1"]
        return coordinator, worker

    @staticmethod
    def listens(port):
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    def test_inspect_tells_files_apart(self):
        before, sampled = inspect(self.model, "--verify"), inspect(self.model)
        self.assertNotIn("full_digest", sampled)
        self.assertRegex(before["full_digest"], r"^[0-9a-f]{32}$")
        other = os.path.join(self.folder, "other name.gguf")
        shutil.copy(self.model, other)
        self.assertEqual(inspect(other, "--verify")["full_digest"], before["full_digest"])
        flip(self.model)
        after = inspect(self.model, "--verify")
        self.assertNotEqual(after["full_digest"], before["full_digest"])
        self.assertEqual(after["digest"], before["digest"], "samples do not show it")

    def test_without_it_a_flipped_byte_passes(self):
        coordinator, worker = self.cluster()
        flip(self.model)
        self.start(worker)
        coordinator.wait_for_line("ready: ", 60)

    def refused(self, flags=(), yaml=()):
        whole = inspect(self.model, "--verify")["full_digest"]
        coordinator, worker = self.cluster(flags, yaml)
        self.assertIn(f"verified {self.model}: {whole}", coordinator.output())
        flip(self.model)
        self.start(worker)
        line = coordinator.wait_for_line("differs from the coordinator's file", 60).string
        for part in ("worker 'w0'", socket.gethostname(), self.model, whole,
                     inspect(self.model, "--verify")["full_digest"]):
            self.assertIn(part, line)
        self.assertNotRegex(coordinator.output(), "ready: ")

    def test_with_it_a_flipped_byte_is_refused_by_name(self):
        self.refused(flags=["--verify"])

    def test_the_configuration_asks_for_it_too(self):
        self.refused(yaml=["  verify: true"])

    def test_equal_files_are_served(self):
        with harness.Server(self.model, workers=2, args=["--verify"]) as server:
            self.assertTrue(server.client.chat_text("What is 1 plus 2?", max_tokens=4))
            # What both workers say in the same words stands in one line, with both names.
            for name in ("coordinator", "w0", "w1"):
                server.wait_for_line(rf"\[[^]]*\b{name}\b[^]]*\] verified .*: [0-9a-f]{{32}}, .* GB/s", 5)


if __name__ == "__main__":
    harness.main()
