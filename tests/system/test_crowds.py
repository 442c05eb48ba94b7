"""More clients than descriptors, larger bodies than threads: who works goes on working."""
import os
import resource
import signal
import socket
import threading
import time
import unittest

import harness

OPEN_FILES = 256
IDLE_CLIENTS = 1000


def few_files():
    """In the child, before it becomes the server: limits that cannot be raised again."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))


def room_for(count):
    """The test itself needs a descriptor for each client."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < count + 200:
        raise unittest.SkipTest(f"needs {count + 200} open files, the hard limit is {hard}")
    if soft < count + 200:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count + 200, hard))


class Crowd:
    """Clients that connect and then say nothing, or begin a request and never end it."""

    def __init__(self, client, count):
        self.sockets = []
        for index in range(count):
            sock = socket.create_connection((client.host, client.port), timeout=30 * harness.SLOWDOWN)
            if index % 3 == 1:
                sock.sendall(b"GET /health HTTP/1.1\r\nHo")
            if index % 3 == 2:
                sock.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            self.sockets.append(sock)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        for sock in self.sockets:
            sock.close()


class Crowds(unittest.TestCase):
    def test_idle_clients_take_nothing_from_those_who_work(self):
        room_for(IDLE_CLIENTS)
        with harness.Server(workers=2, preexec_fn=few_files) as server:
            client = server.client
            with open(f"/proc/{server.pid}/limits") as limits:
                self.assertIn(f"{OPEN_FILES}", next(line for line in limits if "open files" in line))
            tokens, ended = [], threading.Event()

            def stream():  # from before the crowd came
                for event in client.stream("/v1/chat/completions", {
                        "max_tokens": 800, "ignore_eos": True, "messages": [{"role": "user", "content": "Hi"}]}):
                    tokens.append(event)
                ended.set()

            thread = threading.Thread(target=stream)
            thread.start()
            harness.wait_until(lambda: tokens, 20, "tokens flow")
            with Crowd(client, IDLE_CLIENTS):
                for _ in range(5):
                    self.assertIn("9", client.chat_text("What is 1 plus 8?", max_tokens=16, temperature=0))
                    self.assertEqual(client.get("/ready").status, 200)
                self.assertTrue(ended.wait(60 * harness.SLOWDOWN), "the stream of a busy client went on")
                self.assertEqual(tokens[-1], "[DONE]")
                self.worker_comes_back(server)
                self.assertLess(len(os.listdir(f"/proc/{server.pid}/fd")), OPEN_FILES - 20, "the reserve is whole")
                metrics = client.metrics()
                self.assertGreater(metrics['shoal_http_refused_total{reason="idle_closed"}'], IDLE_CLIENTS / 2)
                self.assertNotIn('shoal_http_refused_total{reason="descriptors"}', metrics)
            thread.join()

    def worker_comes_back(self, server):
        """A killed worker finds descriptors for its connection, its files and its pipes."""
        client = server.client
        os.kill(server.worker_pids()[1], signal.SIGKILL)
        harness.wait_until(lambda: client.get("/ready").status == 503, 5, "/ready says 503")
        harness.wait_until(lambda: client.get("/ready").status == 200, 15, "the worker is back")
        self.assertIn("9", client.chat_text("What is 1 plus 8?", max_tokens=16, temperature=0))

    def test_the_soft_limit_is_raised(self):
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        if hard != resource.RLIM_INFINITY and hard < 1024:
            raise unittest.SkipTest("the hard limit is low")

        def lower():
            resource.setrlimit(resource.RLIMIT_NOFILE, (200, hard))

        with harness.Server(workers=1, preexec_fn=lower) as server:
            for pid in (server.pid, *server.worker_pids()):
                with open(f"/proc/{pid}/limits") as limits:
                    words = next(line for line in limits if "open files" in line).split()
                self.assertGreaterEqual(int(words[3]), 1024, words)

    def test_everybody_works_says_503_quickly(self):
        config = "coordinator:\n  limits:\n    max_connections: 8\n"
        path = harness.tempfile.NamedTemporaryFile("w", suffix=".yaml", delete=False)
        self.addCleanup(os.unlink, path.name)
        path.write(config)
        path.close()
        with harness.Server(workers=1, args=("--config", path.name)) as server:
            client = server.client
            streams = []
            for _ in range(8):
                connection = client.connect()
                connection.request("POST", "/v1/completions", harness.json.dumps(
                    {"prompt": "a", "stream": True, "max_tokens": 1800, "ignore_eos": True}))
                self.assertEqual(connection.getresponse().status, 200)
                streams.append(connection)
            began = time.monotonic()
            response = client.get("/health")
            self.assertEqual(response.status, 503)
            self.assertIn("Retry-After", response.headers)
            self.assertLess(time.monotonic() - began, 5 * harness.SLOWDOWN)
            for connection in streams:
                connection.close()
            harness.wait_until(lambda: client.get("/health").status == 200, 10, "room again")

    def test_large_bodies_beside_small_chats(self):
        """Correct, and in their own queue; how fast is for bench/ and the closing figures to say."""
        with harness.Server(workers=1) as server:
            client = server.client
            large = harness.json.dumps({"content": "word " * 600000})
            stop = threading.Event()
            statuses = []

            def post():
                while not stop.is_set():
                    statuses.append(client.post("/tokenize", large, timeout=300).status)

            threads = [threading.Thread(target=post) for _ in range(4)]
            for thread in threads:
                thread.start()
            for _ in range(10):
                self.assertIn("9", client.chat_text("What is 1 plus 8?", max_tokens=16, temperature=0))
                self.assertEqual(client.get("/health").status, 200)
            stop.set()
            for thread in threads:
                thread.join()
            self.assertTrue(statuses)
            self.assertLessEqual(set(statuses), {200, 400, 503})


if __name__ == "__main__":
    harness.main()
