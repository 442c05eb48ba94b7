// Text to values and back, for the configuration's scalar types. Errors say what was expected and
// leave it to the caller to say where. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "config/config.h"

namespace shoal::config {

Result<bool> parse_bool(std::string_view text);           // "true", "false"
Result<uint64_t> parse_integer(std::string_view text);    // decimal digits
// "32k" → "32768", "1M" → "1048576": k is 1024 and M is 1024², as people say context lengths;
// anything else as it is. Error: too large.
Result<std::string> expand_tokens(std::string_view text);
Result<double> parse_number(std::string_view text);       // finite
Result<uint64_t> parse_bytes(std::string_view text);      // "4096", "16 MiB", "1GiB", "2 MB"
Result<Duration> parse_duration(std::string_view text);   // "250ms", "3s", "1.5 min", "2h", "0"
Result<std::vector<uint32_t>> parse_cores(std::string_view text);  // "0-3,8"; ascending, < 4096

// What a request may name as its model, so what a model may be called: 1 … kMaxModelName bytes of
// UTF-8 without control characters and without spaces at the ends.
inline constexpr size_t kMaxModelName = 256;
Status check_model_name(std::string_view name);

std::string format_bytes(uint64_t bytes);        // "16 MiB", "1000"
std::string format_duration(Duration duration);  // "250ms", "3s", "30min"
std::string format_cores(const std::vector<uint32_t>& cores);
std::string format_number(double value);  // shortest that reads back equal

// The candidate closest to `word` if it could be a slip of the keys (edit distance ≤ 2, or ≤ 1 for
// short words), or empty.
std::string_view nearest(std::string_view word, const std::vector<std::string_view>& candidates);

}  // namespace shoal::config
