// The tables of methods.
#pragma once

#include <map>
#include <string_view>

#include "model/jinja/interpreter.h"

namespace shoal::jinja {

using Methods = std::map<std::string_view, Function<Method>>;
const Methods& string_methods();
bool is_method_name(std::string_view name);  // of any type

}  // namespace shoal::jinja
