#include "coordinator/core/placement.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <numeric>

#include "base/check.h"

namespace shoal {
namespace {

bool is_digit(char c) { return std::isdigit(static_cast<unsigned char>(c)) != 0; }

// A run of digits at `pos` without its leading zeros; advances `pos` behind it.
std::string_view take_number(std::string_view text, size_t* pos) {
  while (*pos < text.size() && text[*pos] == '0') ++*pos;
  const size_t begin = *pos;
  while (*pos < text.size() && is_digit(text[*pos])) ++*pos;
  return text.substr(begin, *pos - begin);
}

// Candidates in the documented order of preference, weights aside.
std::vector<size_t> in_order(const std::vector<WorkerOffer>& candidates,
                             const std::vector<std::string>& configured) {
  std::map<std::string_view, std::string_view> first_name;  // host id → its least worker name
  for (const WorkerOffer& c : candidates) {
    auto [it, is_new] = first_name.try_emplace(c.hello->host_id, c.hello->name);
    if (!is_new && natural_less(c.hello->name, it->second)) it->second = c.hello->name;
  }
  const auto position = [&](const std::string& name) {
    return std::find(configured.begin(), configured.end(), name) - configured.begin();
  };
  std::vector<size_t> order(candidates.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    const wire::Hello& x = *candidates[a].hello;
    const wire::Hello& y = *candidates[b].hello;
    const auto px = position(x.name), py = position(y.name);
    if (px != py) return px < py;
    const std::string_view hx = first_name[x.host_id], hy = first_name[y.host_id];
    if (hx != hy) return natural_less(hx, hy);
    return natural_less(x.name, y.name);
  });
  return order;
}

}  // namespace

bool natural_less(std::string_view a, std::string_view b) {
  size_t i = 0, j = 0;
  while (i < a.size() && j < b.size()) {
    if (is_digit(a[i]) && is_digit(b[j])) {
      const std::string_view x = take_number(a, &i), y = take_number(b, &j);
      if (x.size() != y.size()) return x.size() < y.size();
      if (x != y) return x < y;
    } else {
      if (a[i] != b[j]) return a[i] < b[j];
      ++i;
      ++j;
    }
  }
  const bool a_ends = i >= a.size(), b_ends = j >= b.size();
  if (a_ends != b_ends) return a_ends;
  return a < b;  // "w01" and "w1"
}

std::optional<std::vector<size_t>> place_ranks(const std::vector<WorkerOffer>& candidates,
                                               uint32_t world,
                                               const std::vector<std::string>& configured) {
  if (candidates.size() < world) return std::nullopt;
  std::vector<size_t> chosen = in_order(candidates, configured);
  std::stable_partition(chosen.begin(), chosen.end(),
                        [&](size_t c) { return candidates[c].holds_weights; });
  chosen.resize(world);
  // Back to the documented order among the chosen: weights decide who takes part, not where.
  std::vector<size_t> order = in_order(candidates, configured);
  std::erase_if(
      order, [&](size_t c) { return std::find(chosen.begin(), chosen.end(), c) == chosen.end(); });

  constexpr size_t kNobody = SIZE_MAX;
  std::vector<size_t> ranks(world, kNobody);
  const auto keep = [&](bool with_weights) {
    for (size_t& c : order) {
      if (c == kNobody || candidates[c].holds_weights != with_weights) continue;
      const int rank = candidates[c].last_rank;
      if (rank < 0 || rank >= static_cast<int>(world) || ranks[rank] != kNobody) continue;
      ranks[rank] = c;
      c = kNobody;
    }
  };
  keep(true);
  keep(false);
  std::erase(order, kNobody);
  auto next = order.begin();
  for (size_t& rank : ranks) {
    if (rank == kNobody) rank = *next++;
  }
  return ranks;
}

std::optional<std::vector<size_t>> place_ranks_by_role(
    const std::vector<WorkerOffer>& candidates, uint32_t world,
    const std::vector<std::string>& configured, const std::vector<std::string>& experts_only) {
  if (experts_only.empty()) return place_ranks(candidates, world, configured);
  SHOAL_CHECK(experts_only.size() < world, "a rank that holds more than experts");
  const auto full = static_cast<int>(world - experts_only.size());
  std::vector<WorkerOffer> of_role[2];
  std::vector<size_t> index[2];  // in `candidates`
  for (size_t i = 0; i < candidates.size(); ++i) {
    WorkerOffer candidate = candidates[i];
    const bool experts = std::find(experts_only.begin(), experts_only.end(),
                                   candidate.hello->name) != experts_only.end();
    if (experts) candidate.last_rank -= full;  // among its kind; negative: another kind's, or none
    of_role[experts].push_back(candidate);
    index[experts].push_back(i);
  }
  std::vector<size_t> ranks;
  for (const bool experts : {false, true}) {
    const auto placed = place_ranks(
        of_role[experts],
        experts ? static_cast<uint32_t>(experts_only.size()) : static_cast<uint32_t>(full),
        experts ? experts_only : configured);
    if (!placed) return std::nullopt;
    for (const size_t candidate : *placed) ranks.push_back(index[experts][candidate]);
  }
  return ranks;
}

wire::CollectiveEngine choose_engine(const std::vector<const wire::Hello*>& by_rank) {
  if (by_rank.size() <= 1) return wire::CollectiveEngine::kNone;
  const std::string& host = by_rank.front()->host_id;
  const bool one_host =
      !host.empty() && std::all_of(by_rank.begin(), by_rank.end(),
                                   [&](const wire::Hello* h) { return h->host_id == host; });
  return one_host ? wire::CollectiveEngine::kShm : wire::CollectiveEngine::kGloo;
}

}  // namespace shoal
