"""Workers that die: streams go on where they stopped, readiness tells the truth, service resumes."""
import contextlib
import os
import signal
import threading
import time
import unittest

import harness

STORY = "Tell me a story about a brave fox and a lamp."


def content(events):
    return "".join(e["choices"][0]["delta"].get("content") or "" for e in events if isinstance(e, dict) and e["choices"])


class Stream(threading.Thread):
    """A long answer as it arrives."""

    def __init__(self, client, tokens=1800, **fields):
        super().__init__()
        self.client, self.events, self.times = client, [], []
        self.body = {"model": "m", "max_tokens": tokens, "ignore_eos": True, "seed": 11, "stream_options": {"include_usage": True},
                     "messages": [{"role": "user", "content": STORY}], **fields}
        self.start()

    def run(self):
        for event in self.client.stream("/v1/chat/completions", self.body):
            self.events.append(event)
            self.times.append(time.monotonic())

    def text(self):
        """Once it has ended well."""
        self.join(120 * harness.SLOWDOWN)
        if self.is_alive() or not self.events or self.events[-1] != "[DONE]":
            raise AssertionError(f"the stream did not end well: {self.events[-2:]}")
        return content(self.events)

    def usage(self):
        return next(e["usage"] for e in reversed(self.events) if isinstance(e, dict) and e.get("usage"))


class Failure(unittest.TestCase):
    def kill_during_stream(self, number, **layout):
        """The stream pauses and goes on: not a character is missing, none comes twice."""
        with harness.Server(**({"workers": 2} | layout)) as server:
            undisturbed = Stream(server.client)
            text = undisturbed.text()
            stream, other = Stream(server.client), Stream(server.client, temperature=0, logprobs=True, top_logprobs=2)
            harness.wait_until(lambda: len(stream.events) > 200 and len(other.events) > 50, 60, "tokens flow")
            victim = server.worker_pids()[number]
            killed = time.monotonic()
            os.kill(victim, signal.SIGKILL)
            # Not ready while the group is broken, then ready again with a restarted worker.
            harness.wait_until(lambda: server.client.get("/ready").status == 503, 4, "/ready says 503")
            harness.wait_until(lambda: server.client.get("/ready").status == 200, 20, "ready again")
            self.assertNotIn(victim, server.worker_pids())
            self.assertEqual(stream.text(), text)
            pause = max(b - a for a, b in zip(stream.times, stream.times[1:]) if b > killed)
            print(f"the stream paused for {pause:.2f} s")
            self.assertLess(pause, 10 * harness.SLOWDOWN)
            self.assertEqual(stream.usage() | {"prompt_tokens_details": None},
                             undisturbed.usage() | {"prompt_tokens_details": None})
            self.assertEqual(other.text(), Stream(server.client, temperature=0).text())
            scored = sum(len(e["choices"][0]["logprobs"]["content"]) for e in other.events
                         if isinstance(e, dict) and e["choices"] and e["choices"][0].get("logprobs"))
            self.assertEqual(scored, other.usage()["completion_tokens"], "a log-probability for every token, once")
            self.assertIn("9", server.client.chat_text("What is 1 plus 8?", max_tokens=16, temperature=0))
            self.assertEqual(server.client.metrics()["shoal_replays_total"], 2)

    def test_rank_0_killed(self):
        self.kill_during_stream(0)

    def test_rank_1_killed(self):
        self.kill_during_stream(1)

    def test_worker_of_experts_killed(self):
        self.kill_during_stream(1, model=harness.TINY_MOE, workers=1, args=("--expert-workers", "1"))

    def test_without_recovery_streams_end_with_the_reason(self):
        with harness.Server(workers=2, args=("--recovery", "0s")) as server:
            stream = Stream(server.client)
            harness.wait_until(lambda: len(stream.events) > 5, 20, "tokens flow")
            killed = time.monotonic()
            os.kill(server.worker_pids()[1], signal.SIGKILL)
            stream.join(30)
            self.assertFalse(stream.is_alive())
            self.assertLess(time.monotonic() - killed, 3 * harness.SLOWDOWN, "the stream hung")
            self.assertIn("error", stream.events[-1], "the last event must be an error, not silence or [DONE]")
            self.assertIn("worker", stream.events[-1]["error"]["message"])
            harness.wait_until(lambda: server.client.get("/ready").status == 200, 20, "ready again")

    def test_a_request_that_saw_two_deaths_is_not_tried_again(self):
        with harness.Server(workers=2) as server:
            stream = Stream(server.client)
            for seen in (5, 300):
                harness.wait_until(lambda seen=seen: len(stream.events) > seen, 60, "tokens flow")
                os.kill(server.worker_pids()[1], signal.SIGKILL)
                harness.wait_until(lambda: server.client.get("/ready").status == 503, 4, "/ready says 503")
                harness.wait_until(lambda: server.client.get("/ready").status == 200, 20, "ready again")
            stream.join(30)
            self.assertRegex(stream.events[-1]["error"]["message"], "2 groups of workers were lost while they computed this request")
            self.assertIn("9", server.client.chat_text("What is 1 plus 8?", max_tokens=16, temperature=0))

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
