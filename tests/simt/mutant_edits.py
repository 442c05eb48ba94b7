"""Kernels made wrong by edits of their text, for mutants.py.

All edits are compiled into the kernels at once, each as `edited(N) ? wrong : right`; the environment chooses one.
"""
import collections
import json
import pathlib
import re
import shlex
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
KERNELS = "kernels/cuda"

# Sources with the kernels of each program of mutants.py's suites.
SOURCES = {
    "gpu_attention_test": ["emulated_device.cc"],
    "gpu_elementwise_test": ["emulated_device.cc"],
    "gpu_sample_test": ["emulated_device.cc"],
    "gpu_experts_test": ["emulated_device.cc"],
    "gpu_product_test": ["gpu_products.cc"],
    "tile_gemv_test": ["tile_gemv_test.cc"],
    "gpu_far_test": ["gpu_far_test.cc"],
}

Edit = collections.namedtuple("Edit", "suite kind file old new nth")


def edits():
    """The table; `nth` of the places where `old` stands, from 0."""
    rows = []

    def add(suite, kind, file, *changes):
        for change in changes:
            rows.append(Edit(suite, kind, file, change[0], change[1], change[2] if len(change) > 2 else 0))

    def narrow(file, *sizes):
        add("far", "32-bit size", file, *((size, f"static_cast<int32_t>({size})") for size in sizes))

    narrow("kv_kernels.h", "(block * kv_heads + head) * head_bytes + token * row_bytes")
    narrow("attention_kernels.h", "(work.row * p.q_stride)")
    narrow("attention_tensor.h", "row * p.q_stride + head * kDim")
    narrow("elementwise_kernels.h", "id * static_cast<int64_t>(p.row_stride)", "(in_place ? 0 : r * p.x_stride)",
           "from * p.cols", "r * p.x_stride + head * p.x_head_stride + i",
           "r * p.out_stride + head * p.out_head_stride + i")
    narrow("sample_kernels.h", "row * p.stride", "job.row * p.stride", "bias.row * p.stride")
    narrow("code_product.h", "(tile.expert * p.expert_rows + output.row) * weight.row_stride")
    narrow("product.h", "(tile.first + r) * w.out_stride + output.at")
    narrow("tile_product.h", "(rows.first + m) * w.out_stride + o")
    narrow("tile_gemv.h", "int64_t{place.stored} * p.units * kUnitBytes", "out.row(static_cast<int>(out.lane / 4)) * (x.stride / 4) + t")
    narrow("tile_gemm.h", "int64_t{place.stored} * p.units * kUnitBytes", "int64_t{int32_t{to.rows[column]}} * x.stride")
    narrow("tile_put.h", "(row / kTileRows * p.units + u) * kUnitBytes")
    narrow("experts_kernels.h", "slot * p.columns")

    tail = "dropped tail"
    add("attention", tail, "attention_kernels.h",
        ("base + warp_skip < end", "base + warp_skip + 4 < end"),
        ("t < tokens", "t + 1 < tokens", 0), ("t < tokens", "t + 1 < tokens", 1),
        ("t < end", "t + 1 < end"), ("i < p.value_dim", "i + 1 < p.value_dim", 0),
        ("i < p.value_dim", "i + 1 < p.value_dim", 1), ("i < work.p.value_dim", "i + 1 < work.p.value_dim"))
    add("attention", tail, "attention_tensor.h",
        ("t > strip.last[e]", "t >= strip.last[e]"), ("t < strip.first[e]", "t <= strip.first[e]"),
        ("token > tile.last", "token >= tile.last"), ("feature < kDim", "feature + 1 < kDim"))
    add("attention", tail, "attention_plan.h",
        ("r < p_.rows", "r + 1 < p_.rows", 0), ("r < end", "r + 1 < end"), ("t < tiles", "t + 1 < tiles", 1))
    add("attention", tail, "kv_kernels.h",
        ("i < n", "i + 1 < n", 1), ("i < pairs", "i + 1 < pairs"),
        ("w < p.places.row_bytes / 4", "w + 1 < p.places.row_bytes / 4"))
    add("elementwise", tail, "elementwise_kernels.h",
        ("i >= p.cols", "i + 1 >= p.cols", 0), ("i < p.width", "i + 1 < p.width"),
        ("i < p.cols", "i + 1 < p.cols", 4), ("i < p.cols", "i + 1 < p.cols", 7), ("i < p.cols", "i + 1 < p.cols", 9),
        ("i >= p.cols", "i + 1 >= p.cols", 2), ("at >= p.heads * p.features", "at + 1 >= p.heads * p.features"),
        ("i >= p.count", "i + 1 >= p.count"))
    add("sample", tail, "sample_kernels.h",
        ("i < p.vocab ? float", "i + 1 < p.vocab ? float"), ("i < p.vocab;", "i + 1 < p.vocab;", 0),
        ("i < p.vocab;", "i + 1 < p.vocab;", 1), ("b >= p.count", "b + 1 >= p.count"))
    add("experts", tail, "route_kernel.h", ("e < experts", "e + 1 < experts"))
    add("experts", tail, "experts_kernels.h",
        ("i < p.pairs;", "i + 1 < p.pairs;", 0), ("i < p.pairs &&", "i + 1 < p.pairs &&"),
        ("k < p.top_k", "k + 1 < p.top_k"), ("c >= p.columns", "c + 1 >= p.columns"))
    add("experts", tail, "gate_kernel.h", ("i < p.features", "i + 1 < p.features"))
    add("products", tail, "code_product.h", ("part >= parts", "part + 1 >= parts"))
    add("tiles", tail, "tile_gemv.h",
        ("i < count;", "i + (count > 1) < count;"), ("column >= count", "column + 1 >= count"))
    add("tiles", tail, "tile_gemm.h", ("u < own_units", "u + 1 < own_units"))
    add("tiles", tail, "tile_product.h", ("o >= w.rows", "o + 1 >= w.rows"), ("m >= rows.count", "m + 1 >= rows.count"))

    scale = "wrong scale or index"
    add("attention", scale, "attention_kernels.h",
        ("stats[h * stats_stride]", "stats[0 * stats_stride]"), ("work.stats()[2 * h + ctx.thread().x]", "work.stats()[ctx.thread().x]"),
        ("scores[h * kAttentionSplit + t - begin]", "scores[t - begin]"))
    add("attention", scale, "attention_tensor.h",
        ("maxima[w * kStrip + row + 8 * e]", "maxima[w * kStrip + row]"), ("slot[2 * i + 1]", "slot[2 * i]"),
        ("work.p.sinks)[head]", "work.p.sinks)[0]"))
    add("elementwise", scale, "activations.h", ("at / kActivationBlock", "row * x.stride / kActivationBlock"))
    add("products", scale, "code_product.h",
        ("in.scales[at]", "in.scales[at - part]"), ("in.sums[at]", "in.sums[at - part]"),
        ("w.scales[1]", "w.scales[0]"), ("w.minima[1]", "w.minima[0]"))
    add("tiles", scale, "tile_gemv.h",
        ("simt::still_global(left_scales)[at]", "simt::still_global(left_scales)[0 * at]"), ("left * blocks", "right * blocks", 0),
        ("simt::still_global(right_sums)[at]", "simt::still_global(right_sums)[0 * at]"),
        ("simt::still_global(scales)[of_lane + j]", "simt::still_global(scales)[of_lane]"))
    add("tiles", scale, "tile_format.h",
        ("c[h][2 * r + j]", "c[h][2 * r]"), ("g == i ? x.codes[1] : 0", "g == i ? x.codes[0] : 0"),
        ("lane / 4 * 4 + t", "lane / 4 * 4"))
    add("tiles", scale, "tile_gemm.h",
        ("8 * kGroups * in_stage + 8 * group + 4 * (l % 4)", "8 * kGroups * in_stage + 4 * (l % 4)"),
        ("column * code_stride + 32 * in_stage", "column * code_stride"))
    add("tiles", scale, "tile_formats_k.h",
        ("tile::byte_of(four, 2 * (i % 2) + h)", "tile::byte_of(four, 2 * (i % 2))"),
        ("byte_of(pick(scales[r], part / 4), part % 4)", "byte_of(pick(scales[r], 0), part % 4)"),
        ("byte_of(pick(minima[r], part / 4), part % 4)", "byte_of(pick(minima[r], part / 4), 0)"))

    stale = "stale shared read"
    add("tiles", stale, "tile_gemv.h", ("stage = (stage + 1) % kStages", "stage = stage"))
    add("tiles", stale, "tile_gemm.h", ("stage = (stage + 1) % kStages", "stage = stage"))
    add("attention", stale, "attention_tensor.h", ("unit % 2 * kUnit", "0 * unit"),
        ("static_cast<uint32_t>(n) % kRing * kTile", "static_cast<uint32_t>(n) % 2 * kTile"))
    add("products", stale, "product.h",
        ("static_cast<uint64_t>(chunk) % kStages * kStageBytes + begin % 16",
         "static_cast<uint64_t>(chunk + 1) % kStages * kStageBytes + begin % 16"))
    return rows


