"""shoal chat with one question: what it sends, what it prints where, how it ends; many kinds of servers."""
import json
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest

from fake_openai import FakeServer, data, delta, stream
from harness import SHOAL, SLOWDOWN, TINY_DENSE, Server, main

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "no_proxy", "NO_PROXY")


def chat(*args, stdin=None, env=None, seconds=60):
    clean = {name: value for name, value in os.environ.items() if name not in PROXIES}
    return subprocess.run([SHOAL, "chat", *args], input=stdin, stdin=None if stdin is not None else subprocess.DEVNULL,
                          capture_output=True, timeout=seconds * SLOWDOWN, env={**clean, **(env or {})})


class Question(unittest.TestCase):
    def setUp(self):
        self.server = FakeServer()
        self.addCleanup(self.server.__exit__)

    def ask(self, *args, **kwargs):
        return chat("--url", self.server.url, *args, **kwargs)

    def check(self, done, out, err=b"", code=0):
        self.assertEqual((done.stdout, done.stderr, done.returncode), (out, err, code))

    def answer_with(self, body):
        self.server.answer = lambda handler, request: body

    def test_only_the_answer_is_on_standard_output(self):
        self.check(self.ask("hi"), b"You said: hi\n")
        body = self.server.posts()[0]
        self.assertEqual(body["messages"], [{"role": "user", "content": "hi"}])
        self.assertEqual((body["stream"], body["temperature"]), (True, 0.7))

    def test_several_words_are_one_question(self):
        self.check(self.ask("tell", "me", "all"), b"You said: tell me all\n")

    def test_standard_input_is_part_of_the_question(self):
        self.ask("Summarise", stdin="1 < 2\nl'été 東京\n".encode())
        self.assertEqual(self.server.last_question(), "Summarise\n\n1 < 2\nl'été 東京")
        self.ask(stdin=b"alone\n\n")
        self.assertEqual(self.server.last_question(), "alone")
        self.ask("hi", stdin=b"")
        self.assertEqual(self.server.last_question(), "hi")
        done = self.ask(stdin=b"")
        self.check(done, b"", b"shoal chat: nothing to ask: standard input is empty\n", 2)

    def test_a_large_file_arrives_whole(self):
        text = "".join(f"line {i}\n" for i in range(300000))
        self.ask("Count", stdin=text.encode())
        self.assertEqual(self.server.last_question(), "Count\n\n" + text.rstrip("\n"))

    def test_what_is_no_utf8_is_said(self):
        done = self.ask(stdin=b"caf\xe9")
        self.assertEqual(self.server.last_question(), "caf\ufffd")
        self.assertIn(b"not all UTF-8", done.stderr)

    def test_settings_are_sent(self):
        self.ask("hi", "--set", "top_p=0.5", "--set", "seed=7", "--set", "stop=END", "--max-tokens", "9", "--temperature", "0",
                 "--system", "Be brief.", "--model", "m1")
        body = self.server.posts()[0]
        self.assertEqual({name: body[name] for name in ("top_p", "seed", "stop", "max_tokens", "temperature", "model")},
                         {"top_p": 0.5, "seed": 7, "stop": "END", "max_tokens": 9, "temperature": 0, "model": "m1"})
        self.assertEqual(body["messages"][0], {"role": "system", "content": "Be brief."})
        self.ask("hi", "--max-tokens", "4k")
        self.ask("hi", "--set", "max_tokens=1M")
        self.assertEqual([body["max_tokens"] for body in self.server.posts()[1:]], [4096, 1 << 20])
        done = self.ask("hi", "--set", "top_q=1")
        self.assertEqual((done.returncode, done.stdout), (2, b""))
        self.assertIn(b"there is no setting 'top_q'; there are temperature, top_p", done.stderr)

    def test_figures_only_when_asked(self):
        self.answer_with(stream("a", " b", usage={"prompt_tokens": 5, "completion_tokens": 2}))
        self.check(self.ask("hi"), b"a b\n")
        done = self.ask("hi", "--stats")
        self.assertEqual(done.stdout, b"a b\n")
        self.assertRegex(done.stderr.decode(), r"^\[5 prompt tokens, 2 generated, ([\d.]+ tok/s, )?first after \d+\.\d\d s\]\n$")
        self.answer_with(stream("a", " b"))
        self.check(self.ask("hi", "--stats"), b"a b\n")  # a server that counts nothing

    def test_json(self):
        self.answer_with(stream("a", usage={"prompt_tokens": 5, "completion_tokens": 1}))
        done = self.ask("hi", "--json")
        self.assertEqual(json.loads(done.stdout), {"content": "a", "finish_reason": "stop",
                                                   "usage": {"prompt_tokens": 5, "completion_tokens": 1}})

    def test_the_key_is_sent_as_a_bearers(self):
        self.ask("hi", env={"SHOAL_API_KEY": "k1"})
        self.ask("hi", "--api-key", "k2", env={"SHOAL_API_KEY": "k1"})
        self.assertEqual([headers["Authorization"] for _, _, headers, _ in self.server.requests], ["Bearer k1", "Bearer k2"])
        done = self.ask("hi", "--api-key", "a\nX-Evil: 1")
        self.assertEqual(done.returncode, 2)
        self.assertIn(b"the API key holds spaces or control characters", done.stderr)

    def test_every_way_to_write_the_address(self):
        port = self.server.port
        for url, path in ((f"http://127.0.0.1:{port}", "/v1"), (f"http://127.0.0.1:{port}/", "/v1"),
                          (f"http://127.0.0.1:{port}/v1", "/v1"),
                          (f"http://127.0.0.1:{port}/v1/", "/v1"), (f"127.0.0.1:{port}", "/v1"), (f"localhost:{port}/v1", "/v1"),
                          (f"http://127.0.0.1:{port}/some/prefix", "/some/prefix/v1"),
                          (f"127.0.0.1:{port}/some/prefix/v1/", "/some/prefix/v1"),
                          (f"http://127.0.0.1:{port}/v1/chat/completions", "/v1"), (f"HTTP://127.0.0.1:{port}//v1//", "/v1")):
            self.check(chat("--url", url, "hi"), b"You said: hi\n")
            self.assertEqual(self.server.requests[-1][1], path + "/chat/completions", url)
        for url in ("", "http://", "ftp://host", "http://host:99999", "http://a b"):
            done = chat("--url", url, "hi")
            self.assertEqual(done.returncode, 2, url)
            self.assertIn(b"shoal chat: --url ", done.stderr)

    def test_this_machine_is_never_asked_through_a_proxy(self):
        dead = {name: "http://127.0.0.1:9" for name in ("http_proxy", "https_proxy", "all_proxy", "ALL_PROXY")}
        for host in ("127.0.0.1", "localhost", "127.1", "0.0.0.0"):
            self.check(chat("--url", f"http://{host}:{self.server.port}", "hi", env=dead), b"You said: hi\n")

    def test_others_are_asked_through_the_proxy_unless_excepted(self):
        proxy = {"http_proxy": self.server.url}
        self.check(chat("--url", "http://model.invalid:81/v1", "hi", env=proxy), b"You said: hi\n")
        self.assertEqual(self.server.requests[-1][1], "http://model.invalid:81/v1/chat/completions")
        done = chat("--url", "http://model.invalid:81/v1", "hi", env={**proxy, "no_proxy": "model.invalid"})
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"cannot reach http://model.invalid:81/v1: Could not resolve host", done.stderr)

    def test_a_refused_connection_says_so(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        done = chat("--url", f"http://user:secret@127.0.0.1:{port}", "hi")
        self.check(done, b"",
                   f"shoal chat: cannot reach http://127.0.0.1:{port}/v1: Connection refused; is a server running there "
                   "(`shoal serve MODEL`)?\n".encode(), 1)

    def test_errors_in_every_shape(self):
        for status, body, said in (
                (400, {"error": {"message": "too long", "type": "x"}}, "HTTP 400: too long"),
                (401, {"error": "who are you?"}, "HTTP 401: who are you?"),
                (422, {"detail": [{"loc": ["body", "messages", 0], "msg": "missing"}]}, "HTTP 422: body.messages.0: missing"),
                (422, {"detail": "no"}, "HTTP 422: no"),
                (404, {"object": "error", "message": "unknown path", "code": 404}, "HTTP 404: unknown path"),
                (500, {"error": {"code": 500, "error": {"message": "deep"}}}, "HTTP 500: deep"),
                (500, [{"error": {"message": "in a list"}}], "HTTP 500: in a list"),
                (503, "plain\x1b[2Jtext", "HTTP 503: plain\\x1b[2Jtext"),
                (502, "", "HTTP 502")):
            raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
            self.server.answer = lambda handler, _, status=status, raw=raw: handler.send_bytes(status, raw)
            self.check(self.ask("hi"), b"", f"shoal chat: {said}\n".encode(), 1)
        self.server.answer = lambda handler, _: handler.send_json(429, {"error": {"message": "busy"}}, [("Retry-After", "7")])
        self.check(self.ask("hi"), b"", b"shoal chat: HTTP 429: busy; try again in 7 s\n", 1)
        self.server.answer = lambda handler, _: handler.send_bytes(301, b"", headers=[("Location", "https://x.invalid/v1")])
        self.check(self.ask("hi"), b"", b"shoal chat: HTTP 301: moved to https://x.invalid/v1\n", 1)
        self.server.answer = lambda handler, _: handler.send_bytes(200, b"<html>a page</html>", "text/html")
        done = self.ask("hi")
        self.assertEqual((done.stdout, done.returncode), (b"", 1))
        self.assertIn(b"gave no answer of an OpenAI API: <html>a page</html>", done.stderr)

    def test_an_answer_that_is_cut_says_so(self):
        half = data(delta("half"))
        for body, said, code in (
                (half, "the answer is cut off: the stream ended without an end of the answer", 1),
                (half + data({"error": {"message": "worker 'w1' is gone"}}), "the answer is cut off: worker 'w1' is gone", 1),
                (half + b'event: error\ndata: {"message": "out of memory"}\n\n', "the answer is cut off: out of memory", 1),
                (half + b'error: {"code": 500, "message": "old"}\n\n', "the answer is cut off: old", 1),
                (stream("half", finish="length"), "the answer is cut off: it reached max_tokens or the end of the context", 0),
                (stream("half", finish="content_filter"), "the answer is cut off: the server's content filter", 0)):
            self.answer_with(body)
            self.check(self.ask("hi"), b"half\n", f"shoal chat: {said}\n".encode(), code)

        def lose(handler, _):
            handler.send_response(200)
            handler.send_header("Content-Type", "text/event-stream")
            handler.send_header("Content-Length", "100000")
            handler.end_headers()
            handler.put(half)
            handler.close_connection = True

        self.server.answer = lose
        self.check(self.ask("hi"), b"half\n",
                   f"shoal chat: the answer is cut off: the connection to {self.server.url}/v1 was lost\n".encode(), 1)

    def test_a_silent_server_is_given_up(self):
        def silent(handler, _):
            handler.begin_stream()
            handler.put(data(delta("half")))
            time.sleep(30)

        self.server.answer = silent
        self.check(self.ask("--timeout", "1.5", "hi"), b"half\n",
                   b"shoal chat: the answer is cut off: nothing more came for too long\n", 1)

    def test_streams_as_others_write_them(self):
        one = json.dumps(delta("Hello", finish_reason="stop"))
        pretty = "".join(f"data: {line}\n" for line in json.dumps(delta("Hello", finish_reason="stop"), indent=1).split("\n"))
        for body in (
                f"data:{one}\n\ndata:[DONE]\n\n",                       # no space
                f"data: {one}\r\n\r\ndata: [DONE]\r\n\r\n",             # CR LF
                f"data: {one}\r\rdata: [DONE]\r\r",                     # CR
                f": hello\n\n: ping\n\ndata: {one}\n\ndata: [DONE]\n",  # comments
                f"id: 1\nevent: message\nretry: 5\ndata: {one}\n\ndata: [DONE]\n\n",
                f"data: {one}\ndata: [DONE]\n",                         # no empty lines
                f"data: {one}",                                         # nothing behind the last one
                pretty + "\ndata: [DONE]\n\n",                          # data over several lines
                f'data: {{"choices": []}}\n\ndata: {{"id": "x"}}\n\ndata: {one}\n\ndata: [DONE]\n\n',
                f'data: {{"choices": null, "usage": null, "error": null}}\n\ndata: {one}\n\n',
                "\ufeffdata: " + one + "\n\n",
                'data: {"choices": [{"delta": {"role": "assistant", "content": null}}]}\n\ndata: ' + one + "\n\n",
                'data: {"choices": [{"index": 1, "delta": {"content": "another"}}]}\n\ndata: ' + one + "\n\n",
                'data: {"choices": [{"delta": {"content": [{"type": "text", "text": "Hello"}]}, "finish_reason": "stop"}]}\n\n'):
            raw = body.encode()

            def by_bytes(handler, _, raw=raw):
                handler.begin_stream()
                for at in range(0, len(raw), 7):
                    handler.put(raw[at:at + 7])

            for answer in (lambda handler, _, raw=raw: raw, by_bytes):
                self.server.answer = answer
                done = self.ask("hi")
                self.assertEqual((done.stdout, done.stderr, done.returncode), (b"Hello\n", b"", 0), body)

    def test_an_answer_in_one_piece(self):
        whole = {"choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}], "usage": {"completion_tokens": 1}}
        self.server.answer = lambda handler, _: handler.send_json(200, whole)
        self.check(self.ask("hi"), b"Hello\n")

    def test_a_long_line_is_whole(self):
        text = "0123456789" * 300000
        self.answer_with(stream(text))
        self.check(self.ask("hi"), text.encode() + b"\n")

    def test_characters_in_pieces(self):
        text = "東京 😀 é"
        raw = text.encode()
        by_byte = b"".join(b'data: {"choices": [{"delta": {"content": "' + raw[i:i + 1] + b'"}}]}\n\n' for i in range(len(raw)))
        self.answer_with(by_byte + b"data: [DONE]\n\n")
        self.check(self.ask("hi"), raw + b"\n")
        half = data(delta("@")).decode()
        halves = "".join(half.replace("@", f"\\u{unit:04x}") for unit in (0xd83d, 0xde00))
        self.answer_with(halves.encode() + b"data: [DONE]\n\n")
        self.check(self.ask("hi"), "😀\n".encode())
        self.answer_with(b'data: {"choices": [{"delta": {"content": "a\xff\\ud83d b\xe6\x9d"}}]}\n\ndata: [DONE]\n\n')
        self.check(self.ask("hi"), "a\ufffd\ufffd b\ufffd\ufffd\n".encode())

    def test_reasoning_is_not_the_answer(self):
        self.answer_with(data({"choices": [{"delta": {"reasoning_content": "hm"}}]}) + stream("yes"))
        self.check(self.ask("hi"), b"yes\n")
        self.assertEqual(json.loads(self.ask("hi", "--json").stdout)["reasoning"], "hm")

    def test_a_server_of_several_models_is_asked_for_its_first(self):
        def picky(handler, body):
            if body["model"] in self.server.models:
                return stream("by " + body["model"])
            return handler.send_json(404, {"object": "error", "message": f"The model `{body['model']}` does not exist.",
                                           "code": 404})

        self.server.answer, self.server.models = picky, ("qwen",)
        self.check(self.ask("hi"), b"by qwen\n")
        self.server.models = ("one", "two")
        self.check(self.ask("hi"), b"by one\n",
                   b"shoal chat: the server has 2 models; asking 'one' (--model or /model chooses)\n")
        done = self.ask("hi", "--model", "three")
        self.check(done, b"", b"shoal chat: HTTP 404: The model `three` does not exist.\n", 1)

    def test_text_comes_as_it_arrives(self):
        go_on = threading.Event()

        def slow(handler, _):
            handler.begin_stream()
            handler.put(data(delta("first")))
            if not go_on.wait(20):
                return
            handler.put(stream(" second"))

        self.server.answer = slow
        process = subprocess.Popen([SHOAL, "chat", "--url", self.server.url, "hi"], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE)
        self.assertEqual(os.read(process.stdout.fileno(), 100), b"first")
        go_on.set()
        self.assertEqual(process.communicate(timeout=20), (b" second\n", None))

    def test_a_reader_who_leaves(self):
        gone = threading.Event()

        def endless(handler, _):
            handler.begin_stream()
            try:
                while True:
                    handler.put(data(delta("word " * 200)))
                    time.sleep(0.001)
            except OSError:
                gone.set()
                raise

        self.server.answer = endless
        process = subprocess.Popen([SHOAL, "chat", "--url", self.server.url, "hi"], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdout.read(10)
        process.stdout.close()
        self.assertEqual((process.wait(20 * SLOWDOWN), process.stderr.read()), (-signal.SIGPIPE, b""))
        self.assertTrue(gone.wait(20 * SLOWDOWN), "the server goes on")

    def test_a_full_disk_is_an_error(self):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([SHOAL, "chat", "--url", self.server.url, "hi"], stdin=subprocess.DEVNULL, stdout=full,
                                  stderr=subprocess.PIPE, timeout=60)
        self.assertEqual((done.returncode, done.stderr), (1, b"shoal chat: cannot write the answer: No space left on device\n"))

    def test_an_interrupt_ends_it(self):
        def endless(handler, _):
            handler.begin_stream()
            handler.put(data(delta("first")))
            time.sleep(30)

        self.server.answer = endless
        process = subprocess.Popen([SHOAL, "chat", "--url", self.server.url, "hi"], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertEqual(os.read(process.stdout.fileno(), 100), b"first")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
        self.assertEqual((process.returncode, out, err), (130, b"\n", b""))

    def test_input_that_does_not_end_is_explained(self):
        process = subprocess.Popen([SHOAL, "chat", "--url", self.server.url, "hi"], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.assertIn(b"waiting for the end of standard input", process.stderr.readline())
        self.assertEqual(process.communicate(b"there", timeout=20)[0], b"You said: hi\n\nthere\n")

    def test_without_a_home(self):
        self.check(self.ask("hi", env={"HOME": "/nonexistent", "XDG_STATE_HOME": "", "TERM": ""}), b"You said: hi\n")


class Real(unittest.TestCase):
    def test_one_question_of_a_real_server(self):
        with Server(TINY_DENSE, workers=1) as server:
            done = chat("--url", server.client.url + "/v1", "--temperature", "0", "--max-tokens", "12", "--json",
                        "Tell me a story.")
            self.assertEqual(done.returncode, 0, done.stderr)
            said = json.loads(done.stdout)
            expected = server.client.chat("Tell me a story.", temperature=0, max_tokens=12)
            self.assertEqual(said["content"], expected["choices"][0]["message"]["content"])
            self.assertEqual(said["usage"]["completion_tokens"], expected["usage"]["completion_tokens"])
            with tempfile.TemporaryDirectory() as folder:
                path = os.path.join(folder, "file")
                with open(path, "w", encoding="utf-8") as out:
                    out.write("A long text.")
                with open(path, "rb") as source:
                    done = subprocess.run([SHOAL, "chat", "--url", server.client.url, "--max-tokens", "4", "Go on:"],
                                          stdin=source, capture_output=True,
                                          timeout=60 * SLOWDOWN)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertTrue(done.stdout)


if __name__ == "__main__":
    main()
