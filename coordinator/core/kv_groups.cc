#include "coordinator/core/kv_groups.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/check.h"

namespace shoal {
namespace {

constexpr uint64_t kUnbounded = std::numeric_limits<uint64_t>::max() / 2;

uint64_t ceil_divide(uint64_t a, uint64_t b) { return a / b + (a % b != 0 ? 1 : 0); }

}  // namespace

uint64_t peak_blocks(const KvRule& rule, uint64_t positions, uint64_t rows, uint32_t block_tokens) {
  const uint64_t all = ceil_divide(positions, block_tokens);
  if (rule.is_full()) return all;
  uint64_t span = kUnbounded;  // positions a row sees
  if (rule.window > 0) span = rule.window;
  if (rule.chunk > 0) span = std::min<uint64_t>(span, rule.chunk);
  // Kept is what can be seen from the newest block boundary behind which every row has returned:
  // span − 1 positions before it, and behind it less than a block and the rows on their way.
  return std::min(all,
                  ceil_divide(span - 1, block_tokens) + 1 + ceil_divide(rows - 1, block_tokens));
}

KvGroups::KvGroups(KvGroupsOptions options)
    : options_(std::move(options)), hasher_(options_.secret), pools_(options_.rules.size()) {
  SHOAL_CHECK(!options_.rules.empty() && options_.rules.size() <= wire::kMaxKvGroups, "KV groups");
  SHOAL_CHECK(options_.block_tokens >= 1 && options_.rows_in_flight >= 1, "KV limits");
}

void KvGroups::begin(std::span<const uint32_t> blocks) {
  SHOAL_CHECK(blocks.size() == groups(), "KV pools and groups of the model disagree");
  for (size_t group = 0; group < groups(); ++group) pools_[group] = BlockPool(blocks[group]);
  retired_.clear();
  completed_ = 0;
}

void KvGroups::end() {
  for (BlockPool& pool : pools_) pool = BlockPool();
  retired_.clear();
}

uint64_t KvGroups::max_positions() const {
  uint64_t positions = kUnbounded;
  for (size_t group = 0; group < groups(); ++group) {
    const uint64_t total = pools_[group].total();
    if (total >= peak_blocks(options_.rules[group], kUnbounded, 1, options_.block_tokens)) continue;
    positions = std::min(positions, total * options_.block_tokens);
  }
  return positions;
}

uint32_t KvGroups::find_start(KvSequence& sequence, std::span<const int32_t> tokens,
                              uint32_t latest) const {
  SHOAL_CHECK(latest < tokens.size(), "at least one row is computed: the first token's");
  if (!options_.prefix_cache) return 0;
  hasher_.extend(sequence.scope, tokens, options_.block_tokens, &sequence.keys);
  const uint64_t most = latest / options_.block_tokens;
  const uint64_t blocks =
      longest_hit(options_.rules, most, options_.block_tokens, [&](size_t group, uint64_t block) {
        return pools_[group].find(sequence.keys[block]).has_value();
      });
  return static_cast<uint32_t>(blocks * options_.block_tokens);
}

bool KvGroups::fits(const KvSequence& sequence, uint64_t tokens, uint32_t start,
                    std::span<const uint64_t> reserved) const {
  for (size_t group = 0; group < groups(); ++group) {
    const BlockPool& pool = pools_[group];
    const uint64_t first = first_block(group, start);
    uint64_t shared = 0, cached = 0;  // blocks it starts with; of them unreferenced until now
    for (uint64_t i = first; i < start / options_.block_tokens; ++i, ++shared) {
      cached += pool.references(*pool.find(sequence.keys[i])) == 0 ? 1 : 0;
    }
    // A small pool slows a long prompt in a window group down, but does not keep it out.
    const uint64_t peak = std::min<uint64_t>(
        {peak_blocks(options_.rules[group], tokens, options_.rows_in_flight, options_.block_tokens),
         blocks_for(tokens) - first, pool.total()});
    const uint64_t cost = cached + (peak > shared ? peak - shared : 0);
    if (cost + reserved[group] > pool.available()) return false;
  }
  return true;
}

void KvGroups::start(KvSequence& sequence, uint32_t start) {
  SHOAL_CHECK(sequence.tables.empty(), "a sequence that starts holds nothing");
  sequence.tables.resize(groups());
  const size_t blocks = start / options_.block_tokens;
  for (size_t group = 0; group < groups(); ++group) {
    BlockTable& table = sequence.tables[group];
    table.published = blocks;
    table.live = first_block(group, start);
    table.blocks.assign(blocks, wire::kNoBlock);
    for (size_t i = table.live; i < blocks; ++i) {
      table.blocks[i] = pools_[group].find(sequence.keys[i]).value();
      pools_[group].add_reference(table.blocks[i]);
    }
  }
}

void KvGroups::reserve(const KvSequence& sequence, const KvProgress& progress,
                       std::vector<uint64_t>* reserved) const {
  const uint64_t tokens = progress.tokens.size();
  const bool decodes = progress.scheduled + 1 >= tokens;
  const uint64_t rows = decodes ? 1 : options_.rows_in_flight;
  for (size_t group = 0; group < groups(); ++group) {
    const BlockTable& table = sequence.tables[group];
    const uint64_t held = table.blocks.size() - table.live;
    const uint64_t peak =
        std::min(peak_blocks(options_.rules[group], tokens, rows, options_.block_tokens),
                 blocks_for(tokens) - std::min<uint64_t>(table.live, blocks_for(tokens)));
    (*reserved)[group] += 1 + (peak > held ? peak - held : 0);
  }
}

uint64_t KvGroups::room(const KvSequence& sequence, size_t group, uint32_t scheduled) const {
  const uint64_t blocks = sequence.tables[group].blocks.size() + pools_[group].available();
  return blocks * options_.block_tokens - scheduled;
}

void KvGroups::extend(KvSequence& sequence, uint64_t end) {
  for (size_t group = 0; group < groups(); ++group) {
    std::vector<uint32_t>& blocks = sequence.tables[group].blocks;
    while (blocks.size() < blocks_for(end)) blocks.push_back(pools_[group].allocate().value());
  }
}

void KvGroups::announce(KvSequence& sequence, uint32_t slot, std::vector<wire::BlockAppend>* out) {
  for (size_t group = 0; group < groups(); ++group) {
    BlockTable& table = sequence.tables[group];
    if (table.announced == table.blocks.size()) continue;
    out->push_back(
        {slot,
         static_cast<uint32_t>(group),
         {table.blocks.begin() + static_cast<ptrdiff_t>(table.announced), table.blocks.end()}});
    table.announced = table.blocks.size();
  }
}

void KvGroups::publish(KvSequence& sequence, const KvProgress& progress) {
  if (!options_.prefix_cache) return;
  hasher_.extend(sequence.scope, progress.tokens, options_.block_tokens, &sequence.keys);
  // Rows may be ahead of the tokens the coordinator knows.
  const size_t full =
      std::min<size_t>(progress.scheduled, progress.tokens.size()) / options_.block_tokens;
  for (size_t group = 0; group < groups(); ++group) {
    BlockTable& table = sequence.tables[group];
    for (; table.published < full; ++table.published) {
      pools_[group].publish(table.blocks[table.published], sequence.keys[table.published]);
    }
  }
}

void KvGroups::settle(KvSequence& sequence, const KvProgress& progress) {
  publish(sequence, progress);
  const uint64_t known = std::min<uint64_t>(progress.scheduled, progress.tokens.size());
  const uint64_t boundary = known / options_.block_tokens * options_.block_tokens;
  for (size_t group = 0; group < groups(); ++group) {
    retire(group, sequence.tables[group], first_block(group, boundary), progress.last_step, true);
  }
}

void KvGroups::give_back(KvSequence& sequence, const KvProgress& progress) {
  publish(sequence, progress);
  for (size_t group = 0; group < groups(); ++group) {
    BlockTable& table = sequence.tables[group];
    retire(group, table, table.blocks.size(), progress.last_step, false);
  }
  sequence.tables.clear();
}

void KvGroups::forget(KvSequence& sequence, const KvProgress& progress) {
  // What it holds, so that giving it up publishes nothing, then what lies in the cache.
  if (!sequence.tables.empty()) publish(sequence, progress);
  for (size_t group = 0; group < sequence.tables.size(); ++group) {
    const BlockTable& table = sequence.tables[group];
    for (size_t i = table.live; i < table.blocks.size(); ++i) pools_[group].forget(table.blocks[i]);
  }
  for (const BlockKey& key : sequence.keys) {
    for (BlockPool& pool : pools_) pool.forget(key);
  }
}

void KvGroups::retire(size_t group, BlockTable& table, size_t end, uint64_t last_step,
                      bool passed) {
  if (end <= table.live) return;
  Retired retired{group, {}, last_step, passed};
  for (; table.live < end; ++table.live) {
    retired.blocks.push_back(std::exchange(table.blocks[table.live], wire::kNoBlock));
  }
  if (last_step <= completed_) return release(retired);
  retired_.push_back(std::move(retired));
}

void KvGroups::release(const Retired& retired) {
  // The end of a chain first: see BlockPool::release().
  for (size_t i = retired.blocks.size(); i > 0; --i) {
    pools_[retired.group].release(retired.blocks[i - 1], retired.passed);
  }
}

void KvGroups::returned(uint64_t completed) {
  completed_ = completed;
  std::erase_if(retired_, [&](const Retired& retired) {
    if (retired.last_step > completed) return false;
    release(retired);
    return true;
  });
}

bool KvGroups::expects(size_t group) const {
  return std::any_of(retired_.begin(), retired_.end(),
                     [&](const Retired& retired) { return retired.group == group; });
}

void KvGroups::check_invariants(
    std::span<const std::pair<const KvSequence*, KvProgress>> running) const {
  std::vector<uint64_t> references(groups(), 0);
  for (const auto& [sequence, progress] : running) {
    SHOAL_CHECK(sequence->tables.size() == groups(), "a running sequence without block tables");
    for (size_t group = 0; group < groups(); ++group) {
      const BlockTable& table = sequence->tables[group];
      SHOAL_CHECK(progress.covered >= progress.scheduled &&
                      table.blocks.size() == blocks_for(progress.covered),
                  "a sequence's blocks do not cover what is scheduled");
      SHOAL_CHECK(table.live <= first_block(group, progress.scheduled),
                  "a sequence gave up blocks that its next row sees");
      for (size_t i = 0; i < table.blocks.size(); ++i) {
        SHOAL_CHECK((table.blocks[i] == wire::kNoBlock) == (i < table.live),
                    "a sequence's blocks have a hole");
        if (i < table.live) continue;
        SHOAL_CHECK(pools_[group].references(table.blocks[i]) > 0,
                    "a running sequence holds a free block");
      }
      references[group] += table.blocks.size() - table.live;
    }
  }
  for (const Retired& retired : retired_) {
    references[retired.group] += retired.blocks.size();
    SHOAL_CHECK(retired.last_step > completed_, "blocks held for a step that returned");
  }
  for (size_t group = 0; group < groups(); ++group) {
    pools_[group].check_invariants(references[group]);
  }
}

}  // namespace shoal
