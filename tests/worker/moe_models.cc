#include "tests/worker/moe_models.h"

#include "base/check.h"
#include "base/rng.h"

namespace shoal::testing {

SynthShape expert_shape(int64_t experts, int64_t top_k, int64_t features) {
  SynthShape shape;
  shape.architecture = "qwen3moe";
  shape.layers = 2;
  shape.width = 256;
  shape.heads = 4;
  shape.kv_heads = 2;
  shape.head_dim = 64;
  shape.ffn = 256;
  shape.vocab = 320;
  shape.context = 256;
  shape.moe = {.experts = experts, .top_k = top_k, .features = features};
  return shape;
}

SynthShape small_mixture(const std::string& architecture) {
  SynthShape shape = expert_shape(8, 3, 160);
  shape.architecture = architecture;
  if (architecture == "glm4moe") {
    shape.rope_dims = 32;
    shape.moe.shared = shape.moe.leading_dense = 1;
    shape.layers = 3;
  } else if (architecture == "gpt-oss") {
    shape.window = 24;
    shape.yarn_factor = 32;
    shape.layers = 4;
  } else if (architecture == "llama4") {
    shape.layers = 4;  // the fourth has no rope
    shape.moe.top_k = 1;
    shape.moe.shared = 1;
  } else if (architecture == "deepseek2") {
    shape.layers = 3;
    shape.kv_heads = 1;
    shape.latent = {.q_rank = 96, .kv_rank = 64, .nope = 64, .rope = 32, .value = 32};
    shape.moe.shared = 2;
    shape.moe.leading_dense = 1;
    shape.moe.weight_scale = 1.8f;
  }
  return shape;
}

const std::vector<MoeLayout>& moe_layouts() {
  static const std::vector<MoeLayout> layouts = {
      {"sliced2", {1, 1}},
      {"sliced3", {1, 1, 1}, Placing::kSliced, {}, 1},
      {"sliced4", {1, 1, 1, 1}},
      {"sliced_uneven", {2, 1, 1}, Placing::kSliced, {1, 3, 2}},
      {"placed2", {1, 1}, Placing::kPlaced},
      {"placed3", {3, 1, 2}, Placing::kPlaced},
      {"placed4", {1, 1, 1, 1}, Placing::kPlaced, {}, 2},
      {"replicated3", {1, 1, 1}, Placing::kReplicated},
      {"sliced_expert_rank", {1, 1, 0}, Placing::kSliced, {1, 1, 2}},
      {"placed_expert_rank", {1, 0}, Placing::kPlaced, {}, 0},
  };
  return layouts;
}

MiniGroupOptions at_layout(const ModelSpec& spec, const MoeLayout& layout, const MiniGroupOptions& base) {
  MiniGroupOptions options = base;
  options.shares = layout.shares;
  options.experts.shares = layout.expert_shares;
  options.routing_rank = layout.routing_rank;
  if (layout.placing == Placing::kSliced) return options;
  Rng rng(5);  // which rank has which expert does not matter; that all have some does
  const auto world = static_cast<uint64_t>(layout.shares.size());
  for (const LayerSpec& layer : spec.layer) {
    for (int64_t e = 0; e < layer.ffn.moe.experts; ++e) {
      uint64_t mask = uint64_t{1} << ((static_cast<uint64_t>(e) + rng.below(2)) % world);
      if (layout.placing == Placing::kReplicated) mask |= uint64_t{1} << rng.below(world);
      options.experts.ranks.push_back(mask);
    }
  }
  return options;
}

ModelSpec spec_of(const std::string& path) {
  const auto file = GgufFile::open(path);
  SHOAL_CHECK(file.is_ok(), file.status().message());
  auto spec = read_model_spec(*file);
  SHOAL_CHECK(spec.is_ok(), spec.status().message());
  return std::move(*spec);
}

}  // namespace shoal::testing
