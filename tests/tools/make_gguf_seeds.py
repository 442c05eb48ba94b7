#!/usr/bin/env python3
"""Writes the seeds of tests/fuzz/fuzz_gguf.cc: tests/tools/make_gguf_seeds.py tests/fuzz/corpus/fuzz_gguf

Three bytes of mode (see the target), then GGUF bytes: one valid file per group of types, a split
model, and files one step from valid.
"""
import pathlib
import struct
import sys

U8, I8, U16, I16, U32, I32, F32, BOOL, STR, ARR, U64, I64, F64 = range(13)
FIXED = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "B", U64: "Q", I64: "q", F64: "d"}
# id: (elements, bytes) of a block
TYPES = {0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 10: (256, 84),
         11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 16: (256, 66), 17: (256, 74), 18: (256, 98),
         19: (256, 50), 20: (32, 18), 21: (256, 110), 22: (256, 82), 23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4),
         27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2), 34: (256, 54), 35: (256, 66), 39: (32, 17), 40: (64, 36),
         41: (128, 18), 42: (64, 18)}


def string(text):
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def value(kind, item):
    return string(item) if kind == STR else struct.pack("<" + FIXED[kind], item)


def kv(key, kind, item):
    return string(key) + struct.pack("<I", kind) + value(kind, item)


def array(key, kind, items):
    head = string(key) + struct.pack("<IIQ", ARR, kind, len(items))
    return head + b"".join(value(kind, item) for item in items)


def gguf(kvs, types=(), version=3, align=32, names="t"):
    infos, data = b"", b""
    for i, kind in enumerate(types):
        elems, size = TYPES[kind]
        infos += string(f"{names}{i}") + struct.pack("<IQQIQ", 2, elems, 2, kind, len(data))
        block = bytes((7 * j + kind) % 256 for j in range(2 * size))
        data += block + bytes(-len(block) % align)
    out = b"GGUF" + struct.pack("<IQQ", version, len(types), len(kvs)) + b"".join(kvs) + infos
    return out + bytes(-len(out) % align) + data if types else out


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    scalars = [kv(f"k{kind}", kind, 1) for kind in FIXED] + [kv("s", STR, "text")]
    arrays = [array(f"a{kind}", kind, [1, 0, 1]) for kind in FIXED] + [array("as", STR, ["", "a", "bc"])]
    one = bytes(3)
    seeds = {
        "scalars": one + gguf(scalars),
        "arrays": one + gguf(arrays),
        "aligned": one + gguf([kv("general.alignment", U32, 64)], (0, 8), 2, 64),
        "plain": one + gguf([], (0, 1, 24, 25, 26, 27, 28, 30)),
        "legacy": one + gguf([], (2, 3, 6, 7, 8, 20, 39, 40, 41, 42)),
        "k": one + gguf([], (10, 11, 12, 13, 14)),
        "iq": one + gguf([], (16, 17, 18, 19, 21, 22, 23, 29, 34, 35)),
        "version0": one + gguf([], (), 0),
    }
    parts = [gguf([kv("split.no", U16, no), kv("split.count", U16, 2), kv("split.tensors.count", I32, 2)], (8,), 3, 32, f"p{no}.")
             for no in (0, 1)]
    seeds["split"] = bytes([128]) + struct.pack("<H", len(parts[0])) + parts[0] + parts[1]
    for name, data in seeds.items():
        (folder / name).write_bytes(data)


main()
