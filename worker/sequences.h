// What a worker knows of the sequences it computes: tokens, block table, sampling parameters, token
// counts for penalties. Nothing here that the coordinator could not send again.
#pragma once

#include <cstdint>
#include <optional>
#include <unordered_map>
#include <vector>

#include "base/status.h"
#include "kernels/device.h"
#include "parallel/plan/shard.h"
#include "wire/messages.h"

namespace shoal {

struct SequenceLimits {
  uint32_t max_slots = 0;
  uint32_t max_tokens = 0;          // per sequence
  std::vector<uint32_t> kv_blocks;  // per KV group: physical ids are below this
  std::vector<KvGroup> kv_groups;   // what rows see; empty: everything
  uint32_t block_tokens = 0;
  int32_t vocab = 0;
};

class Sequence {
 public:
  Sequence(const wire::NewSequence& start, size_t kv_groups, Range vocab_slice);

  uint32_t generation() const { return generation_; }
  const std::vector<int32_t>& tokens() const { return tokens_; }
  uint32_t prompt_tokens() const { return prompt_tokens_; }
  // Block table of a KV group; wire::kNoBlock where no row will look.
  const std::vector<uint32_t>& blocks(size_t group) const { return blocks_[group]; }
  const wire::SamplingParams& sampling() const { return sampling_; }
  uint64_t seed() const { return seed_; }
  uint32_t choice() const { return choice_; }
  // Entries for the token ids of this rank's vocabulary slice that need a change; empty when the
  // request has neither penalties nor biases.
  const std::vector<TokenBias>& biases() const { return biases_; }

  void append_block(size_t group, uint32_t block) { blocks_[group].push_back(block); }
  void append_token(int32_t token);

 private:
  TokenBias* bias_entry(int32_t token);  // null if not in the slice
  void count(int32_t token, bool output);

  uint32_t generation_;
  uint32_t prompt_tokens_;
  uint64_t seed_;
  uint32_t choice_;
  wire::SamplingParams sampling_;
  Range vocab_slice_;
  bool penalised_;
  std::vector<int32_t> tokens_;
  std::vector<std::vector<uint32_t>> blocks_;  // per KV group
  std::vector<TokenBias> biases_;
  std::unordered_map<int32_t, size_t> bias_index_;
};

// Slots. Every mistake in a step (unknown slot, block out of range, position without a token) is an
// error that names it: the coordinator is trusted no further than the validator saw.
class SequenceTable {
 public:
  SequenceTable(const SequenceLimits& limits, Range vocab_slice);
  // Applies ended, started, appended; then checks that every row group can run.
  Status apply(const wire::Step& step);
  Sequence& at(uint32_t slot) { return *slots_[slot]; }
  uint32_t used() const { return used_; }

 private:
  Status start(const wire::NewSequence& sequence);
  Status append(const wire::BlockAppend& append);
  Status check_rows(const wire::RowGroup& group) const;

  SequenceLimits limits_;
  Range vocab_slice_;
  std::vector<std::optional<Sequence>> slots_;
  uint32_t used_ = 0;
};

}  // namespace shoal
