"""Files without an end, readers of standard error who stall, standard descriptors that are closed, threads that hang."""
import contextlib
import ctypes
import fcntl
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

import harness

SHOAL = harness.SHOAL


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def full_pipe():
    """(reader, writer) of a pipe that takes nothing any more."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"-")
    os.set_blocking(writer, True)
    return reader, writer


@contextlib.contextmanager
def process(argv, **popen):
    child = subprocess.Popen(argv, **{"stdin": subprocess.DEVNULL, **popen})
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def serves(client):
    """Whether /ready says 200; False while nobody listens."""
    try:
        return client.get("/ready", timeout=5).status == 200
    except OSError:
        return False


class Files(unittest.TestCase):
    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="shoal-stalls-"))
        self.addCleanup(shutil.rmtree, self.folder)
        self.pipe = str(self.folder / "pipe")
        os.mkfifo(self.pipe)
        subprocess.run([SHOAL, "keygen", "--dir", self.folder / "keys", "--workers", "w0"], check=True,
                       stdout=subprocess.DEVNULL)

    def write(self, name, text):
        (self.folder / name).write_text(text)
        return str(self.folder / name)

    def coordinator(self, name, **keys):
        """A configuration whose named file is the pipe."""
        return self.write(name, "\n".join([
            "model:", f"  path: {keys.get('model', harness.TINY_DENSE)}", "coordinator:",
            f"  keys: {keys.get('keys', self.folder / 'keys')}", "  listen: 127.0.0.1:0", ""]))

    def refused(self, argv, path, seconds=5, env=None):
        """Ends by itself in time, with the code for wrong input, and names the file and what it is."""
        begin = time.monotonic()
        try:
            done = subprocess.run([SHOAL, *map(str, argv)], stdin=subprocess.DEVNULL, capture_output=True,
                                  text=True, timeout=seconds * harness.SLOWDOWN, check=False,
                                  env={**os.environ, **(env or {})})
        except subprocess.TimeoutExpired:
            self.fail(f"{argv} waits")
        said = done.stdout + done.stderr
        self.assertEqual(done.returncode, 2, f"{argv}: {said}")
        self.assertIn(str(path), said)
        self.assertIn("a named pipe, not a regular file", said)
        return time.monotonic() - begin

    def test_a_pipe_instead_of_a_file_is_refused_at_once(self):
        pipe, model = self.pipe, harness.TINY_DENSE
        keys = {}
        for name in ("coordinator.key", "w0.pub"):
            keys[name] = self.folder / f"keys-{name}"
            shutil.copytree(self.folder / "keys", keys[name])
            (keys[name] / name).unlink()
            os.mkfifo(keys[name] / name, 0o600)
        worker = ["worker", "--coordinator", "tcp://127.0.0.1:1", "--name", "w0"]
        own = ["--key-file", self.folder / "keys" / "w0.key"]
        part = self.folder / "split-00001-of-00002.gguf"
        os.mkfifo(part)
        cases = [
            (["serve", pipe], pipe),
            (["serve", part], part),
            (["serve", model, "--port", "0", "--config", pipe], pipe),
            (["serve", model, "--port", "0", "--api-keys", pipe], pipe),
            (["serve", harness.TINY_MOE, "--workers", "2", "--experts", "placed", "--port", "0", "--placement", pipe],
             pipe),
            (["coordinator", "--config", self.coordinator("a.yaml", model=pipe)], pipe),
            (["coordinator", "--config", self.coordinator("b.yaml", keys=keys["coordinator.key"])],
             keys["coordinator.key"] / "coordinator.key"),
            (["coordinator", "--config", self.coordinator("c.yaml", keys=keys["w0.pub"])],
             keys["w0.pub"] / "w0.pub"),
            ([*worker, "--server-key-file", pipe, *own], pipe),
            ([*worker, "--server-key-file", self.folder / "keys" / "coordinator.pub", "--key-file", pipe], pipe),
            (["inspect", pipe], pipe),
            (["inspect", harness.TINY_MOE, "--workers", "2", "--placement", pipe], pipe),
            (["bench", "latency", pipe], pipe),
        ]
        os.chmod(pipe, 0o600)
        for argv, path in cases:
            with self.subTest(argv=argv):
                self.refused(argv, path)

    def test_a_pipe_instead_of_the_kernels_library_is_refused(self):
        done = subprocess.run([SHOAL, "worker", "--probe-device", "cuda:0"], capture_output=True, text=True,
                              timeout=10 * harness.SLOWDOWN, check=False,
                              env={**os.environ, "SHOAL_CUDA_LIBRARY": self.pipe})
        self.assertEqual(done.returncode, 2)
        self.assertIn(self.pipe, done.stderr)

    def test_keygen_leaves_a_pipe_alone(self):
        done = subprocess.run([SHOAL, "keygen", "--dir", self.folder / "new", "--workers", "w0", "--api-keys",
                               self.pipe], capture_output=True, text=True, timeout=10 * harness.SLOWDOWN, check=False)
        self.assertEqual(done.returncode, 2)
        self.assertTrue(pathlib.Path(self.pipe).is_fifo())


class Readers(unittest.TestCase):
    def test_a_full_standard_error_stops_nothing(self):
        """Nobody reads what core, workers and supervisor log, from the start."""
        reader, writer = full_pipe()
        port = free_port()
        argv = [SHOAL, "serve", harness.TINY_DENSE, "--workers", "2", "--port", str(port), "--log-level", "debug"]
        with process(argv, stdout=writer, stderr=writer) as child:
            client = harness.Client(f"http://127.0.0.1:{port}")
            harness.wait_until(lambda: serves(client), 30, "ready")
            self.assertIn("9", client.chat_text("What is 1 plus 8?", max_tokens=16, temperature=0))
            for _ in range(3):
                victim = client.get("/cluster").json()["workers"][1]["pid"]
                os.kill(victim, signal.SIGKILL)
                harness.wait_until(lambda: not serves(client), 5, "not ready")
                harness.wait_until(lambda: serves(client), 20, "the worker is back")
            self.assertIn("9", client.chat_text("What is 1 plus 8?", max_tokens=16, temperature=0))
            self.assertIn("shoal_log_dropped_lines_total", client.metrics())
            child.send_signal(signal.SIGTERM)
            self.assertEqual(child.wait(15 * harness.SLOWDOWN), 0)
        os.close(reader)
        os.close(writer)

    def test_errors_are_not_waited_for(self):
        reader, writer = full_pipe()
        broken = tempfile.NamedTemporaryFile(suffix=".gguf")  # pylint: disable=consider-using-with
        broken.write(b"no model")
        broken.flush()
        cases = [["serve", "/none.gguf"], ["serve", broken.name], ["serve"], ["nonsense"], ["serve", "--nonsense"],
                 ["inspect", "/none.gguf"], ["worker"], ["bench", "latency", "/none.gguf"]]
        for argv in cases:
            with self.subTest(argv=argv), process([SHOAL, *argv], stderr=writer) as child:
                self.assertEqual(child.wait(10 * harness.SLOWDOWN), 2)
        broken.close()
        os.close(reader)
        os.close(writer)

    def test_a_reader_who_leaves_stops_nothing(self):
        reader, writer = os.pipe()
        port = free_port()
        argv = [SHOAL, "serve", harness.TINY_DENSE, "--workers", "2", "--port", str(port), "--log-level", "debug"]
        with process(argv, stdout=writer, stderr=writer) as child:
            os.close(writer)
            os.close(reader)
            client = harness.Client(f"http://127.0.0.1:{port}")
            harness.wait_until(lambda: serves(client), 30, "ready")
            pids = [worker["pid"] for worker in client.get("/cluster").json()["workers"]]
            self.assertIn("9", client.chat_text("What is 1 plus 8?", max_tokens=16, temperature=0))
            self.assertEqual(pids, [worker["pid"] for worker in client.get("/cluster").json()["workers"]])
            child.send_signal(signal.SIGTERM)
            self.assertEqual(child.wait(15 * harness.SLOWDOWN), 0)


class Descriptors(unittest.TestCase):
    def test_serve_with_any_of_the_standard_descriptors_closed(self):
        folder = tempfile.mkdtemp(prefix="shoal-stalls-")
        self.addCleanup(shutil.rmtree, folder)
        model = pathlib.Path(folder, "model.gguf")
        shutil.copy(harness.TINY_DENSE, model)
        before = model.read_bytes()
        for closed in range(8):
            port = free_port()
            redirections = " ".join(f"{fd}>&-" for fd in range(3) if closed & 1 << fd)
            command = f'exec "$0" "$@" {redirections}'
            argv = ["/bin/sh", "-c", command, SHOAL, "serve", str(model), "--workers", "2", "--port", str(port)]
            with self.subTest(closed=closed), process(argv, stdout=subprocess.DEVNULL,
                                                      stderr=subprocess.DEVNULL) as child:
                client = harness.Client(f"http://127.0.0.1:{port}")
                harness.wait_until(lambda: serves(client), 30, "ready")
                self.assertIn("9", client.chat_text("What is 1 plus 8?", max_tokens=16, temperature=0))
                pids = [worker["pid"] for worker in client.get("/cluster").json()["workers"]]
                standard = {pid: [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in range(3)] for pid in [child.pid, *pids]}
                self.assertEqual(standard.pop(child.pid), ["/dev/null"] * 3)
                for null, output, errors in standard.values():  # of workers: a pipe of their own to the server
                    self.assertEqual((null, output), ("/dev/null", errors))
                    self.assertRegex(output, r"^pipe:")
                self.assertEqual(len({output for _, output, _ in standard.values()}), 2)
                child.send_signal(signal.SIGTERM)
                self.assertEqual(child.wait(15 * harness.SLOWDOWN), 0)
        self.assertEqual(model.read_bytes(), before)

    def test_worker_and_inspect_with_all_of_them_closed(self):
        for argv, code in ((["worker", "--coordinator", "tcp://127.0.0.1:1", "--key-file", "/none"], 2),
                           (["inspect", harness.TINY_DENSE], 0)):
            command = 'exec "$0" "$@" 0>&- 1>&- 2>&-'
            done = subprocess.run(["/bin/sh", "-c", command, SHOAL, *argv], check=False,
                                  timeout=20 * harness.SLOWDOWN)
            self.assertEqual(done.returncode, code, argv)


PTRACE_SEIZE, PTRACE_INTERRUPT = 0x4206, 0x4207
WALL = 0x40000000


class StoppedThread:
    """One thread of another process stands still, as if it hung. From one thread of this one."""

    def __init__(self, tid):
        self.tid = tid
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
        if self.libc.ptrace(PTRACE_SEIZE, tid, None, None) != 0:
            raise unittest.SkipTest("ptrace is not permitted here")
        self.libc.ptrace(PTRACE_INTERRUPT, tid, None, None)
        os.waitpid(tid, WALL)

    def reap(self, child):
        """The kernel keeps the process until its tracer has heard of the thread's end."""
        if self.tid == child.pid:
            return  # its own end, which poll() hears of
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.tid, WALL | os.WNOHANG)


