#include "coordinator/core/prefix_cache.h"

#include <sodium.h>

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace shoal {

uint64_t KvRule::first_visible(uint64_t position) const {
  uint64_t first = 0;
  if (window > 0 && position >= window) first = position - window + 1;
  if (chunk > 0) first = std::max(first, position / chunk * chunk);
  return first;
}

BlockHasher::BlockHasher(uint64_t secret) : secret_(secret) {
  SHOAL_CHECK(sodium_init() >= 0, "libsodium does not start");
}

BlockKey BlockHasher::hash(std::span<const uint8_t> bytes, uint8_t kind) const {
  // The kind keeps scopes and blocks apart. BLAKE2b takes keys of 16 bytes and more.
  uint8_t key[crypto_generichash_KEYBYTES_MIN] = {};
  static_assert(sizeof(key) > sizeof(secret_));
  std::memcpy(key, &secret_, sizeof(secret_));
  key[sizeof(secret_)] = kind;
  uint8_t out[sizeof(BlockKey)];
  static_assert(sizeof(out) == crypto_generichash_BYTES_MIN);
  const int error =
      crypto_generichash(out, sizeof(out), bytes.data(), bytes.size(), key, sizeof(key));
  SHOAL_CHECK(error == 0, "BLAKE2b failed");
  BlockKey block;
  std::memcpy(&block, out, sizeof(block));
  return block;
}

BlockKey BlockHasher::root(std::string_view scope) const {
  return hash({reinterpret_cast<const uint8_t*>(scope.data()), scope.size()}, 0);
}

BlockKey BlockHasher::next(const BlockKey& parent, std::span<const int32_t> tokens) const {
  std::vector<uint8_t> bytes(sizeof(parent) + tokens.size_bytes());
  std::memcpy(bytes.data(), &parent, sizeof(parent));
  std::memcpy(bytes.data() + sizeof(parent), tokens.data(), tokens.size_bytes());
  return hash(bytes, 1);
}

void BlockHasher::extend(std::string_view scope, std::span<const int32_t> tokens,
                         uint32_t block_tokens, std::vector<BlockKey>* keys) const {
  while ((keys->size() + 1) * block_tokens <= tokens.size()) {
    const BlockKey parent = keys->empty() ? root(scope) : keys->back();
    keys->push_back(next(parent, tokens.subspan(keys->size() * block_tokens, block_tokens)));
  }
}

uint64_t longest_hit(std::span<const KvRule> rules, uint64_t blocks, uint32_t block_tokens,
                     const std::function<bool(size_t group, uint64_t block)>& has) {
  // A group that sees everything needs everything: no hit goes beyond its first missing block.
  for (size_t group = 0; group < rules.size(); ++group) {
    if (!rules[group].is_full()) continue;
    uint64_t there = 0;
    while (there < blocks && has(group, there)) ++there;
    blocks = there;
  }
  const auto first_seen = [&](size_t group, uint64_t b) {
    return rules[group].first_visible(b * block_tokens) / block_tokens;
  };
  // Downwards. What a start sees begins no earlier than what the starts before it see, so a missing
  // block m that b sees is seen by every start between m and b: the next candidate is m itself.
  // `known[g]`: group g has the blocks known[g] … b − 1, so none is looked up twice.
  std::vector<uint64_t> known(rules.size(), blocks);
  uint64_t b = blocks;
  for (bool again = true; again && b > 0;) {
    again = false;
    for (size_t group = 0; group < rules.size(); ++group) {
      if (rules[group].is_full()) continue;
      known[group] = std::min(known[group], b);
      while (b > 0 && known[group] > first_seen(group, b)) {
        if (has(group, known[group] - 1)) {
          --known[group];
          continue;
        }
        b = --known[group];
        again = true;
      }
    }
  }
  return b;
}

}  // namespace shoal
