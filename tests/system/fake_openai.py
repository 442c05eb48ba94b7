"""A server that speaks the OpenAI API, or something like it: tests say what it answers."""
import http.server
import json
import threading


def delta(text, **more):
    return {"choices": [{"index": 0, "delta": {"content": text}, **more}]}


def data(value):
    return f"data: {value if isinstance(value, str) else json.dumps(value)}\n\n".encode()


def stream(*pieces, finish="stop", usage=None):
    """A usual answer in these pieces, as bytes."""
    out = b"".join(data(delta(piece)) for piece in pieces)
    out += data({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    if usage:
        out += data({"choices": [], "usage": usage})
    return out + data("[DONE]")


class FakeServer:
    """`answer(handler, body)` is called for every POST; its result is sent as a stream if it is bytes. Default: an echo."""

    def __init__(self, answer=None, models=("fake",)):
        self.answer = answer or (lambda handler, body: stream("You said: ", body["messages"][-1]["content"]))
        self.models = models
        self.requests = []  # (method, path, headers, body)
        self.changed = threading.Condition()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def note(self, body):
                with outer.changed:
                    outer.requests.append((self.command, self.path, dict(self.headers), body))
                    outer.changed.notify_all()

            def send_json(self, status, value, headers=()):
                self.send_bytes(status, json.dumps(value).encode(), "application/json", headers)

            def send_bytes(self, status, body, kind="text/plain", headers=()):
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                for name, value in headers:
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def begin_stream(self, kind="text/event-stream"):
                self.send_response(200)
                if kind:
                    self.send_header("Content-Type", kind)
                self.send_header("Connection", "close")
                self.end_headers()
                self.close_connection = True

            def put(self, data_bytes):
                self.wfile.write(data_bytes)
                self.wfile.flush()

            def do_GET(self):
                self.note(None)
                self.send_json(200, {"object": "list", "data": [{"id": name} for name in outer.models]})

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self.note(body)
                try:
                    result = outer.answer(self, body)
                    if isinstance(result, bytes):
                        self.begin_stream()
                        self.put(result)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

        class Quiet(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, client_address):
                pass

        self.server = Quiet(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.server.shutdown()
        self.server.server_close()

    def posts(self):
        return [body for method, _, _, body in self.requests if method == "POST"]

    def wait_for_posts(self, count, seconds=20):
        with self.changed:
            if not self.changed.wait_for(lambda: len(self.posts()) >= count, seconds):
                raise AssertionError(f"{len(self.posts())} requests came, not {count}")
        return self.posts()

    def last_question(self):
        return self.posts()[-1]["messages"][-1]["content"]
