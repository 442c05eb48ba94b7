#!/usr/bin/env python3
"""SHOAL_CUDA=OFF never starts nor looks for nvcc; AUTO does, and takes neither an old one nor none amiss.

usage: configure_check.py SOURCE_FOLDER CXX_COMPILER
"""
import os
import pathlib
import subprocess
import sys
import tempfile

SOURCE, COMPILER = sys.argv[1], sys.argv[2]


class Place:
    """A folder with an nvcc that notes that it was started."""

    def __init__(self, folder, says):
        self.folder = pathlib.Path(folder)
        self.called = self.folder / "called"
        nvcc = self.folder / "bin" / "nvcc"
        nvcc.parent.mkdir()
        nvcc.write_text(f"#!/bin/sh\necho \"$@\" >> '{self.called}'\necho '{says}'\n")
        nvcc.chmod(0o755)

    def configure(self, name, *flags):
        """(exit status, what CMake said, its cache)"""
        build = self.folder / name
        environment = {**os.environ, "CUDA_HOME": str(self.folder),
                       "PATH": f"{self.folder}/bin:{os.environ['PATH']}"}
        done = subprocess.run(["cmake", "-S", SOURCE, "-B", str(build), "-G", "Ninja", "-Wno-dev",
                               f"-DCMAKE_CXX_COMPILER={COMPILER}", "-DSHOAL_BUILD_TESTS=OFF", *flags],
                              env=environment, capture_output=True, text=True)
        cache = build / "CMakeCache.txt"
        return done.returncode, done.stdout + done.stderr, cache.read_text() if cache.exists() else ""


def check(condition, what, said):
    if not condition:
        sys.exit(f"{what}\n{said}")


def main():
    old = "Cuda compilation tools, release 12.4, V12.4.99"
    with tempfile.TemporaryDirectory() as folder:
        place = Place(folder, old)
        status, said, cache = place.configure("off", "-DSHOAL_CUDA=OFF")
        check(status == 0, "SHOAL_CUDA=OFF does not configure", said)
        check(not place.called.exists(), "SHOAL_CUDA=OFF started nvcc", said)
        check("SHOAL_NVCC" not in cache and "nvcc" not in said, "SHOAL_CUDA=OFF looked for nvcc", said + cache)
        check("libshoal-cuda" not in (place.folder / "off" / "build.ninja").read_text(),
              "SHOAL_CUDA=OFF would build CUDA kernels", said)

        status, said, _ = place.configure("auto", "-DSHOAL_CUDA=AUTO")
        check(status == 0 and "CUDA kernels: none" in said and "release 12.4" in said,
              "AUTO does not step over an nvcc that is too old", said)
        check(place.called.exists(), "AUTO did not ask nvcc: this test could not have seen OFF do it", said)

        status, said, _ = place.configure("on", "-DSHOAL_CUDA=ON")
        check(status != 0 and "SHOAL_CUDA=ON, but" in said, "ON takes an old nvcc", said)

        (place.folder / "bin" / "nvcc").unlink()
        if pathlib.Path("/usr/bin/nvcc").exists():
            print("skipped: AUTO without nvcc (this machine has one among its system programs)")
            return
        elsewhere = [folder for folder in (*os.environ["PATH"].split(":"), "/usr/local/bin", "/usr/local/cuda/bin")
                     if pathlib.Path(folder, "nvcc").exists()]
        status, said, _ = place.configure("none", "-DSHOAL_CUDA=AUTO", "-DCMAKE_IGNORE_PATH=" + ";".join(elsewhere))
        check(status == 0 and "CUDA kernels: none, there is no nvcc" in said, "AUTO does not configure without nvcc",
              said)


if __name__ == "__main__":
    main()
