#!/usr/bin/env python3
"""What kernels need of a card, from what ptxas said while they were compiled (cmake/nvcc.sh keeps it).

usage: ptxas_report.py check FOLDER              fails if a kernel of products or attention spills registers in its loops
       ptxas_report.py markdown FOLDER COMMIT NVCC   the page docs/benchmarks/gpu-resources.md
FOLDER is searched for *.ptxas.
"""
import dataclasses
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Kernels whose time is the token's: weights and KV pass through them.
HOT = re.compile(r"Product|Gemv|Gemm|Attention")
# Bytes of stores and loads. A word or two that is put aside outside the loop costs nothing; more is in it.
ALLOWED = 16


@dataclasses.dataclass
class Kernel:
    name: str
    arch: int
    registers: int = 0
    shared: int = 0
    stack: int = 0
    spill_stores: int = 0
    spill_loads: int = 0

    @property
    def spills(self):
        return self.spill_stores + self.spill_loads


def enumerators(path, enum):
    """{number: name} of an enum class."""
    text = (ROOT / path).read_text()
    body = re.search(rf"enum class {enum}\b[^{{]*{{(.*?)}}", text, re.S).group(1)
    names, following = {}, 0
    for name, number in re.findall(r"\bk(\w+)\s*(?:=\s*(\d+))?\s*[,}\n]", re.sub(r"//.*", "", body) + "\n"):
        value = int(number) if number else following
        names[value] = name
        following = value + 1
    return names


def readable(symbol, enums):
    """CodeProduct<Q4_K> of the demangled kernel_entry<shoal::gpu::CodeProduct<(shoal::TensorType)12>, …>."""
    match = re.search(r"kernel_entry<(.*), shoal::simt::Sm\d+>", symbol)
    name = match.group(1) if match else symbol
    name = re.sub(r"\(shoal::(\w+)\)(\d+)u?", lambda m: enums.get(m[1], {}).get(int(m[2]), m[0]), name)
    return re.sub(r"shoal::(?:\w+::)*", "", name)


def demangled(text):
    return subprocess.run(["c++filt"], input=text, capture_output=True, text=True, check=True).stdout


def parse(text, enums):
    kernels, current = [], None
    for line in text.splitlines():
        if match := re.search(r"Compiling entry function '(.*)' for 'sm_(\d+)\w?'", line):
            current = Kernel(readable(match[1], enums), int(match[2]))
            kernels.append(current)
        elif current is None:
            continue
        elif match := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line):
            current.stack, current.spill_stores, current.spill_loads = map(int, match.groups())
        elif match := re.search(r"Used (\d+) registers", line):
            current.registers = int(match[1])
            shared = re.search(r"(\d+) bytes smem", line)
            current.shared = int(shared[1]) if shared else 0
    return kernels


def read(folder):
    enums = {"TensorType": enumerators("model/tensor_type.h", "TensorType"),
             "KvType": enumerators("kernels/device.h", "KvType")}
    assert enums["TensorType"][12] == "Q4_K" and enums["KvType"][1] == "F16", enums
    kernels = []
    for path in sorted(pathlib.Path(folder).rglob("*.ptxas")):
        kernels += parse(demangled(path.read_text()), enums)
    return kernels


def check(folder):
    self_test()
    kernels = read(folder)
    hot = [kernel for kernel in kernels if HOT.search(kernel.name)]
    if not hot:
        sys.exit(f"no kernel of products or attention in {folder}: nothing has been compiled")
    bad = [kernel for kernel in hot if kernel.spills > ALLOWED]
    for kernel in bad:
        print(f"{kernel.name} for sm_{kernel.arch}: {kernel.spill_stores} bytes of spill stores, "
              f"{kernel.spill_loads} of loads at {kernel.registers} registers")
    print(f"{len(hot)} of {len(kernels)} kernels are products or attention; {len(bad)} of them spill more than {ALLOWED} bytes")
    sys.exit(1 if bad else 0)


def self_test():
    text = ("ptxas info    : Compiling entry function 'void shoal::simt::kernel_entry<shoal::gpu::CodeProduct<"
            "(shoal::TensorType)12>, shoal::simt::Sm86>(…)' for 'sm_80'\n"
            "    24 bytes stack frame, 8 bytes spill stores, 4 bytes spill loads\n"
            "ptxas info    : Used 255 registers, used 1 barriers, 1040 bytes smem, 760 bytes cmem[0]\n")
    kernels = parse(text, {"TensorType": {12: "Q4_K"}})
    assert kernels == [Kernel("CodeProduct<Q4_K>", 80, 255, 1040, 24, 8, 4)], kernels
    assert kernels[0].spills and HOT.search(kernels[0].name)


def markdown(folder, commit, compiler):
    kernels = read(folder)
    archs = sorted({kernel.arch for kernel in kernels})
    rows = {}
    for kernel in kernels:
        rows.setdefault(kernel.name, {})[kernel.arch] = kernel

    def cell(row, field):
        values = [getattr(row[arch], field) if arch in row else None for arch in archs]
        if len(set(values)) == 1:
            return str(values[0])
        return " / ".join("–" if value is None else str(value) for value in values)

    spilling = sum(1 for kernel in kernels if kernel.spills)
    says = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout
    nvcc = re.search(r"release [\d.]+", says).group(0)
    print(f"""# What GPU kernels need of a card

`./dev cuda-report` at {commit}, nvcc {nvcc}, compute capabilities {", ".join(map(str, archs))} (one number: the same
for all). Compiled, not run: nothing here says how fast a kernel is.

{len(rows)} kernels, {len(kernels)} with every architecture counted; {spilling} of them spill registers. Local memory is
what a thread keeps outside registers, in bytes; shared memory is only what is fixed at compile time, since kernels take
theirs at the launch. `cuda_spill_test` fails if a kernel of products or attention spills more than {ALLOWED} bytes.

| kernel | registers | shared memory | local memory | spill stores | spill loads |
|---|---|---|---|---|---|""")
    for name in sorted(rows, key=lambda name: (not HOT.search(name), name)):
        fields = ("registers", "shared", "stack", "spill_stores", "spill_loads")
        print(f"| `{name}` | " + " | ".join(cell(rows[name], field) for field in fields) + " |")


if __name__ == "__main__":
    if sys.argv[1:2] == ["check"]:
        check(sys.argv[2])
    elif sys.argv[1:2] == ["markdown"]:
        markdown(*sys.argv[2:5])
    else:
        sys.exit(__doc__)
