"""Many clients at once, clients that leave, a full queue, and shutting down under load."""
import http.client
import json
import os
import signal
import socket
import threading
import time
import unittest

import harness

STORY = "Tell me a story about a brave fox and a lamp."


def used(client):
    """KV blocks and sequences in use."""
    state = client.get("/cluster").json()
    return state["kv_blocks_used"], state["running"], state["waiting"]


def open_fds(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def stream_text(client, prompt, **params):
    text, finish = "", None
    body = {"messages": [{"role": "user", "content": prompt}], "model": "m", **params}
    for event in client.stream("/v1/chat/completions", body):
        if event == "[DONE]":
            return text, finish
        for choice in event["choices"]:
            text += choice["delta"].get("content") or ""
            finish = choice["finish_reason"] or finish
    raise AssertionError("the stream ended without [DONE]")


class Serving(unittest.TestCase):
    def test_200_streams_are_complete_and_correct(self):
        with harness.Server(workers=2, args=["--max-queue", "256"]) as server:
            prompts = [f"What is {i} plus {i + 3}?" for i in range(10)]
            alone = [stream_text(server.client, p, max_tokens=24, temperature=0) for p in prompts]
            results = harness.parallel(
                [lambda p=prompts[i % 10]: stream_text(server.client, p, max_tokens=24, temperature=0)
                 for i in range(200)])
            for i, result in enumerate(results):
                self.assertEqual(result, alone[i % 10])

    def test_clients_that_hang_up_leave_nothing_behind(self):
        with harness.Server(workers=2) as server:
            server.client.chat_text("What is 1 plus 8?", max_tokens=8)
            harness.wait_until(lambda: used(server.client)[:2] == (0, 0), 2, "idle before the test")
            before = open_fds(server.pid)
            sockets = []
            for i in range(50):
                connection = server.client.connect()
                connection.request("POST", "/v1/chat/completions", json.dumps({
                    "model": "m", "stream": i % 2 == 0, "max_tokens": 1500, "ignore_eos": True,
                    "messages": [{"role": "user", "content": STORY}]}),
                    {"Content-Type": "application/json"})
                sockets.append(connection)
            harness.wait_until(lambda: used(server.client)[1] > 0, 10, "requests running")
            for connection in sockets:
                connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                connection.close()
            harness.wait_until(lambda: used(server.client) == (0, 0, 0), 2, "blocks and slots free")
            harness.wait_until(lambda: open_fds(server.pid) <= before + 1, 2, "descriptors closed")
            self.assertIn("9", server.client.chat_text("What is 1 plus 8?", max_tokens=16, temperature=0))

    def test_full_queue_says_429(self):
        with harness.Server(workers=1, args=["--max-queue", "4", "--max-sequences", "2"]) as server:
            stop = threading.Event()
            statuses = []

            def one():
                response = server.client.post("/v1/chat/completions", {
                    "model": "m", "max_tokens": 400, "ignore_eos": True,
                    "messages": [{"role": "user", "content": STORY}]})
                statuses.append((response.status, response.headers.get("Retry-After")))

            threads = [threading.Thread(target=one) for _ in range(24)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertFalse(stop.is_set())
            # At least the queue's worth: how many more depends on when the first step takes two out of it.
            self.assertGreaterEqual(sum(status == 200 for status, _ in statuses), 4)
            refused = [item for item in statuses if item[0] != 200]
            self.assertTrue(refused, "24 requests fitted a queue of 4")
            for status, retry_after in refused:
                self.assertEqual(status, 429)
                self.assertGreaterEqual(int(retry_after), 1)
            self.assertIn("9", server.client.chat_text("What is 1 plus 8?", max_tokens=16, temperature=0))

    def test_sigterm_finishes_what_runs(self):
        with harness.Server(workers=2) as server:
            results = []
            thread = threading.Thread(target=lambda: results.append(
                stream_text(server.client, STORY, max_tokens=1500, ignore_eos=True, temperature=0)))
            thread.start()
            harness.wait_until(lambda: used(server.client)[1] == 1, 10, "the request runs")
            server.signal(signal.SIGTERM)
            self.says_that_it_drains(server.client, thread)
            thread.join(60)
            self.assertEqual(results[0][1], "length")
            # Not stop(): a second signal would force it.
            harness.wait_until(lambda: server.process.poll() is not None, 20, "the server ends by itself")
            self.assertEqual(server.process.returncode, 0)

    def cut_off_stream(self, end):
        """A long stream on a server that is told to stop: its last event, the server's exit code and log."""
        server = harness.Server(workers=2, args=["--drain", end["drain"]])
        try:
            idle = server.client.connect()
            idle.request("GET", "/health")
            idle.getresponse().read()
            events = []
            body = {"messages": [{"role": "user", "content": STORY}], "stream": True, "ignore_eos": True,
                    "n": 16}

            def read():
                connection = server.client.connect()
                connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
                for line in connection.getresponse():  # ends by the last chunk, or IncompleteRead
                    if line.startswith(b"data:"):
                        events.append(line[5:].strip())

            failures = []
            thread = threading.Thread(target=lambda: failures.extend(self.caught(read)))
            thread.start()
            harness.wait_until(lambda: len(events) > 3, 10, "the stream runs")
            server.signal(signal.SIGTERM)
            harness.wait_until(lambda: server.client.get("/ready").status == 503, 5, "the server drains")
            # A connection from before the drain hears of it, too.
            idle.request("POST", "/v1/completions", json.dumps({"prompt": "a"}), {"Content-Type": "application/json"})
            response = idle.getresponse()
            self.assertEqual(response.status, 503)
            self.assertIn("Retry-After", response.headers)
            for _ in range(end["more_signals"]):
                server.signal(signal.SIGTERM)
            thread.join(20 * harness.SLOWDOWN)
            self.assertEqual(failures, [])
            harness.wait_until(lambda: server.process.poll() is not None, 20, "the server ends")
            return json.loads(events[-1]), server.process.returncode, server.output()
        finally:
            server.stop()

    @staticmethod
    def caught(function):
        try:
            function()
        except Exception as error:
            return [repr(error)]
        return []

    def test_streams_hear_of_the_drain_deadline(self):
        last, code, log = self.cut_off_stream({"drain": "1s", "more_signals": 0})
        self.assertIn("shutting down", last["error"]["message"])
        self.assertEqual(code, 0)
        self.assertIn("1 request was cut off at the drain deadline", log)

    def test_streams_hear_of_a_second_signal(self):
        last, code, log = self.cut_off_stream({"drain": "1h", "more_signals": 1})
        self.assertIn("shutting down", last["error"]["message"])
        self.assertEqual(code, 1)
        self.assertIn("1 request was cut off by a second signal", log)

    def test_access_log(self):
        with harness.Server(workers=1) as server:
            server.client.get("/health")
            response = server.client.request("POST", "/v1/completions", {"prompt": "private words", "max_tokens": 3},
                                             headers={"X-Request-Id": "mine-7"})
            self.assertEqual(response.headers.get("X-Request-Id"), "mine-7")
            self.assertEqual(server.client.get("/nothing?private=words").status, 404)
            server.wait_for_line("access method=GET path=/nothing status=404 ", 5)
            lines = [line for line in server.output().splitlines() if "access method=" in line]
            self.assertEqual(len(lines), 2, lines)
            self.assertRegex(lines[0], r"access method=POST path=/v1/completions status=200 bytes=\d+ ms=[\d.]+ "
                                       r"prompt_tokens=\d+ generated_tokens=\d+ peer=127.0.0.1 id=mine-7$")
            self.assertNotIn("private", server.output())

    def says_that_it_drains(self, client, running):
        """As long as something runs the server listens, answers about itself and refuses the rest."""
        def draining():
            response = client.get("/ready", timeout=5)
            return response.status == 503 and response.json()["status"] == "draining"

        harness.wait_until(draining, 5, "/ready says that the server drains")
        self.assertTrue(running.is_alive(), "the test's stream is too short")
        self.assertEqual(client.get("/health", timeout=5).status, 200)
        self.assertEqual(client.get("/metrics", timeout=5).status, 200)
        refused = client.post("/v1/completions", {"prompt": "a"}, timeout=5)
        self.assertEqual(refused.status, 503)
        self.assertIn("Retry-After", refused.headers)
        self.assertEqual(refused.headers.get("Connection"), "close")

    def test_four_workers_on_few_cores_are_slow_not_stuck(self):
        with harness.Server(workers=4) as server:
            self.assertIn("9", server.client.chat_text("What is 1 plus 8?", max_tokens=16, temperature=0))


if __name__ == "__main__":
    harness.main()
