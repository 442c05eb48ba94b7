"""What the coordinator's configuration says of a worker on another host reaches it; the worker's own command line wins."""
import os
import pathlib
import re
import subprocess
import tempfile
import unittest

import harness
import test_addresses


def compute_threads(pid):
    """Cores each thread of a process may use, as text."""
    allowed = []
    for thread in os.listdir(f"/proc/{pid}/task"):
        text = pathlib.Path(f"/proc/{pid}/task/{thread}/status").read_text(encoding="ascii")
        allowed.append(re.search(r"Cpus_allowed_list:\s*(\S+)", text).group(1))
    return allowed


class RemoteSettings(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.port = test_addresses.free_port()

    def start(self, cluster, said, *args):
        """A coordinator whose file says `said` of its worker, and that worker with `args`."""
        text = cluster.config.read_text().replace("  - name: w0", f"  - {{name: w0{said}}}")
        cluster.config.write_text(text)
        cluster.coordinator()
        cluster.processes.append(harness.Process([
            harness.SHOAL, "worker", "--coordinator", f"127.0.0.1:{self.port}", "--server-key-file",
            f"{cluster.folder}/keys/coordinator.pub", "--key-file", f"{cluster.folder}/keys/w0.key", "--name", "w0", *args]))
        client = harness.Client(cluster.ready())
        self.assertTrue(client.chat_text("What is 1 plus 1?", max_tokens=4))
        return cluster.processes[1], client.get("/cluster").json()["workers"][0]

    def cluster(self):
        return test_addresses.Cluster(self.folder, "127.0.0.1:0", f"127.0.0.1:{self.port}", ("w0",))

    def test_threads_of_the_file(self):
        with self.cluster() as cluster:
            worker, _ = self.start(cluster, ", threads: 3")
            self.assertIn("3 threads", worker.output().split("starting over by it")[1])
            self.assertNotIn("wins over", worker.output())

    def test_cores_of_the_file(self):
        cores = sorted(os.sched_getaffinity(0))[:2]
        if len(cores) < 2:
            self.skipTest("needs two cores")
        with self.cluster() as cluster:
            worker, _ = self.start(cluster, f", threads: 2, cores: '{cores[0]},{cores[1]}'")
            self.assertIn(str(cores[1]), compute_threads(worker.pid))  # of the second thread, not both

    def test_the_command_line_wins_and_says_so(self):
        with self.cluster() as cluster:
            worker, _ = self.start(cluster, ", threads: 1", "--threads", "2")
            self.assertIn("--threads 2 of this command line wins over the coordinator's configuration, which says 1",
                          worker.output())
            self.assertIn("2 threads", worker.output().split("wins over")[1])

    def test_a_device_that_is_not_there_ends_the_worker_with_the_reason(self):
        with self.cluster() as cluster:
            cluster.config.write_text(cluster.config.read_text().replace("  - name: w0", "  - {name: w0, device: 'cuda:0'}"))
            cluster.coordinator()
            done = subprocess.run([
                harness.SHOAL, "worker", "--coordinator", f"127.0.0.1:{self.port}", "--server-key-file",
                f"{cluster.folder}/keys/coordinator.pub", "--key-file", f"{cluster.folder}/keys/w0.key", "--name", "w0"],
                capture_output=True, text=True, timeout=60, check=False, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""})
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn("as the coordinator's configuration says", done.stderr)

    def test_a_file_that_says_nothing_changes_nothing(self):
        with self.cluster() as cluster:
            worker, _ = self.start(cluster, "", "--threads", "2")
            self.assertNotIn("starting over", worker.output())
            self.assertNotIn("wins over", worker.output())


if __name__ == "__main__":
    harness.main()
