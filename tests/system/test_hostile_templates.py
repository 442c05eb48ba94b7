"""Chat templates and conversations that ask for far more than they are long."""
import json
import pathlib
import sys
import tempfile
import threading
import time
import unittest

import harness

sys.path.insert(0, str(harness.ROOT / "tests" / "peer"))
import gguf_file  # pylint: disable=wrong-import-position

CHAT = "/v1/chat/completions"
# x and y look alike, share nothing, and each holds itself twice, forty times over: to compare them is 2^40 steps.
BOMB = ("{% if messages[-1]['content'] == 'explode' %}{% set x = [1] %}{% set y = [1] %}"
        + "{% set x = [x, x] %}{% set y = [y, y] %}" * 40 + "{{ x == y }}{% endif %}")


def with_template(path, change):
    """The tiny model with another template: `change` of its own."""
    model = gguf_file.read(harness.TINY_DENSE)
    key = model.metadata["tokenizer.chat_template"]
    key.value = change(key.value)
    model.write(path)
    return str(path)


def messages(content):
    return {"model": "m", "messages": [{"role": "user", "content": content}], "max_tokens": 4}


class HostileTemplates(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def test_bombs_are_refused_and_others_served(self):
        model = with_template(self.folder / "bomb.gguf", lambda stock: BOMB + stock)
        with harness.Server(model) as server:
            client = server.client
            expected = client.ok(CHAT, {**messages("Hello"), "temperature": 0})["choices"]
            over = threading.Event()
            unready, chats = [], []

            def watch():
                while not over.is_set():
                    response = client.get("/ready")
                    if response.status != 200:
                        unready.append(response.body)
                    time.sleep(0.05)

            def talk():
                while not over.is_set():
                    chats.append(client.ok(CHAT, {**messages("Hello"), "temperature": 0})["choices"])

            others = [threading.Thread(target=watch), threading.Thread(target=talk)]
            for thread in others:
                thread.start()
            try:
                start = time.monotonic()
                answers = harness.parallel([lambda: client.post(CHAT, messages("explode"))] * 2)
                took = time.monotonic() - start
            finally:
                over.set()
                for thread in others:
                    thread.join()
            for answer in answers:
                self.assertEqual(answer.status, 400, answer.body)
                self.assertRegex(answer.json()["error"]["message"],
                                 "the chat template (took|needs) more than .* for these messages")
            self.assertLess(took, 30 * harness.SLOWDOWN)
            self.assertEqual(unready, [])
            self.assertGreaterEqual(len(chats), 1)
            for choices in chats:
                self.assertEqual(choices, expected)

            # Those who leave do not keep the handlers busy, and a stop does not wait for a queue of bombs.
            for _ in range(8):
                connection = client.connect()
                connection.request("POST", CHAT, json.dumps(messages("explode")),
                                   {"Content-Type": "application/json"})
                connection.close()
            self.assertEqual(client.ok(CHAT, {**messages("Hello"), "temperature": 0})["choices"], expected)
            waiting = []
            for _ in range(8):
                waiting.append(client.connect())
                waiting[-1].request("POST", CHAT, json.dumps(messages("explode")),
                                    {"Content-Type": "application/json"})
            time.sleep(0.2)
            start = time.monotonic()
            self.assertEqual(server.stop(60), 0, server.output())
            self.assertLess(time.monotonic() - start, 45 * harness.SLOWDOWN)

    def test_longest_conversation_with_a_stock_template(self):
        stock = harness.shared("templates/Qwen-Qwen3-0.6B.jinja").read_text()
        model = with_template(self.folder / "qwen3.gguf", lambda _: stock)
        body = json.dumps({"model": "m", "messages": [
            {"role": "assistant" if i % 2 else "user", "content": f"message number {i}"}
            for i in range(16383)]})
        with harness.Server(model) as server:
            client = server.client
            for answer in harness.parallel([lambda: client.post(CHAT, body)] * 6):
                self.assertEqual(answer.status, 400, answer.body)
                self.assertEqual(answer.json()["error"]["code"], "context_length_exceeded", answer.body)
            client.ok(CHAT, messages("Hello"))


if __name__ == "__main__":
    harness.main()
