"""The gateway over a scripted service, seen by the strict schema and by the real OpenAI client.

usage: gateway_clients_test.py FAKE_SERVER CLIENTS_FOLDER [unittest arguments]
"""
import copy
import http.client
import json
import os
import pathlib
import re
import subprocess
import sys
import unittest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tools"))
import schema_check  # noqa: E402

FAKE_SERVER, CLIENTS = sys.argv[1:3]
KEY = "sk-0123456789abcdef"


class Server:
    def __init__(self, *arguments):
        self.process = subprocess.Popen([FAKE_SERVER, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True)
        self.url = re.search(r"http://\S+", self.process.stdout.readline()).group(0)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.stdout.close()
        if self.process.wait(20) != 0:
            raise AssertionError(f"the server ended with {self.process.returncode}")

    def request(self, path, body=None):
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=60)
        try:
            connection.request("POST" if body is not None else "GET", path,
                               json.dumps(body) if body is not None else None)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


CHAT = {"messages": [{"role": "user", "content": "hi"}]}
TEXT = {"prompt": "hi"}


def places(value, path=()):
    """Every field of every object inside."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield path + (name,)
            yield from places(inner, path + (name,))
    elif isinstance(value, list):
        for i, inner in enumerate(value[:2]):
            yield from places(inner, path + (i,))


class Schema(unittest.TestCase):
    def answers(self, server):
        get = lambda path, body=None: json.loads(server.request(path, body)[1])
        yield "chat", get("/v1/chat/completions", {**CHAT, "n": 2, "logprobs": True, "top_logprobs": 3})
        yield "chat", get("/v1/chat/completions", {**CHAT, "return_token_ids": True})
        yield "completion", get("/v1/completions", {**TEXT, "n": 2, "logprobs": 2})
        yield "models", get("/v1/models")
        yield "model", get("/v1/models/test/model")
        yield "error", get("/v1/completions", {})
        yield "error", get("/nothing")
        yield "tokenize", get("/tokenize", {"content": "abc"})
        yield "detokenize", get("/detokenize", {"tokens": [97]})
        yield "cluster", get("/cluster")

    def test_answers(self):
        with Server() as server:
            for kind, value in self.answers(server):
                schema_check.check(kind, value)

    def test_streams(self):
        with Server() as server:
            for kind, path, body in (("chat", "/v1/chat/completions", CHAT), ("completion", "/v1/completions", TEXT)):
                for extra in ({}, {"n": 3}, {"stream_options": {"include_usage": True}}, {"return_token_ids": True},
                              {"logprobs": True if kind == "chat" else 4}):
                    status, stream = server.request(path, {**body, "stream": True, **extra})
                    self.assertEqual(status, 200)
                    whole = json.loads(server.request(path, {**body, "n": extra.get("n", 1)})[1])
                    got = schema_check.check_stream(kind, stream, extra.get("n", 1), "stream_options" in extra)
                    for (text, reason), choice in zip(got, whole["choices"], strict=True):
                        self.assertEqual(text, choice["message"]["content"] if kind == "chat" else choice["text"])
                        self.assertEqual(reason, choice["finish_reason"])

    def test_the_schema_can_fail(self):
        """Every field removed, renamed or given another type is seen."""
        optional = {"token_ids"}
        with Server() as server:
            for kind, value in self.answers(server):
                for path in list(places(value)):
                    if "top_logprobs" in path[:-1] and kind == "completion" and isinstance(path[-1], str) \
                            and path[-1] not in ("token", "id", "logprob", "bytes"):
                        continue  # keys of the legacy map are token texts
                    for change in ("remove", "rename", "retype"):
                        if path[-1] in optional and change == "remove":
                            continue
                        broken = copy.deepcopy(value)
                        parent = broken
                        for step in path[:-1]:
                            parent = parent[step]
                        old = parent.pop(path[-1])
                        if change == "rename":
                            parent[f"x_{path[-1]}"] = old
                        elif change == "retype":
                            parent[path[-1]] = ["other"] if not isinstance(old, list) else {"other": 1}
                        with self.assertRaises(schema_check.SchemaError, msg=f"{kind}: {change} {path}"):
                            schema_check.check(kind, broken)

    def test_broken_streams_are_seen(self):
        with Server() as server:
            stream = server.request("/v1/chat/completions", {**CHAT, "stream": True})[1].decode()
        schema_check.check_stream("chat", stream)
        events = stream.split("\n\n")[:-1]
        join = lambda parts: "".join(part + "\n\n" for part in parts)
        for name, broken in {
                "no [DONE]": join(events[:-1]),
                "no role": join(events[1:]),
                "role twice": join(events[:1] + events),
                "no finish_reason": join(events[:-2] + events[-1:]),
                "text after the end": join(events[:-1] + events[1:2] + events[-1:]),
                "cut": stream[:-1],
                "other framing": stream.replace("data: ", "data:", 1),
                "no index": stream.replace('"index":0,', "", 1),
        }.items():
            with self.assertRaises(schema_check.SchemaError, msg=name):
                schema_check.check_stream("chat", broken)


class OpenAi(unittest.TestCase):
    def run_client(self, *arguments):
        install = subprocess.run([HERE.parent / "clients" / "install.sh", CLIENTS], capture_output=True, text=True)
        if install.returncode == 77:
            self.skipTest(install.stdout.strip())
        self.assertEqual(install.returncode, 0, install.stdout + install.stderr)
        result = subprocess.run(["node", HERE.parent / "clients" / "openai.mjs", *arguments], text=True,
                                capture_output=True, env={**os.environ, "SHOAL_CLIENT_MODULES": CLIENTS}, timeout=240)
        self.assertEqual(result.returncode, 0, result.stdout + result.stderr)

    def test_without_keys(self):
        with Server() as server:
            self.run_client(server.url)

    def test_with_keys(self):
        with Server(KEY) as server:
            self.run_client(server.url, KEY)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]], verbosity=2)
