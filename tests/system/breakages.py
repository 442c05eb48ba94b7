"""Breaks a GGUF file in one place at a time: every metadata key and every tensor, in every way that applies to it.

A Slate holds a model's file on disk with room for a changed header, and writes one Variant after another over it: only
the header and, where a tensor gets other bytes, a spare region at the end are written, so that a variant costs tens of
kilobytes whatever the model weighs.
"""
import array
import collections.abc
import dataclasses
import math
import struct

import gguf_file as g

FILL = "test.filling"  # a key that makes every header of a slate as long
ALIGNMENT = 32
I8, I16, I32, I64, U8, U16, U32, U64 = g.I8, g.I16, g.I32, g.I64, g.U8, g.U16, g.U32, g.U64
INTEGERS = {U8: (0, 2**8), I8: (-2**7, 2**7), U16: (0, 2**16), I16: (-2**15, 2**15), U32: (0, 2**32),
            I32: (-2**31, 2**31), U64: (0, 2**64), I64: (-2**63, 2**63)}
FLOATS = (g.F32, g.F64)
TYPE_F32, TYPE_F16, TYPE_Q8_0, TYPE_I32, TYPE_F64 = 0, 1, 8, 26, 28
TYPE_REMOVED, TYPE_UNKNOWN = 4, 250
TOKENS, KINDS, MERGES = "tokenizer.ggml.tokens", "tokenizer.ggml.token_type", "tokenizer.ggml.merges"
SCORES = "tokenizer.ggml.scores"


@dataclasses.dataclass
class Info:
    """A tensor as the header has it; offset within the data section, or None: what `data` makes goes to the spare region."""
    name: str
    dims: list
    kind: int
    offset: int | None
    data: collections.abc.Callable = bytes


@dataclasses.dataclass
class Variant:
    """`subject`: the key or tensor that is broken. `kind`: the class of the change, by which it is judged."""
    name: str
    subject: str
    kind: str
    keys: list      # of (key, encoded value)
    tensors: list   # of Info


def encode(value):
    return struct.pack("<I", value.kind) + g._encode(value)  # pylint: disable=protected-access


def string(text):
    return g._string(text)  # pylint: disable=protected-access


