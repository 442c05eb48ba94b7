#include "coordinator/block_pool.h"

#include "base/check.h"

namespace shoal {

BlockPool::BlockPool(uint32_t blocks) : blocks_(blocks) {
  free_.reserve(blocks);
  for (uint32_t b = blocks; b > 0; --b) free_.push_back(b - 1);
}

std::optional<uint32_t> BlockPool::allocate() {
  if (free_.empty()) return std::nullopt;
  const uint32_t block = free_.back();
  free_.pop_back();
  blocks_[block].references = 1;
  return block;
}

void BlockPool::add_reference(uint32_t block) {
  SHOAL_CHECK(block < blocks_.size() && blocks_[block].references > 0,
              "a reference to a free KV block");
  ++blocks_[block].references;
}

void BlockPool::release(uint32_t block) {
  SHOAL_CHECK(block < blocks_.size() && blocks_[block].references > 0, "a KV block freed twice");
  if (--blocks_[block].references == 0) free_.push_back(block);
}

void BlockPool::check_invariants(uint64_t expected_references) const {
  uint64_t references = 0;
  for (const Block& block : blocks_) references += block.references;
  SHOAL_CHECK(references == expected_references, "KV block references do not add up");
  for (const uint32_t block : free_) {
    SHOAL_CHECK(blocks_[block].references == 0, "a free KV block is referenced");
  }
  uint64_t unreferenced = 0;
  for (const Block& block : blocks_) unreferenced += block.references == 0 ? 1 : 0;
  SHOAL_CHECK(unreferenced == free_.size(), "a KV block is neither free nor used");
}

}  // namespace shoal
