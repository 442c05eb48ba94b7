"""Workers that die: streams end with an error in time, readiness tells the truth, service resumes."""
import contextlib
import os
import signal
import threading
import time
import unittest

import harness

STORY = "Tell me a story about a brave fox and a lamp."


class Failure(unittest.TestCase):
    def kill_during_stream(self, number, **layout):
        with harness.Server(**({"workers": 2} | layout)) as server:
            events, ended = [], []

            def consume():
                try:
                    for event in server.client.stream("/v1/chat/completions", {
                            "model": "m", "max_tokens": 1800, "ignore_eos": True,
                            "messages": [{"role": "user", "content": STORY}]}):
                        events.append(event)
                finally:
                    ended.append(time.monotonic())

            thread = threading.Thread(target=consume)
            thread.start()
            harness.wait_until(lambda: len(events) > 5, 20, "tokens flow")
            victim = server.worker_pids()[number]
            killed = time.monotonic()
            os.kill(victim, signal.SIGKILL)
            thread.join(30)
            self.assertTrue(ended)
            self.assertLess(ended[0] - killed, 3 * harness.SLOWDOWN, "the stream hung")
            self.assertIn("error", events[-1], "the last event must be an error, not silence or [DONE]")
            self.assertIn("worker", events[-1]["error"]["message"])
            # Not ready while the group is broken, then ready again with a restarted worker.
            harness.wait_until(lambda: server.client.get("/ready").status == 200, 20, "ready again")
            self.assertNotIn(victim, server.worker_pids())
            self.assertIn("9", server.client.chat_text("What is 1 plus 8?", max_tokens=16, temperature=0))

    def test_rank_0_killed(self):
        self.kill_during_stream(0)

    def test_rank_1_killed(self):
        self.kill_during_stream(1)

    def test_worker_of_experts_killed(self):
        self.kill_during_stream(1, model=harness.TINY_MOE, workers=1, args=("--expert-workers", "1"))

    def test_placed_experts_stay_where_they_are(self):
        """Survivors keep their weights: the new epoch has the placement of the old one."""
        with harness.Server(model=harness.TINY_MOE, workers=3, args=("--experts", "placed")) as server:
            def weights():
                return [w["weight_bytes"] for w in server.client.get("/cluster").json()["workers"]]

            before, pids = weights(), server.worker_pids()
            os.kill(pids[2], signal.SIGKILL)
            harness.wait_until(lambda: server.client.get("/ready").status == 503, 4, "/ready says 503")
            harness.wait_until(lambda: server.client.get("/ready").status == 200, 20, "ready again")
            self.assertEqual(before, weights())
            self.assertEqual(pids[:2], server.worker_pids()[:2])
            self.assertIn("9", server.client.chat_text("What is 1 plus 8?", max_tokens=16, temperature=0))

    def test_ready_turns_503_while_a_worker_is_gone(self):
        with harness.Server(workers=2) as server:
            seen = []
            stop = threading.Event()

            def watch():
                while not stop.is_set():
                    response = server.client.get("/ready")
                    seen.append(response.status)
                    time.sleep(0.01)

            thread = threading.Thread(target=watch)
            thread.start()
            os.kill(server.worker_pids()[1], signal.SIGKILL)
            harness.wait_until(lambda: 503 in seen, 3, "/ready says 503")
            harness.wait_until(lambda: seen[-1] == 200, 20, "/ready says 200 again")
            stop.set()
            thread.join()
            self.assertEqual(server.client.get("/health").status, 200)

    def test_stopped_worker_is_noticed(self):
        with harness.Server(workers=2) as server:
            victim = server.worker_pids()[1]
            os.kill(victim, signal.SIGSTOP)
            try:
                harness.wait_until(lambda: server.client.get("/ready").status == 503, 4, "/ready says 503")
            finally:
                # By now the supervisor has usually killed it and started another.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGCONT)
            harness.wait_until(lambda: server.client.get("/ready").status == 200, 20, "ready again")
            self.assertIn("9", server.client.chat_text("What is 1 plus 8?", max_tokens=16, temperature=0))


if __name__ == "__main__":
    harness.main()
