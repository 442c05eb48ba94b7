#include "model/tensor_type.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <string>

#include "base/quote.h"

namespace shoal {
namespace {

struct ForeignType {
  uint32_t id;
  std::string_view name;
};

// Ids that mainline once used. 36 is also BitNet's I2_S in ik_llama.cpp.
constexpr ForeignType kRemoved[] = {
    {4, "Q4_2"},      {5, "Q4_3"},        {31, "Q4_0_4_4"},   {32, "Q4_0_4_8"},
    {33, "Q4_0_8_8"}, {36, "IQ4_NL_4_4"}, {37, "IQ4_NL_4_8"}, {38, "IQ4_NL_8_8"},
};

// Private to ik_llama.cpp (docs/formats.md).
constexpr ForeignType kIk[] = {
    {97, "Q8_0_X4"}, {98, "Q8_1_X4"}, {99, "Q8_2_X4"}, {133, "Q6_0"},    {134, "IQ1_BN"},
    {135, "IQ2_BN"}, {136, "Q8_K64"}, {137, "IQ2_K"},  {138, "IQ3_K"},   {139, "IQ4_K"},
    {140, "IQ5_K"},  {141, "IQ6_K"},  {144, "IQ4_KS"}, {145, "IQ2_KS"},  {146, "IQ4_KSS"},
    {147, "Q8_K16"}, {148, "Q8_K32"}, {149, "Q8_KR8"}, {150, "Q8_K128"}, {151, "Q8_KV"},
    {152, "IQ5_KS"}, {153, "IQ2_KT"}, {154, "IQ3_KT"}, {155, "IQ4_KT"},  {156, "IQ3_KS"},
    {157, "IQ2_KL"}, {158, "IQ1_KT"},
};

std::string_view ik_name(uint32_t id) {
  const auto* found = std::ranges::find(kIk, id, &ForeignType::id);
  return found == std::end(kIk) ? std::string_view{} : found->name;
}

// The name behind a row-interleaved repack's id, 200 + base; empty if the base is unknown.
std::string_view repack_base(uint32_t id) {
  const uint32_t base = id - 200;
  if (base < kTensorTypeIds && kTensorTypes[base].block_elems != 0) return kTensorTypes[base].name;
  return ik_name(base);
}

}  // namespace

uint64_t row_bytes(TensorType type, uint64_t n) {
  const TensorTypeTraits& t = traits(type);
  SHOAL_CHECK(
      n % t.block_elems == 0,
      fmt::format("a row of {} elements is not whole {} blocks of {}", n, t.name, t.block_elems));
  uint64_t bytes = 0;
  SHOAL_CHECK(!__builtin_mul_overflow(n / t.block_elems, uint64_t{t.block_bytes}, &bytes),
              fmt::format("a row of {} elements", n));
  return bytes;
}

Result<uint64_t> tensor_bytes(TensorType type, std::span<const uint64_t> dims) {
  constexpr uint64_t kMax = uint64_t{1} << 63;
  const TensorTypeTraits& t = traits(type);
  if (dims.empty()) return data_loss("no dimensions");
  uint64_t elements = 1;
  for (size_t i = 0; i < dims.size(); ++i) {
    if (dims[i] == 0) return data_loss(fmt::format("dimension {} is zero", i));
    if (__builtin_mul_overflow(elements, dims[i], &elements) || elements >= kMax) {
      return data_loss("the number of elements overflows 63 bits");
    }
  }
  if (dims[0] % t.block_elems != 0) {
    return data_loss(fmt::format("rows of {} elements are not whole {} blocks of {} elements",
                                 dims[0], t.name, t.block_elems));
  }
  uint64_t bytes = 0;
  if (__builtin_mul_overflow(elements / t.block_elems, uint64_t{t.block_bytes}, &bytes) ||
      bytes >= kMax) {
    return data_loss("the size in bytes overflows 63 bits");
  }
  return bytes;
}

Result<TensorType> tensor_type_from_id(uint32_t id) {
  if (id < kTensorTypeIds && kTensorTypes[id].block_elems != 0) {
    if (kTensorTypes[id].storable) return static_cast<TensorType>(id);
    return unsupported(
        fmt::format("tensor type {} ({}) is an activation format and cannot be stored in a file",
                    id, kTensorTypes[id].name));
  }
  if (const auto* found = std::ranges::find(kRemoved, id, &ForeignType::id);
      found != std::end(kRemoved)) {
    return unsupported(fmt::format(
        "tensor type {} ({}{}) was removed from GGUF; requantise the model to a current type", id,
        found->name, id == 36 ? ", or I2_S of ik_llama.cpp" : ""));
  }
  if (const std::string_view name = ik_name(id); !name.empty()) {
    return unsupported(fmt::format(
        "tensor type {} ({}) exists only in ik_llama.cpp; use a file with mainline types", id,
        name));
  }
  if (id >= 202 && id <= 399) {
    const std::string_view base = repack_base(id);
    return unsupported(fmt::format(
        "tensor type {} is a row-interleaved repack of {} private to ik_llama.cpp; use the file it "
        "was made from",
        id, base.empty() ? "an unknown type" : base));
  }
  return data_loss(fmt::format("unknown tensor type {}", id));
}

Result<TensorType> tensor_type_from_name(std::string_view name) {
  std::string upper(name);
  for (char& c : upper) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  std::string known;
  for (uint32_t id = 0; id < kTensorTypeIds; ++id) {
    if (kTensorTypes[id].block_elems == 0) continue;
    if (kTensorTypes[id].name == upper) return static_cast<TensorType>(id);
    known += known.empty() ? "" : ", ";
    known += kTensorTypes[id].name;
  }
  return invalid_argument(fmt::format("unknown tensor type {}; known: {}", in_quotes(name), known));
}

}  // namespace shoal
