// Sampling over a vocabulary that is spread over the ranks: each looks at its slice, the findings
// are gathered, every rank draws the same conclusion. Exact on any layout; the rule is in
// kernels/body/sampling.h.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/device.h"
#include "parallel/collective/collective.h"
#include "parallel/plan/shard.h"
#include "wire/messages.h"
#include "worker/sequences.h"
#include "worker/transformer.h"

namespace shoal {

struct SampleTarget {
  Sequence* sequence = nullptr;
  uint32_t slot = 0;
  uint32_t position = 0;  // of the token to be sampled
  int32_t known = -1;  // the token there, of a prompt: nothing is drawn, only its log-probability
};

class Sampler {
 public:
  Sampler(Device& device, Collective& group, Exchange& exchange, Range vocab_slice, int64_t vocab)
      : device_(device), group_(group), exchange_(exchange), slice_(vocab_slice), vocab_(vocab) {}

  // One result per target, in order: known tokens come back. The forward pass has just run with
  // these rows as samples; its step of the exchange ends here.
  Result<std::vector<wire::RowResult>> sample(Transformer& transformer,
                                              const std::vector<SampleTarget>& targets,
                                              const OpContext& op);

 private:
  void look(Transformer& transformer, const std::vector<SampleRow>& rows, size_t first,
            size_t count, std::vector<LocalSample>* found);
  Result<std::vector<std::vector<LocalSample>>> gather(const std::vector<LocalSample>& mine,
                                                       std::span<const SampleRow> rows,
                                                       const OpContext& op);

  Device& device_;
  Collective& group_;
  Exchange& exchange_;
  Range slice_;
  int64_t vocab_;
};

}  // namespace shoal
