#include "coordinator/core/block_pool.h"

#include "base/check.h"

namespace shoal {

BlockPool::BlockPool(uint32_t blocks) : blocks_(blocks) {
  free_.reserve(blocks);
  for (uint32_t b = blocks; b > 0; --b) free_.push_back(b - 1);
}

bool BlockPool::is_found(uint32_t block) const {
  if (!blocks_[block].published) return false;
  const auto it = by_key_.find(blocks_[block].key);
  return it != by_key_.end() && it->second == block;
}

void BlockPool::forget(uint32_t block) {
  if (is_found(block)) by_key_.erase(blocks_[block].key);
  blocks_[block].published = blocks_[block].found = false;
}

void BlockPool::forget(const BlockKey& key) {
  const auto block = find(key);
  if (!block) return;
  if (blocks_[*block].references == 0) {
    unlink(*block);
    free_.push_back(*block);
  }
  forget(*block);
}

void BlockPool::link(uint32_t block) {
  Block& b = blocks_[block];
  List& list = list_of(b);
  b.older = list.newest;
  b.newer = kNone;
  (list.newest == kNone ? list.oldest : blocks_[list.newest].newer) = block;
  list.newest = block;
  ++list.size;
}

void BlockPool::unlink(uint32_t block) {
  Block& b = blocks_[block];
  List& list = list_of(b);
  (b.older == kNone ? list.oldest : blocks_[b.older].newer) = b.newer;
  (b.newer == kNone ? list.newest : blocks_[b.newer].older) = b.older;
  b.older = b.newer = kNone;
  --list.size;
}

std::optional<uint32_t> BlockPool::allocate() {
  uint32_t block = kNone;
  if (!free_.empty()) {
    block = free_.back();
    free_.pop_back();
  } else if (cached() > 0) {
    block = passed_.size > 0 ? passed_.oldest : kept_.oldest;
    unlink(block);
    forget(block);
    ++evicted_;
  } else {
    return std::nullopt;
  }
  blocks_[block].references = 1;
  return block;
}

void BlockPool::add_reference(uint32_t block) {
  SHOAL_CHECK(block < blocks_.size(), "a KV block beyond the pool");
  Block& b = blocks_[block];
  if (b.references == 0) {
    SHOAL_CHECK(is_found(block), "a reference to a free KV block");
    unlink(block);
  }
  b.found = b.published;
  ++b.references;
}

void BlockPool::release(uint32_t block, bool passed) {
  SHOAL_CHECK(block < blocks_.size() && blocks_[block].references > 0, "a KV block freed twice");
  Block& b = blocks_[block];
  if (--b.references > 0) return;
  if (b.published) {
    b.passed = passed && !b.found;
    const uint32_t found = by_key_.try_emplace(b.key, block).first->second;
    if (found == block) return link(block);
    // Somebody else computed the same at the same time: that copy was used just now, too.
    b.published = b.found = false;
    if (blocks_[found].references == 0) {
      unlink(found);
      blocks_[found].passed &= b.passed;
      link(found);
    }
  }
  free_.push_back(block);
}

void BlockPool::publish(uint32_t block, const BlockKey& key) {
  SHOAL_CHECK(block < blocks_.size() && blocks_[block].references > 0,
              "the content of a KV block nobody holds");
  Block& b = blocks_[block];
  SHOAL_CHECK(!b.published || b.key == key, "the content of a published KV block changed");
  b.published = true;
  b.key = key;
  by_key_.try_emplace(key, block);
}

std::optional<uint32_t> BlockPool::find(const BlockKey& key) const {
  const auto it = by_key_.find(key);
  return it == by_key_.end() ? std::nullopt : std::optional<uint32_t>(it->second);
}

uint32_t BlockPool::check_list(const List& list) const {
  uint32_t size = 0;
  for (uint32_t b = list.oldest; b != kNone; b = blocks_[b].newer, ++size) {
    SHOAL_CHECK(blocks_[b].references == 0 && is_found(b), "a cached KV block cannot be found");
    SHOAL_CHECK(blocks_[b].newer != kNone || b == list.newest, "the cached KV blocks are no list");
    SHOAL_CHECK(blocks_[b].passed == (&list == &passed_), "a KV block is on the wrong list");
  }
  return size;
}

void BlockPool::check_invariants(uint64_t expected_references) const {
  uint64_t references = 0, unreferenced = 0;
  for (const Block& block : blocks_) {
    references += block.references;
    unreferenced += block.references == 0 ? 1 : 0;
  }
  SHOAL_CHECK(references == expected_references, "KV block references do not add up");
  for (const uint32_t block : free_) {
    SHOAL_CHECK(blocks_[block].references == 0, "a free KV block is referenced");
    SHOAL_CHECK(!blocks_[block].published, "a free KV block has content");
  }
  SHOAL_CHECK(check_list(passed_) + check_list(kept_) == cached(),
              "cached KV blocks do not add up");
  SHOAL_CHECK(unreferenced == free_.size() + cached(), "a KV block is in no state");
  for (const auto& [key, block] : by_key_) {
    SHOAL_CHECK(blocks_[block].published && blocks_[block].key == key,
                "a KV block is found by another's key");
  }
}

}  // namespace shoal