def describe(mutant):
    edit = edits()[int(mutant.split(":")[1]) - 1]
    return f"{edit.suite} {edit.kind}: {edit.file}: {edit.old} → {edit.new}"


# What stands behind `edited(N) ?`: assignments and parts of statements do not, and are put in whole.
def replacement(edit, number):
    asks, old, new = f"::shoal::emulator::edited({number})", edit.old, edit.new
    for suffix in (";", " ? values", " &&"):
        if old.endswith(suffix) and new.endswith(suffix):
            return f"({asks} ? ({new[:-len(suffix)]}) : ({old[:-len(suffix)]})){suffix}"
    if old.startswith("stage = "):
        return f"stage = ({asks} ? ({new[8:]}) : ({old[8:]}))"
    access = re.fullmatch(r"(.*)\[([^\[\]]*(?:\[[^\[\]]*\][^\[\]]*)*)\]", old)
    wrong = re.fullmatch(r"(.*)\[([^\[\]]*(?:\[[^\[\]]*\][^\[\]]*)*)\]", new)
    if access and wrong and access[1] == wrong[1]:  # the emulator's references cannot be chosen between
        return f"{access[1]}[{asks} ? ({wrong[2]}) : ({access[2]})]"
    return f"({asks} ? ({new}) : ({old}))"


