"""Log-probabilities and greedy tokens of the reference models, through HTTP, at every layout."""
import os
import unittest

import harness

ARCHITECTURES = os.environ.get("SHOAL_ORACLES", "llama qwen2 qwen3").split()
WORKERS = [int(n) for n in os.environ.get("SHOAL_ORACLE_WORKERS", "1 2 3 4").split()]
TOLERANCE = {"f32": 5e-4, "f16": 2e-2}


class Oracle(unittest.TestCase):
    def compare_logprobs(self, client, case, tolerance):
        worst = 0.0
        for at, expected in case["logprobs_at"].items():
            reply = client.ok("/v1/completions", {
                "prompt": case["tokens"][:int(at) + 1], "max_tokens": 1, "temperature": 0,
                "logprobs": 64, "ignore_eos": True, "return_token_ids": True})
            entry = reply["choices"][0]["logprobs"]["content"][0]
            found = {top["id"]: top["logprob"] for top in entry["top_logprobs"]}
            for token, logprob in expected:
                self.assertIn(token, found, f"{case['name']} at {at}: token {token} is not among the top 64")
                worst = max(worst, abs(found[token] - logprob))
                self.assertLessEqual(abs(found[token] - logprob), tolerance,
                                     f"{case['name']} at {at}: token {token}")
        return worst

    def compare_greedy(self, client, case):
        reply = client.ok("/v1/completions", {
            "prompt": case["tokens"], "max_tokens": len(case["greedy"]), "temperature": 0,
            "ignore_eos": True, "return_token_ids": True})
        self.assertEqual(reply["choices"][0]["token_ids"], case["greedy"], case["name"])

    def run_layout(self, name, workers, kv):
        model, expected = harness.oracle(name)
        with harness.Server(model, workers, ["--kv-type", kv]) as server:
            worst = 0.0
            for case in expected["cases"]:
                worst = max(worst, self.compare_logprobs(server.client, case, TOLERANCE[kv]))
                if kv == "f32" and case["greedy_min_margin"] > 2e-3:
                    self.compare_greedy(server.client, case)
            print(f"{name}, {workers} workers, {kv}: worst {worst:.2e}")


def add(name, workers, kv):
    def test(self):
        self.run_layout(name, workers, kv)
    setattr(Oracle, f"test_{name}_{workers}_workers_{kv}", test)


for architecture in ARCHITECTURES:
    for count in WORKERS:
        add(architecture, count, "f32")
        if count <= 2:
            add(architecture, count, "f16")

if __name__ == "__main__":
    harness.main()
