// Text in lines of a width, by the rules of Python's textwrap; values as its pprint lays them out.
#pragma once

#include <cstdint>

#include "model/jinja/arguments.h"

namespace shoal::jinja {

struct WrapOptions {
  int64_t width = 79;  // characters; error if below 1
  bool break_long_words = true;
  bool break_on_hyphens = true;
};
// `text`: a string without line ends. A list of strings. Blanks at a line's end are dropped.
Value wrap_words(Budget& budget, const Value& text, const WrapOptions& options);

class Interpreter;
Value pretty_print(Interpreter& in, const Value& v, const Arguments& args);  // a filter

}  // namespace shoal::jinja
