"""Starts real servers for the system tests and talks to them. Standard library only."""
import contextlib
import gzip
import http.client
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("SHOAL_BUILD_DIR", ROOT / "build" / "release"))
SHOAL = str(BUILD / "cli" / "shoal")
MODELS = ROOT / "models"
TINY_DENSE = str(MODELS / "shoal-tiny-dense-q8_0.gguf")
TINY_MOE = str(MODELS / "shoal-tiny-moe-q8_0.gguf")
SHARED = pathlib.Path(os.environ.get("SHOAL_SHARED", ROOT.parent / "shared"))
# Sanitizer builds are many times slower; deadlines that are promises stretch with them.
SLOWDOWN = float(os.environ.get("SHOAL_TEST_SLOWDOWN", "1"))
SKIP_CODE = 77


def shared(relative):
    """A path of the shared reference data, or a visible skip."""
    path = SHARED / relative
    if not path.exists():
        raise unittest.SkipTest(f"needs the shared reference data: {relative} (SHOAL_SHARED)")
    return path


def oracle(name):
    """(path of the unpacked model, its expectations) of a reference model."""
    packed = shared(f"oracle/{name}-f32.gguf.gz")
    target = BUILD / "oracle" / f"{name}-f32.gguf"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_suffix(f".{os.getpid()}")
        with gzip.open(packed) as source, open(temporary, "wb") as out:
            shutil.copyfileobj(source, out)
        temporary.rename(target)
    return str(target), json.loads(shared(f"oracle/{name}-f32.json").read_text())


class Response:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)


class Client:
    """One HTTP endpoint. Every call opens its own connection unless `connection` is given."""

    def __init__(self, url, headers=None):
        self.url = url
        parts = urllib.parse.urlsplit(url)
        self.host, self.port = parts.hostname, parts.port
        self.headers = headers or {}

    def connect(self, timeout=120):
        return http.client.HTTPConnection(self.host, self.port, timeout=timeout * SLOWDOWN)

    def request(self, method, path, body=None, timeout=120, headers=None):
        connection = self.connect(timeout)
        try:
            data = body if isinstance(body, (bytes, str, type(None))) else json.dumps(body)
            connection.request(method, path, data,
                               {"Content-Type": "application/json", **self.headers, **(headers or {})})
            response = connection.getresponse()
            return Response(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()

    def get(self, path, **kwargs):
        return self.request("GET", path, **kwargs)

    def post(self, path, body, **kwargs):
        return self.request("POST", path, body, **kwargs)

    def ok(self, path, body, **kwargs):
        """POST that must succeed; its JSON."""
        response = self.post(path, body, **kwargs)
        if response.status != 200:
            raise AssertionError(f"{path}: {response.status} {response.body[:500]!r}")
        return response.json()

    def stream(self, path, body, timeout=120):
        """Yields the decoded `data:` events of a stream; the last one is the string '[DONE]'."""
        connection = self.connect(timeout)
        try:
            connection.request("POST", path, json.dumps({**body, "stream": True}),
                               {"Content-Type": "application/json", **self.headers})
            response = connection.getresponse()
            if response.status != 200:
                raise AssertionError(f"{path}: {response.status} {response.read()[:500]!r}")
            for line in response:
                line = line.decode().rstrip("\n").rstrip("\r")
                if not line.startswith("data:"):
                    continue
                data = line[5:].strip()
                yield data if data == "[DONE]" else json.loads(data)
        finally:
            connection.close()

    def chat(self, prompt, **params):
        body = {"model": "m", "messages": [{"role": "user", "content": prompt}], **params}
        return self.ok("/v1/chat/completions", body)

    def chat_text(self, prompt, **params):
        return self.chat(prompt, **params)["choices"][0]["message"]["content"]

    def metrics(self):
        """{'name{labels}': value} of /metrics."""
        out = {}
        for line in self.get("/metrics").body.decode().splitlines():
            if line and not line.startswith("#"):
                name, value = line.rsplit(" ", 1)
                out[name] = float(value)
        return out


def wait_until(condition, seconds, what):
    deadline = time.monotonic() + seconds * SLOWDOWN
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"not within {seconds} s: {what}")


class Process:
    """A child whose output is kept, shown when a test fails, and which never outlives the test."""

    def __init__(self, argv, env=None, **popen):
        self.argv = argv
        self.lines = []
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True, errors="replace",
                                        env={**os.environ, **(env or {})}, **popen)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    @property
    def pid(self):
        return self.process.pid

    def output(self):
        return "\n".join(self.lines)

    def wait_for_line(self, pattern, seconds):
        expression = re.compile(pattern)

        def found():
            for line in list(self.lines):
                match = expression.search(line)
                if match:
                    return match
            if self.process.poll() is not None:
                self.reader.join(1)
                for line in list(self.lines):
                    match = expression.search(line)
                    if match:
                        return match
                raise AssertionError(f"{self.argv} ended with {self.process.returncode}:\n{self.output()}")
            return None

        try:
            return wait_until(found, seconds, f"output /{pattern}/")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.output()}") from None

    def signal(self, number):
        self.process.send_signal(number)

    def stop(self, seconds=20):
        """SIGTERM, then SIGKILL; the exit code."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(seconds * SLOWDOWN)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.reader.join(2)
        return self.process.returncode


class Server(Process):
    """`shoal serve` on an ephemeral port, ready to answer."""

    def __init__(self, model=TINY_DENSE, workers=2, args=(), ready_seconds=60, **popen):
        super().__init__([SHOAL, "serve", model, "--workers", str(workers), "--port", "0", *args,
                          *os.environ.get("SHOAL_TEST_SERVE_ARGS", "").split()], **popen)
        try:
            url = self.wait_for_line(r"ready.*(http://[^\s/]+)", ready_seconds).group(1)
        except BaseException:
            self.stop(2)
            raise
        self.client = Client(url)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        code = self.stop()
        if kind is not None and not issubclass(kind, unittest.SkipTest):
            sys.stderr.write(f"--- output of {self.argv}\n{self.output()[-8000:]}\n")
        elif code != 0:
            raise AssertionError(f"the server ended with {code}\n{self.output()[-8000:]}")

    def worker_pids(self):
        state = self.client.get("/cluster").json()
        return [worker["pid"] for worker in state["workers"] if worker["pid"]]


def parallel(functions, limit=None):
    """Runs functions in threads; their results in order; the first error is raised."""
    results = [None] * len(functions)
    errors = []
    gate = threading.Semaphore(limit or len(functions) or 1)

    def run(index, function):
        with gate:
            try:
                results[index] = function()
            except BaseException as error:  # pylint: disable=broad-except
                errors.append(error)

    threads = [threading.Thread(target=run, args=item) for item in enumerate(functions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return results


def main():
    """Runs the tests of the calling file; exit code 77 if every one of them was skipped."""
    program = unittest.main(module="__main__", exit=False, verbosity=2)
    result = program.result
    if not result.wasSuccessful():
        sys.exit(1)
    if result.testsRun and len(result.skipped) == result.testsRun:
        sys.exit(SKIP_CODE)
    sys.exit(0)
