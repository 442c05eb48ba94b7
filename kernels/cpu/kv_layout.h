// Where K and V lie on the CPU: [block][kv head][K: tokens × dim | V: tokens × dim].
#pragma once

#include <cstdint>

#include "kernels/device.h"

namespace shoal {

struct KvPlace {
  uint8_t* key;
  uint8_t* value;
};

inline uint64_t kv_element_bytes(const KvLayer& kv) { return kv.type == KvType::kF32 ? 4 : 2; }

inline KvPlace kv_place(const KvLayer& kv, int64_t block, int64_t head, int64_t token) {
  const uint64_t row = static_cast<uint64_t>(kv.head_dim) * kv_element_bytes(kv);
  const uint64_t plane = row * static_cast<uint64_t>(kv.block_tokens);
  uint8_t* base = static_cast<uint8_t*>(kv.data) +
                  (static_cast<uint64_t>(block) * static_cast<uint64_t>(kv.kv_heads) +
                   static_cast<uint64_t>(head)) *
                      2 * plane;
  return {base + static_cast<uint64_t>(token) * row,
          base + plane + static_cast<uint64_t>(token) * row};
}

}  // namespace shoal