def write_overlay(folder):
    """The edited headers, in the same tree as the sources."""
    texts = {}
    changes = collections.defaultdict(list)
    for number, edit in enumerate(edits(), 1):
        path = ROOT / KERNELS / edit.file
        text = texts.setdefault(edit.file, path.read_text())
        at = -1
        for _ in range(edit.nth + 1):
            at = text.find(edit.old, at + 1)
            if at < 0:
                sys.exit(f"{KERNELS}/{edit.file} has no {edit.old!r} number {edit.nth}: mutant_edits.py is out of date")
        changes[edit.file].append((at, at + len(edit.old), replacement(edit, number)))
    for file, text in texts.items():
        for begin, end, new in sorted(changes[file], reverse=True):
            text = text[:begin] + new + text[end:]
        text = text.replace("#pragma once\n", "#pragma once\nnamespace shoal::emulator { bool edited(int number); }\n", 1)
        path = folder / KERNELS / file
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


def build(build_folder, programs):
    """({mutant: suites}, folder of the programs with all edits in them)."""
    folder = build_folder / "mutants"
    write_overlay(folder)
    database = {entry["file"]: entry for entry in json.loads((build_folder / "compile_commands.json").read_text())}
    for source in {source for program in programs.values() for source in SOURCES[program]}:
        command = shlex.split(database[str(ROOT / "tests/simt" / source)]["command"])
        for option in ("-o", "-MF", "-MT"):
            if option in command:
                del command[command.index(option):command.index(option) + 2]
        command = [word for word in command if word != "-MD"]
        compiler = next(i for i, word in enumerate(command) if re.search(r"(c\+\+|g\+\+|clang\+\+)[-0-9]*$", word))
        command.insert(compiler + 1, f"-I{folder}")
        print(f"compiling {source} with {len(edits())} edits", flush=True)
        subprocess.run(command + ["-o", str(folder / f"{source}.o")], cwd=build_folder, check=True)
    for program in programs.values():
        lines = subprocess.run(["ninja", "-t", "commands", f"tests/simt/{program}"], cwd=build_folder, check=True,
                               capture_output=True, text=True).stdout
        link = shlex.split(next(line for line in reversed(lines.splitlines()) if f" -o tests/simt/{program} " in line)
                           .replace(": && ", "").replace(" && :", ""))
        link[link.index("-o") + 1] = str(folder / program)
        for source in SOURCES[program]:
            link = [word for word in link if not word.endswith(f"/{source}.o")]
            link.insert(link.index("-o"), str(folder / f"{source}.o"))
        subprocess.run(link, cwd=build_folder, check=True)
    wanted = {f"edit:{number}": [edit.suite] for number, edit in enumerate(edits(), 1) if edit.suite in programs}
    return wanted, folder
