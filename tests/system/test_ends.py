"""However a server ends, its workers end too, and nothing of it is left on a disk or in /dev/shm."""
import contextlib
import fcntl
import os
import pathlib
import signal
import struct
import subprocess
import tempfile
import unittest

import harness
from test_first_start import SHOAL, bad_disk, children

SHM = pathlib.Path("/dev/shm")
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

    def start(self, env=None):
        return subprocess.Popen([SHOAL, "serve", harness.TINY_DENSE, "--workers", "2", "--port", "0"],
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                                env={**(env or os.environ), "TMPDIR": self.temporary})

    def nothing_left(self, server, workers):
        """Folders of keys have no chance: TMPDIR is this test's own."""
        server.wait(20 * harness.SLOWDOWN)
        harness.wait_until(lambda: not any(alive(pid) for pid in workers), 5, "workers end")
        self.assertEqual(os.listdir(self.temporary), [])

    def end(self, numbers, code, ready):
        server = self.start()
        try:
            if ready:
                self.assertIn("ready: ", server.stdout.readline())
            workers = harness.wait_until(lambda: children(server.pid), 20, "workers")
            for number in numbers:
                server.send_signal(number)
            self.nothing_left(server, workers)
            self.assertIn(server.returncode, code)
            return server.pid
        finally:
            server.kill()
            server.wait()
            server.stdout.close()

    def test_every_kind_of_end(self):
        term, interrupt = signal.SIGTERM, signal.SIGINT
        ends = [([term], [0]), ([interrupt], [0]), ([term, term], [0, 1]), ([signal.SIGABRT], [-signal.SIGABRT]),
                ([signal.SIGSEGV], [-signal.SIGSEGV]), ([signal.SIGKILL], [-signal.SIGKILL])]
        for ready in (True, False):
            for numbers, code in ends:
                with self.subTest(numbers=numbers, ready=ready):
                    pid = self.end(numbers, code, ready)
                    if ready:
                        self.assertEqual(segments(pid), [])

    def test_a_start_that_fails(self):
        server = self.start(bad_disk(CUT=os.path.basename(harness.TINY_DENSE)))
        self.addCleanup(server.stdout.close)
        self.addCleanup(server.wait)
        self.addCleanup(server.kill)
        workers = harness.wait_until(lambda: children(server.pid), 20, "workers")
        self.nothing_left(server, workers)
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
