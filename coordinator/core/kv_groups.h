// The KV blocks of all groups, and what each sequence holds of them. Groups differ in what a row
// sees (KvRule); each has its own pool and every sequence one block table in each.
//
// A block that no later row of its sequence can see is given up, a sequence that ends or is
// preempted gives up all: steps in flight may still read those blocks, so they come back only when
// every step sent with them has returned. Full blocks keep their content in the pool for sequences
// with the same beginning (coordinator/prefix_cache.h). What a sequence sees from its last block
// boundary on is kept until it passes the next: another can start there.
//
// One thread; no clock, no randomness.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "coordinator/core/block_pool.h"
#include "coordinator/core/prefix_cache.h"
#include "wire/messages.h"

namespace shoal {

struct BlockTable {              // of one sequence in one group
  std::vector<uint32_t> blocks;  // by position / block_tokens; kNoBlock: nobody will see it
  size_t live = 0;               // blocks before this one are kNoBlock, the others are referenced
  size_t announced = 0;          // entries the workers have been told
  size_t published = 0;          // blocks whose content has been published, or was found
};

struct KvSequence {                // part of a request
  std::string scope;               // who may share its blocks
  std::vector<BlockKey> keys;      // of the full blocks of its tokens, as far as needed yet
  std::vector<BlockTable> tables;  // [groups] while it runs, else empty
};

// Progress of a sequence that KvGroups cannot know.
struct KvProgress {
  std::span<const int32_t> tokens;  // as far as the coordinator knows them
  uint32_t scheduled = 0;           // positions [0, scheduled) have been sent for computation
  uint64_t last_step = 0;           // newest step that mentions the sequence
  uint32_t covered = 0;             // positions [0, covered) have blocks; ≥ scheduled
};

struct KvGroupsOptions {
  std::vector<KvRule> rules = {KvRule{}};  // by group; ≥ 1
  uint32_t block_tokens = 32;
  uint32_t rows_in_flight = 1;  // of one sequence, at most: in all steps that have not returned
  bool prefix_cache = true;
  uint64_t secret = 0;  // BlockHasher's
};

// Blocks one sequence of `positions` holds at once at most when at most `rows` ≥ 1 of its rows are
// on their way. Blocks that are held for steps in flight count.
uint64_t peak_blocks(const KvRule& rule, uint64_t positions, uint64_t rows, uint32_t block_tokens);

class KvGroups {
 public:
  explicit KvGroups(KvGroupsOptions options);

  // Empty caches of so many blocks, [groups].
  void begin(std::span<const uint32_t> blocks);
  void end();  // nothing is left; sequences forget their tables by themselves

  // Positions of the longest sequence that fits the pools alone.
  uint64_t max_positions() const;
  size_t groups() const { return options_.rules.size(); }
  const BlockPool& pool(size_t group) const { return pools_[group]; }

  // The largest start ≤ `latest` < tokens.size() that cached blocks allow; a multiple of
  // block_tokens.
  uint32_t find_start(KvSequence& sequence, std::span<const int32_t> tokens, uint32_t latest) const;
  // Can the prompt of `tokens` be computed from `start` = find_start(…) on, without what is
  // `reserved` [groups] for others?
  bool fits(const KvSequence& sequence, uint64_t tokens, uint32_t start,
            std::span<const uint64_t> reserved) const;
  // Takes references to the cached blocks. REQUIRES: it holds nothing.
  void start(KvSequence& sequence, uint32_t start);
  // Adds to `reserved` [groups] what a running sequence will still need for the tokens it has, and
  // a block to grow into: starting more than that would only be undone by a preemption.
  void reserve(const KvSequence& sequence, const KvProgress& progress,
               std::vector<uint64_t>* reserved) const;

  // Positions from `scheduled` on for which blocks are held or available in `group`.
  uint64_t room(const KvSequence& sequence, size_t group, uint32_t scheduled) const;
  // Covers positions [0, end) in every group. REQUIRES: there is room.
  void extend(KvSequence& sequence, uint64_t end);
  // What the workers do not know of the tables yet: one entry per group, none empty.
  void announce(KvSequence& sequence, uint32_t slot, std::vector<wire::BlockAppend>* out);
  // Once the step with its newest rows is complete: publishes full blocks, gives up those that no
  // later row sees.
  void settle(KvSequence& sequence, const KvProgress& progress);
  // Nobody finds a block of this sequence any more, those it shares with others included. It keeps
  // what it holds, which may be nothing.
  void forget(KvSequence& sequence, const KvProgress& progress);
  // Gives up everything.
  void give_back(KvSequence& sequence, const KvProgress& progress);

  // Every step up to `completed` has returned from every rank.
  void returned(uint64_t completed);
  // Blocks of this group come back with steps in flight.
  bool expects(size_t group) const;

  // Aborts unless all blocks are accounted for. `running`: all sequences that hold something, with
  // their progress.
  void check_invariants(std::span<const std::pair<const KvSequence*, KvProgress>> running) const;

 private:
  struct Retired {  // given up; steps in flight may still read them
    size_t group = 0;
    std::vector<uint32_t> blocks;
    uint64_t last_step = 0;
    bool passed = false;  // the sequence goes on
  };

  uint64_t blocks_for(uint64_t positions) const {
    return (positions + options_.block_tokens - 1) / options_.block_tokens;
  }
  // First block that a sequence sees which starts at, or has come to, this position.
  uint64_t first_block(size_t group, uint64_t position) const {
    return options_.rules[group].first_visible(position) / options_.block_tokens;
  }
  void publish(KvSequence& sequence, const KvProgress& progress);
  void retire(size_t group, BlockTable& table, size_t end, uint64_t last_step, bool passed);
  void release(const Retired& retired);

  const KvGroupsOptions options_;
  const BlockHasher hasher_;
  std::vector<BlockPool> pools_;  // [groups]
  std::vector<Retired> retired_;
  uint64_t completed_ = 0;
};

}  // namespace shoal
