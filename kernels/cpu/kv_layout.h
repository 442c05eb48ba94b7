// Where K and V lie on the CPU: [block][kv head][K: tokens × dim | V: tokens × dim]; no V where a
// value is the front of its key (KvLayer::latent_dim).
#pragma once

#include <cstdint>

#include "kernels/device.h"

namespace shoal {

struct KvPlace {
  uint8_t* key;
  uint8_t* value;
};

inline uint64_t kv_element_bytes(const KvLayer& kv) { return kv.type == KvType::kF32 ? 4 : 2; }

// Bytes of one head's keys, and values if it has any, in one block.
inline uint64_t kv_head_bytes(const KvLayer& kv) {
  return static_cast<uint64_t>(kv.block_tokens) * static_cast<uint64_t>(kv.head_dim) *
         (kv.latent_dim > 0 ? 1 : 2) * kv_element_bytes(kv);
}

inline KvPlace kv_place(const KvLayer& kv, int64_t block, int64_t head, int64_t token) {
  const uint64_t bytes = kv_head_bytes(kv);
  const uint64_t row = static_cast<uint64_t>(kv.head_dim) * kv_element_bytes(kv);
  uint8_t* base = static_cast<uint8_t*>(kv.data) +
                  (static_cast<uint64_t>(block) * static_cast<uint64_t>(kv.kv_heads) +
                   static_cast<uint64_t>(head)) *
                      bytes;
  uint8_t* key = base + static_cast<uint64_t>(token) * row;
  return {key, kv.latent_dim > 0 ? key : key + bytes / 2};
}

}  // namespace shoal
