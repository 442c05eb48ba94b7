// From configuration to what a group is wished to be: who may have which rank, shares, layout and
// placement of experts, KV.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "config/config.h"
#include "parallel/plan/plan.h"

namespace shoal {

struct GroupWishes {
  PlanWishes plan;
  std::vector<std::string> names;  // of workers of role full; those beyond the ranks are spares
  std::vector<std::string> expert_names;  // of workers of role experts, for the last ranks
};

// `names`: of the expected workers, in the order listed. Refuses a group without ranks, with more
// than the model can be cut into, workers of experts for a model without any, and a placement file
// that is wrong.
Result<GroupWishes> make_group_wishes(const config::Config& config, const ModelSpec& spec,
                                      const std::vector<std::string>& names,
                                      int64_t context_tokens);

}  // namespace shoal
