#include "parallel/plan/expert_placement.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>
#include <optional>
#include <string>

#include <fmt/core.h>

#include "parallel/plan/memory_plan.h"

namespace shoal {
namespace {

constexpr double kLeastLoad = 0.05;  // of the layer's mean: what is rare today may not be tomorrow

struct Expert {
  size_t entry = 0;  // of the placement
  size_t layer = 0;  // among the mixture layers
  uint64_t bytes = 0;
  double work = 0;
};

bool is_sum(double value) { return std::isfinite(value) && value >= 0; }

Status check_request(const std::vector<int64_t>& experts, const PlacementRequest& request) {
  const auto entries =
      static_cast<size_t>(std::accumulate(experts.begin(), experts.end(), int64_t{0}));
  const size_t world = request.ranks.size();
  if (world < 1 || world > kMaxWorld) {
    return invalid_argument(
        fmt::format("experts for a group of {} ranks; 1 to {} are possible", world, kMaxWorld));
  }
  if (request.bytes.size() != experts.size()) {
    return invalid_argument(fmt::format("expert sizes of {} layers; the model has {} with experts",
                                        request.bytes.size(), experts.size()));
  }
  double shares = 0;
  for (size_t rank = 0; rank < world; ++rank) {
    const double share = request.ranks[rank].share;
    if (!is_sum(share)) {
      return invalid_argument(fmt::format(
          "the expert share of rank {} is {}; it must be a number of at least 0", rank, share));
    }
    shares += share;
  }
  if (!(shares > 0)) {
    return invalid_argument("every expert share is 0; some rank must hold the experts");
  }
  for (const auto& [what, size] :
       {std::pair("pins", request.pins.size()), std::pair("loads", request.load.size())}) {
    if (size != 0 && size != entries) {
      return invalid_argument(
          fmt::format("{} of {} experts; the model has {}", what, size, entries));
    }
  }
  const uint64_t all = world >= 64 ? UINT64_MAX : (uint64_t{1} << world) - 1;
  for (size_t i = 0; i < request.pins.size(); ++i) {
    if ((request.pins[i] & ~all) == 0) continue;
    return invalid_argument(
        fmt::format("expert {} is pinned to ranks {:#x}; there are {}", i, request.pins[i], world));
  }
  for (size_t i = 0; i < request.load.size(); ++i) {
    if (is_sum(request.load[i])) continue;
    return invalid_argument(fmt::format(
        "the load of expert {} is {}; it must be a number of at least 0", i, request.load[i]));
  }
  return Status::ok();
}

// All experts in order, with their work. Layers weigh alike whatever was measured in them: every
// token visits every layer.
std::vector<Expert> list_experts(const std::vector<int64_t>& experts,
                                 const PlacementRequest& request) {
  std::vector<Expert> out;
  for (size_t layer = 0; layer < experts.size(); ++layer) {
    const size_t first = out.size();
    const auto count = static_cast<size_t>(experts[layer]);
    double mean = 0;
    for (size_t e = 0; e < count && !request.load.empty(); ++e) mean += request.load[first + e];
    mean /= static_cast<double>(count);
    for (size_t e = 0; e < count; ++e) {
      const double load = mean > 0 ? std::max(request.load[first + e] / mean, kLeastLoad) : 1.0;
      out.push_back({first + e, layer, request.bytes[layer],
                     load * static_cast<double>(request.bytes[layer])});
    }
  }
  return out;
}

// Where experts go, one at a time.
class Dealer {
 public:
  Dealer(size_t layers, const std::vector<ExpertRank>& ranks, std::vector<double> parts)
      : parts_(std::move(parts)),
        total_(ranks.size()),
        of_layer_(layers, std::vector<double>(ranks.size())) {
    for (const ExpertRank& rank : ranks) room_.push_back(rank.room);
  }

  // Gives a pinned expert to its ranks; the rank that has no room for it, if there is one.
  std::optional<size_t> pin(const Expert& expert, uint64_t ranks) {
    for (uint64_t left = ranks; left != 0; left &= left - 1) {
      const auto rank = static_cast<size_t>(std::countr_zero(left));
      if (room_[rank] < expert.bytes) return rank;
      take(expert, rank, expert.work / std::popcount(ranks));
    }
    return {};
  }

  // The rank that evens out the work, or nothing if no rank has room.
  std::optional<size_t> deal_by_work(const Expert& expert) {
    std::optional<size_t> best;
    std::pair<double, double> least;
    for (size_t rank = 0; rank < room_.size(); ++rank) {
      if (!(parts_[rank] > 0) || room_[rank] < expert.bytes) continue;
      const std::pair<double, double> after{
          rounded((of_layer_[expert.layer][rank] + expert.work) / parts_[rank]),
          (total_[rank] + expert.work) / parts_[rank]};
      if (best && !(after < least)) continue;
      best = rank;
      least = after;
    }
    if (best) take(expert, *best, expert.work);
    return best;
  }

  // The rank with least room that is enough: packs tightest.
  std::optional<size_t> deal_by_room(const Expert& expert, const std::vector<ExpertRank>& ranks) {
    std::optional<size_t> best;
    for (size_t rank = 0; rank < room_.size(); ++rank) {
      if (!(ranks[rank].share > 0) || room_[rank] < expert.bytes) continue;
      if (!best || room_[rank] < room_[*best]) best = rank;
    }
    if (best) take(expert, *best, expert.work);
    return best;
  }

 private:
  void take(const Expert& expert, size_t rank, double work) {
    room_[rank] -= expert.bytes;
    total_[rank] += work;
    of_layer_[expert.layer][rank] += work;
  }
  // To 40 bits, so that ranks of equal shares tie whatever the last bits of the sums are.
  static double rounded(double value) {
    int exponent = 0;
    const double fraction = std::frexp(value, &exponent);
    return std::ldexp(std::round(std::ldexp(fraction, 40)), exponent - 40);
  }

