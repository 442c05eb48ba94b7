#include "parallel/plan/shard.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

#include <fmt/core.h>

#include "base/check.h"

namespace shoal {
namespace {

constexpr int64_t kSuperBlock = 256;
constexpr int64_t kSuperBlockMinFeatures = 1024;  // per rank
constexpr double kSuperBlockImbalance = 1.02;
constexpr double kMaxShareRatio = 1e6;

double sum(const std::vector<double>& shares) {
  return std::accumulate(shares.begin(), shares.end(), 0.0);
}

// Size ÷ share of the most loaded rank: the time of a step is proportional to it.
double largest_load(const std::vector<Range>& ranges, const std::vector<double>& shares) {
  double load = 0;
  for (size_t i = 0; i < ranges.size(); ++i) {
    load = std::max(load, static_cast<double>(ranges[i].size()) / shares[i]);
  }
  return load;
}

std::vector<Range> split_features(int64_t features, const std::vector<double>& shares) {
  std::vector<Range> fine = split_range(features, kShardGranularity, shares);
  const auto world = static_cast<int64_t>(shares.size());
  if (world == 1 || features < world * kSuperBlockMinFeatures) return fine;
  std::vector<Range> coarse = split_range(features, kSuperBlock, shares);
  const bool even =
      largest_load(coarse, shares) <= largest_load(fine, shares) * kSuperBlockImbalance;
  return even ? coarse : fine;
}

// Ranks are dealt to KV heads by the middle of their share, then each group's query heads are split
// among its ranks. Empty if some group would get no rank.
std::vector<Range> split_heads_by_group(int64_t kv_heads, int64_t group,
                                        const std::vector<double>& shares) {
  const double total = sum(shares);
  std::vector<std::vector<double>> members(static_cast<size_t>(kv_heads));
  double before = 0;
  for (const double share : shares) {
    const double middle = (before + share / 2) / total * static_cast<double>(kv_heads);
    const auto index = std::min(static_cast<int64_t>(middle), kv_heads - 1);
    members[static_cast<size_t>(index)].push_back(share);
    before += share;
  }
  std::vector<Range> out;
  for (int64_t g = 0; g < kv_heads; ++g) {
    const std::vector<double>& ranks = members[static_cast<size_t>(g)];
    if (ranks.empty()) return {};
    for (const Range& part : split_range(group, 1, ranks)) {
      out.push_back({g * group + part.begin, g * group + part.end});
    }
  }
  return out;
}

struct HeadCut {
  std::vector<Range> heads, kv_heads;  // [world]
};

HeadCut split_heads(const AttentionLayer& layer, const std::vector<double>& shares) {
  HeadCut cut;
  if (layer.heads == 0) {  // a layer without attention
    cut.heads.resize(shares.size());
    cut.kv_heads.resize(shares.size());
    return cut;
  }
  const auto world = static_cast<int64_t>(shares.size());
  const int64_t group = layer.heads / layer.kv_heads;
  // Heads per cut such that attn_output is cut at multiples of 32 columns; groups per such cut.
  const int64_t unit = kShardGranularity / std::gcd(layer.output_dim(), kShardGranularity);
  const int64_t group_unit = unit / std::gcd(group, unit);
  if ((layer.kv_heads + group_unit - 1) / group_unit >= world) {
    cut.kv_heads = split_range(layer.kv_heads, group_unit, shares);
    for (const Range& kv : cut.kv_heads) cut.heads.push_back({kv.begin * group, kv.end * group});
    return cut;
  }
  cut.heads = split_range(layer.heads, unit, shares);
  if (unit == 1) {
    std::vector<Range> aligned = split_heads_by_group(layer.kv_heads, group, shares);
    const double limit = largest_load(cut.heads, shares) * (1 + 1e-9);
    if (!aligned.empty() && largest_load(aligned, shares) <= limit) cut.heads = std::move(aligned);
  }
  for (const Range& heads : cut.heads) {
    const int64_t begin = heads.begin / group;
    cut.kv_heads.push_back({begin, heads.empty() ? begin : (heads.end - 1) / group + 1});
  }
  return cut;
}

Status check_layer(const LayerSpec& layer, size_t index) {
  const AttentionLayer& a = layer.attention;
  const MoeLayer& moe = layer.ffn.moe;
  if (a.heads < 0 || a.kv_heads < 0 || a.head_dim < 0 || layer.ffn.features < 0 ||
      moe.experts < 0 || moe.features < 0 || moe.shared_features < 0) {
    return invalid_argument(fmt::format("layer {} of the model has a negative size", index));
  }
  if (a.heads == 0) return Status::ok();
  if (a.kv_heads == 0 || a.heads % a.kv_heads != 0 || a.head_dim == 0) {
    return invalid_argument(fmt::format(
        "layer {} of the model has {} query heads, {} KV heads and head size {}; query heads must "
        "be a multiple of KV heads and none may be 0",
        index, a.heads, a.kv_heads, a.head_dim));
  }
  return Status::ok();
}

Status check_shares(const std::vector<double>& shares, int world, const char* what) {
  if (shares.empty()) return Status::ok();
  if (shares.size() != static_cast<size_t>(world)) {
    return invalid_argument(
        fmt::format("{} shares for {} ranks; give one per rank", shares.size(), world));
  }
  double low = 0, high = 0;
  for (size_t i = 0; i < shares.size(); ++i) {
    if (!std::isfinite(shares[i]) || !(shares[i] >= 0)) {
      return invalid_argument(fmt::format(
          "the {} share of rank {} is {}; it must be a number of at least 0", what, i, shares[i]));
    }
    if (shares[i] == 0) continue;
    low = low == 0 ? shares[i] : std::min(low, shares[i]);
    high = std::max(high, shares[i]);
  }
  if (high == 0) {
    return invalid_argument(
        fmt::format("every {} share is 0; some rank must hold the model", what));
  }
  if (high / low > kMaxShareRatio) {
    return invalid_argument(
        fmt::format("shares {} and {} differ by more than {:g} times; leave the small rank out",
                    low, high, kMaxShareRatio));
  }
  return Status::ok();
}

// The parts of the ranks whose share is not 0, by `split` of those shares; the others' are empty.
template <class Split>
auto split_active(const std::vector<double>& shares, const Split& split) {
  std::vector<double> active;
  for (const double share : shares) {
    if (share > 0) active.push_back(share);
  }
  return split(active);
}

// Element of rank `rank` among the ranks whose share is not 0.
size_t active_index(const std::vector<double>& shares, size_t rank) {
  return static_cast<size_t>(std::count_if(shares.begin(),
                                           shares.begin() + static_cast<std::ptrdiff_t>(rank),
                                           [](double share) { return share > 0; }));
}

Range feature_part(int64_t features, const std::vector<double>& shares, size_t rank) {
  if (!(shares[rank] > 0)) return {};
  const auto parts = split_active(
      shares, [&](const std::vector<double>& active) { return split_features(features, active); });
  return parts[active_index(shares, rank)];
}

// Who holds the experts of one mixture layer. `ranks`: of its experts, or null: sliced.
void divide_experts(const MoeLayer& moe, const uint64_t* ranks, const std::vector<double>& shares,
                    size_t rank, LayerShard* out) {
  if (ranks == nullptr) {
    out->expert_features = feature_part(moe.features, shares, rank);
    if (out->expert_features.empty()) return;
    for (int64_t e = 0; e < moe.experts; ++e) {
      out->experts.push_back({static_cast<int32_t>(e), 1, 0});
    }
    return;
  }
  out->expert_features = {0, moe.features};
  const uint64_t bit = uint64_t{1} << rank;
  for (int64_t e = 0; e < moe.experts; ++e) {
    if ((ranks[e] & bit) == 0) continue;
    out->experts.push_back(
        {static_cast<int32_t>(e), std::popcount(ranks[e]), std::popcount(ranks[e] & (bit - 1))});
  }
}

Status check_placement(const ModelSpec& spec, const TensorParallelPlan& plan) {
  int64_t entries = 0;
  for (const LayerSpec& layer : spec.layer) entries += layer.ffn.moe.experts;
  if (static_cast<int64_t>(plan.experts.ranks.size()) != entries) {
    return invalid_argument(
        fmt::format("the placement names ranks for {} experts; the model has {}",
                    plan.experts.ranks.size(), entries));
  }
  const uint64_t all =
      plan.world >= 64 ? UINT64_MAX : (uint64_t{1} << static_cast<unsigned>(plan.world)) - 1;
  for (size_t i = 0; i < plan.experts.ranks.size(); ++i) {
    if (plan.experts.ranks[i] != 0 && (plan.experts.ranks[i] & ~all) == 0) continue;
    return invalid_argument(fmt::format(
        "entry {} of the placement is {:#x}; it must name at least one of {} ranks, and no other",
        i, plan.experts.ranks[i], plan.world));
  }
  return Status::ok();
}

Range shifted(Range range, int64_t by) { return {range.begin + by, range.end + by}; }
Range scaled(Range range, int64_t by) { return {range.begin * by, range.end * by}; }

}  // namespace

std::vector<Range> split_range(int64_t total, int64_t unit, const std::vector<double>& shares) {
  SHOAL_CHECK(total >= 0 && unit >= 1 && !shares.empty(),
              fmt::format("split_range({}, {}, {} shares)", total, unit, shares.size()));
  const int64_t units = total / unit + (total % unit != 0);
  const double share_sum = sum(shares);
  std::vector<int64_t> counts(shares.size());
  std::vector<double> fraction(shares.size());
  int64_t left = units;
  for (size_t i = 0; i < shares.size(); ++i) {
    const double ideal = static_cast<double>(units) * (shares[i] / share_sum);
    counts[i] = std::min(static_cast<int64_t>(ideal), left);
    // Rounded so that equal shares tie whatever the last bits of the division were.
    fraction[i] = std::round((ideal - static_cast<double>(counts[i])) * 1e9);
    left -= counts[i];
  }
  std::vector<size_t> order(shares.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return fraction[a] > fraction[b]; });
  for (size_t i = 0; left > 0; i = (i + 1) % order.size(), --left) ++counts[order[i]];

