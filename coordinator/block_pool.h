// KV blocks by number: who may use which. The memory itself is on the workers, where block b means
// the same place in every layer and on every rank. Ref-counted, because blocks of equal prefixes
// are shared between sequences. One thread.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace shoal {

class BlockPool {
 public:
  explicit BlockPool(uint32_t blocks = 0);

  uint32_t total() const { return static_cast<uint32_t>(blocks_.size()); }
  uint32_t free() const { return static_cast<uint32_t>(free_.size()); }
  uint32_t used() const { return total() - free(); }

  // A block with one reference, or nothing if none is free. Lowest numbers first after a reset,
  // most recently freed first later: deterministic.
  std::optional<uint32_t> allocate();
  void add_reference(uint32_t block);
  // Drops one reference; the last one frees the block.
  void release(uint32_t block);
  uint32_t references(uint32_t block) const { return blocks_[block].references; }

  // Aborts unless the sum of references is `expected_references` and free blocks have none.
  void check_invariants(uint64_t expected_references) const;

 private:
  // The content hash, and the place in an LRU list of unreferenced but still valid blocks, belong
  // in this struct: allocate() then takes from free_ first and evicts from that list second.
  struct Block {
    uint32_t references = 0;
  };
  std::vector<Block> blocks_;
  std::vector<uint32_t> free_;  // a stack
};

}  // namespace shoal