  const std::vector<double> parts_;
  std::vector<uint64_t> room_;
  std::vector<double> total_;                  // [world] work so far
  std::vector<std::vector<double>> of_layer_;  // [layers][world]
};

Status do_not_fit(const std::vector<Expert>& experts, const std::vector<ExpertRank>& ranks) {
  uint64_t needed = 0, room = 0;
  std::string figures;
  for (const Expert& expert : experts) needed += expert.bytes;
  for (size_t rank = 0; rank < ranks.size(); ++rank) {
    figures +=
        fmt::format("{}rank {}: {}{}", rank == 0 ? "" : ", ", rank, format_bytes(ranks[rank].room),
                    ranks[rank].share > 0 ? "" : " (share 0)");
    if (ranks[rank].share > 0) room += std::min(ranks[rank].room, UINT64_MAX - room);
  }
  return resource_exhausted(fmt::format(
      "the experts do not fit: {} of them make {}, replicas not counted, but the ranks have room "
      "for {} beside everything else ({}); add a worker that holds experts only, use another "
      "quantisation or a smaller context",
      experts.size(), format_bytes(needed), format_bytes(room), figures));
}

}  // namespace

std::vector<int64_t> mixture_experts(const ModelSpec& spec) {
  std::vector<int64_t> experts;
  for (const LayerSpec& layer : spec.layer) {
    if (layer.ffn.moe.experts > 0) experts.push_back(layer.ffn.moe.experts);
  }
  return experts;
}

std::vector<double> parts_that_fit(const std::vector<ExpertRank>& ranks, double bytes) {
  std::vector<double> parts(ranks.size());
  std::vector<bool> full(ranks.size());
  if (!(bytes > 0)) {
    for (size_t rank = 0; rank < ranks.size(); ++rank) parts[rank] = ranks[rank].share;
    const double sum = std::accumulate(parts.begin(), parts.end(), 0.0);
    for (double& part : parts) part /= sum;
    return parts;
  }
  double left = 1;  // of the bytes, for ranks that are not full
  for (bool changed = true; changed;) {
    changed = false;
    double shares = 0;
    for (size_t rank = 0; rank < ranks.size(); ++rank) {
      if (!full[rank]) shares += ranks[rank].share;
    }
    double taken = 0;
    for (size_t rank = 0; rank < ranks.size(); ++rank) {
      if (full[rank] || !(shares > 0)) continue;
      parts[rank] = left * ranks[rank].share / shares;
      const double room = static_cast<double>(ranks[rank].room) / bytes;
      if (parts[rank] <= room) continue;
      parts[rank] = room;
      full[rank] = changed = true;
      taken += room;
    }
    left -= taken;
  }
  return parts;
}

std::vector<uint64_t> placed_bytes(const ModelSpec& spec, const std::vector<uint64_t>& bytes,
                                   const std::vector<uint64_t>& placement, size_t world) {
  std::vector<uint64_t> out(world);
  size_t entry = 0, layer = 0;
  for (const int64_t experts : mixture_experts(spec)) {
    for (int64_t e = 0; e < experts; ++e, ++entry) {
      for (size_t rank = 0; rank < world; ++rank) {
        if ((placement[entry] >> rank & 1) != 0) out[rank] += bytes[layer];
      }
    }
    ++layer;
  }
  return out;
}

Result<std::vector<uint64_t>> make_placement(const ModelSpec& spec,
                                             const PlacementRequest& request) {
  const std::vector<int64_t> counts = mixture_experts(spec);
  SHOAL_TRY(check_request(counts, request));
  const std::vector<Expert> experts = list_experts(counts, request);
  std::vector<uint64_t> pins = request.pins;
  pins.resize(experts.size());

  std::vector<ExpertRank> free = request.ranks;  // what pins leave
  double to_deal = 0;
  std::vector<Expert> order;
  for (const Expert& expert : experts) {
    if (pins[expert.entry] == 0) {
      order.push_back(expert);
      to_deal += static_cast<double>(expert.bytes);
    }
    for (size_t rank = 0; rank < free.size(); ++rank) {
      if ((pins[expert.entry] >> rank & 1) != 0)
        free[rank].room -= std::min(free[rank].room, expert.bytes);
    }
  }
  // Heaviest first; equal ones in order.
  std::stable_sort(order.begin(), order.end(),
                   [](const Expert& a, const Expert& b) { return a.work > b.work; });

  for (const bool by_work : {true, false}) {
    if (!by_work) {
      std::stable_sort(order.begin(), order.end(),
                       [](const Expert& a, const Expert& b) { return a.bytes > b.bytes; });
    }
    Dealer dealer(counts.size(), request.ranks, parts_that_fit(free, to_deal));
    std::vector<uint64_t> placement = pins;
    for (const Expert& expert : experts) {
      if (const auto rank = dealer.pin(expert, pins[expert.entry])) {
        return resource_exhausted(fmt::format(
            "the experts pinned to rank {} do not fit: it has room for {} beside everything else",
            *rank, format_bytes(request.ranks[*rank].room)));
      }
    }
    const bool done = std::all_of(order.begin(), order.end(), [&](const Expert& expert) {
      const auto rank =
          by_work ? dealer.deal_by_work(expert) : dealer.deal_by_room(expert, request.ranks);
      if (rank) placement[expert.entry] = uint64_t{1} << *rank;
      return rank.has_value();
    });
    if (done) return placement;
  }
  return do_not_fit(experts, request.ranks);
}

}  // namespace shoal
