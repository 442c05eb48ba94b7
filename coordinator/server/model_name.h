// The name a model is served under: what clients put into a request's `model`.
#pragma once

#include <string>
#include <string_view>

namespace shoal {

// `name` as config::check_model_name() takes it: spaces for control characters and U+FFFD for what
// is no UTF-8, one space for several, none at the ends, cut at a character. `fallback` the same way
// where nothing is left, and "model" where nothing is left of that either.
std::string usable_model_name(std::string_view name, std::string_view fallback);

}  // namespace shoal
