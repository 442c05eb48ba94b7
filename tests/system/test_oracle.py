"""Log-probabilities and greedy tokens of the reference models, through HTTP, at every layout."""
import os
import unittest

import harness

DENSE = "llama qwen2 qwen3 mistral3 gemma3 falcon commandr".split()
MIXTURES = "mixtral qwen2moe qwen3moe glm4moe gptoss llama4 deepseek2 deepseek2yarn".split()
ARCHITECTURES = os.environ.get("SHOAL_ORACLES", " ".join(DENSE + MIXTURES)).split()
# (name, workers, arguments of `shoal serve`). Every layout of every architecture runs down to the logits in
# tests/worker/oracle_test.cc; here processes, messages and the scheduler are added.
LAYOUTS = [("1", 1, []), ("2", 2, []), ("3", 3, []), ("4", 4, [])]
EXPERT_LAYOUTS = [("placed", 3, ["--experts", "placed"]), ("expert_worker", 2, ["--expert-workers", "1"])]
CHOSEN = os.environ.get("SHOAL_ORACLE_LAYOUTS", "1 2 3 4 placed expert_worker").split()
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

    # One request gives the distribution after every token of the prompt.
    def compare_echo(self, client, case, tolerance):
        top = min(64, 500_000 // len(case["tokens"]) - 1)  # an answer in one piece holds 524,288
        reply = client.ok("/v1/completions", {"prompt": case["tokens"], "max_tokens": 0, "echo": True, "logprobs": top})
        content = reply["choices"][0]["logprobs"]["content"]
        self.assertEqual([entry["id"] for entry in content], case["tokens"])
        self.assertIsNone(content[0]["logprob"])
        for at, expected in case["logprobs_at"].items():
            if int(at) + 1 == len(content):
                continue
            entry = content[int(at) + 1]
            found = {top["id"]: top["logprob"] for top in entry["top_logprobs"]}
            for token, logprob in expected:
                self.assertAlmostEqual(found[token], logprob, delta=tolerance,
                                       msg=f"{case['name']} at {at}: token {token}")
            if entry["id"] in found:
                self.assertAlmostEqual(entry["logprob"], found[entry["id"]], delta=1e-5)

    def compare_greedy(self, client, case):
        reply = client.ok("/v1/completions", {
            "prompt": case["tokens"], "max_tokens": len(case["greedy"]), "temperature": 0,
            "ignore_eos": True, "return_token_ids": True})
        self.assertEqual(reply["choices"][0]["token_ids"], case["greedy"], case["name"])

    def run_layout(self, name, workers, args, kv):
        model, expected = harness.oracle(name)
        longest = max(len(case["tokens"]) + len(case["greedy"]) for case in expected["cases"])
        context = max(2048, -(-longest // 256) * 256)
        with harness.Server(model, workers, ["--kv-type", kv, "--context", str(context), *args]) as server:
            worst = 0.0
            for case in expected["cases"]:
                worst = max(worst, self.compare_logprobs(server.client, case, TOLERANCE[kv]))
                self.compare_echo(server.client, case, TOLERANCE[kv])
                if kv == "f32" and case["greedy_min_margin"] > 2e-3:
                    self.compare_greedy(server.client, case)
            print(f"{name}, {workers} workers {' '.join(args)}, {kv}: worst {worst:.2e}")


def add(name, layout, kv):
    label, workers, args = layout

    def test(self):
        self.run_layout(name, workers, args, kv)
    setattr(Oracle, f"test_{name}_{label}_{kv}", test)


for architecture in ARCHITECTURES:
    for chosen in LAYOUTS + (EXPERT_LAYOUTS if architecture in MIXTURES else []):
        if chosen[0] in CHOSEN:
            add(architecture, chosen, "f32")
    if architecture in DENSE[:3]:
        add(architecture, LAYOUTS[0], "f16")
        add(architecture, LAYOUTS[1], "f16")

if __name__ == "__main__":
    harness.main()
