"""Files whose tables contradict each other, one relation at a time: each is served right or refused with the key or
tensor named, and `shoal inspect` says the same as `shoal serve`."""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

import harness

sys.path.insert(0, str(harness.ROOT / "tests" / "peer"))
import gguf_file as g  # noqa: E402

TOKENS, KINDS, MERGES = "tokenizer.ggml.tokens", "tokenizer.ggml.token_type", "tokenizer.ggml.merges"
PER_TOKEN = (TOKENS, KINDS, "tokenizer.ggml.scores")
NORMAL, CONTROL, USER_DEFINED = 1, 3, 4
ARCHITECTURES = ["llama", "mistral3", "qwen2", "qwen2moe", "qwen3", "qwen3moe", "mixtral", "gptoss", "glm4moe", "llama4",
                 "deepseek2", "deepseek2yarn", "gemma3", "falcon", "commandr"]


def arch_key(file, name):
    return file.metadata["general.architecture"].value + "." + name


def cut_tokens(count):
    def change(file):
        for key in PER_TOKEN:
            if key in file.metadata:
                file.metadata[key].value = file.metadata[key].value[:-count]
        left = len(file.metadata[TOKENS].value)
        for key in [key for key in file.metadata if key.endswith("_token_id")]:
            if file.metadata[key].value >= left:
                del file.metadata[key]
    return change


def add_tokens(count, kind):
    def change(file):
        start = len(file.metadata[TOKENS].value)
        for key, value in ((TOKENS, None), (KINDS, kind), ("tokenizer.ggml.scores", -1e4)):
            if key in file.metadata:
                file.metadata[key].value += ([f"<new{start + i}>" for i in range(count)] if value is None
                                             else [value] * count)
        file.metadata.pop(arch_key(file, "vocab_size"), None)
    return change


def put(name, kind, value):
    def change(file):
        key = name if "." in name and name.split(".")[0] in ("tokenizer", "general") else arch_key(file, name)
        file.metadata[key] = g.Value(kind, value)
    return change


def drop(key):
    return lambda file: file.metadata.pop(key)


def shorten(key):
    def change(file):
        file.metadata[key].value = file.metadata[key].value[:-1]
    return change


def add_tensor(name, dims):
    def change(file):
        count = 1
        for dim in dims:
            count *= dim
        file.tensors.append(g.Tensor.f32(name, dims, [0.25] * count))
    return change


def drop_tensor(name):
    return lambda file: file.tensors.remove(file.tensor(name))


def blocks(by):
    def change(file):
        file.metadata[arch_key(file, "block_count")].value += by
    return change


# What is broken: (change, what a refusal names, or None: served; what a warning names).
RELATIONS = {
    "nothing": (lambda file: None, None, None),
    "fewer tokens than rows": (cut_tokens(4), None, "never drawn"),
    "more plain tokens than rows": (add_tokens(3, NORMAL), None, TOKENS),
    "more control tokens than rows": (add_tokens(1, CONTROL), "token_embd.weight", None),
    "more added tokens than rows": (add_tokens(2, USER_DEFINED), "token_embd.weight", None),
    "vocab_size above the rows": (put("vocab_size", g.U32, 1 << 20), "vocab_size", None),
    "types for other tokens": (shorten(KINDS), KINDS, None),
    "no tokens": (drop(TOKENS), TOKENS, None),
    "padding beyond": (put("tokenizer.ggml.padding_token_id", g.U32, 1 << 20), None, "padding_token_id"),
    "padding of -1": (put("tokenizer.ggml.padding_token_id", g.I32, -1), None, None),
    "padding of -1 in 64 bits": (put("tokenizer.ggml.padding_token_id", g.I64, -1), None, None),
    "unknown beyond": (put("tokenizer.ggml.unknown_token_id", g.U16, 65000), None, "unknown_token_id"),
    "mask beyond": (put("tokenizer.ggml.mask_token_id", g.I64, 1 << 40), None, "mask_token_id"),
    "separator beyond": (put("tokenizer.ggml.seperator_token_id", g.U64, 1 << 60), None, "seperator_token_id"),
    "end beyond": (put("tokenizer.ggml.eos_token_id", g.U32, 1 << 20), "eos_token_id", None),
    "an unknown way to cut text": (put("tokenizer.ggml.pre", g.STRING, "my-bpe"), "my-bpe", None),
    "a tensor nobody reads": (add_tensor("surplus.weight", [3]), None, "surplus.weight"),
    "a tensor of a block nobody reads": (add_tensor("blk.0.surplus.weight", [3]), None, "blk.0.surplus.weight"),
    "a block too many": (blocks(-1), "block_count", None),
    "a block too few": (blocks(1), "blk.", None),
    "no embedding": (drop_tensor("token_embd.weight"), "token_embd.weight", None),
    "no scaling": (put("rope.scaling.factor", g.F32, 0.0), None, None),
}
# What has no such table has no such relation.
NEEDS = {"types for other tokens": KINDS, "an unknown way to cut text": "tokenizer.ggml.pre", "no tokens": TOKENS,
         "more control tokens than rows": KINDS, "more added tokens than rows": KINDS}


