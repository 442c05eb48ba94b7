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


    def test_without_proc(self):
        where = ["unshare", "-m", "bash", "-c", 'mount -t tmpfs none /proc && exec "$0" "$@"', SHOAL]
        probe = subprocess.run([*where[:-1], "true"], capture_output=True, check=False)
        if probe.returncode != 0:
            self.skipTest("needs root and mount namespaces")

        def ask(*argv):
            return subprocess.run([*where, *argv], capture_output=True, text=True, timeout=60, check=False)
        for argv in self.COMMANDS:
            self.assertEqual(ask(*argv).returncode, 0, argv)
        done = ask("serve", harness.TINY_DENSE, "--port", "0")
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("/proc must be mounted", done.stderr)


class WhatCannotBeServed(unittest.TestCase):
    def serve(self, *args, **kwargs):
        return run(["serve", harness.TINY_DENSE, "--port", "0", *args], **kwargs)

    def test_too_few_blocks_for_one_sequence(self):
        for args in (("--kv-blocks", "1"), ("--kv-blocks", "3", "--context", "1k"), ("--kv-blocks", "63")):
            done = self.serve(*args)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn("kv.blocks", done.stderr)
            self.assertIn("context", done.stderr)
            self.assertNotIn("starting", done.stderr)
        with tempfile.TemporaryDirectory() as folder:  # a coordinator waits for workers, not for its own mending
            run(["keygen", "--dir", f"{folder}/keys", "--workers", "w0"])
            with open(f"{folder}/c.yaml", "w", encoding="utf-8") as file:
                file.write(f"model: {{path: {harness.TINY_DENSE}}}\ncoordinator: {{listen: '127.0.0.1:0', control: '127.0.0.1:0',"
                           f" keys: {folder}/keys}}\nkv: {{blocks: 1}}\nworkers: [{{name: w0}}]\n")
            done = run(["coordinator", "--config", f"{folder}/c.yaml"])
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn("kv.blocks", done.stderr)

    def test_a_context_beyond_the_trained_one_is_told(self):
        warning = "a context of 4096 tokens is above the 2048 the model was trained for"
        with harness.Server(workers=1, args=("-c", "4k")) as server:
            self.assertIn(warning, server.output())
        self.assertIn(warning, run(["inspect", harness.TINY_DENSE, "-c", "4k"]).stdout)
        with harness.Server(workers=1, args=("-c", "2k")) as server:
            self.assertNotIn("trained for", server.output())

    def test_names_that_nobody_could_ask_for(self):
        for name in ("a\tb", " a", "a ", "x" * 257, b"\xff", "\x7f"):
            done = self.serve("--name", name)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertIn("--name: model.name: '", done.stderr)
        for name in ("x" * 256, "org/Tiny 1B: chat"):
            with harness.Server(workers=1, args=("--name", name)) as server:
                self.assertEqual(server.client.get("/v1/models").json()["data"][0]["id"], name)
                body = {"model": name, "prompt": "1", "max_tokens": 1}
                self.assertEqual(server.client.ok("/v1/completions", body)["model"], name)


if __name__ == "__main__":
    harness.main()
