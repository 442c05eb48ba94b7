"""The stages of ./dev gpu with programs that only pretend: what passes, fails, is skipped, and is not run again."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest
import unittest.mock

RUN = pathlib.Path(__file__).with_name("run.py")
NO_CARD = "there is no NVIDIA driver on this machine"
KERNELS = {"read_ceiling_gb_per_second": 1000.0, "kernels": [
    {"op": "matmul", "type": "Q4_K", "shape": "o 8192 × 8192", "rows": 1, "seconds": 5e-5, "gb_per_second": 755.0,
     "share_of_ceiling": 0.755}]}
DECODE = {"shape": "llama-3.3-70b", "type": "Q4_K_M", "layers": 80, "decode_tokens_per_second": 21.5,
          "bytes_per_token": 42e9, "share_of_ceiling": 0.9}


NCU = """==PROF== noise
"ID","Kernel Name","Block Size","Metric Name","Metric Unit","Metric Value"
""" + "".join(f'"{i}","{name}","(64, 1, 1)","gpu__time_duration.sum","{unit}","{value}"\n' for i, (name, unit, value) in enumerate([
    ("void kernel_entry<EmbedRows, Sm86>(Params)", "ns", "90,560"),
    ("void shoal::simt::kernel_entry<shoal::gpu::EmbedRows, shoal::simt::Sm86>(T1::Params)", "ns", "1,500"),
    ("void shoal::simt::kernel_entry<shoal::gpu::TileGemv<(shoal::TensorType)12>, shoal::simt::Sm86>(T1::Params)", "us", "20.5"),
    ("void kernel_entry<TileGemv<12>, Sm86>(Params)", "ns", "10,000"),
    ("void kernel_entry<EmbedRows, Sm86>(Params)", "ns", "1,500")]))


class Stages(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.build = pathlib.Path(folder.name)
        self.calls = self.build / "calls"
        self.program("cli/shoal", f"""
case "$1 $2" in
  "worker --probe-device") exit 0 ;;
  "bench kernels") echo 'noise'; echo '{json.dumps(KERNELS)}' ;;
  "bench decode") echo '{json.dumps(DECODE)}' ;;
esac""")
        self.program("cli/libshoal-cuda.so", "")
        self.program("tests/simt/card_norm_test", "echo '[==========] 3 tests from 1 test suite ran. (1 ms total)'")
        self.program("tests/simt/card_oracle_test", "echo 'llama: worst 1e-05'")

    def program(self, name, body):
        path = self.build / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\necho '{name}' \"$@\" >>'{self.calls}'\n{body}\n", encoding="utf-8")
        path.chmod(0o755)

    def run_stages(self, *arguments):
        done = subprocess.run([sys.executable, RUN, "--build", self.build, *arguments], capture_output=True, text=True,
                              timeout=120, check=False)
        report = json.loads((self.build / "gpu" / "report.json").read_text()) if done.returncode < 2 else {}
        return done, {stage["stage"]: stage for stage in report.get("stages", [])}

    def test_passes_once_and_reports(self):
        done, stages = self.run_stages("machine", "tests", "kernels", "decode")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual({name: stage["status"] for name, stage in stages.items()},
                         dict.fromkeys(["machine", "tests", "kernels", "decode"], "passed"))
        self.assertEqual(stages["tests"]["figures"]["card_norm_test"]["tests"], 3)
        page = (self.build / "gpu" / "report.md").read_text()
        self.assertIn("| matmul | Q4_K | o 8192 × 8192 | 1 | 50.0 | 755 | 76 % of 1000 |", page)
        self.assertIn("21.50 tok/s, 42.00 GB per token, 90 % of reading alone", page)
        self.calls.write_text("")
        done, _ = self.run_stages("tests", "kernels")
        self.assertIn("tests: passed before", done.stdout)
        self.assertNotIn("bench", self.calls.read_text())
        self.program("tests/simt/card_norm_test", "echo '[==========] 4 tests from 1 test suite ran. (1 ms total)'")
        _, stages = self.run_stages("tests")
        self.assertEqual(stages["tests"]["figures"]["card_norm_test"]["tests"], 4, "other programs are run anew")

    def test_failures_are_failures(self):
        for body in ("exit 1", "echo no test has run", "echo '[==========] 0 tests from 0 test suites ran.'"):
            self.program("tests/simt/card_norm_test", body)
            done, stages = self.run_stages("tests")
            self.assertEqual(done.returncode, 1, body)
            self.assertEqual(stages["tests"]["status"], "failed")
            self.assertIn("card_norm_test", stages["tests"]["reason"])
        self.program("cli/shoal", "[ \"$1\" = worker ] || { echo 'out of memory' >&2; exit 1; }")
        done, stages = self.run_stages("decode")
        self.assertEqual(done.returncode, 1)
        self.assertIn("out of memory", stages["decode"]["reason"])
        self.assertNotEqual(self.run_stages("nonsense")[0].returncode, 0)

    def test_profile(self):
        self.program("bin/ncu", f"cat <<'CSV'\n{NCU}CSV")
        with unittest.mock.patch.dict("os.environ", PATH=f"{self.build}/bin:{os.environ['PATH']}"):
            done, stages = self.run_stages("profile")
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual(stages["profile"]["figures"]["kernels"],
                         [{"kernel": "TileGemv<12>", "launches": 2, "microseconds": 30.5},
                          {"kernel": "EmbedRows", "launches": 1, "microseconds": 1.5}])
        self.assertIn("| TileGemv<12> | 2 | 30.5 |", (self.build / "gpu" / "report.md").read_text())

    def test_no_reference_models(self):
        self.program("tests/simt/card_oracle_test", "exit 0")
        _, stages = self.run_stages("oracles")
        self.assertEqual(stages["oracles"]["status"], "skipped")
        self.assertIn("SHOAL_SHARED", stages["oracles"]["reason"])

    def test_no_card(self):
        self.program("cli/shoal", f"echo '{NO_CARD}'; exit 2")
        done, stages = self.run_stages()
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        self.assertEqual(stages.pop("machine")["status"], "passed")
        self.assertEqual(len(stages), 6)
        for stage in stages.values():
            self.assertEqual((stage["status"], stage["reason"]), ("skipped", NO_CARD))
        self.program("cli/shoal", "echo 'segmentation fault'; exit 2")
        self.assertEqual(self.run_stages("machine")[0].returncode, 1, "a reason that helps nobody")

    def test_limits(self):
        sys.path.insert(0, str(RUN.parent))
        import run  # pylint: disable=import-outside-toplevel
        self.assertEqual(set(run.STAGE_SECONDS), set(run.STAGES))
        self.assertLess(max(run.STAGE_SECONDS.values()), 9 * 60)
        self.assertLessEqual(sum(run.STAGE_SECONDS.values()), 25 * 60)


if __name__ == "__main__":
    unittest.main()