class FileTables(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp()
        cls.addClassCleanup(shutil.rmtree, cls.folder)

    def changed(self, source, change):
        file = g.read(source)
        change(file)
        path = os.path.join(self.folder, "changed.gguf")
        file.write(path)
        return path

    def inspect(self, path):
        done = subprocess.run([harness.SHOAL, "inspect", path, "--json"], capture_output=True, text=True, timeout=120,
                              check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def judge(self, source, name):
        """(path, what inspect says of it), the verdict being what RELATIONS asks for."""
        change, refused, warned = RELATIONS[name]
        path = self.changed(source, change)
        said = self.inspect(path)
        if refused is None:
            self.assertTrue(said["servable"], said.get("why_not"))
            warnings = "\n".join(said["warnings"])
            self.assertIn(warned or "", warnings)
            if warned is None:
                self.assertNotIn("beyond", warnings)
        else:
            self.assertFalse(said["servable"], said.get("warnings"))
            self.assertIn(refused, said["why_not"])
        return path, said

    def test_every_architecture_is_judged(self):
        for model in ARCHITECTURES:
            source, _ = harness.oracle(model)
            keys = g.read(source).metadata
            for name in RELATIONS:
                if NEEDS.get(name, "general.architecture") not in keys:
                    continue
                with self.subTest(model=model, broken=name):
                    self.judge(source, name)

    def test_a_server_agrees(self):
        for source in (harness.TINY_DENSE, harness.TINY_MOE):
            for name in RELATIONS:
                with self.subTest(model=source, broken=name):
                    path, said = self.judge(source, name)
                    if said["servable"]:
                        self.serve(path, said, name)
                    else:
                        self.refuse(path, said)

    def refuse(self, path, said):
        done = subprocess.run([harness.SHOAL, "serve", path, "--workers", "1", "--port", "0"], capture_output=True,
                              text=True, timeout=60, check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertNotIn("check failed", done.stdout + done.stderr)
        self.assertIn(said["why_not"], done.stdout + done.stderr)

    def serve(self, path, said, name):
        workers = 2 if name == "fewer tokens than rows" else 1
        with harness.Server(path, workers=workers) as server:
            for warning in said["warnings"]:
                self.assertIn(warning[:100], server.output())
            # Hot: any id that could be drawn is.
            body = {"prompt": "Add 2 and 3.", "max_tokens": 60, "temperature": 2.0, "seed": 7, "logprobs": 5}
            answer = server.client.ok("/v1/completions", body)["choices"][0]
            self.assertIn(answer["finish_reason"], ("stop", "length"))
            tokens = len(g.read(path).metadata[TOKENS].value)
            rows = g.read(path).tensor("token_embd.weight").dims[1]
            reply = server.client.post("/v1/completions", {"prompt": [min(tokens, rows)], "max_tokens": 1})
            self.assertEqual(reply.status, 400, reply.body)
            self.assertIn(f"from 0 to {min(tokens, rows) - 1}".encode(), reply.body)

    # A bias of the output belongs to the logits, also where the output is the embedding.
    def test_a_bias_of_the_output_counts(self):
        for source in (harness.TINY_DENSE, harness.TINY_MOE):
            def change(file):
                rows = file.tensor("token_embd.weight").dims[1]
                bias = [0.0] * rows
                bias[self.token] = 1e4
                file.tensors.append(g.Tensor.f32("output.bias", [rows], bias))
            keys = g.read(source).metadata
            self.token = keys[TOKENS].value.index("e")
            path = self.changed(source, change)
            self.assertTrue(self.inspect(path)["servable"])
            for workers in (1, 2):
                with self.subTest(model=source, workers=workers), harness.Server(path, workers=workers) as server:
                    body = {"prompt": "Add", "max_tokens": 5, "temperature": 0}
                    self.assertEqual(server.client.ok("/v1/completions", body)["choices"][0]["text"], "eeeee")


if __name__ == "__main__":
    harness.main()
