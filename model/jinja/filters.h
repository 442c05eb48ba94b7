// The parts of the table of filters, and what they share.
#pragma once

#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "model/jinja/interpreter.h"

namespace shoal::jinja {

using FilterRow = std::pair<std::string_view, Function<Filter>>;
std::span<const FilterRow> choice_filters();  // that sort, group, map and select
std::span<const FilterRow> scalar_filters();  // of strings and numbers
std::span<const FilterRow> layout_filters();  // that lay text out: wordwrap, truncate, urlencode …

// What a filter's `attribute` picks of an item: "function.name", 0; the item itself if there is
// none.
class Attribute {
 public:
  Attribute(Interpreter& in, const Value& given, const Value* otherwise = nullptr);
  Value of(const Value& item) const;

 private:
  Interpreter& in_;
  ListBuilder parts_;
  const Value* otherwise_;  // for what is not there
};

// Small letters, so that what is sorted or compared ignores case unless asked not to.
Value without_case(Budget& budget, const Value& v, bool case_sensitive);

}  // namespace shoal::jinja
