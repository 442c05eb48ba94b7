#include "parallel/shard.h"

#include <algorithm>
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
  const int64_t unit = kShardGranularity / std::gcd(layer.head_dim, kShardGranularity);
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
  if (a.heads < 0 || a.kv_heads < 0 || a.head_dim < 0 || layer.ffn.features < 0) {
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
  if (plan.shares.empty()) return Status::ok();
  if (plan.shares.size() != static_cast<size_t>(plan.world)) {
    return invalid_argument(
        fmt::format("{} shares for {} ranks; give one per rank", plan.shares.size(), plan.world));
  }
  for (size_t i = 0; i < plan.shares.size(); ++i) {
    if (!std::isfinite(plan.shares[i]) || !(plan.shares[i] > 0)) {
      return invalid_argument(fmt::format("the share of rank {} is {}; it must be a number above 0",
                                          i, plan.shares[i]));
    }
  }
  const auto [low, high] = std::minmax_element(plan.shares.begin(), plan.shares.end());
  if (*high / *low > kMaxShareRatio) {
    return invalid_argument(
        fmt::format("shares {} and {} differ by more than {:g} times; leave the small rank out",
                    *low, *high, kMaxShareRatio));
  }
  return Status::ok();
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
  shard.vocab = split_range(spec.vocab, kShardGranularity, shares)[r];
  for (size_t i = 0; i < spec.layer.size(); ++i) {
    SHOAL_TRY(check_layer(spec.layer[i], i));
    const HeadCut cut = split_heads(spec.layer[i].attention, shares);
    shard.layers.push_back(
        {cut.heads[r], cut.kv_heads[r], split_features(spec.layer[i].ffn.features, shares)[r]});
  }
  return shard;
}

TensorSlice slice_tensor(const TensorDecl& decl, const ModelSpec& spec, const RankShard& shard) {
  TensorSlice slice;
  slice.decl = &decl;
  slice.rows = {0, decl.rows};
  slice.cols = {0, decl.cols};
  const auto layer = [&]() -> size_t {
    SHOAL_CHECK(decl.layer >= 0 && static_cast<size_t>(decl.layer) < shard.layers.size() &&
                    static_cast<size_t>(decl.layer) < spec.layer.size(),
                "tensor '" + decl.name + "' is cut by a layer that does not exist");
    return static_cast<size_t>(decl.layer);
  };
  switch (decl.split) {
    case Split::kReplicated:
      break;
    case Split::kVocabRows:
      slice.rows = shard.vocab;
      break;
    case Split::kHeadRows:
      slice.rows = scaled(shard.layers[layer()].heads, spec.layer[layer()].attention.head_dim);
      break;
    case Split::kKvHeadRows:
      slice.rows = scaled(shard.layers[layer()].kv_heads, spec.layer[layer()].attention.head_dim);
      break;
    case Split::kHeadCols:
      slice.cols = scaled(shard.layers[layer()].heads, spec.layer[layer()].attention.head_dim);
      break;
    case Split::kFfnRows:
      slice.rows = shard.layers[layer()].ffn;
      break;
    case Split::kFfnCols:
      slice.cols = shard.layers[layer()].ffn;
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
  if (slice.decl->cols == 1) return touched(slice.rows);
  return static_cast<uint64_t>(slice.rows.size()) * touched(slice.cols);
}

}  // namespace shoal
