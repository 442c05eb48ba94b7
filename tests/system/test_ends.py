"""However a server ends, its workers end too, and nothing of it is left on a disk or in /dev/shm."""
import contextlib
import fcntl
import os
import pathlib
import resource
import signal
import socket
import struct
import subprocess
import tempfile
import unittest

import harness
import test_addresses
from test_first_start import SHOAL, bad_disk, children

SHM = pathlib.Path("/dev/shm")
# Those that end a process, by default or here; SIGPIPE is ignored.
TERM, INT = signal.SIGTERM, signal.SIGINT
FATAL = [number for number in signal.Signals
         if number not in (TERM, INT, signal.SIGPIPE, signal.SIGCHLD, signal.SIGCONT, signal.SIGSTOP, signal.SIGTSTP,
                           signal.SIGTTIN, signal.SIGTTOU, signal.SIGURG, signal.SIGWINCH)]
MAGIC = struct.pack("<Q", 0x314D48534C414F53) + bytes(8192)


def segments(pid):
    """Of groups that this coordinator formed."""
    return [path.name for path in SHM.glob(f"shoal.{pid}.*")]


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


class Ends(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.temporary = folder.name

    def start(self, env=None, argv=("serve", harness.TINY_DENSE, "--workers", "2", "--port", "0")):
        """In a folder that is its home and its place of temporary files too. Core files are the system's affair."""
        return subprocess.Popen([SHOAL, *argv], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.DEVNULL, text=True, cwd=self.temporary,
                                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)),
                                env={**(env or os.environ), "TMPDIR": self.temporary, "HOME": self.temporary})

    def relatives(self):
        """Living processes that started in this test's folder, whoever their parent is by now."""
        mark = f"TMPDIR={self.temporary}\0".encode()
        found = []
        for path in pathlib.Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):
                if mark in path.read_bytes() and alive(path.parent.name):
                    found.append(path.parent.name)
        return found

    def nothing_left(self, server):
        """Folders of keys have no chance: TMPDIR is this test's own."""
        server.wait(20 * harness.SLOWDOWN)
        harness.wait_until(lambda: not self.relatives(), 5, "workers end")
        self.assertEqual(os.listdir(self.temporary), [])

    def end(self, numbers, code, ready):
        server = self.start()
        try:
            if ready:
                self.assertIn("ready: ", server.stdout.readline())
            harness.wait_until(lambda: children(server.pid), 20, "workers")
            for number in numbers:
                server.send_signal(number)
            self.nothing_left(server)
            self.assertIn(server.returncode, code)
            return server.pid
        finally:
            server.kill()
            server.wait()
            server.stdout.close()

    def test_every_kind_of_end(self):
        asked = [([TERM], [0]), ([INT], [0]), ([TERM, TERM], [0, 1])]
        ends = [(numbers, code, ready) for numbers, code in asked for ready in (True, False)]
        ends += [([number], [-number], True) for number in FATAL]
        ends += [([number], [-number], False) for number in (signal.SIGABRT, signal.SIGHUP, signal.SIGKILL)]
        for numbers, code, ready in ends:
            with self.subTest(numbers=numbers, ready=ready):
                pid = self.end(numbers, code, ready)
                if ready:
                    self.assertEqual(segments(pid), [])

    def test_a_port_that_is_taken(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            server = self.start(argv=("serve", harness.TINY_DENSE, "--port", str(taken.getsockname()[1])))
            self.addCleanup(server.stdout.close)
            self.nothing_left(server)
            self.assertEqual(server.returncode, 1)

    def test_a_benchmark_that_is_ended(self):
        """Its workers are a server's."""
        for number in (TERM, INT, signal.SIGHUP, signal.SIGKILL):
            with self.subTest(number=number):
                bench = self.start(argv=("bench", "latency", harness.TINY_DENSE, "--layout", "2x1"))
                self.addCleanup(bench.stdout.close)
                self.addCleanup(bench.wait)
                self.addCleanup(bench.kill)
                harness.wait_until(lambda pid=bench.pid: len(children(pid)) == 2, 20, "workers")
                bench.send_signal(number)
                self.nothing_left(bench)
                harness.wait_until(lambda pid=bench.pid: not segments(pid), 5, "segments go")

    def test_workers_of_a_coordinator_that_are_ended(self):
        """Started by somebody else: each goes alone, and what serves goes on with its successor."""
        control = test_addresses.free_port()
        with test_addresses.Cluster(self.temporary, "127.0.0.1:0", f"127.0.0.1:{control}", ("w0", "w1")) as cluster:
            coordinator = cluster.coordinator()
            before = sorted(os.listdir(self.temporary))
            cluster.worker("w1", f"127.0.0.1:{control}")
            for number, code in ((TERM, 0), (INT, 0), (signal.SIGHUP, -signal.SIGHUP), (signal.SIGKILL, -signal.SIGKILL)):
                with self.subTest(number=number):
                    cluster.worker("w0", f"127.0.0.1:{control}")
                    worker = cluster.processes.pop()
                    self.addCleanup(worker.stop, 5)
                    client = harness.Client(cluster.ready())
                    harness.wait_until(lambda client=client: client.get("/ready").status == 200, 60, "ready")
                    worker.signal(number)
                    self.assertEqual(worker.process.wait(20 * harness.SLOWDOWN), code)
                    self.assertEqual(segments(coordinator.pid), [])
                    harness.wait_until(lambda client=client: client.get("/ready").status == 503, 20, "its end is seen")
            self.assertEqual(sorted(os.listdir(self.temporary)), before)

    def test_a_start_that_fails(self):
        server = self.start(bad_disk(CUT=os.path.basename(harness.TINY_DENSE)))
        self.addCleanup(server.stdout.close)
        self.addCleanup(server.wait)
        self.addCleanup(server.kill)
        harness.wait_until(lambda: children(server.pid), 20, "workers")
        self.nothing_left(server)
        self.assertEqual(server.returncode, 2)
        self.assertEqual(segments(server.pid), [])

    def test_a_start_sweeps_what_killed_ones_left(self):
        mark = os.getpid()
        gone = [SHM / f"shoal.{mark}.1", SHM / f"shoal.{mark}.ab12.2"]
        stays = [SHM / f"shoal.{mark}.3", SHM / f"shoal.{mark}.txt", SHM / f"shoal.{mark}.4", SHM / f"shoal.{mark}.5",
                 SHM / f"shoal.{mark}.6"]
        with contextlib.ExitStack() as stack:
            for path in [*gone, *stays[:4]]:
                path.touch(0o600)
                stack.callback(path.unlink, missing_ok=True)
                path.write_bytes(MAGIC)
            holder = stack.enter_context(open(stays[0], "rb"))  # a group that forms: its creator has the lock
            fcntl.flock(holder, fcntl.LOCK_EX)
            stays[2].chmod(0o644)
            stays[3].write_bytes(b"somebody else's" * 1000)
            stays[4].symlink_to(gone[0])
            stack.callback(stays[4].unlink, missing_ok=True)
            with harness.Server(workers=1):
                self.assertEqual([path.name for path in gone if path.exists()], [])
            self.assertEqual([path.name for path in stays if not os.path.lexists(path)], [])


if __name__ == "__main__":
    harness.main()
