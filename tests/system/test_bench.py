"""shoal synth and shoal bench latency: what they print is there, is plausible, and adds up."""
import json
import os
import subprocess
import unittest

import harness


def shoal(*arguments):
    return subprocess.run([harness.SHOAL, *arguments], capture_output=True, text=True, timeout=240, check=False)


class Bench(unittest.TestCase):
    def setUp(self):
        self.model = str(harness.BUILD / "bench-tiny-gpt-oss.gguf")
        done = shoal("synth", "tiny-gpt-oss", self.model, "--type", "MXFP4_MOE")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.addCleanup(os.unlink, self.model)
        self.summary = done.stdout

    def test_synth_prints_the_size(self):
        self.assertIn(f"{os.path.getsize(self.model) / 1e9:.3g} GB", self.summary)
        self.assertRegex(self.summary, r"billion parameters, .* billion active")

    def test_sizes_as_of_serve(self):
        done = shoal("bench", "latency", harness.TINY_DENSE, "--layout", "1x1", "--prompt", "1k", "--generate", "2", "--repeats", "1", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(json.loads(done.stdout)["prompt"], 1024)

    def test_experts_of_every_rank(self):
        for experts in ("sliced", "placed"):
            done = shoal("bench", "latency", self.model, "--layout", "2x1", "--streams", "5", "--prompt", "20",
                         "--generate", "24", "--repeats", "1", "--experts", experts, "--json")
            self.assertEqual(done.returncode, 0, done.stderr)
            report = json.loads(done.stdout)
            self.assertEqual(report["streams"], 5)
            row, = report["layouts"]
            self.assertGreater(row["decode_tokens_per_second"], 1)
            seconds = row["expert_seconds_per_step"]
            self.assertEqual(len(seconds), 2)
            self.assertTrue(all(0 < s < 60 for s in seconds), seconds)
            self.assertAlmostEqual(row["expert_max_over_mean"], 2 * max(seconds) / sum(seconds), places=6)
            self.assertNotIn("share_of_ceiling", row)  # of one stream only

    def test_refuses_what_it_cannot_measure(self):
        done = shoal("bench", "latency", self.model, "--layout", "2by1")
        self.assertEqual(done.returncode, 2)
        self.assertIn("WORKERSxTHREADS", done.stderr)

    def test_kernels(self):
        done = shoal("bench", "kernels", "--device", "cpu", "--types", "Q4_K", "--shapes", "gate=256x512", "o=7x1536",
                     "--rows", "1", "3", "--context", "100", "--mib", "1", "--repeats", "1", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        report = json.loads(done.stdout)
        self.assertGreater(report["read_ceiling_gb_per_second"], 0.1)
        rows = {}
        for row in report["kernels"]:
            rows.setdefault(row["op"], []).append(row)
            self.assertAlmostEqual(row["gb_per_second"], row["bytes"] / row["seconds"] * 1e-9, places=6)
            share = row["share_of_ceiling"]
            if row["op"] in ("norm", "sampling"):
                self.assertIsNone(share)
            else:
                self.assertAlmostEqual(share, row["gb_per_second"] / report["read_ceiling_gb_per_second"], places=6)
        self.assertEqual({op: len(list(found)) for op, found in rows.items()},
                         {"gated": 2, "matmul": 2, "attention": 4, "norm": 2, "sampling": 6, "experts": 2})
        self.assertEqual(rows["gated"][0]["bytes"], 2 * 256 * 512 / 256 * 144)  # 144 bytes per 256 weights
        self.assertEqual(rows["matmul"][1]["bytes"], 7 * 1536 / 256 * 144)
        self.assertEqual(rows["attention"][1]["bytes"], 3 * 100 * 8 * 128 * 2 * 2)
        table = shoal("bench", "kernels", "--device", "cpu", "--ops", "norm", "--rows", "2", "--mib", "1", "--repeats", "1")
        self.assertRegex(table.stdout, r"\| norm \| f32 \| 8192 \| 2 \| \d")
        for bad in (["--types", "Q9"], ["--shapes", "o=7"], ["--ops", "none"], ["--device", "gpu"]):
            self.assertEqual(shoal("bench", "kernels", *bad).returncode, 2, bad)

    def test_decode(self):
        for shape, mix in (("tiny-gpt-oss", "MXFP4_MOE"), ("llama-3.2-1b", "Q4_K_M")):
            done = shoal("bench", "decode", shape, "--type", mix, "--layers", "2", "--device", "cpu", "--context", "70",
                         "--generate", "3", "--json")
            self.assertEqual(done.returncode, 0, done.stderr)
            report = json.loads(done.stdout)
            self.assertGreater(report["decode_tokens_per_second"], 0.1)
            self.assertGreater(report["prefill_tokens_per_second"], 0.1)
            self.assertLess(report["bytes_per_token"], report["weight_bytes"])
            self.assertAlmostEqual(report["weight_gb_per_second"],
                                   report["bytes_per_token"] * report["decode_tokens_per_second"] / 1e9, places=6)
        self.assertEqual(report["kv_bytes"], 2 * 70 * 2 * 8 * 64 * 2)  # K and V, tokens, layers, heads, size, f16
        refused = shoal("bench", "decode", "gpt-2")
        self.assertEqual(refused.returncode, 2)
        self.assertIn("llama-3.3-70b", refused.stderr)


if __name__ == "__main__":
    harness.main()
