// Builds GGUF bytes field by field, so that tests can get any of them wrong.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace shoal::testing {

template <class T>
std::string raw(T value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof(value));
}
inline std::string raw_string(std::string_view text) {
  return raw<uint64_t>(text.size()) + std::string(text);
}
// A key with a value type id and the value's bytes.
inline std::string raw_kv(std::string_view key, uint32_t type, const std::string& value) {
  return raw_string(key) + raw(type) + value;
}
inline std::string raw_tensor(std::string_view name, const std::vector<uint64_t>& dims,
                              uint32_t type, uint64_t offset) {
  std::string out = raw_string(name) + raw(static_cast<uint32_t>(dims.size()));
  for (const uint64_t dim : dims) out += raw(dim);
  return out + raw(type) + raw(offset);
}

struct RawGguf {
  std::string magic = "GGUF";
  uint32_t version = 3;
  std::optional<uint64_t> n_tensors;  // default: the real counts
  std::optional<uint64_t> n_keys;
  std::vector<std::string> keys;     // raw_kv
  std::vector<std::string> tensors;  // raw_tensor
  uint64_t alignment = 32;           // where the data section starts; not written
  uint64_t data_bytes = 0;

  std::vector<uint8_t> bytes() const {
    std::string out = magic + raw(version) + raw(n_tensors.value_or(tensors.size())) +
                      raw(n_keys.value_or(keys.size()));
    for (const std::string& key : keys) out += key;
    for (const std::string& tensor : tensors) out += tensor;
    if (data_bytes > 0) {
      out.resize((out.size() + alignment - 1) / alignment * alignment + data_bytes, '\x11');
    }
    return {out.begin(), out.end()};
  }
};

// Value type ids.
inline constexpr uint32_t kU8 = 0, kI8 = 1, kU16 = 2, kI16 = 3, kU32 = 4, kI32 = 5, kF32 = 6,
                          kBool = 7, kString = 8, kArray = 9, kU64 = 10, kI64 = 11, kF64 = 12;

// A small valid file: a few keys of every kind and three tensors, the last ending with the file.
inline RawGguf small_gguf() {
  RawGguf file;
  file.keys = {
      raw_kv("general.architecture", kString, raw_string("llama")),
      raw_kv("llama.block_count", kU32, raw<uint32_t>(2)),
      raw_kv("llama.rope.freq_base", kF32, raw(10000.0f)),
      raw_kv("llama.flag", kBool, raw<uint8_t>(1)),
      raw_kv(
          "tokenizer.ggml.tokens", kArray,
          raw(kString) + raw<uint64_t>(3) + raw_string("a") + raw_string("") + raw_string("ccc")),
      raw_kv("tokenizer.ggml.scores", kArray,
             raw(kF32) + raw<uint64_t>(2) + raw(1.5f) + raw(-2.0f)),
      raw_kv("llama.per_layer", kArray, raw(kI32) + raw<uint64_t>(2) + raw(7) + raw(8)),
  };
  file.tensors = {
      raw_tensor("a.weight", {32, 2}, 8, 0),     // Q8_0: 68 bytes
      raw_tensor("b.weight", {4, 1, 3}, 0, 96),  // F32: 48 bytes
      raw_tensor("c.weight", {256}, 12, 160),    // Q4_K: 144 bytes
  };
  file.data_bytes = 304;
  return file;
}

}  // namespace shoal::testing
