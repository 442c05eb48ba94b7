"""Quantised files against llama.cpp on the same file dequantised to F32."""
import os
import pathlib
import random
import subprocess
import unittest

import peer

harness = peer.harness
DEQUANTISE = str(harness.BUILD / "tests" / "tools" / "dequantise_tool")
FLOAT_TOLERANCE = 5e-4  # of any of the 24 best
INT8_MEAN = 5e-3        # mean over all of them


class QuantisedAccuracy(unittest.TestCase):
    def cases(self):
        rng = random.Random(11)
        return [[rng.randrange(990) for _ in range(n)] for n in (1, 5, 17, 40, 64, 100)]

    def differences(self, model, cases, expected, activations):
        found = []
        with harness.Server(model, 1, ["--kv-type", "f32", "--activations", activations]) as server:
            for tokens, wanted in zip(cases, expected):
                reply = server.client.ok("/v1/completions", {
                    "prompt": tokens, "max_tokens": 1, "temperature": 0, "logprobs": 64, "ignore_eos": True})
                ours = {t["id"]: t["logprob"]
                        for t in reply["choices"][0]["logprobs"]["content"][0]["top_logprobs"]}
                for token, logprob in wanted:
                    self.assertIn(token, ours)
                    found.append(abs(ours[token] - logprob))
        return found

    def compare(self, model):
        cases = self.cases()
        dequantised = str(harness.BUILD / f"dequantised-{pathlib.Path(model).name}")
        subprocess.run([DEQUANTISE, model, dequantised], check=True)
        try:
            expected = [answer["top"] for answer in peer.logprobs(dequantised, cases, 24)]
        finally:
            os.unlink(dequantised)
        exact = self.differences(model, cases, expected, "float")
        int8 = self.differences(model, cases, expected, "int8")
        print(f"{pathlib.Path(model).name}: float activations worst {max(exact):.1e}; "
              f"int8 mean {sum(int8) / len(int8):.1e}, worst {max(int8):.1e}")
        self.assertLessEqual(max(exact), FLOAT_TOLERANCE)
        self.assertLessEqual(sum(int8) / len(int8), INT8_MEAN)

    def test_q8_0(self):
        self.compare(harness.TINY_DENSE)

    def test_q4_k(self):
        self.compare(str(harness.shared("models/shoal-tiny-dense-q4_k.gguf")))

    def test_moe_q8_0(self):
        self.compare(harness.TINY_MOE)

    def test_moe_q4_k(self):
        self.compare(str(harness.shared("models/shoal-tiny-moe-q4_k.gguf")))

    def test_gpt_oss_mxfp4(self):
        model = str(harness.BUILD / "tiny-gpt-oss-mxfp4.gguf")
        subprocess.run([harness.SHOAL, "synth", "tiny-gpt-oss", model, "--type", "MXFP4_MOE"], check=True)
        try:
            self.compare(model)
        finally:
            os.unlink(model)


if __name__ == "__main__":
    harness.main()
