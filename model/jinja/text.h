// String helpers that filters and methods share. ASCII case and space rules where Python's are
// Unicode's: templates compare roles and tags. All charge what they read; parts are views.
#pragma once

#include <string>
#include <string_view>

#include "model/jinja/value.h"

namespace shoal::jinja {

inline constexpr std::string_view kBlanks = " \t\n\r\f\v";

// Where `what` first stands in `text`, or npos. Linear in both.
size_t find_text(Budget& budget, std::string_view text, std::string_view what);
// Where it last stands.
size_t find_last_text(Budget& budget, std::string_view text, std::string_view what);
int64_t character_count(Budget& budget, std::string_view text);

// Without bytes of `set` at its ends.
std::string_view strip(Budget& budget, std::string_view text, std::string_view set, bool left,
                       bool right);
Value upper(Budget& budget, const Value& text);
Value lower(Budget& budget, const Value& text);
Value capitalize(Budget& budget, const Value& text);
Value title(Budget& budget, const Value& text);
// At most `count` times; count < 0: all. REQUIRES what is not empty.
Value replace_all(Budget& budget, const Value& text, std::string_view what, std::string_view with,
                  int64_t count);
// Lists of strings. `max`: of cuts; < 0: all.
Value split_blanks(Budget& budget, const Value& text, int64_t max);
Value split_on(Budget& budget, const Value& text, std::string_view separator, int64_t max,
               bool from_right);
Value split_lines(Budget& budget, const Value& text, bool keep_ends);

}  // namespace shoal::jinja
