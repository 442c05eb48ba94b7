// A block format is a trait, Block<TensorType>, one specialisation per format in the blocks_*.h
// files; blocks.h lists them all. Formulas: docs/formats.md
//
//   elems, bytes            per block; equal to the type table's
//   decode(block, out)      all elems values
//   decode32(block, p, out) elements [32p, 32p + 32) alone, for formats of 32 and more elements:
//   the
//                           grain at which shards are cut and activations are scaled
//
// `block` needs no alignment. Values are exact in float32 up to at most one rounding (formats with
// a minimum), in the order of operations of the reference, so results are bit-identical to it.
#pragma once

#include <cstdint>

#include "kernels/body/half.h"
#include "model/tensor_type.h"

namespace shoal::body {

template <TensorType type>
struct Block;

// The common part of formats with whole groups of 32: Self provides decode32.
template <TensorType type, int kElems, int kBytes>
struct BlockOf32 {
  static constexpr int elems = kElems;
  static constexpr int bytes = kBytes;
  static_assert(kElems % 32 == 0);

  SHOAL_BODY static void decode(auto block, float* out) {
    for (int part = 0; part < kElems / 32; ++part) {
      Block<type>::decode32(block, part, out + 32 * part);
    }
  }
};

}  // namespace shoal::body