def padded(size):
    return (size + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT


class Slate:
    def __init__(self, file, path):
        self.file, self.path = file, path
        self.keys = [(key, encode(value)) for key, value in file.metadata.items() if key != "general.alignment"]
        self.tensors, offset = [], 0
        # Arrays may be doubled, a text be 70 KB long.
        self.header = padded(2 * sum(len(value) for _, value in self.keys) + 200 * len(file.tensors) + (1 << 18))
        with open(path, "wb") as out:
            out.seek(self.header)
            for tensor in file.tensors:
                self.tensors.append(Info(tensor.name, list(tensor.dims), tensor.kind, offset))
                out.write(tensor.data + bytes(padded(len(tensor.data)) - len(tensor.data)))
                offset += padded(len(tensor.data))
            self.spare = offset
            # A tensor may double; what is never written there reads as zeros and takes no disk.
            out.truncate(self.header + offset + 4 * max(len(tensor.data) for tensor in file.tensors))

    def write(self, variant):
        body, spare = [], self.spare
        moved = []
        for info in variant.tensors:
            offset = info.offset
            if offset is None:
                offset = spare
                moved.append((offset, info.data()))
                spare += padded(len(moved[-1][1]))
            body.append(string(info.name) + struct.pack(f"<I{len(info.dims)}QIQ", len(info.dims), *info.dims, info.kind,
                                                        offset))
        keys = [string(key) + value for key, value in variant.keys]
        head = g.MAGIC + struct.pack("<IQQ", g.VERSION, len(variant.tensors), len(keys) + 1)
        rest = b"".join(body)
        fill = string(FILL) + struct.pack("<II", g.ARRAY, U8)
        used = len(head) + sum(map(len, keys)) + len(fill) + 8 + len(rest)
        if used > self.header:
            raise ValueError(f"{variant.name}: the header takes {used} bytes")
        fill += struct.pack("<Q", self.header - used) + bytes(self.header - used)
        with open(self.path, "r+b") as out:
            out.write(head + b"".join(keys) + fill + rest)
            for offset, data in moved:
                out.seek(self.header + offset)
                out.write(data)

    def unbroken(self):
        return Variant("nothing", "", "nothing", self.keys, self.tensors)


def number_of(value, kind):
    """The same number as another kind, or None where it does not fit."""
    low, high = INTEGERS[kind]
    return g.Value(kind, value) if low <= value < high else None


def of_integer(value):
    """(name, kind of change, Value) for an integer."""
    number = value.value
    for kind in INTEGERS:
        same = number_of(number, kind)
        if same is not None and kind != value.kind:
            yield f"as type {kind}", "same", same
    for name, other in (("0", 0), ("1", 1), ("less 1", number - 1), ("plus 1", number + 1), ("doubled", 2 * number),
                        ("2^20", 2**20), ("2^31", 2**31), ("2^32+itself", 2**32 + number), ("2^63", 2**63),
                        ("2^64-1", 2**64 - 1), ("-1", -1), ("-2^63", -2**63)):
        kind = value.kind if number_of(other, value.kind) else U64 if other >= 0 else I64
        if other != number:
            yield name, "value", g.Value(kind, other)
    yield "-1 in 32 bits", "value", g.Value(I32, -1)
    yield "a text", "type", g.Value(g.STRING, str(number))
    yield "a float", "type", g.Value(g.F32, float(number))
    yield "a bool", "type", g.Value(g.BOOL, True)


def of_float(value):
    number = value.value
    yield "in 64 bits", "same", g.Value(g.F64, number)
    for name, other in (("not a number", math.nan), ("infinite", math.inf), ("-infinite", -math.inf), ("0", 0.0),
                        ("negative", -number or -1.0), ("tiny", 1e-30), ("huge", 1e30), ("doubled", 2 * number),
                        ("halved", number / 2)):
        if other != number:
            yield name, "value", g.Value(g.F32, other)
    yield "huge in 64 bits", "value", g.Value(g.F64, 1e300)
    yield "a text", "type", g.Value(g.STRING, str(number))
    yield "an integer", "type", g.Value(U32, 1)
    yield "a bool", "type", g.Value(g.BOOL, True)


def of_bool(value):
    yield "turned over", "value", g.Value(g.BOOL, not value.value)
    yield "an integer", "type", g.Value(U8, int(value.value))
    yield "a text", "type", g.Value(g.STRING, "true")


def of_string(value):
    yield "empty", "value", g.Value(g.STRING, "")
    yield "another", "value", g.Value(g.STRING, "no such thing")
    yield "not UTF-8", "value", g.Value(g.STRING, value.value + "\udcff\udcfe")
    yield "with a zero", "value", g.Value(g.STRING, value.value + "\0x")
    yield "long", "value", g.Value(g.STRING, "x" * 70000)
    yield "an integer", "type", g.Value(U32, 1)
    yield "a bool", "type", g.Value(g.BOOL, False)


def of_array(value):
    def changed(values, element=value.element):
        return g.Value(g.ARRAY, values, element)
    values = value.value
    yield "one shorter", "length", changed(values[:-1])
    yield "one longer", "length", changed(values + values[-1:])
    yield "doubled", "length", changed(values + values)
    yield "empty", "length", changed([])
    if value.element == g.STRING:
        yield "a text", "type", g.Value(g.STRING, values[0])
        yield "of integers", "type", changed(list(range(len(values))), I32)
        yield "last empty", "entry", changed(values[:-1] + [""])
        yield "last not UTF-8", "entry", changed(values[:-1] + ["\udcff"])
        yield "last as the one before", "entry", changed(values[:-1] + values[-2:-1])
        yield "two alike in the middle", "entry", changed(values[:300] + values[299:300] + values[301:])
        return
    yield "its first alone", "type", g.Value(value.element, values[0])
    yield "of texts", "type", changed([str(v) for v in values], g.STRING)
    yield "of bools", "type", changed([bool(v) for v in values], g.BOOL)
    if value.element in INTEGERS:
        yield "of floats", "type", changed([float(v) for v in values], g.F32)
        yield "in 64 bits", "same", changed(values, I64)
        for other in (-1, 7, 100, 2**31):
            yield f"last {other}", "entry", changed(values[:-1] + [other], I64)
    else:
        yield "of integers", "type", changed([1] * len(values), I32)
        yield "in 64 bits", "same", changed(values, g.F64)
        for other in (math.nan, math.inf):
            yield f"last {other}", "entry", changed(values[:-1] + [other])


def of_merges(values):
    def changed(more):
        return g.Value(g.ARRAY, values + [more], g.STRING)
    yield "unknown tokens", "surplus", changed("qqzz zzqq")
    yield "an unknown token joined", "surplus", changed(f"{values[0].split(' ')[0]} zzqq")
    yield "twice", "surplus", changed(values[0])
    yield "one part", "entry", changed("alone")
    yield "nothing behind", "entry", changed("alone ")


def of_key(key, value, file):
    """(name, kind, Value or None: left out) of everything that can be wrong with one key."""
    yield "missing", "missing", None
    if value.kind == g.ARRAY:
        yield from of_array(value)
        if key == MERGES:
            yield from of_merges(value.value)
        return
    if value.kind in INTEGERS:
        yield from of_integer(value)
        blocks = next((v.value for k, v in file.metadata.items() if k.endswith(".block_count")), 3)
        for count in (blocks - 1, blocks, blocks + 1, 0):
            yield f"an array of {count}", "array", g.Value(g.ARRAY, [value.value] * count, value.kind)
        if key.endswith("_token_id"):
            tokens = len(file.metadata[TOKENS].value)
            for other in (tokens - 1, tokens, tokens + 1):
                if other != value.value:
                    yield f"token {other} of {tokens}", "value", g.Value(U32, other)
    elif value.kind in FLOATS:
        yield from of_float(value)
        yield "an array", "type", g.Value(g.ARRAY, [value.value], value.kind)
    elif value.kind == g.BOOL:
        yield from of_bool(value)
        yield "an array", "type", g.Value(g.ARRAY, [value.value], value.kind)
    else:
        yield from of_string(value)
        yield "an array", "type", g.Value(g.ARRAY, [value.value], g.STRING)


def key_variants(slate):
    for at, (key, encoded) in enumerate(slate.keys):
        for name, kind, value in of_key(key, slate.file.metadata[key], slate.file):
            keys = list(slate.keys)
            if value is None:
                del keys[at]
            else:
                keys[at] = (key, encode(value))
            yield Variant(f"key {key}: {name}", key, kind, keys, slate.tensors)
        yield Variant(f"key {key}: twice", key, "twice", slate.keys + [(key, encoded)], slate.tensors)
        if value_of_element(encoded):
            keys = list(slate.keys)
            keys[at] = (key, struct.pack("<I", 13) + encoded[4:])
            yield Variant(f"key {key}: of an unknown type", key, "type", keys, slate.tensors)
    yield Variant("all keys in another order", "", "same", slate.keys[::-1], slate.tensors)


def value_of_element(encoded):
    return struct.unpack_from("<I", encoded)[0] != g.ARRAY


def f16(tensor):
    values = array.array("f", tensor.data)
    return struct.pack(f"<{len(values)}e", *values)


def q8_0(tensor):
    values, out = array.array("f", tensor.data), bytearray()
    for at in range(0, len(values), 32):
        block = values[at:at + 32]
        scale = max(abs(v) for v in block) / 127
        out += struct.pack("<e32b", scale, *(round(v / scale) if scale else 0 for v in block))
    return bytes(out)


def retyped(tensor):
    """(name, class, kind, function that makes the data) of the tensor in other types."""
    if tensor.kind == TYPE_F32:
        yield "F16", "rounded", TYPE_F16, lambda: f16(tensor)
        if tensor.dims[0] % 32 == 0 and len(tensor.data) <= 1 << 19:
            yield "Q8_0", "rounded", TYPE_Q8_0, lambda: q8_0(tensor)
        yield "F64", "same", TYPE_F64, lambda: array.array("d", array.array("f", tensor.data)).tobytes()
    for name, kind in (("I32", TYPE_I32), ("of a type that was removed", TYPE_REMOVED), ("of an unknown type", TYPE_UNKNOWN)):
        yield name, "tensor type", kind, lambda: tensor.data


def shapes(dims):
    for at, dim in enumerate(dims):
        yield f"dimension {at} plus 1", dims[:at] + [dim + 1] + dims[at + 1:]
        yield f"dimension {at} less 1", dims[:at] + [dim - 1] + dims[at + 1:]
        yield f"dimension {at} doubled", dims[:at] + [2 * dim] + dims[at + 1:]
    yield "a 1 in front", [1] + dims
    if dims != dims[::-1]:
        yield "transposed", dims[::-1]
    if len(dims) > 1:
        yield "flat", [math.prod(dims)]
        yield "last two as one", dims[:-2] + [dims[-2] * dims[-1]]
    yield "a dimension of 0", dims[:-1] + [0]
    yield "five dimensions", dims + [1] * (5 - len(dims))
    yield "huge", [2**40] * len(dims)


def tensor_variants(slate):
    def variant(at, name, kind, *infos):
        tensors = slate.tensors[:at] + list(infos) + slate.tensors[at + 1:]
        return Variant(f"tensor {slate.tensors[at].name}: {name}", slate.tensors[at].name, kind, slate.keys, tensors)

    for at, info in enumerate(slate.tensors):
        tensor = slate.file.tensors[at]
        yield variant(at, "missing", "tensor missing")
        yield variant(at, "renamed", "renamed", dataclasses.replace(info, name=info.name + "x"))
        yield variant(at, "twice", "twice", info, dataclasses.replace(info, offset=None))
        yield variant(at, "a 1 behind", "same" if len(info.dims) < 4 else "shape",
                      dataclasses.replace(info, dims=info.dims + [1]))
        for name, dims in shapes(info.dims):
            as_many = math.prod(dims) == math.prod(info.dims)
            yield variant(at, name, "shape", dataclasses.replace(info, dims=dims, offset=info.offset if as_many else None))
        for name, kind, type_id, data in retyped(tensor):
            yield variant(at, name, kind, dataclasses.replace(info, kind=type_id, offset=None, data=data))
        before = slate.tensors[at - 1]
        yield variant(at, "over another", "shape", dataclasses.replace(info, offset=before.offset))
        yield variant(at, "unaligned", "shape", dataclasses.replace(info, offset=info.offset + 1))
        yield variant(at, "beyond the end", "shape", dataclasses.replace(info, offset=2**62))
    yield Variant("all tensors in another order", "", "same", slate.keys, slate.tensors[::-1])


def surplus_variants(slate):
    names = {info.name for info in slate.tensors}
    blocks = max(int(name.split(".")[1]) for name in names if name.startswith("blk."))

    def more(name, dims):
        def data():
            return array.array("f", [0.25] * math.prod(dims)).tobytes()
        return Variant(f"surplus {name}", name, "surplus", slate.keys,
                       slate.tensors + [Info(name, dims, TYPE_F32, None, data)])

    for name in ("surplus.weight", "blk.0.surplus.weight", f"blk.{blocks + 1}.attn_norm.weight",
                 "blk.1000000.attn_norm.weight", "blk.-1.attn_norm.weight", "blk.0"):
        yield more(name, [3])
    for info in slate.tensors:
        if not info.name.endswith(".weight"):
            continue
        for ending in (".bias", ".scale", ".input_scale"):
            name = info.name[:-len(".weight")] + ending
            if name not in names:
                yield more(name, info.dims[1:] or info.dims if ending == ".bias" else [1])
    width = next(info.dims[0] for info in slate.tensors if info.name == "token_embd.weight")
    for name in ("attn_q_norm", "attn_k_norm", "attn_norm_2", "post_attention_norm", "post_ffw_norm", "ffn_up_shexp",
                 "attn_qkv", "exp_probs_b", "ffn_gate_inp_shexp", "attn_sinks", "attn_q_a", "ffn_gate_up_exps"):
        name = f"blk.0.{name}.weight" if name != "exp_probs_b" else "blk.0.exp_probs_b.bias"
        if name not in names:
            yield more(name, [width])
    for name in ("output.weight", "rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"):
        if name not in names:
            yield more(name, [width, 3] if name == "output.weight" else [width])


def variants(slate):
    yield from key_variants(slate)
    yield from tensor_variants(slate)
    yield from surplus_variants(slate)
