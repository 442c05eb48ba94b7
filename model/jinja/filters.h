// The parts of the table of filters.
#pragma once

#include <span>
#include <string_view>
#include <utility>

#include "model/jinja/interpreter.h"

namespace shoal::jinja {

std::span<const std::pair<std::string_view, Filter>> scalar_filters();  // of strings and numbers

}  // namespace shoal::jinja
