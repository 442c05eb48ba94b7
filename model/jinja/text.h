// String helpers that filters and methods share. ASCII case and space rules where Python's are
// Unicode's: templates compare roles and tags.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace shoal::jinja {

inline constexpr std::string_view kBlanks = " \t\n\r\f\v";

std::string strip(std::string_view text, std::string_view set, bool left, bool right);
std::string upper(std::string text);
std::string lower(std::string text);
std::string capitalize(const std::string& text);
std::string title(const std::string& text);
// At most `count` times; count < 0: all. REQUIRES what is not empty.
std::string replace_all(std::string_view text, std::string_view what, std::string_view with,
                        long long count);
std::vector<std::string> split_blanks(std::string_view text, long long max);
std::vector<std::string> split_on(std::string_view text, std::string_view separator, long long max,
                                  bool from_right);
std::vector<std::string> split_lines(std::string_view text, bool keep_ends);

}  // namespace shoal::jinja