  std::vector<Range> ranges;
  int64_t at = 0;
  for (const int64_t count : counts) {
    const int64_t end = std::min(at + count * unit, total);
    ranges.push_back({at, end});
    at = end;
  }
  return ranges;
}

TensorParallelPlan even_plan(int world) {
  return {world, std::vector<double>(static_cast<size_t>(std::max(world, 0)), 1.0)};
}

Status check_plan(const TensorParallelPlan& plan) {
  if (plan.world < 1 || plan.world > kMaxWorld) {
    return invalid_argument(fmt::format("a tensor-parallel group of {} ranks; 1 to {} are possible",
                                        plan.world, kMaxWorld));
  }
  SHOAL_TRY(check_shares(plan.shares, plan.world, "dense"));
  return check_shares(plan.experts.shares, plan.world, "expert");
}

Result<RankShard> make_rank_shard(const ModelSpec& spec, const TensorParallelPlan& plan, int rank) {
  SHOAL_TRY(check_plan(plan));
  if (rank < 0 || rank >= plan.world) {
    return invalid_argument(fmt::format("rank {} of a group of {}", rank, plan.world));
  }
  if (spec.vocab < 0 || spec.layer.size() != static_cast<size_t>(spec.layers)) {
    return invalid_argument(
        fmt::format("the model has {} layers but {} are described, vocabulary {}", spec.layers,
                    spec.layer.size(), spec.vocab));
  }
  const std::vector<double> shares =
      plan.shares.empty() ? even_plan(plan.world).shares : plan.shares;
  const auto r = static_cast<size_t>(rank);
  RankShard shard;
  shard.rank = rank;
  shard.world = plan.world;
  const std::vector<double>& expert_shares =
      plan.experts.shares.empty() ? shares : plan.experts.shares;
  if (plan.experts.placed()) SHOAL_TRY(check_placement(spec, plan));
  const bool holds_dense = shares[r] > 0;
  const size_t active = active_index(shares, r);
  if (holds_dense) {
    shard.vocab = split_active(shares, [&](const std::vector<double>& s) {
      return split_range(spec.vocab, kShardGranularity, s);
    })[active];
  }
  size_t entry = 0;  // of the placement
  for (size_t i = 0; i < spec.layer.size(); ++i) {
    SHOAL_TRY(check_layer(spec.layer[i], i));
    const LayerSpec& layer = spec.layer[i];
    LayerShard part;
    if (holds_dense) {
      const HeadCut cut = split_active(
          shares, [&](const std::vector<double>& s) { return split_heads(layer.attention, s); });
      part.heads = cut.heads[active];
      part.kv_heads = part.heads.empty() ? Range{} : cut.kv_heads[active];
      part.ffn = feature_part(layer.ffn.features, shares, r);
      part.shared = feature_part(layer.ffn.moe.shared_features, shares, r);
    }
    if (layer.ffn.moe.experts > 0) {
      const uint64_t* ranks = plan.experts.placed() ? plan.experts.ranks.data() + entry : nullptr;
      divide_experts(layer.ffn.moe, ranks, expert_shares, r, &part);
      entry += static_cast<size_t>(layer.ffn.moe.experts);
    }
    shard.layers.push_back(std::move(part));
  }
  return shard;
}

