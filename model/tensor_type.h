// The tensor storage types of GGUF: ids, names and block sizes (docs/formats.md).
//
// A row of n elements is n / block_elems blocks back to back, without padding; a tensor is its rows
// back to back. Adding a format takes a line here, a line in tensor_type.cc, a trait in
// kernels/body/ and an entry in the list of kernels/body/blocks.h.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/status.h"

namespace shoal {

// The values are the ids in the file; never renumber.
enum class TensorType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ8_1 = 9,
  kQ2_K = 10,
  kQ3_K = 11,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kQ8_K = 15,
  kIQ2_XXS = 16,
  kIQ2_XS = 17,
  kIQ3_XXS = 18,
  kIQ1_S = 19,
  kIQ4_NL = 20,
  kIQ3_S = 21,
  kIQ2_S = 22,
  kIQ4_XS = 23,
  kI8 = 24,
  kI16 = 25,
  kI32 = 26,
  kI64 = 27,
  kF64 = 28,
  kIQ1_M = 29,
  kBF16 = 30,
  kTQ1_0 = 34,
  kTQ2_0 = 35,
  kMXFP4 = 39,
  kNVFP4 = 40,
  kQ1_0 = 41,
  kQ2_0 = 42,
};

struct TensorTypeTraits {
  std::string_view name;     // as users know it: "Q4_K"
  uint32_t block_elems = 0;  // elements per block; 0 marks an id that does not exist
  uint32_t block_bytes = 0;  // bytes per block
  bool storable = false;     // false: an activation format that never appears in a file
};

inline constexpr uint32_t kTensorTypeIds = 43;  // ids are below this

// Indexed by id; removed ids have block_elems 0.
inline constexpr std::array<TensorTypeTraits, kTensorTypeIds> kTensorTypes = [] {
  std::array<TensorTypeTraits, kTensorTypeIds> t{};
  const auto set = [&t](TensorType type, std::string_view name, uint32_t elems, uint32_t bytes,
                        bool storable = true) {
    t[static_cast<uint32_t>(type)] = {name, elems, bytes, storable};
  };
  using enum TensorType;
  set(kF32, "F32", 1, 4);
  set(kF16, "F16", 1, 2);
  set(kQ4_0, "Q4_0", 32, 18);
  set(kQ4_1, "Q4_1", 32, 20);
  set(kQ5_0, "Q5_0", 32, 22);
  set(kQ5_1, "Q5_1", 32, 24);
  set(kQ8_0, "Q8_0", 32, 34);
  set(kQ8_1, "Q8_1", 32, 36, false);
  set(kQ2_K, "Q2_K", 256, 84);
  set(kQ3_K, "Q3_K", 256, 110);
  set(kQ4_K, "Q4_K", 256, 144);
  set(kQ5_K, "Q5_K", 256, 176);
  set(kQ6_K, "Q6_K", 256, 210);
  set(kQ8_K, "Q8_K", 256, 292, false);
  set(kIQ2_XXS, "IQ2_XXS", 256, 66);
  set(kIQ2_XS, "IQ2_XS", 256, 74);
  set(kIQ3_XXS, "IQ3_XXS", 256, 98);
  set(kIQ1_S, "IQ1_S", 256, 50);
  set(kIQ4_NL, "IQ4_NL", 32, 18);
  set(kIQ3_S, "IQ3_S", 256, 110);
  set(kIQ2_S, "IQ2_S", 256, 82);
  set(kIQ4_XS, "IQ4_XS", 256, 136);
  set(kI8, "I8", 1, 1);
  set(kI16, "I16", 1, 2);
  set(kI32, "I32", 1, 4);
  set(kI64, "I64", 1, 8);
  set(kF64, "F64", 1, 8);
  set(kIQ1_M, "IQ1_M", 256, 56);
  set(kBF16, "BF16", 1, 2);
  set(kTQ1_0, "TQ1_0", 256, 54);
  set(kTQ2_0, "TQ2_0", 256, 66);
  set(kMXFP4, "MXFP4", 32, 17);
  set(kNVFP4, "NVFP4", 64, 36);
  set(kQ1_0, "Q1_0", 128, 18);
  set(kQ2_0, "Q2_0", 64, 18);
  return t;
}();

constexpr const TensorTypeTraits& traits(TensorType type) {
  return kTensorTypes[static_cast<uint32_t>(type)];
}
constexpr std::string_view tensor_type_name(TensorType type) { return traits(type).name; }

// Whether a model's weights may be of it: not of integers, whose values need a scale that no tensor
// of a plain integer type has.
constexpr bool holds_weights(TensorType type) {
  using enum TensorType;
  return type != kI8 && type != kI16 && type != kI32 && type != kI64;
}

// Bytes of a row of n elements. REQUIRES: n is a multiple of block_elems, the result fits 64 bits
// (true of every tensor of a GgufFile).
uint64_t row_bytes(TensorType type, uint64_t n);

// Bytes of a tensor with these dims (dims[0] is the row length), for sizes from outside: an error
// if a dim is 0, dims[0] is not whole blocks, or the element count or byte size overflows 63 bits.
Result<uint64_t> tensor_bytes(TensorType type, std::span<const uint64_t> dims);

// The type of a file's id. Unsupported, naming the type, for ids that mainline removed, for
// activation formats and for ids private to ik_llama.cpp; data_loss for any other number.
Result<TensorType> tensor_type_from_id(uint32_t id);

// "q4_k" or "Q4_K"; unknown names are invalid_argument and the message lists the known ones.
Result<TensorType> tensor_type_from_name(std::string_view name);

}  // namespace shoal
