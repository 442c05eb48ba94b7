"""What stands still: a coordinator that was stopped, a compute thread that hangs, a model file that is broken for a while."""
import ctypes
import os
import pathlib
import re
import shutil
import signal
import tempfile
import threading
import time
import unittest

import harness

STORY = "Tell me a story about a brave fox and a lamp."
PTRACE_SEIZE, PTRACE_INTERRUPT, WALL = 0x4206, 0x4207, 0x40000000


class Stream(threading.Thread):
    """A long answer, as it arrives."""

    def __init__(self, client, tokens=1800):
        super().__init__()
        self.client, self.tokens, self.events, self.times, self.ended = client, tokens, [], [], None
        self.start()

    def run(self):
        try:
            for event in self.client.stream("/v1/chat/completions", {
                    "model": "m", "max_tokens": self.tokens, "ignore_eos": True, "temperature": 0,
                    "messages": [{"role": "user", "content": STORY}]}):
                self.events.append(event)
                self.times.append(time.monotonic())
        finally:
            self.ended = time.monotonic()

    def slowest(self):
        """The longest gap between two tokens so far: what a step costs on this machine, now."""
        return max(b - a for a, b in zip(self.times, self.times[1:]))


class StoppedThreads:
    """Stops single threads of another process; SIGSTOP would stop all of them."""

    def __init__(self, pid):
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
        self.tids = []
        for tid in map(int, os.listdir(f"/proc/{pid}/task")):
            name = pathlib.Path(f"/proc/{pid}/task/{tid}/comm").read_text()
            if tid == pid or name.startswith("ZMQ"):
                continue  # the control thread and the link's: heartbeats go on
            if self.libc.ptrace(PTRACE_SEIZE, tid, None, None) != 0:
                raise unittest.SkipTest(f"may not trace threads: {os.strerror(ctypes.get_errno())}")
            self.libc.ptrace(PTRACE_INTERRUPT, tid, None, None)
            self.tids.append(tid)

    def reap(self):
        """A process of which a traced thread is not waited for cannot go."""
        for tid in list(self.tids):
            try:
                _, status = os.waitpid(tid, os.WNOHANG | WALL)
                if status and (os.WIFSIGNALED(status) or os.WIFEXITED(status)):
                    self.tids.remove(tid)
            except ChildProcessError:
                self.tids.remove(tid)


class Deadlines(unittest.TestCase):
    def test_stopped_coordinator_blames_nobody(self):
        with harness.Server(workers=2) as server:
            before = server.client.get("/cluster").json()
            stream = Stream(server.client)
            harness.wait_until(lambda: len(stream.events) > 5, 20, "tokens flow")
            server.signal(signal.SIGSTOP)
            try:
                time.sleep(3)
            finally:
                server.signal(signal.SIGCONT)
            statuses = []
            for _ in range(50):
                statuses.append(server.client.get("/ready").status)
                time.sleep(0.02)
            stream.join(120 * harness.SLOWDOWN)
            self.assertEqual(stream.events[-1], "[DONE]", stream.events[-3:])
            self.assertEqual(set(statuses), {200})
            after = server.client.get("/cluster").json()
            self.assertEqual(before["epoch"], after["epoch"])
            self.assertEqual([w["pid"] for w in before["workers"]], [w["pid"] for w in after["workers"]])

    def test_hung_compute_thread(self):
        with harness.Server(workers=2) as server:
            warm = Stream(server.client, 100)
            warm.join()
            stream = Stream(server.client)
            harness.wait_until(lambda: len(stream.events) > 20, 20, "tokens flow")
            victim = server.worker_pids()[1]
            slowest = max(warm.slowest(), stream.slowest())
            overdue = max(1.0, 8 * slowest)  # what is promised: see docs/operations.md
            hung = time.monotonic()
            threads = StoppedThreads(victim)
            harness.wait_until(lambda: server.client.get("/ready").status == 503, 15, "/ready says 503")
            noticed = time.monotonic() - hung
            # The second where a thread was stopped with a lock that the control thread wants.
            ended = re.compile("plan epoch 1 ended: .*(did not return|no sign of life)")
            harness.wait_until(lambda: ended.search(server.output()), 30, "the plan ends")
            given_up = time.monotonic() - hung
            print(f"slowest step {1000 * slowest:.0f} ms; /ready after {noticed:.2f} s, given up after {given_up:.2f} s")
            self.assertLess(noticed, (overdue + 1) * harness.SLOWDOWN)
            self.assertLess(given_up, (2 * overdue + 1) * harness.SLOWDOWN)

            def ready():
                threads.reap()
                return server.client.get("/ready").status == 200

            harness.wait_until(ready, 60, "ready again")
            self.assertNotIn(victim, server.worker_pids())
            stream.join(60 * harness.SLOWDOWN)
            self.assertEqual(stream.events[-1], "[DONE]", "the stream went on")
            self.assertIn("9", server.client.chat_text("What is 1 plus 8?", max_tokens=16, temperature=0))

    # A thread that stands still before it takes up its work hangs as much as one within it.
    def test_thread_that_hangs_while_idle(self):
        with harness.Server(workers=2) as server:
            self.assertIn("9", server.client.chat_text("What is 1 plus 8?", max_tokens=16, temperature=0))
            victim = server.worker_pids()[1]
            time.sleep(1)  # nothing to do for anybody
            threads = StoppedThreads(victim)
            stream = Stream(server.client, 50)

            def replaced():
                threads.reap()
                return server.client.get("/ready").status == 200 and victim not in server.worker_pids()

            harness.wait_until(replaced, 40 * harness.SLOWDOWN, "another worker in place of the one that hangs")
            stream.join(60 * harness.SLOWDOWN)
            self.assertEqual(stream.events[-1], "[DONE]", "the request was not lost")
            self.assertIn("9", server.client.chat_text("What is 1 plus 8?", max_tokens=16, temperature=0))

    def test_repaired_model_file(self):
        with tempfile.TemporaryDirectory() as folder:
            model = pathlib.Path(folder) / "model.gguf"
            good, broken = pathlib.Path(folder) / "good", pathlib.Path(folder) / "broken"
            for path in (model, good, broken):
                shutil.copyfile(harness.TINY_DENSE, path)
            os.truncate(broken, broken.stat().st_size * 2 // 3)
            with harness.Server(model=str(model), workers=2) as server:
                os.replace(broken, model)
                os.kill(server.worker_pids()[1], signal.SIGKILL)

                def reason():
                    response = server.client.get("/ready")
                    text = response.body.decode()
                    return text if response.status == 503 and "failed" in text and "model.gguf" in text else None

                named = harness.wait_until(reason, 20, "the failure is named")
                print(named)
                time.sleep(3)
                self.assertIsNotNone(reason(), "nothing has changed: it is not tried again and again")
                os.replace(good, model)
                repaired = time.monotonic()
                harness.wait_until(lambda: server.client.get("/ready").status == 200, 20, "serves again")
                took = time.monotonic() - repaired
                print(f"serving {took:.2f} s after the repair")
                self.assertLess(took, 5 * harness.SLOWDOWN)
                self.assertIn("9", server.client.chat_text("What is 1 plus 8?", max_tokens=16, temperature=0))


if __name__ == "__main__":
    harness.main()
