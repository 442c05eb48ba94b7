// A group of one under the name of the engine that was asked for.
#pragma once

#include <memory>
#include <string>

#include "parallel/collective/collective.h"

namespace shoal {

std::unique_ptr<Collective> make_single_collective(const std::string& engine, uint64_t epoch);

}  // namespace shoal
