"""Requests that ask for more memory than there is: an answer for them, nothing for anybody else."""
import json
import os
import resource
import threading
import time
import unittest

import harness

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


if __name__ == "__main__":
    os.environ.setdefault("MALLOC_ARENA_MAX", "2")  # arenas reserve address space, which is what is limited
    harness.main()
