"""What hostile or broken clients and workers do to a server, as actions drawn at random from a seed.

Every action ends by itself within a few seconds, is bounded in what it takes of this machine, and
speaks to loopback only. What a server answers is not judged here: it has to go on serving others."""
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time

import harness

LARGE = 16 << 20


def connect(port, timeout=5):
    connection = socket.create_connection(("127.0.0.1", port), timeout=timeout)
    connection.settimeout(timeout)
    return connection


def send_and_read(port, data, seconds=3.0):
    """Sends raw bytes and reads until the peer closes, is silent or time is up."""
    with contextlib.suppress(OSError), connect(port) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(data)
        end = time.monotonic() + seconds
        connection.settimeout(0.5)
        while time.monotonic() < end and connection.recv(65536):
            pass


def request(path, body, key=None, method="POST", headers=""):
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    auth = f"Authorization: Bearer {key}\r\n" if key else ""
    return (f"{method} {path} HTTP/1.1\r\nHost: a\r\n{auth}{headers}Content-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n").encode() + body


class Abuse:
    """The actions against one server. `target` has .port, .control, .key (a valid one),
    .coordinator_pid and .worker_argv(name, key)."""

    def __init__(self, target, seed):
        self.target, self.random = target, random.Random(seed)
        self.counts = {}
        self.actions = [
            (self.large_tokenize, 6), (self.large_chat, 3), (self.many_messages, 4), (self.without_key, 6),
            (self.stalled_upload, 4), (self.slow_headers, 6), (self.idle_crowd, 2), (self.smuggle, 10),
            (self.http_garbage, 10), (self.control_garbage, 6), (self.vanishing_streams, 10),
            (self.unread_stream, 2), (self.bad_json, 10), (self.odd_fields, 8), (self.look_around, 10),
            (self.second_worker, 3), (self.stranger, 3), (self.coordinator_stands_still, 1),
        ]

    def step(self):
        """One action; its name."""
        names = [action for action, _ in self.actions]
        action = self.random.choices(names, [weight for _, weight in self.actions])[0]
        self.counts[action.__name__] = self.counts.get(action.__name__, 0) + 1
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            action()
        return action.__name__

    def text(self, size):
        unit = self.random.choice(["a", " ", "hello world ", "\n", "1", ". ", "é", "<|im_end|>", "ab\t"])
        return (unit * (size // len(unit) + 1))[:size]

    # ---------------------------------------------------------------- bodies

    def large_tokenize(self):
        size = self.random.choice([LARGE // 64, LARGE // 8, LARGE // 2])
        body = {"content": self.text(size), "with_pieces": self.random.random() < 0.7}
        send_and_read(self.target.port, request("/tokenize", body, self.target.key), 4)

    def large_chat(self):
        body = {"messages": [{"role": "user", "content": self.text(LARGE // 8)}], "max_tokens": 1}
        send_and_read(self.target.port, request("/v1/chat/completions", body, self.target.key), 4)

    def many_messages(self):
        body = {"messages": [{"role": "user", "content": "a"}] * self.random.choice([2000, 16383]), "max_tokens": 1}
        send_and_read(self.target.port, request("/v1/chat/completions", body, self.target.key), 4)

    def without_key(self):
        key = self.random.choice([None, "x" * 32, self.target.key[:-1] + "?"])
        send_and_read(self.target.port, request("/tokenize", b"x" * (LARGE // 4), key), 2)

    def stalled_upload(self):
        data = request("/tokenize", {"content": "a" * 4000000}, self.target.key)
        with connect(self.target.port) as connection:
            connection.sendall(data[:self.random.randrange(100, 1000000)])
            time.sleep(self.random.random() * 2)

    def bad_json(self):
        bodies = [b"[" * 100000, b'{"a":' * 50, b'{"prompt":"' + b"\xff" * 1000 + b'"}', b"{}", b"[]", b"nul",
                  b'{"prompt":"a","prompt":"b"}', b'{"prompt":[' + b"1," * 200000 + b"1]}",
                  b'{"prompt":"a","max_tokens":1e999}', b'{"messages":[' + b"{}," * 70000 + b"{}]}", b"\x00" * 5000]
        path = self.random.choice(["/v1/chat/completions", "/v1/completions", "/tokenize", "/detokenize"])
        send_and_read(self.target.port, request(path, self.random.choice(bodies), self.target.key), 2)

    def odd_fields(self):
        values = [-1, 0, 1e30, "x" * 100000, None, [], {}, [[]] * 1000, True, "\ud83d\ude00", 2**63]
        names = ["max_tokens", "temperature", "top_p", "n", "stop", "seed", "logit_bias", "logprobs", "stream",
                 "chat_template_kwargs", "model", "user", "messages", "reasoning_effort"]
        body = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
        for name in self.random.sample(names, 2):
            body[name] = self.random.choice(values)
        send_and_read(self.target.port, request("/v1/chat/completions", body, self.target.key), 2)

    # ---------------------------------------------------------------- connections

    def slow_headers(self):
        with connect(self.target.port) as connection:
            for byte in b"GET /health HTTP/1.1\r\nHost: a\r\nX: ":
                connection.send(bytes([byte]))
                time.sleep(0.02)

    def idle_crowd(self):
        with contextlib.ExitStack() as stack:
            for _ in range(self.random.choice([50, 300])):
                stack.enter_context(connect(self.target.port))
            time.sleep(self.random.random())

    def smuggle(self):
        hidden = b"GET /v1/models HTTP/1.1\r\nHost: a\r\n\r\n"
        heads = [b"Transfer-Encoding: xchunked", b"Transfer-Encoding: chunked, identity",
                 b"Transfer-Encoding: chunked\r\nContent-Length: 5", b"Content-Length: 5\r\nContent-Length: 6",
                 b"Content-Length: +5", b"Content-Length : 5", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: x",
                 b"X: a\r\n b", b"X: a\nContent-Length: 3"]
        head = b"POST /tokenize HTTP/1.1\r\nHost: a\r\n" + self.random.choice(heads) + b"\r\n\r\n"
        send_and_read(self.target.port, head + b"0\r\n\r\n" + hidden, 1)

    def http_garbage(self):
        data = self.random.randbytes(self.random.randrange(1, 3000))
        if self.random.random() < 0.5:
            data = b"GET / HTTP/1.1\r\nHost: a\r\n" + data
        send_and_read(self.target.port, data, 0.5)

    def look_around(self):
        path = self.random.choice(["/health", "/ready", "/metrics", "/cluster", "/", "/v1/models", "/nothing", "/../etc",
                                   "/%00", "/v1/models/" + "x" * 5000])
        method = self.random.choice(["GET", "HEAD", "OPTIONS", "DELETE", "GET", "TRACE"])
        data = f"{method} {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {self.target.key}\r\n\r\n"
        send_and_read(self.target.port, data.encode() * self.random.choice([1, 20]), 0.5)

    def vanishing_streams(self):
        body = {"messages": [{"role": "user", "content": "Tell me a story."}], "stream": True, "max_tokens": 200}
        with contextlib.ExitStack() as stack:
            for _ in range(self.random.choice([1, 8])):
                connection = stack.enter_context(connect(self.target.port))
                connection.sendall(request("/v1/chat/completions", body, self.target.key))
            time.sleep(self.random.random() * 0.3)

    def unread_stream(self):
        body = {"messages": [{"role": "user", "content": "Tell me a story."}], "stream": True, "ignore_eos": True,
                "logprobs": True, "top_logprobs": 20, "max_tokens": 300}
        with connect(self.target.port) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            connection.sendall(request("/v1/chat/completions", body, self.target.key))
            time.sleep(2)

    # ---------------------------------------------------------------- control plane and processes

    def control_garbage(self):
        greetings = [b"", b"\xff" + b"\0" * 8 + b"\x7f\x03\x01NULL" + b"\0" * 48, b"\xff" + b"\0" * 8 + b"\x7f",
                     b"GET / HTTP/1.1\r\n\r\n"]
        data = self.random.choice(greetings) + self.random.randbytes(self.random.randrange(0, 2000))
        send_and_read(self.target.control, data, 0.5)

    def run_worker(self, name, key):
        process = subprocess.Popen(self.target.worker_argv(name, key), stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(3)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def second_worker(self):
        self.run_worker("w0", "w0")

    def stranger(self):
        self.run_worker("w0", self.random.choice(["spare", "unknown"]))

    def coordinator_stands_still(self):
        os.kill(self.target.coordinator_pid, signal.SIGSTOP)
        time.sleep(self.random.uniform(0.2, 2.5))
        os.kill(self.target.coordinator_pid, signal.SIGCONT)


class FileTarget:
    """A server described by a JSON file, so that abuse comes from a process of its own."""

    def __init__(self, path):
        with open(path, encoding="utf-8") as file:
            description = json.load(file)
        self.port, self.control, self.key = description["port"], description["control"], description["key"]
        self.coordinator_pid, self.folder = description["coordinator_pid"], description["folder"]

    def worker_argv(self, name, key):
        return [harness.SHOAL, "worker", "--coordinator", f"tcp://127.0.0.1:{self.control}", "--server-key-file",
                f"{self.folder}/keys/coordinator.pub", "--key-file", f"{self.folder}/{key}.key", "--name", name,
                "--threads", "1"]


def main():
    """abuse.py TARGET.json SECONDS SEED: several threads of actions, then what was done as JSON."""
    target, seconds, seed = FileTarget(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    os.nice(19)  # what it costs to be hostile is not the server's cost
    end = time.monotonic() + seconds
    hands = [Abuse(target, seed * 1000 + index) for index in range(4)]

    def work(hand):
        while time.monotonic() < end:
            hand.step()
            time.sleep(hand.random.random() * 0.2)

    threads = [threading.Thread(target=work, args=(hand,)) for hand in hands]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    total = {}
    for hand in hands:
        for name, count in hand.counts.items():
            total[name] = total.get(name, 0) + count
    print(json.dumps(total))


if __name__ == "__main__":
    main()
