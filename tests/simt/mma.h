// Matrix instructions of one warp on the fragments of its 32 lanes, laid out as the PTX ISA says
// ("Matrix Fragments for mma.m16n8k16", "…mma.m16n8k32", "ldmatrix").
#pragma once

#include <cstdint>

#include "tests/simt/machine.h"

namespace shoal::emulator {

enum class MmaKind { kU8S8K32, kS8S8K32, kU8S8K16, kS8S8K16, kF16K16, kBF16K16 };

// A lane's slot: words 0–3 c (replaced by the result), 4–7 a, 8–9 b; unused ones are not read.
void mma(Warp& warp, MmaKind kind);

// ldmatrix of 1, 2 or 4 matrices: words 0–1 hold the address of the lane's row, 4–7 the result.
void collect_matrices(Warp& warp, int count, bool transposed);

}  // namespace shoal::emulator
