"""Requests that ask for more memory than there is: an answer for them, nothing for anybody else."""
import json
import os
import pathlib
import re
import resource
import subprocess
import tempfile
import threading
import time
import unittest

import harness
import test_addresses

TEXT = {"content": "a" * (10 << 20), "with_pieces": True}
ROOM = 192 << 20  # bytes of address space above what the idle server has
CONFIG_CONTEXT = 1 << 20


def status_bytes(pid, name):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(name + ":"))


class MemoryLimits(unittest.TestCase):
    def test_text_that_cannot_fit_is_refused_before_it_is_encoded(self):
        with harness.Server() as server:
            before = status_bytes(server.pid, "VmRSS")
            requests = [("/tokenize", TEXT), ("/v1/completions", {"prompt": TEXT["content"]}),
                        ("/v1/chat/completions", {"messages": [{"role": "user", "content": TEXT["content"]}]})]
            for path, body in requests:
                response = server.client.post(path, body)
                self.assertEqual(response.status, 400, path)
                self.assertEqual(response.json()["error"]["code"], "context_length_exceeded", path)
            # The bodies themselves and their copies, never tokens, pieces or symbols; and it is given back.
            self.assertLess(status_bytes(server.pid, "VmHWM") - before, 300 << 20)
            self.assertLess(status_bytes(server.pid, "VmRSS") - before, 96 << 20)

    def test_without_memory_a_request_fails_and_the_server_goes_on(self):
        # So long a context that no text is refused for its length.
        with harness.Server(args=("--context", str(CONFIG_CONTEXT))) as server:
            expected = server.client.chat_text("What is 2 plus 2?", temperature=0)
            limit = status_bytes(server.pid, "VmSize") + ROOM
            resource.prlimit(server.pid, resource.RLIMIT_AS, (limit, limit))
            statuses = []

            def flood():
                for path in ("/tokenize", "/v1/completions"):
                    body = TEXT if path == "/tokenize" else {"prompt": TEXT["content"], "max_tokens": 1}
                    try:
                        statuses.append(server.client.post(path, body).status)
                    except OSError:  # not even an answer fitted
                        statuses.append(0)

            threads = [threading.Thread(target=flood) for _ in range(4)]
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                self.assertEqual(server.client.get("/health").status, 200)
                time.sleep(0.05)
            self.assertIsNone(server.process.poll(), server.output())
            self.assertTrue(all(status in (0, 200, 400, 503) for status in statuses), statuses)
            self.assertIn(503, statuses, statuses)
            self.assertEqual(server.client.chat_text("What is 2 plus 2?", temperature=0), expected)
            faults = sum(value for name, value in server.client.metrics().items()
                         if name.startswith("shoal_handler_faults_total"))
            refused = sum(value for name, value in server.client.metrics().items()
                          if name.startswith("shoal_http_refused_total"))
            self.assertGreater(faults + refused, 0)
            print(json.dumps({"statuses": statuses, "faults": faults, "refused": refused}), flush=True)


class RemoteWorkers(unittest.TestCase):
    """A worker of a coordinator that can never hold its part: said at once, with its name and what is missing."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def little_memory(self, argv):
        """A program that sees a machine with 8 MiB to spare, or a visible skip."""
        meminfo = pathlib.Path(self.folder, "meminfo")
        meminfo.write_text("MemTotal: 65536 kB\nMemFree: 8192 kB\nMemAvailable: 8192 kB\n")
        where = ["unshare", "--mount", "sh", "-c", f'mount --bind {meminfo} /proc/meminfo && exec "$0" "$@"']
        if subprocess.run([*where, "true"], capture_output=True, check=False).returncode != 0:
            self.skipTest("needs root and mount namespaces")
        return [*where, *argv]

    def test_too_small_a_worker_is_named_and_a_larger_one_takes_its_place(self):
        http, control = test_addresses.free_port(), test_addresses.free_port()
        misfit = (r"rank 0 \(worker 'w0' on [^)]+\) does not fit: weights .* make [0-9.]+ MiB, but it may use "
                  r"[0-9.]+ MiB, [0-9.]+ MiB too little; ")
        with test_addresses.Cluster(self.folder, f"127.0.0.1:{http}", f"127.0.0.1:{control}", ("w0",)) as cluster:
            coordinator = cluster.coordinator()
            cluster.worker("w0", f"127.0.0.1:{control}", where=self.little_memory)
            coordinator.wait_for_line("error .*" + misfit, 20)
            client = harness.Client(f"http://127.0.0.1:{http}")
            for path, key in (("/ready", "reason"), ("/cluster", "not_ready_reason")):
                harness.wait_until(lambda path=path, key=key: re.match(misfit, client.get(path).json()[key]), 5, path)
            self.assertEqual(client.get("/ready").status, 503)
            self.assertEqual(client.get("/health").status, 200)
            self.assertIsNone(coordinator.process.poll(), "somebody may mend a host")
            self.assertEqual(cluster.processes[1].stop(), 0)
            cluster.worker("w0", f"127.0.0.1:{control}")
            self.assertTrue(harness.Client(cluster.ready()).chat_text("What is 2 plus 2?", max_tokens=4))


if __name__ == "__main__":
    os.environ.setdefault("MALLOC_ARENA_MAX", "2")  # arenas reserve address space, which is what is limited
    harness.main()
