"""The binary in surroundings that are not as they should be: what it says and how it ends."""
import os
import subprocess
import tempfile
import unittest

import harness

SHOAL = harness.SHOAL


def run(argv, seconds=60, **kwargs):
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **kwargs}
    return subprocess.run([SHOAL, *argv], text=True, timeout=seconds * harness.SLOWDOWN, check=False, **options)


class FullOutput(unittest.TestCase):
    def test_half_an_answer_is_no_success(self):
        with tempfile.TemporaryDirectory() as folder, open("/dev/full", "w", encoding="ascii") as full:
            for argv in (["--help"], ["--version"], ["serve", "--help"], ["inspect", harness.TINY_DENSE],
                         ["inspect", "--json", "--tensors", harness.TINY_DENSE],
                         ["serve", harness.TINY_DENSE, "--check"], ["keygen", "--dir", f"{folder}/k", "--workers", "w"],
                         ["synth", "list-no-such", f"{folder}/m.gguf"],
                         ["bench", "kernels", "--ops", "rms_norm", "--repeats", "1"]):
                with self.subTest(argv=argv):
                    done = run(argv, stdout=full)
                    self.assertIn(done.returncode, (1, 2), done.stderr)
                    if done.returncode == 1:
                        self.assertIn("No space left on device", done.stderr)

    def test_a_reader_who_leaves_is_no_error_of_ours(self):
        done = subprocess.run(["bash", "-c", f"'{SHOAL}' inspect --tensors '{harness.TINY_DENSE}' | head -1 >/dev/null"],
                              capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""))


class Surroundings(unittest.TestCase):
    COMMANDS = (["--version"], ["inspect", harness.TINY_DENSE], ["serve", harness.TINY_DENSE, "--check"])

    def ends_well(self, argv, **kwargs):
        done = run(argv, **kwargs)
        self.assertEqual(done.returncode, 0, f"{argv}: {done.stderr}")

    def test_no_environment_at_all(self):
        for argv in self.COMMANDS:
            self.ends_well(argv, env={})
            self.ends_well(argv, env={"LC_ALL": "no_SUCH.locale", "LANG": "xx", "HOME": "/nowhere", "TMPDIR": "/nowhere"})

    def test_descriptors_that_are_closed(self):
        for argv in self.COMMANDS:
            for closed in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
                done = subprocess.run(["bash", "-c", f'"$0" "$@" {closed}', SHOAL, *argv], capture_output=True, text=True,
                                      timeout=60, check=False)
                self.assertEqual(done.returncode, 0, f"{argv} {closed}: {done.stderr}")

    def test_a_folder_that_is_gone(self):
        gone = tempfile.mkdtemp()
        for argv in self.COMMANDS:
            done = subprocess.run(["bash", "-c", f'cd {gone} && rmdir {gone} && "$0" "$@"; code=$?; mkdir {gone}; exit $code',
                                   SHOAL, *argv], capture_output=True, text=True, timeout=60, check=False)
            self.assertEqual(done.returncode, 0, f"{argv}: {done.stderr}")
        os.rmdir(gone)

    def test_a_folder_that_is_gone_and_a_relative_model(self):
        gone = tempfile.mkdtemp()
        done = subprocess.run(["bash", "-c", f'cd {gone} && rmdir {gone} && "$0" "$@"', SHOAL, "serve", "m.gguf", "--port",
                               "0"], capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("m.gguf", done.stderr)


if __name__ == "__main__":
    harness.main()
