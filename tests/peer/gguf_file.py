"""Reads and writes GGUF files (version 3, little-endian), for tests that make or change models. Standard library only.

A file is a dictionary of metadata, key -> Value, and a list of tensors, both in file order. Dimensions are in file order
too: the first one is the number of features of a row. Tensor data are the bytes of the file; `floats` and `Tensor.f32`
convert F32.
"""
import array
import dataclasses
import struct

MAGIC = b"GGUF"
VERSION = 3
ALIGNMENT = 32

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
_SCALARS = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "?", U64: "Q", I64: "q", F64: "d"}

# Tensor types: id -> (elements per block, bytes per block).
TENSOR_F32, TENSOR_F16, TENSOR_Q8_0, TENSOR_MXFP4 = 0, 1, 8, 39
BLOCKS = {TENSOR_F32: (1, 4), TENSOR_F16: (1, 2), TENSOR_Q8_0: (32, 34), TENSOR_MXFP4: (32, 17)}


@dataclasses.dataclass
class Value:
    """Metadata of one key; for an array `kind` is ARRAY, `element` the kind of its elements and `value` a list."""
    kind: int
    value: object
    element: int = -1


@dataclasses.dataclass
class Tensor:
    name: str
    dims: list
    kind: int
    data: bytes

    @staticmethod
    def f32(name, dims, values):
        """A F32 tensor of a sequence of floats, the first dimension running fastest."""
        values = values if isinstance(values, array.array) else array.array("f", values)
        tensor = Tensor(name, list(dims), TENSOR_F32, values.tobytes())
        tensor.check()
        return tensor

    def floats(self):
        if self.kind != TENSOR_F32:
            raise ValueError(f"{self.name}: type {self.kind} is not F32")
        return array.array("f", self.data)

    def check(self):
        count = 1
        for dim in self.dims:
            count *= dim
        elements, size = BLOCKS[self.kind]
        if self.dims[0] % elements or count // elements * size != len(self.data):
            raise ValueError(f"{self.name}: {len(self.data)} bytes do not fit {self.dims} of type {self.kind}")


@dataclasses.dataclass
class File:
    metadata: dict
    tensors: list

    def tensor(self, name):
        for tensor in self.tensors:
            if tensor.name == name:
                return tensor
        raise KeyError(name)

    def write(self, path):
        with open(path, "wb") as out:
            out.write(MAGIC + struct.pack("<IQQ", VERSION, len(self.tensors), len(self.metadata)))
            for key, value in self.metadata.items():
                out.write(_string(key) + struct.pack("<I", value.kind) + _encode(value))
            offset = 0
            for tensor in self.tensors:
                tensor.check()
                out.write(_string(tensor.name) + struct.pack(f"<I{len(tensor.dims)}QIQ", len(tensor.dims),
                                                             *tensor.dims, tensor.kind, offset))
                offset += _padded(len(tensor.data))
            out.write(bytes(_padded(out.tell()) - out.tell()))
            for tensor in self.tensors:
                out.write(tensor.data + bytes(_padded(len(tensor.data)) - len(tensor.data)))


def _padded(size):
    return (size + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT


def _string(text):
    data = text.encode("utf-8", "surrogateescape")
    return struct.pack("<Q", len(data)) + data


def _encode(value):
    if value.kind == STRING:
        return _string(value.value)
    if value.kind != ARRAY:
        return struct.pack("<" + _SCALARS[value.kind], value.value)
    head = struct.pack("<IQ", value.element, len(value.value))
    if value.element == STRING:
        return head + b"".join(_string(text) for text in value.value)
    return head + struct.pack(f"<{len(value.value)}{_SCALARS[value.element]}", *value.value)


class _Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def unpack(self, form):
        values = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return values

    def string(self):
        size, = self.unpack("Q")
        if size > len(self.data) - self.at:
            raise ValueError(f"a string of {size} bytes at {self.at - 8} runs past the end of the file")
        self.at += size
        return self.data[self.at - size:self.at].decode("utf-8", "surrogateescape")

    def value(self):
        kind, = self.unpack("I")
        if kind == STRING:
            return Value(kind, self.string())
        if kind != ARRAY:
            return Value(kind, self.unpack(_SCALARS[kind])[0])
        element, count = self.unpack("IQ")
        if element == STRING:
            return Value(kind, [self.string() for _ in range(count)], element)
        return Value(kind, list(self.unpack(f"{count}{_SCALARS[element]}")), element)


def read(path):
    """The file at `path`; ValueError or struct.error when it is not a GGUF file this module knows."""
    with open(path, "rb") as source:
        reader = _Reader(source.read())
    magic, version, tensor_count, key_count = reader.unpack("4sIQQ")
    if magic != MAGIC or version != VERSION:
        raise ValueError(f"{path}: {magic!r} version {version} is not GGUF version {VERSION}")
    metadata = {}
    for _ in range(key_count):
        key = reader.string()
        metadata[key] = reader.value()
    if "general.alignment" in metadata and metadata["general.alignment"].value != ALIGNMENT:
        raise ValueError(f"{path}: only alignment {ALIGNMENT} is supported")
    infos = []
    for _ in range(tensor_count):
        name = reader.string()
        rank, = reader.unpack("I")
        dims = list(reader.unpack(f"{rank}Q"))
        infos.append((name, dims, *reader.unpack("IQ")))
    start = _padded(reader.at)
    tensors = []
    for name, dims, kind, offset in infos:
        if kind not in BLOCKS:
            raise ValueError(f"{path}: {name} is of type {kind}, which this module does not know")
        elements, size = BLOCKS[kind]
        for dim in dims:
            size *= dim
        tensors.append(Tensor(name, dims, kind, reader.data[start + offset:start + offset + size // elements]))
        tensors[-1].check()
    return File(metadata, tensors)
