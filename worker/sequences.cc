#include "worker/sequences.h"

#include <fmt/core.h>

namespace shoal {

Sequence::Sequence(const wire::NewSequence& start, size_t kv_groups, Range vocab_slice)
    : generation_(start.generation),
      prompt_tokens_(start.prompt_tokens),
      seed_(start.seed),
      choice_(start.choice),
      sampling_(start.sampling),
      vocab_slice_(vocab_slice),
      penalised_(start.sampling.presence != 0 || start.sampling.frequency != 0 ||
                 start.sampling.repetition != 1.0f),
      tokens_(start.tokens),
      blocks_(kv_groups) {
  for (const auto& [token, bias] : sampling_.logit_bias) {
    if (TokenBias* entry = bias_entry(token)) entry->bias += bias;
  }
  for (size_t i = 0; i < tokens_.size(); ++i) count(tokens_[i], i >= start.prompt_tokens);
}

TokenBias* Sequence::bias_entry(int32_t token) {
  if (token < vocab_slice_.begin || token >= vocab_slice_.end) return nullptr;
  const auto [it, is_new] = bias_index_.try_emplace(token, biases_.size());
  if (is_new) biases_.push_back({.id = token});
  return &biases_[it->second];
}

void Sequence::count(int32_t token, bool output) {
  if (!penalised_) return;
  if (TokenBias* entry = bias_entry(token)) {
    entry->seen = true;
    entry->output_count += output ? 1 : 0;
  }
}

void Sequence::append_token(int32_t token) {
  tokens_.push_back(token);
  count(token, true);
}

SequenceTable::SequenceTable(const SequenceLimits& limits, Range vocab_slice)
    : limits_(limits), vocab_slice_(vocab_slice), slots_(limits.max_slots) {}

Status SequenceTable::start(const wire::NewSequence& sequence) {
  if (sequence.slot >= slots_.size()) {
    return out_of_range(
        fmt::format("slot {} of a new sequence; there are {}", sequence.slot, slots_.size()));
  }
  if (slots_[sequence.slot]) {
    return failed_precondition(fmt::format("slot {} is in use", sequence.slot));
  }
  if (sequence.tokens.size() > limits_.max_tokens) {
    return out_of_range(fmt::format("{} tokens in slot {}; at most {}", sequence.tokens.size(),
                                    sequence.slot, limits_.max_tokens));
  }
  for (const int32_t token : sequence.tokens) {
    if (token < 0 || token >= limits_.vocab) {
      return out_of_range(fmt::format("token {} in slot {}; the vocabulary has {}", token,
                                      sequence.slot, limits_.vocab));
    }
  }
  slots_[sequence.slot].emplace(sequence, limits_.kv_blocks.size(), vocab_slice_);
  ++used_;
  return Status::ok();
}

Status SequenceTable::append(const wire::BlockAppend& append) {
  if (append.slot >= slots_.size() || !slots_[append.slot]) {
    return not_found(fmt::format("blocks for slot {}, which is empty", append.slot));
  }
  if (append.group >= limits_.kv_blocks.size()) {
    return out_of_range(fmt::format("KV blocks of group {} for slot {}; the model has {} group(s)",
                                    append.group, append.slot, limits_.kv_blocks.size()));
  }
  const uint32_t limit = limits_.kv_blocks[append.group];
  for (const uint32_t block : append.blocks) {
    if (block >= limit && block != wire::kNoBlock) {
      return out_of_range(fmt::format("KV block {} of group {} for slot {}; there are {}", block,
                                      append.group, append.slot, limit));
    }
    slots_[append.slot]->append_block(append.group, block);
  }
  return Status::ok();
}

Status SequenceTable::check_rows(const wire::RowGroup& group) const {
  if (group.slot >= slots_.size() || !slots_[group.slot]) {
    return not_found(fmt::format("rows for slot {}, which is empty", group.slot));
  }
  const Sequence& sequence = *slots_[group.slot];
  const uint64_t end = uint64_t{group.position} + group.count;
  if (group.count == 0 || end > sequence.tokens().size()) {
    return out_of_range(fmt::format("rows {}..{} of slot {}, which has {} tokens", group.position,
                                    end, group.slot, sequence.tokens().size()));
  }
  for (size_t g = 0; g < limits_.kv_blocks.size(); ++g) {
    const std::vector<uint32_t>& blocks = sequence.blocks(g);
    if (end > uint64_t{blocks.size()} * limits_.block_tokens) {
      return out_of_range(fmt::format(
          "rows {}..{} of slot {}, whose {} KV blocks hold {} tokens (group {})", group.position,
          end, group.slot, blocks.size(), blocks.size() * limits_.block_tokens, g));
    }
    const int64_t first =
        g < limits_.kv_groups.size() ? limits_.kv_groups[g].first_visible(group.position) : 0;
    for (uint64_t b = static_cast<uint64_t>(first) / limits_.block_tokens;
         b * limits_.block_tokens < end; ++b) {
      if (blocks[b] != wire::kNoBlock) continue;
      return out_of_range(
          fmt::format("rows {}..{} of slot {} see block {}, which is not there (group {})",
                      group.position, end, group.slot, b, g));
    }
  }
  if (group.draw > 0 && (end != sequence.tokens().size() || end >= limits_.max_tokens)) {
    return out_of_range(
        fmt::format("a token drawn after row {} of slot {}, which has {} of at most {} tokens", end - 1,
                    group.slot, sequence.tokens().size(), limits_.max_tokens));
  }
  if (group.score && (uint64_t{group.position} + 1 >= sequence.prompt_tokens() ||
                      sequence.sampling().top_logprobs < 0)) {
    return out_of_range(fmt::format(
        "log-probabilities of what follows row {} of slot {}, whose prompt has {} tokens and which "
        "{} log-probabilities",
        group.position, group.slot, sequence.prompt_tokens(),
        sequence.sampling().top_logprobs < 0 ? "wants no" : "wants"));
  }
  return Status::ok();
}

Status SequenceTable::apply(const wire::Step& step) {
  for (const uint32_t slot : step.ended) {
    if (slot >= slots_.size() || !slots_[slot]) {
      return not_found(fmt::format("end of slot {}, which is empty", slot));
    }
    slots_[slot].reset();
    --used_;
  }
  for (const auto& sequence : step.started) SHOAL_TRY(start(sequence));
  for (const auto& blocks : step.appended) SHOAL_TRY(append(blocks));
  for (const auto& group : step.rows) SHOAL_TRY(check_rows(group));
  return Status::ok();
}

}  // namespace shoal
