"""A web page of another origin, in a real browser, talks to a server that asks for a key."""
import http.server
import json
import os
import shutil
import subprocess
import tempfile
import threading
import unittest

import harness

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
KEY = "sk-0123456789abcdefghij"

# Reports what the page could see: {what: text}.
PAGE = """<!doctype html><title>page</title><script>
const server = %(server)s, key = %(key)s;
async function ask(path, options) {
  try {
    const response = await fetch(server + path, options);
    return [response.status, response.headers.get("x-request-id"), await response.text()];
  } catch (error) { return [0, null, String(error)]; }
}
async function main() {
  const headers = {"Content-Type": "application/json", "Authorization": "Bearer " + key, "X-Request-Id": "page-1"};
  const body = JSON.stringify({messages: [{role: "user", content: "What is 1 plus 8?"}], max_tokens: 16, temperature: 0});
  const stream = JSON.stringify({...JSON.parse(body), stream: true});
  const seen = {
    health: await ask("/health"),
    wrong_key: await ask("/v1/models", {headers: {"Authorization": "Bearer wrong"}}),
    models: await ask("/v1/models", {headers}),
    chat: await ask("/v1/chat/completions", {method: "POST", headers, body}),
    stream: await ask("/v1/chat/completions", {method: "POST", headers, body: stream}),
    bad: await ask("/v1/chat/completions", {method: "POST", headers, body: "{"}),
  };
  await fetch("/report", {method: "POST", body: JSON.stringify(seen)});
}
main();
</script>"""


class Pages(http.server.ThreadingHTTPServer):
    """Serves PAGE on an origin of its own and takes its report."""

    def __init__(self, server_url):
        super().__init__(("127.0.0.1", 0), PageHandler)
        self.page = (PAGE % {"server": json.dumps(server_url), "key": json.dumps(KEY)}).encode()
        self.report, self.reported = None, threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class PageHandler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(self.server.page)

    def do_POST(self):
        self.server.report = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(204)
        self.end_headers()
        self.server.reported.set()

    def log_message(self, *_):
        pass


@unittest.skipUnless(BROWSER, "no chromium")
class Browser(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.keys = os.path.join(self.folder.name, "keys")
        with open(self.keys, "w", encoding="utf-8") as file:
            file.write(KEY + "\n")
        os.chmod(self.keys, 0o600)

    def visit(self, args):
        """What a page sees of a server with these arguments."""
        with harness.Server(workers=1, args=["--api-keys", self.keys, *args]) as server:
            pages = Pages(server.client.url)
            profile = os.path.join(self.folder.name, "profile")
            browser = subprocess.Popen(
                [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                 f"--user-data-dir={profile}", pages.url],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
            try:
                self.assertTrue(pages.reported.wait(60 * harness.SLOWDOWN), "the page reported nothing")
            finally:
                os.killpg(browser.pid, 9)
                browser.wait()
                pages.shutdown()
                pages.server_close()
            return pages.report

    def test_a_page_with_the_key_is_served(self):
        seen = self.visit([])
        self.assertEqual(seen["health"][0], 200)
        self.assertEqual(seen["wrong_key"][0], 401)
        self.assertIn("API key", seen["wrong_key"][2])
        self.assertEqual(seen["models"][:2], [200, "page-1"])
        self.assertEqual(seen["chat"][0], 200)
        self.assertIn("9", json.loads(seen["chat"][2])["choices"][0]["message"]["content"])
        self.assertTrue(seen["stream"][2].rstrip().endswith("[DONE]"))
        self.assertEqual(seen["bad"][0], 400)

    def test_a_page_that_is_not_allowed_sees_nothing(self):
        seen = self.visit(["--cors-origins", "https://chat.example.org,http://localhost:*"])
        for what, (status, _, text) in seen.items():
            self.assertEqual(status, 0, what)
            self.assertIn("Failed to fetch", text)


if __name__ == "__main__":
    harness.main()
