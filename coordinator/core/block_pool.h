// KV blocks of one group by number: who may use which, and which hold content that may be used
// again. The memory itself is on the workers, where block b of a group means the same place in
// every layer of the group and on every rank. Ref-counted, because sequences share blocks of equal
// prefixes. One thread.
//
// A block is free, referenced, or cached: not referenced, but its content has a key and may be
// found by it. Cached blocks are given away only when no free one is left: first those that nobody
// has found yet and whose sequence went on without them (a long prompt leaves a window group full
// of those, and must not push out where conversations ended), then the others, the least recently
// used first.
#pragma once

#include <cstdint>
#include <optional>
#include <unordered_map>
#include <vector>

namespace shoal {

// Names a block's content together with everything before it: equal keys, equal content
// (coordinator/prefix_cache.h makes them).
struct BlockKey {
  uint64_t high = 0, low = 0;
  friend bool operator==(const BlockKey&, const BlockKey&) = default;
};

class BlockPool {
 public:
  explicit BlockPool(uint32_t blocks = 0);

  uint32_t total() const { return static_cast<uint32_t>(blocks_.size()); }
  // What allocate() can hand out: free and cached.
  uint32_t available() const { return static_cast<uint32_t>(free_.size()) + cached(); }
  uint32_t cached() const { return passed_.size + kept_.size; }
  uint32_t used() const { return total() - available(); }  // referenced
  uint64_t evicted() const { return evicted_; }            // cached blocks given away so far

  // A block with one reference, or nothing if none is available. Lowest numbers first after a
  // reset, most recently freed first later, then the least recently used cached one: deterministic.
  std::optional<uint32_t> allocate();
  // REQUIRES: the block is referenced or cached.
  void add_reference(uint32_t block);
  // Drops one reference. The last one frees the block, or leaves it cached as the most recently
  // used if it carries a key. Whoever drops a chain of blocks drops its last one first: prefixes
  // then outlive what hangs on them. `passed`: the sequence goes on without it.
  void release(uint32_t block, bool passed = false);
  uint32_t references(uint32_t block) const { return blocks_[block].references; }

  // The content of a referenced block is complete (its rows are on their way to ranks that run
  // steps in order) and will not change. If another block has the same key that one stays the one
  // to be found; this one takes its place if the other is gone when its last reference is dropped.
  void publish(uint32_t block, const BlockKey& key);
  std::optional<uint32_t> find(const BlockKey& key) const;
  // This content is not found any more; a cached block of it is free.
  void forget(const BlockKey& key);
  void forget(uint32_t block);  // REQUIRES: it is referenced

  // Aborts unless the sum of references is `expected_references` and every block is in one state.
  void check_invariants(uint64_t expected_references) const;

 private:
  static constexpr uint32_t kNone = 0xffffffff;
  struct Block {
    uint32_t references = 0;
    bool published = false;  // `key` is valid
    bool found = false;      // shared at least once since it was published
    bool passed = false;     // while cached: on which list
    BlockKey key;
    uint32_t older = kNone, newer = kNone;  // neighbours among the cached
  };
  struct KeyHash {  // keys are hashes already
    size_t operator()(const BlockKey& key) const { return key.low; }
  };

  bool is_found(uint32_t block) const;  // by its key
  struct List {                         // cached blocks by their last use
    uint32_t oldest = kNone, newest = kNone, size = 0;
  };
  List& list_of(const Block& block) { return block.passed ? passed_ : kept_; }
  void link(uint32_t block);  // as the most recently used of the list it says
  void unlink(uint32_t block);
  uint32_t check_list(const List& list) const;

  std::vector<Block> blocks_;
  std::vector<uint32_t> free_;                              // a stack
  std::unordered_map<BlockKey, uint32_t, KeyHash> by_key_;  // referenced and cached blocks
  List passed_, kept_;
  uint64_t evicted_ = 0;
};

}  // namespace shoal
