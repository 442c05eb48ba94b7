// Small synthetic mixtures and the layouts they are tested at.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bench/synth.h"
#include "tests/worker/mini_group.h"

namespace shoal::testing {

// A qwen3moe model of two mixture layers; expert width `features`.
SynthShape expert_shape(int64_t experts, int64_t top_k, int64_t features);

// One of llama, qwen3moe, glm4moe, gpt-oss, llama4, deepseek2, with everything that is particular
// to it (dense first layer, shared expert, sinks, window, latent attention, …) and 8 experts.
SynthShape small_mixture(const std::string& architecture);

enum class Placing { kSliced, kPlaced, kReplicated };

struct MoeLayout {
  const char* name;
  std::vector<double> shares;
  Placing placing = Placing::kSliced;
  std::vector<double> expert_shares{};  // sliced only
  int routing_rank = -1;
};

// Two, three and four ranks, even and uneven, sliced, placed, replicated, with ranks of experts
// only.
const std::vector<MoeLayout>& moe_layouts();

// `base` with the layout's shares and experts.
MiniGroupOptions at_layout(const ModelSpec& spec, const MoeLayout& layout, const MiniGroupOptions& base);

ModelSpec spec_of(const std::string& path);

}  // namespace shoal::testing
