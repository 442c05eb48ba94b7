"""What synth_arch.py makes its models with: metadata and seeded random tensors. Standard library only."""
import array
import functools
import pathlib
import random
import statistics

import gguf_file
from gguf_file import Value

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOKENIZER_SOURCE = ROOT / "models" / "shoal-tiny-dense-q8_0.gguf"

_QUANTILES = array.array("f", map(statistics.NormalDist().inv_cdf, [(i + 0.5) / 65536 for i in range(65536)]))
# What an MXFP4 nibble stands for, doubled; the block's exponent is halved to match.
MXFP4_VALUES = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12]


@functools.lru_cache(maxsize=256)
def _table(deviation, mean):
    return array.array("f", [mean + deviation * x for x in _QUANTILES])


def _value(value):
    """The metadata value of a Python one: integers are u32, floats f32, lists arrays of their first element's kind."""
    if isinstance(value, bool):
        return Value(gguf_file.BOOL, value)
    if isinstance(value, int):
        return Value(gguf_file.U32, value)
    if isinstance(value, float):
        return Value(gguf_file.F32, value)
    if isinstance(value, str):
        return Value(gguf_file.STRING, value)
    return Value(gguf_file.ARRAY, list(value), _value(value[0]).kind)


class Builder:
    """Collects a model. Matrices have a spread of gain/√columns, so that activations keep their size; norms are near one
    and biases near zero but never exactly, so that leaving any of them out changes the result."""

    def __init__(self, architecture, seed, vocabulary=None):
        self.architecture = architecture
        self.random = random.Random(seed)
        self.tensors = []
        self.metadata = {"general.architecture": _value(architecture), "general.name": _value("synthetic"),
                         **self._tokenizer(vocabulary)}
        self.vocabulary = len(self.metadata["tokenizer.ggml.tokens"].value)

    @staticmethod
    def _tokenizer(vocabulary):
        """The tiny model's tokenizer, filled up with unused tokens to `vocabulary`."""
        source = gguf_file.read(TOKENIZER_SOURCE).metadata
        keys = {key: value for key, value in source.items() if key.startswith("tokenizer.")}
        tokens, types = keys["tokenizer.ggml.tokens"], keys["tokenizer.ggml.token_type"]
        for i in range(len(tokens.value), vocabulary or 0):
            tokens.value.append(f"<|unused{i}|>")
            types.value.append(5)
        return keys

    def keys(self, **keys):
        """Metadata below the architecture's name; `__` in a name stands for a dot."""
        for key, value in keys.items():
            self.metadata[f"{self.architecture}.{key.replace('__', '.')}"] = _value(value)

    def normal(self, count, deviation, mean=0.0):
        return array.array("f", map(_table(deviation, mean).__getitem__, array.array("H", self.random.randbytes(2 * count))))

    def vector(self, name, count, deviation, mean=0.0):
        self.tensors.append(gguf_file.Tensor.f32(name, [count], self.normal(count, deviation, mean)))

    def norm(self, name, *dims, mean=1.0):
        count = 1
        for dim in dims:
            count *= dim
        self.tensors.append(gguf_file.Tensor.f32(name + ".weight", dims, self.normal(count, 0.2 * mean, mean)))

    def matrix(self, name, cols, rows, experts=0, gain=1.0):
        count = cols * rows * (experts or 1)
        dims = [cols, rows] + ([experts] if experts else [])
        self.tensors.append(gguf_file.Tensor.f32(name + ".weight", dims, self.normal(count, gain / cols ** 0.5)))

    def linear(self, name, cols, rows):
        """A matrix and its bias."""
        self.matrix(name, cols, rows)
        self.vector(name + ".bias", rows, 0.3)

    def mxfp4(self, name, cols, rows, experts):
        """Random blocks of 32: a power of two per block, so that the spread is near 1/√cols."""
        blocks = cols // 32 * rows * experts
        # The values' root mean square is about 5.9 of the doubled table; 2^(e−128) halves it again.
        exponent = 127
        while 5.9 / 2 * 2.0 ** (exponent - 127) > 1.4 / cols ** 0.5:
            exponent -= 1
        data = bytearray()
        for nibbles in range(blocks):
            data.append(exponent + nibbles % 2)
            data += self.random.randbytes(16)
        self.tensors.append(gguf_file.Tensor(name + ".weight", [cols, rows, experts], gguf_file.TENSOR_MXFP4, bytes(data)))

    def file(self):
        return gguf_file.File(self.metadata, self.tensors)


def dequantised(model):
    """A copy of `model` with its MXFP4 tensors as the F32 values they stand for."""
    tensors = []
    for tensor in model.tensors:
        if tensor.kind == gguf_file.TENSOR_MXFP4:
            values = array.array("f")
            for at in range(0, len(tensor.data), 17):
                scale = 2.0 ** (tensor.data[at] - 128)
                nibbles = tensor.data[at + 1:at + 17]
                values.extend([MXFP4_VALUES[b & 15] * scale for b in nibbles])
                values.extend([MXFP4_VALUES[b >> 4] * scale for b in nibbles])
            tensor = gguf_file.Tensor.f32(tensor.name, tensor.dims, values)
        tensors.append(tensor)
    return gguf_file.File(model.metadata, tensors)
