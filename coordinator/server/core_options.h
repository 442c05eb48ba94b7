// From configuration and a model to what the core runs with: limits, KV rules, the plan's wishes.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"
#include "config/config.h"
#include "coordinator/core/core.h"
#include "coordinator/server/served_model.h"

namespace shoal {

// Errors: what can never work, whatever workers come: a layout, or KV blocks that cannot hold one
// sequence. `names`: of the expected workers, in rank order; those beyond the group's ranks are
// spares.
Result<CoreOptions> make_core_options(const config::Config& config, const ServedModel& model,
                                      const std::vector<std::string>& names);

}  // namespace shoal
