"""Architectures and shapes without a reference file: synthesised models, Shoal against llama.cpp.

SHOAL_PEER_MODELS names the models to compare (default: all of ROWS), SHOAL_PEER_WORKERS the layouts.
"""
import dataclasses
import functools
import math
import os
import random
import sys
import unittest

import peer
import synth_arch

harness = peer.harness
TOLERANCE = 5e-4  # of any of the 24 best
MARGIN = 1e-3     # greedy tokens are compared while the best is further than this above the second
TOP, GREEDY = 24, 8
LENGTHS = (1, 7, 40, 150)
SELECTED = os.environ.get("SHOAL_PEER_MODELS", "").split()
WORKERS = [int(n) for n in os.environ.get("SHOAL_PEER_WORKERS", "1 3").split()]


@dataclasses.dataclass
class Row:
    """One model at one running context (0: no longer than needed). LongRoPE's original context is 1024."""
    model: str
    context: int = 0
    mixture: bool = False  # several workers: once with parts of each expert, once with whole ones


def mixtures(*models):
    return [Row(model, mixture=True) for model in models]


ROWS = [
    Row("llama-fused-qkv"), Row("llama-biases"), Row("qwen2-yarn"),
    Row("phi3"), Row("phi3-longrope", 512), Row("phi3-longrope", 2048), Row("phi3-mini4", 512), Row("phi3-mini4", 2048),
    Row("mistral3"), Row("command-r"), Row("command-r-plus"), Row("falcon-7b"),
    Row("gemma3"), Row("gemma3-27b"),
    *mixtures("mistral3-moe", "mixtral", "qwen2moe", "qwen3moe", "glm4moe", "glm4moe-qk-norm", "glm4moe-sections",
              "deepseek2-lite-legacy", "deepseek2-lite", "deepseek2-legacy", "deepseek3", "deepseek3-legacy",
              "deepseek3-softmax-selected", "deepseek3-sqrt-softplus", "deepseek3-fused", "deepseek3-temperature", "glm-flash", "glm-flash-mtp",
              "gpt-oss", "gpt-oss-mxfp4", "llama4-maverick"),
]

@functools.lru_cache(maxsize=None)
def cases():
    """Token sequences; every id is an ordinary token of every vocabulary."""
    rng = random.Random(5)
    return [[rng.randrange(990) for _ in range(length)] for length in LENGTHS]


@functools.lru_cache(maxsize=None)
def prepared(model, context):
    """(path for Shoal, llama.cpp's answers); the answers are lively: neither even over the vocabulary nor certain."""
    path, twin = synth_arch.generate(model, harness.BUILD / "synthetic")
    options = {"context": context} if context else {}
    expected = peer.logprobs(twin, cases(), TOP, greedy=GREEDY, **options)
    largest = math.log(154880 if model.startswith("glm-flash") else 996)
    for answer in expected:
        share = answer["entropy"] / largest
        if not 0.2 < share < 0.96:
            raise AssertionError(f"{model}: entropy {answer['entropy']:.2f} of {largest:.2f}: the comparison says little")
    return path, expected


class Architectures(unittest.TestCase):
    def compare_case(self, client, tokens, expected):
        reply = client.ok("/v1/completions", {"prompt": tokens, "max_tokens": 1, "temperature": 0, "logprobs": 64,
                                              "ignore_eos": True})
        found = {top["id"]: top["logprob"] for top in reply["choices"][0]["logprobs"]["content"][0]["top_logprobs"]}
        return max(abs(found.get(token, -math.inf) - logprob) for token, logprob in expected["top"])

    def compare_greedy(self, client, tokens, expected):
        """How many tokens were far enough above the second for a comparison."""
        clear = next((i for i, margin in enumerate(expected["margins"]) if margin <= MARGIN), GREEDY)
        reply = client.ok("/v1/completions", {"prompt": tokens, "max_tokens": GREEDY, "temperature": 0,
                                              "ignore_eos": True, "return_token_ids": True})
        self.assertEqual(reply["choices"][0]["token_ids"][:clear], expected["greedy"][:clear],
                         f"after {len(tokens)} tokens")
        return clear

    def run_row(self, row, workers, layout):
        path, expected = prepared(row.model, row.context)
        arguments = ["--kv-type", "f32", "--activations", "float"]
        if row.context:
            arguments += ["--context", str(row.context)]
        with harness.Server(path, workers, arguments, env={"SHOAL_PARALLEL_EXPERTS": layout}) as server:
            differences = [self.compare_case(server.client, tokens, answer)
                           for tokens, answer in zip(cases(), expected)]
            print(f"{row.model} {row.context or ''}, {workers} workers, {layout}: worst {max(differences):.1e} "
                  f"(by length: {' '.join(f'{d:.1e}' for d in differences)})")
            self.assertLessEqual(max(differences), TOLERANCE)
            compared = sum(self.compare_greedy(server.client, tokens, answer)
                           for tokens, answer in zip(cases(), expected))
            self.assertGreater(compared, GREEDY, "hardly any greedy token is clear: choose another seed")


def name_of(row):
    return row.model.replace("-", "_") + (f"_context_{row.context}" if row.context else "")


def add(row, workers, layout):
    def test(self):
        self.run_row(row, workers, layout)
    setattr(Architectures, f"test_{name_of(row)}_{workers}_workers_{layout}", test)


for entry in ROWS:
    if SELECTED and entry.model not in SELECTED:
        continue
    for count in WORKERS:
        for experts in ("sliced", "placed") if entry.mixture and count > 1 else ("auto",):
            add(entry, count, experts)

if __name__ == "__main__":
    unknown = set(SELECTED) - set(synth_arch.MODELS)
    if unknown:
        sys.exit(f"SHOAL_PEER_MODELS: no such model: {' '.join(sorted(unknown))}")
    harness.main()
