#include "kernels/formats/decode.h"

#include <algorithm>
#include <array>

#include "kernels/body/blocks.h"

namespace shoal {
namespace {

using DecodeRow = void (*)(const uint8_t* row, int64_t blocks, float* out);

template <TensorType type>
void decode_blocks(const uint8_t* row, int64_t blocks, float* out) {
  using B = body::Block<type>;
  for (int64_t i = 0; i < blocks; ++i) B::decode(row + i * B::bytes, out + i * B::elems);
}

using Table = std::array<DecodeRow, kTensorTypeIds>;

template <TensorType... types>
constexpr Table make_table(body::TypeList<types...>) {
  static_assert(((body::Block<types>::elems == traits(types).block_elems) && ...));
  static_assert(((body::Block<types>::bytes == traits(types).block_bytes) && ...));
  Table table{};
  ((table[static_cast<uint32_t>(types)] = &decode_blocks<types>), ...);
  return table;
}

constexpr Table kDecoders = make_table(body::BlockTypes{});

// Ids in the list of formats. Not read off kDecoders: under UBSan gcc 12 does not treat the
// comparison of a function's address with null as constant.
template <TensorType... types>
constexpr uint64_t listed(body::TypeList<types...>) {
  return ((uint64_t{1} << static_cast<uint32_t>(types)) | ...);
}

constexpr bool every_storable_type_is_listed() {
  for (uint32_t id = 0; id < kTensorTypeIds; ++id) {
    const bool found = ((listed(body::BlockTypes{}) >> id) & 1) != 0;
    if (kTensorTypes[id].storable != found) return false;
  }
  return true;
}
static_assert(kTensorTypeIds <= 64 && every_storable_type_is_listed());

constexpr int kMaxBlockElems = 256;

}  // namespace

void decode_row(TensorType type, const uint8_t* row, int64_t n, float* out) {
  const TensorTypeTraits& t = traits(type);
  SHOAL_CHECK(t.storable, "decode_row of a type that is not stored");
  SHOAL_CHECK(n >= 0 && n % t.block_elems == 0, "decode_row of a part of a block");
  kDecoders[static_cast<uint32_t>(type)](row, n / t.block_elems, out);
}

void decode_range(TensorType type, const uint8_t* row, int64_t first, int64_t n, float* out) {
  const int64_t elems = traits(type).block_elems;
  const int64_t bytes = traits(type).block_bytes;
  while (n > 0) {
    const int64_t block = first / elems;
    const int64_t skip = first % elems;
    const uint8_t* from = row + block * bytes;
    int64_t done;
    if (skip == 0 && n >= elems) {
      done = n / elems * elems;
      decode_row(type, from, done, out);
    } else {
      float values[kMaxBlockElems];
      decode_row(type, from, elems, values);
      done = std::min(n, elems - skip);
      std::copy_n(values + skip, done, out);
    }
    first += done;
    n -= done;
    out += done;
  }
}

}  // namespace shoal