class Hanging(unittest.TestCase):
    def ends_by_itself(self, pick, said):
        """A server one of whose threads stands still ends itself, with its workers."""
        with tempfile.TemporaryFile("w+") as errors, process(
                [SHOAL, "serve", harness.TINY_DENSE, "--workers", "1", "--port", "0"],
                stdout=subprocess.PIPE, stderr=errors, text=True) as child:
            line = child.stdout.readline()
            client = harness.Client(re.search(r"http://[^\s/]+", line).group(0))
            workers = [worker["pid"] for worker in client.get("/cluster").json()["workers"]]
            stopped = StoppedThread(pick(child.pid))
            begin = time.monotonic()

            def gone():
                stopped.reap(child)
                return child.poll() is not None

            harness.wait_until(gone, 50, "the watchdog ends the process")
            self.assertGreater(time.monotonic() - begin, 20, "it ends too soon")
            self.assertEqual(child.returncode, 1)
            errors.seek(0)
            self.assertIn(said, errors.read())
            harness.wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in workers), 5,
                               "its workers are gone")

    def test_main_thread_and_core(self):
        def core_thread(pid):
            for tid in os.listdir(f"/proc/{pid}/task"):
                if pathlib.Path(f"/proc/{pid}/task/{tid}/comm").read_text().strip() == "core":
                    return int(tid)
            raise AssertionError("no thread is called core")

        harness.parallel([
            lambda: self.ends_by_itself(lambda pid: pid, "the main thread has stood still"),
            lambda: self.ends_by_itself(core_thread, "the core's loop has stood still")])


if __name__ == "__main__":
    harness.main()
