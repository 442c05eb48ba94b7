#!/usr/bin/env python3
"""Programs link no CUDA; libshoal-cuda.so links nothing of it either and exports three functions.

usage: elf_check.py BUILD_FOLDER with|without   (whether this build has CUDA kernels)
"""
import pathlib
import re
import subprocess
import sys

EXPORTS = {"shoal_cuda_abi", "shoal_cuda_count", "shoal_cuda_open"}
CUDA_LIBRARY = re.compile(r"lib(cuda|cudart|cublas|cublasLt|nccl|nvrtc|nvidia|shoal-cuda)\b")
CUDA_SYMBOL = re.compile(r"^(cu(da)?[A-Z]\w*|__cuda\w+|nccl\w+|cublas\w+|nvrtc\w+)(@.*)?$")


def readelf(path, *flags):
    return subprocess.run(["readelf", "-W", *flags, str(path)], capture_output=True, text=True, check=True).stdout


def needed(path):
    return re.findall(r"\(NEEDED\).*\[(.*)\]", readelf(path, "-d"))


def symbols(path):
    """(undefined, defined) names of the dynamic symbol table."""
    undefined, defined = set(), set()
    for line in readelf(path, "--dyn-syms").splitlines():
        fields = line.split()
        if len(fields) >= 8 and fields[0].rstrip(":").isdigit() and fields[4] in ("GLOBAL", "WEAK", "UNIQUE"):
            (undefined if fields[6] == "UND" else defined).add(fields[7].split("@")[0])
    return undefined, defined


def programs(build):
    """ELF programs and libraries below the build folder, ours only; object files have no dynamic section."""
    for path in sorted(build.rglob("*")):
        if path.is_symlink() or not path.is_file() or not path.stat().st_mode & 0o111:
            continue
        with open(path, "rb") as file:
            if file.read(4) == b"\x7fELF":
                yield path


def problems_of(path):
    for library in needed(path):
        if CUDA_LIBRARY.search(library):
            yield f"{path} needs {library}"
    for name in symbols(path)[0]:
        if CUDA_SYMBOL.match(name):
            yield f"{path} wants {name} from elsewhere"


def main():
    build, kind = pathlib.Path(sys.argv[1]), sys.argv[2]
    assert CUDA_LIBRARY.search("libcudart.so.13") and not CUDA_LIBRARY.search("libcurl.so.4")
    assert CUDA_SYMBOL.match("cudaMalloc") and CUDA_SYMBOL.match("cuInit") and not CUDA_SYMBOL.match("curl_easy_init")
    assert not CUDA_SYMBOL.match("cut") and not CUDA_SYMBOL.match("cudgel")
    library = build / "cli" / "libshoal-cuda.so"
    found = list(programs(build))
    problems = [problem for path in found for problem in problems_of(path) if path.name != "libcuda.so.1"]
    if build / "cli" / "shoal" not in found:
        problems.append(f"{build}/cli/shoal has not been built")
    if kind == "with":
        if not library.exists():
            problems.append(f"{library} has not been built")
        elif symbols(library)[1] != EXPORTS:
            problems.append(f"{library} exports {sorted(symbols(library)[1])}, not {sorted(EXPORTS)}")
    elif library.exists():
        problems.append(f"a build without CUDA has {library}")
    print(f"{len(found)} programs and libraries")
    print("\n".join(problems))
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
