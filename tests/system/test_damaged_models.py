"""Models with weights that are no numbers, and models whose arithmetic overflows: what can be seen is refused by name,
what cannot ends the request it happens to and disturbs nobody."""
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

import harness

sys.path.insert(0, str(harness.ROOT / "tests" / "peer"))
import gguf_file  # noqa: E402

COLUMN = 5  # of the embedding
MESSAGE = "the model produced no finite logits for this request"


def patched(source, target, change):
    file = gguf_file.read(source)
    change(file)
    file.write(target)
    return target


def overwrite(tensor, offset, data):
    tensor.data = tensor.data[:offset] + data + tensor.data[offset + len(data):]


def overflow(token):
    """No other token has anything in COLUMN, and the values it makes in the first layer are beyond a half."""
    def change(file):
        embedding, values = file.tensor("token_embd.weight"), file.tensor("blk.0.attn_v.weight")
        for row in range(embedding.dims[1]):
            overwrite(embedding, 2 * (row * embedding.dims[0] + COLUMN), struct.pack("<e", 8.0 if row == token else 0))
        for row in range(values.dims[1]):
            overwrite(values, 2 * (row * values.dims[0] + COLUMN), struct.pack("<e", 60000.0))
        norm = file.tensor("blk.0.attn_norm.weight")
        overwrite(norm, 4 * COLUMN, struct.pack("<f", 4.0))
    return change


class DamagedModels(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.source = str(harness.shared("models/shoal-tiny-dense-f16.gguf"))
        cls.folder = tempfile.mkdtemp()
        cls.addClassCleanup(shutil.rmtree, cls.folder)

    def path(self, name):
        return os.path.join(self.folder, name)

    def test_an_overflow_ends_its_request_and_disturbs_nobody(self):
        token = gguf_file.read(self.source).metadata["tokenizer.ggml.tokens"].value.index("^")
        model = patched(self.source, self.path("overflow.gguf"), overflow(token))
        for workers in (1, 3):
            with self.subTest(workers=workers), harness.Server(model, workers=workers) as server:
                self.overflow_round(server, token)

    def overflow_round(self, server, bad):
        client = server.client
        prompts = [f"Q: What is {i} plus {i + 3}?\nA:" for i in range(6)]
        kinds = [{"temperature": 0}, {"temperature": 0.8, "seed": 7}, {"temperature": 1, "seed": 8, "top_k": 20},
                 {"temperature": 0, "logprobs": 3}, {"temperature": 0.7, "seed": 9, "presence_penalty": 0.5}]

        def good(i):
            answer = client.ok("/v1/completions", {"model": "m", "prompt": prompts[i % 6], "max_tokens": 24,
                                                   "logit_bias": {str(bad): -100}, **kinds[i % 5]})
            return answer["choices"][0]["text"]

        def broken(i):
            prompt = prompts[i % 6] + " ^ and more"
            response = client.post("/v1/completions", {"model": "m", "prompt": prompt, "max_tokens": 24, **kinds[i % 5]})
            return response.status, response.body.decode()

        alone = [good(i) for i in range(30)]
        pids = server.worker_pids()
        work = [(lambda i=i: good(i)) for i in range(30)] + [(lambda i=i: broken(i)) for i in range(30)]
        results = harness.parallel(work[0::2] + work[1::2], limit=12)
        ordered = [None] * 60
        ordered[0::2], ordered[1::2] = results[:30], results[30:]
        self.assertEqual(ordered[:30], alone)
        for status, body in ordered[30:]:
            self.assertEqual(status, 500, body)
            self.assertIn(MESSAGE, body)
        # A token that was sampled, not asked: the stream has begun, and ends with an error.
        events = []
        with self.assertRaises(Exception) as caught:
            for event in client.stream("/v1/completions", {"model": "m", "prompt": prompts[0], "max_tokens": 8,
                                                           "temperature": 0, "logit_bias": {str(bad): 100}}):
                events.append(event)
                if "error" in event:
                    raise InterruptedError(event["error"]["message"])
        self.assertIn(MESSAGE, str(caught.exception))
        self.assertIn("^", "".join(choice["text"] for event in events for choice in event.get("choices", [])))
        self.assertEqual([good(i) for i in range(30)], alone, "what broken sequences left behind had an influence")
        self.assertEqual(server.worker_pids(), pids, "a worker was replaced")

        def at_rest():
            state = client.get("/cluster").json()
            return state["kv_blocks_used"] == state["running"] == state["waiting"] == 0
        harness.wait_until(at_rest, 5, "no KV block is in use")

    def test_small_tensors_are_judged_before_workers_start(self):
        def change(file):
            overwrite(file.tensor("blk.3.attn_norm.weight"), 4 * 17, struct.pack("<f", float("nan")))
        model = patched(self.source, self.path("norm.gguf"), change)
        wanted = f"{model}: tensor 'blk.3.attn_norm.weight'"
        served = subprocess.run([harness.SHOAL, "serve", model, "--port", "0"], stdin=subprocess.DEVNULL,
                                capture_output=True, text=True, timeout=60 * harness.SLOWDOWN, check=False)
        self.assertEqual(served.returncode, 2, served.stderr)
        self.assertIn(wanted, served.stderr)
        self.assertIn("element 17 is nan", served.stderr)
        inspected = subprocess.run([harness.SHOAL, "inspect", model, "--json"], capture_output=True, text=True,
                                   timeout=60 * harness.SLOWDOWN, check=True)
        judged = json.loads(inspected.stdout)
        self.assertFalse(judged["servable"])
        self.assertIn(wanted, judged["why_not"])
        self.assertIn("element 17 is nan", judged["why_not"])

    def test_a_worker_names_what_it_reads(self):
        def change(file):
            overwrite(file.tensor("blk.4.ffn_down.weight"), 2 * (9 * 768 + 700), struct.pack("<e", float("inf")))
        model = patched(self.source, self.path("matrix.gguf"), change)
        process = harness.Process([harness.SHOAL, "serve", model, "--workers", "2", "--port", "0"])
        try:
            line = process.wait_for_line(r"element 7612.*is inf", 60).string
            self.assertIn(f"{model}: tensor 'blk.4.ffn_down.weight'", line)
            self.assertIn("(row 9, column 700)", line)
        finally:
            process.stop()


if __name__ == "__main__":
    harness.main()
