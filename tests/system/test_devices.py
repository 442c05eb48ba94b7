"""A card that cannot be had is said in words that help; without one `auto` computes on the CPU."""
import os
import subprocess
import tempfile
import unittest

import harness

LIBRARY = harness.BUILD / "cli" / "libshoal-cuda.so"
OLD_DRIVER = harness.BUILD / "tests" / "cuda"  # has a libcuda.so.1 that says it is of CUDA 12.4


def probe(device, **environment):
    """(exit status, what it said)"""
    done = subprocess.run([harness.SHOAL, "worker", "--probe-device", device], text=True, timeout=60,
                          capture_output=True, env={**os.environ, **environment})
    return done.returncode, done.stdout + done.stderr


def cards():
    """Cards of this machine."""
    count = 0
    while count < 16 and probe(f"cuda:{count}")[0] == 0:
        count += 1
    return count


class Devices(unittest.TestCase):
    def test_names_of_devices(self):
        for device in ("cuda:64", "cuda:-1", "cuda:x", "gpu", " "):
            status, said = probe(device)
            self.assertEqual(status, 2, device)
            self.assertIn("expected cpu, cuda:N or auto:N", said)

    def test_no_library(self):
        status, said = probe("cuda:0", SHOAL_CUDA_LIBRARY="/nonexistent/libshoal-cuda.so")
        self.assertEqual(status, 2)
        self.assertIn("there are no CUDA kernels at /nonexistent/libshoal-cuda.so", said)
        self.assertIn("nvcc", said)

    def test_a_library_that_is_none(self):
        with tempfile.NamedTemporaryFile(suffix=".so") as file:
            file.write(b"no library")
            file.flush()
            status, said = probe("cuda:0", SHOAL_CUDA_LIBRARY=file.name)
            self.assertEqual(status, 2)
            self.assertIn("opening the CUDA kernels: " + file.name, said)

    def test_a_driver_that_is_too_old(self):
        if not LIBRARY.exists():
            self.skipTest("this build has no CUDA kernels")
        status, said = probe("cuda:0", LD_LIBRARY_PATH=str(OLD_DRIVER))
        self.assertEqual(status, 2)
        self.assertRegex(said, r"the NVIDIA driver speaks CUDA 12\.4, this build needs 1\d\.\d: "
                               r"install a driver of version 580 or later")

    def test_no_driver(self):
        if not LIBRARY.exists():
            self.skipTest("this build has no CUDA kernels")
        if cards() > 0:
            self.skipTest("this machine has a card")
        wanted = r"there is no NVIDIA driver on this machine; CUDA 1\d\.\d needs one of version 580 or later"
        status, said = probe("cuda:0")
        self.assertEqual(status, 2)
        self.assertRegex(said, wanted)
        done = subprocess.run([harness.SHOAL, "serve", harness.TINY_DENSE, "--device", "cuda:0", "--port", "0"],
                              text=True, timeout=60, capture_output=True)
        self.assertEqual(done.returncode, 2)
        self.assertRegex(done.stderr, "worker w0 on cuda:0: " + wanted)

    def test_auto_beyond_the_last_card_is_the_cpu(self):
        # Without a card that is every worker; with some, no worker gets number 63.
        with harness.Server(workers=1, args=["--device", "auto:63" if cards() else "auto"]) as server:
            server.wait_for_line(r"\[w0\] computing on the CPU: \S+", 10)
            server.wait_for_line(r"\[w0\] cpu: \d+ threads", 10)
            self.assertTrue(server.client.chat_text("Hello", max_tokens=4, temperature=0))


if __name__ == "__main__":
    harness.main()
