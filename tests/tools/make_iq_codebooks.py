#!/usr/bin/env python3
"""Writes kernels/body/iq_codebooks.h from the reference data's facts/iq-codebooks.json.

Run: tests/tools/make_iq_codebooks.py CODEBOOKS.json > kernels/body/iq_codebooks.h
An entry is packed as alphabet positions, element 0 in the lowest bits.
"""
import json
import sys

# function name, key, elements, bits per element, alphabet, comment
BOOKS = [
    ("iq2_xxs_entry", "iq2_xxs", 8, 2, [8, 25, 43]),
    ("iq2_xs_entry", "iq2_xs", 8, 2, [8, 25, 43]),
    ("iq2_s_entry", "iq2_s", 8, 2, [8, 25, 43]),
    ("iq3_xxs_entry", "iq3_xxs", 4, 3, [4, 12, 20, 28, 36, 44, 52, 62]),
    ("iq3_s_entry", "iq3_s", 4, 3, [1, 3, 5, 7, 9, 11, 13, 15]),
    ("iq1_s_entry", "iq1_s", 8, 2, [-1, 0, 1]),
]

HEADER = """// The codebooks of the IQ1, IQ2 and IQ3 formats: data that defines them, not derivable by a rule
// (docs/formats.md). Made by tests/tools/make_iq_codebooks.py; do not edit.
//
// An entry packs one group's elements as positions in a small alphabet, element 0 in the lowest
// bits; the iq*_level functions turn a position into the element's magnitude (IQ1: its value).
#pragma once

#include <cstdint>

#include "kernels/body/half.h"

// clang-format off
namespace shoal::body {

// Element j of an IQ2 entry: 8, 25 or 43.
SHOAL_BODY int iq2_level(uint16_t entry, int j) {
  const int p = (entry >> (2 * j)) & 3;
  return 8 + 17 * p + (p >> 1);
}
// Element j of an iq3_xxs entry: 4, 12, 20, 28, 36, 44, 52 or 62.
SHOAL_BODY int iq3_xxs_level(uint16_t entry, int j) {
  const int p = (entry >> (3 * j)) & 7;
  return 4 + 8 * p + (p == 7 ? 2 : 0);
}
// Element j of an iq3_s entry: 1, 3, ... 15.
SHOAL_BODY int iq3_s_level(uint16_t entry, int j) { return 2 * ((entry >> (3 * j)) & 7) + 1; }
// Element j of an iq1_s entry: -1, 0 or 1.
SHOAL_BODY int iq1_level(uint16_t entry, int j) { return ((entry >> (2 * j)) & 3) - 1; }

// Signs of 8 elements from a 7-bit code: bit 7 makes the number of set bits even. Bit j set means
// element j is negative.
SHOAL_BODY uint32_t iq_signs(uint32_t code) {
  uint32_t parity = code ^ (code >> 4);
  parity ^= parity >> 2;
  parity ^= parity >> 1;
  return code | ((parity & 1) << 7);
}
"""


def main():
    books = json.load(open(sys.argv[1]))
    out = [HEADER]
    for function, key, elements, bits, alphabet in BOOKS:
        values = []
        for text in books[key]:
            levels = [int(x) for x in text.split(",")]
            assert len(levels) == elements
            values.append(sum(alphabet.index(v) << (bits * j) for j, v in enumerate(levels)))
        out.append(f"// Entry i of {len(values)}: {elements} elements of {bits} bits.")
        table = "k" + "".join(word.capitalize() for word in key.split("_")) + "Entries"
        out.append(f"SHOAL_TABLE uint16_t {table}[{len(values)}] = {{")
        for i in range(0, len(values), 12):
            out.append("    " + " ".join(f"{v:#x}," for v in values[i : i + 12]))
        out.append("};")
        out.append(f"SHOAL_BODY uint16_t {function}(uint32_t i) {{ return {table}[i]; }}\n")
    out.append("}  // namespace shoal::body\n// clang-format on")
    print("\n".join(out))


main()