TensorSlice slice_tensor(const TensorDecl& decl, const ModelSpec& spec, const RankShard& shard) {
  TensorSlice slice;
  slice.decl = &decl;
  slice.rows = {0, decl.rows};
  slice.cols = {0, decl.cols};
  const auto part = [&]() -> const LayerShard& {
    SHOAL_CHECK(decl.layer >= 0 && static_cast<size_t>(decl.layer) < shard.layers.size() &&
                    static_cast<size_t>(decl.layer) < spec.layer.size(),
                "tensor '" + decl.name + "' is cut by a layer that does not exist");
    return shard.layers[static_cast<size_t>(decl.layer)];
  };
  const auto attention = [&]() -> const AttentionLayer& {
    return spec.layer[static_cast<size_t>(decl.layer)].attention;
  };
  const auto hold_experts = [&] {
    for (const HeldExpert& expert : part().experts) slice.experts.push_back(expert.id);
  };
  switch (decl.split) {
    case Split::kReplicated:
      break;
    case Split::kVocabRows:
      slice.rows = shard.vocab;
      break;
    case Split::kHeadRows:
      slice.rows = scaled(part().heads, decl.rows / attention().heads);
      break;
    case Split::kKvHeadRows:
      slice.rows = scaled(part().kv_heads, decl.rows / attention().kv_heads);
      break;
    case Split::kHeadCols:
      slice.cols = scaled(part().heads, decl.cols / attention().heads);
      break;
    case Split::kLatent:
      if (part().heads.empty()) slice.rows = {0, 0};
      break;
    case Split::kFfnRows:
      slice.rows = part().ffn;
      break;
    case Split::kFfnCols:
      slice.cols = part().ffn;
      break;
    case Split::kSharedRows:
      slice.rows = part().shared;
      break;
    case Split::kSharedCols:
      slice.cols = part().shared;
      break;
    case Split::kExpertRows:
      slice.rows = part().expert_features;
      hold_experts();
      break;
    case Split::kExpertCols:
      slice.cols = part().expert_features;
      hold_experts();
      break;
    case Split::kExpertWhole:  // added once: where the first feature is
      if (part().expert_features.begin == 0) hold_experts();
      break;
  }
  SHOAL_CHECK(slice.rows.end <= decl.rows && slice.cols.end <= decl.cols,
              "the shard of tensor '" + decl.name + "' exceeds it");
  slice.rows = shifted(slice.rows, decl.first_row);
  return slice;
}

uint64_t slice_bytes(const TensorSlice& slice, TensorType type) {
  SHOAL_CHECK(slice.decl != nullptr, "a slice of no tensor");
  if (slice.rows.empty() || slice.cols.empty()) return 0;
  const auto block = static_cast<int64_t>(traits(type).block_elems);
  const auto touched = [&](Range range) {
    const int64_t blocks = (range.end - 1) / block - range.begin / block + 1;
    return static_cast<uint64_t>(blocks) * traits(type).block_bytes;
  };
  const uint64_t copies = slice.decl->experts > 0 ? slice.experts.size() : 1;
  if (slice.decl->cols == 1) return copies * touched(slice.rows);
  return copies * static_cast<uint64_t>(slice.rows.size()) * touched(slice.cols);
}

}  // namespace shoal
