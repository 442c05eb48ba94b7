// Who gets which rank. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "wire/messages.h"

namespace shoal {

struct WorkerOffer {
  const wire::Hello* hello = nullptr;
  int last_rank = -1;          // in the previous epoch it took part in, or −1
  bool holds_weights = false;  // of that rank, as far as the coordinator knows
};

// Orders names as people count: "w2" before "w10". A strict weak ordering.
bool natural_less(std::string_view a, std::string_view b);

// Chooses `world` of the candidates and returns their indices by rank; nothing if there are too
// few. Preferred: those that hold weights, then the configured order, then host by host
// (neighbouring ranks share a host; hosts in the order of their first name), then by name. Whoever
// had a rank keeps it; the others fill the gaps in order. The order of `candidates` does not
// matter.
std::optional<std::vector<size_t>> place_ranks(const std::vector<WorkerOffer>& candidates,
                                               uint32_t world,
                                               const std::vector<std::string>& configured);

// The same where the last ranks, one per name in `experts_only`, are for the workers of those names
// and for nobody else; those workers get no other rank.
std::optional<std::vector<size_t>> place_ranks_by_role(
    const std::vector<WorkerOffer>& candidates, uint32_t world,
    const std::vector<std::string>& configured, const std::vector<std::string>& experts_only);

// none for one rank; shm if all share a host id; else gloo.
wire::CollectiveEngine choose_engine(const std::vector<const wire::Hello*>& by_rank);

}  // namespace shoal
