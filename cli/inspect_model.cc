#include "cli/inspect_model.h"

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include <algorithm>

#include "coordinator/server/group.h"
#include "coordinator/server/served_model.h"
#include "parallel/plan/expert_placement.h"
#include "parallel/plan/memory_plan.h"

namespace shoal {
namespace {

using Json = nlohmann::ordered_json;

// Memory of every rank in a plan that is only shown.
constexpr uint64_t kPlenty = uint64_t{1} << 50;

// Mixture layers that are alike, in order of the first.
Json mixtures_json(const ModelSpec& spec) {
  Json out = Json::array();
  for (const LayerSpec& layer : spec.layer) {
    const MoeLayer& moe = layer.ffn.moe;
    if (moe.experts == 0) continue;
    const Json kind = {{"experts", moe.experts},
                       {"top_k", moe.top_k},
                       {"features", moe.features},
                       {"shared_features", moe.shared_features}};
    const auto same = std::find_if(out.begin(), out.end(), [&](const Json& other) {
      return std::all_of(kind.items().begin(), kind.items().end(),
                         [&](const auto& item) { return other[item.key()] == item.value(); });
    });
    if (same == out.end()) {
      out.push_back(kind);
      out.back()["layers"] = 1;
    } else {
      (*same)["layers"] = (*same)["layers"].get<int>() + 1;
    }
  }
  return out;
}

Json kv_groups_json(const ModelSpec& spec) {
  Json out = Json::array();
  for (const KvGroup& group : spec.kv_groups) {
    uint64_t bytes = 0;  // of one token, f16, all layers
    bool latent = false;
    for (const int index : group.layers) {
      const AttentionLayer& layer = spec.layer[static_cast<size_t>(index)].attention;
      latent = latent || layer.is_latent();
      bytes +=
          static_cast<uint64_t>((layer.is_latent() ? 1 : 2) * layer.kv_heads * layer.head_dim * 2);
    }
    Json json = {{"kind", latent             ? "latent"
                          : group.window > 0 ? "window"
                          : group.chunk > 0  ? "chunk"
                                             : "full"},
                 {"layers", group.layers.size()},
                 {"bytes_per_token_f16", bytes}};
    if (group.window > 0) json["window"] = group.window;
    if (group.chunk > 0) json["chunk"] = group.chunk;
    out.push_back(json);
  }
  return out;
}

config::Config config_of(const RankOptions& options) {
  config::Config config;
  for (int i = 0; i < options.workers; ++i) {
    config.workers.push_back({.name = "w" + std::to_string(i)});
  }
  for (int i = 0; i < options.expert_workers; ++i) {
    config.workers.push_back(
        {.name = "e" + std::to_string(i), .role = config::WorkerRole::kExperts});
  }
  config.parallel.shares = options.shares;
  config.parallel.placement = options.placement;
  config.parallel.experts = options.experts == "sliced"   ? config::Experts::kSliced
                            : options.experts == "placed" ? config::Experts::kPlaced
                                                          : config::Experts::kAuto;
  return config;
}

Json range_json(Range range) { return {range.begin, range.end}; }

// What the rank holds of the first layer that has such a part.
Json first_part(const ModelSpec& spec, const RankShard& shard, int64_t (*whole)(const LayerSpec&),
                Range LayerShard::*part) {
  for (size_t i = 0; i < spec.layer.size(); ++i) {
    if (whole(spec.layer[i]) > 0) return range_json(shard.layers[i].*part);
  }
  return range_json({});
}

Json rank_json(const ModelSpec& spec, const RankShard& shard, const RankMemory& memory,
               bool placed) {
  Json out;
  out["rank"] = shard.rank;
  out["weight_bytes"] = memory.weight_bytes;
  out["expert_bytes"] = memory.expert_bytes;
  uint64_t kv = 0;
  Json of_group = Json::array();
  for (const uint64_t bytes : memory.kv_block_bytes) {  // blocks of one token
    of_group.push_back(bytes);
    kv += bytes;
  }
  out["kv_bytes_per_token_f16"] = kv;
  out["kv_bytes_per_token_f16_of_group"] = of_group;
  out["scratch_bytes"] = memory.scratch_bytes;
  out["heads"] = first_part(
      spec, shard, [](const LayerSpec& l) { return l.attention.heads; }, &LayerShard::heads);
  out["kv_heads"] = first_part(
      spec, shard, [](const LayerSpec& l) { return l.attention.heads; }, &LayerShard::kv_heads);
  out["ffn"] = first_part(
      spec, shard, [](const LayerSpec& l) { return l.ffn.features; }, &LayerShard::ffn);
  out["shared"] = first_part(
      spec, shard, [](const LayerSpec& l) { return l.ffn.moe.shared_features; },
      &LayerShard::shared);
  out["vocab"] = range_json(shard.vocab);
  if (mixture_experts(spec).empty()) return out;
  if (!placed) {
    out["expert_features"] = first_part(
        spec, shard, [](const LayerSpec& l) { return l.ffn.moe.experts; },
        &LayerShard::expert_features);
    return out;
  }
  Json ids = Json::array();  // [mixture layers] held
  for (size_t i = 0; i < spec.layer.size(); ++i) {
    if (spec.layer[i].ffn.moe.experts == 0) continue;
    Json of_layer = Json::array();
    for (const HeldExpert& held : shard.layers[i].experts) of_layer.push_back(held.id);
    ids.push_back(of_layer);
  }
  out["experts"] = ids;
  return out;
}

double gib(const Json& bytes) { return bytes.get<double>() / (1 << 30); }
double mib(const Json& bytes) { return bytes.get<double>() / (1 << 20); }

std::string range_text(const Json& range) {
  if (range[0] == range[1]) return "-";
  return fmt::format("{}..{}", range[0].get<int64_t>(), range[1].get<int64_t>());
}

// "21 to 22 a layer", "0..704 of each"
std::string experts_text(const Json& rank) {
  if (rank.contains("expert_features")) {
    const Json& range = rank["expert_features"];
    return range[0] == range[1] ? "-" : range_text(range) + " of each";
  }
  if (!rank.contains("experts")) return "";
  size_t low = SIZE_MAX, high = 0;
  for (const Json& layer : rank["experts"]) {
    low = std::min(low, layer.size());
    high = std::max(high, layer.size());
  }
  if (high == 0) return "-";
  return low == high ? fmt::format("{} a layer", low) : fmt::format("{} to {} a layer", low, high);
}

}  // namespace

Json describe_model(const GgufFile& file, const ModelSpec& spec) {
  Json out;
  out["parameters"] = spec.parameters();
  out["active_parameters"] = spec.active_parameters();
  out["bytes_per_token"] = bytes_read_per_token(file, spec);
  out["layers"] = spec.layers;
  out["width"] = spec.width;
  out["vocab"] = spec.vocab;
  out["context_length"] = spec.context_length;
  out["mixtures"] = mixtures_json(spec);
  out["kv_groups"] = kv_groups_json(spec);
  return out;
}

Result<Json> describe_ranks(const GgufFile& file, const ModelSpec& spec,
                            const RankOptions& options) {
  const config::Config config = config_of(options);
  std::vector<std::string> names;
  for (const config::Worker& worker : config.workers) names.push_back(worker.name);
  SHOAL_ASSIGN(GroupWishes wishes, make_group_wishes(config, spec, names, 1));
  wishes.plan.memory.block_tokens = 1;
  Offer offer;
  offer.memory_bytes = kPlenty;
  const PlannedModel model{spec, tensor_types(file)};
  SHOAL_ASSIGN(const Plan plan,
               make_plan(model, wishes.plan, std::vector<Offer>(names.size(), offer)));
  Json ranks = Json::array();
  for (const RankMemory& memory : plan.memory.ranks) {
    SHOAL_ASSIGN(const RankShard shard, make_rank_shard(spec, plan.split, memory.rank));
    ranks.push_back(rank_json(spec, shard, memory, plan.split.experts.placed()));
  }
  return ranks;
}

void print_model(const Json& model) {
  const double parameters = model["parameters"].get<double>() / 1e9;
  const double active = model["active_parameters"].get<double>() / 1e9;
  fmt::print(
      "\n{:.3f} billion parameters, {:.3f} of them active, {:.3f} GiB read per token, context {}\n",
      parameters, active, gib(model["bytes_per_token"]), model["context_length"].get<int64_t>());
  for (const Json& kind : model["mixtures"]) {
    const auto shared = kind["shared_features"].get<int64_t>();
    fmt::print("mixtures in {} of {} layers: {} of {} experts per token, {} features each{}\n",
               kind["layers"].get<int>(), model["layers"].get<int>(), kind["top_k"].get<int>(),
               kind["experts"].get<int>(), kind["features"].get<int>(),
               shared > 0 ? fmt::format(", and {} shared", shared) : "");
  }
  for (const Json& group : model["kv_groups"]) {
    std::string sees = "all of the past";
    if (group.contains("window")) {
      sees = fmt::format("the last {} tokens", group["window"].get<int64_t>());
    }
    if (group.contains("chunk")) {
      sees = fmt::format("chunks of {} tokens", group["chunk"].get<int64_t>());
    }
    fmt::print("KV cache of {} layers: {}{}, {:.1f} KiB per token\n", group["layers"].get<int>(),
               sees, group["kind"] == "latent" ? " (latent)" : "",
               group["bytes_per_token_f16"].get<double>() / 1024);
  }
}

void print_ranks(const Json& ranks) {
  const bool mixture = ranks[0].contains("expert_features") || ranks[0].contains("experts");
  fmt::print("\n{:>4} {:>12} {:>14} {:>12} {:>10} {:>10} {:>14} {:>16}", "rank", "weights GiB",
             "KV MiB/1k tok", "scratch MiB", "heads", "KV heads", "FFN", "vocabulary");
  if (mixture) fmt::print(" {:>12} {:>12} {:>18}", "shared", "experts GiB", "experts");
  fmt::print("\n");
  for (const Json& rank : ranks) {
    fmt::print("{:>4} {:>12.3f} {:>14.2f} {:>12.1f} {:>10} {:>10} {:>14} {:>16}",
               rank["rank"].get<int>(), gib(rank["weight_bytes"]),
               1000 * mib(rank["kv_bytes_per_token_f16"]), mib(rank["scratch_bytes"]),
               range_text(rank["heads"]), range_text(rank["kv_heads"]), range_text(rank["ffn"]),
               range_text(rank["vocab"]));
    if (mixture) {
      fmt::print(" {:>12} {:>12.3f} {:>18}", range_text(rank["shared"]), gib(rank["expert_bytes"]),
                 experts_text(rank));
    }
    fmt::print("\n");
  }
}

}  // namespace shoal
