// Which computed K/V a new sequence can start from. Pure functions over block keys.
//
// A block is named by a hash of everything its content depends on: who may share it, the tokens
// before it, its own tokens. The hash is BLAKE2b (RFC 7693) with a random key of this process, cut
// to 128 bits: clients choose the tokens, and whoever found two texts of one hash would read the
// other's; without the key they cannot even try. Equal keys are therefore equal content, and
// nothing is compared.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "coordinator/core/block_pool.h"

namespace shoal {

// What the rows of one KV group see: as KvGroup in model/model_spec.h.
struct KvRule {
  uint32_t window = 0;  // the last so many positions, the row's own included; 0: all
  uint32_t chunk = 0;   // positions of the row's own chunk; 0: all

  bool is_full() const { return window == 0 && chunk == 0; }
  uint64_t first_visible(uint64_t position) const;
  friend bool operator==(const KvRule&, const KvRule&) = default;
};

// Makes keys. Copyable; immutable.
class BlockHasher {
 public:
  // `secret`: of this process, from random_seed().
  explicit BlockHasher(uint64_t secret);

  // The key before the first block: of everybody who shares this scope (API key, request's salt).
  BlockKey root(std::string_view scope) const;
  // The key of the block that holds `tokens` behind the block `parent`.
  BlockKey next(const BlockKey& parent, std::span<const int32_t> tokens) const;
  // Appends the keys of the full blocks of `tokens` that `keys` does not have yet.
  void extend(std::string_view scope, std::span<const int32_t> tokens, uint32_t block_tokens,
              std::vector<BlockKey>* keys) const;

 private:
  BlockKey hash(std::span<const uint8_t> bytes, uint8_t kind) const;
  uint64_t secret_;
};

// The largest number b ≤ `blocks` such that a sequence can start at position b · block_tokens: in
// every group the blocks its rows will see are there. `has(group, i)`: block i of the sequence is
// cached or in use.
uint64_t longest_hit(std::span<const KvRule> rules, uint64_t blocks, uint32_t block_tokens,
                     const std::function<bool(size_t group, uint64_t block)>& has);

}  // namespace shoal
