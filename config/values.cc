#include "config/values.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>

#include <fmt/core.h>

#include "base/quote.h"
#include "base/utf8.h"

namespace shoal::config {
namespace {

struct Unit {
  std::string_view name;
  uint64_t scale;
};
// The first that divides a value is how it is printed.
constexpr Unit kByteUnits[] = {{"TiB", 1ull << 40},
                               {"GiB", 1ull << 30},
                               {"MiB", 1ull << 20},
                               {"KiB", 1ull << 10},
                               {"TB", 1'000'000'000'000ull},
                               {"GB", 1'000'000'000},
                               {"MB", 1'000'000},
                               {"kB", 1'000},
                               {"B", 1}};
constexpr Unit kTimeUnits[] = {{"h", 3600ull * 1'000'000'000},
                               {"min", 60ull * 1'000'000'000},
                               {"s", 1'000'000'000},
                               {"ms", 1'000'000},
                               {"us", 1'000}};
constexpr uint32_t kMaxCore = 4096;
constexpr double kMaxSeconds = 86400.0 * 3650;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Splits "16 MiB" into number and unit; both may be empty.
std::pair<std::string_view, std::string_view> split_unit(std::string_view text) {
  size_t end = 0;
  while (end < text.size() && (is_digit(text[end]) || text[end] == '.')) ++end;
  std::string_view unit = text.substr(end);
  while (!unit.empty() && unit.front() == ' ') unit.remove_prefix(1);
  return {text.substr(0, end), unit};
}

template <size_t N>
const Unit* find_unit(const Unit (&units)[N], std::string_view name) {
  const auto found = std::ranges::find(units, name, &Unit::name);
  return found == std::end(units) ? nullptr : &*found;
}

}  // namespace

Result<bool> parse_bool(std::string_view text) {
  if (text == "true") return true;
  if (text == "false") return false;
  return invalid_argument(fmt::format("{} is not true or false", in_quotes(text)));
}

Result<uint64_t> parse_integer(std::string_view text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error == std::errc::result_out_of_range) {
    return invalid_argument(fmt::format("{} is too large", in_quotes(text)));
  }
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) {
    return invalid_argument(fmt::format("{} is not a whole number", in_quotes(text)));
  }
  return value;
}

Result<std::string> expand_tokens(std::string_view text) {
  const char unit = text.empty() ? '\0' : text.back();
  const uint64_t scale = unit == 'k' || unit == 'K'   ? 1u << 10
                         : unit == 'm' || unit == 'M' ? 1u << 20
                                                      : 0;
  if (scale == 0) return std::string(text);
  const auto number = parse_integer(text.substr(0, text.size() - 1));
  if (!number) {
    return invalid_argument(fmt::format(
        "{} is not a number of tokens such as 4096, 32k or 1M (k is 1024)", in_quotes(text)));
  }
  if (*number > std::numeric_limits<uint64_t>::max() / scale) {
    return invalid_argument(fmt::format("{} is too large", in_quotes(text)));
  }
  return std::to_string(*number * scale);
}

Result<double> parse_number(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) {
    return invalid_argument(fmt::format("{} is not a number", in_quotes(text)));
  }
  if (!std::isfinite(value))
    return invalid_argument(fmt::format("{} is not finite", in_quotes(text)));
  return value;
}

Result<uint64_t> parse_bytes(std::string_view text) {
  const auto [number, name] = split_unit(text);
  const Unit* unit =
      name.empty() ? &kByteUnits[std::size(kByteUnits) - 1] : find_unit(kByteUnits, name);
  const auto value = parse_integer(number);
  if (unit == nullptr || !value) {
    return invalid_argument(
        fmt::format("{} is not a size such as 4096, 64 KiB or 16 MiB", in_quotes(text)));
  }
  if (*value > std::numeric_limits<uint64_t>::max() / unit->scale) {
    return invalid_argument(fmt::format("{} is too large", in_quotes(text)));
  }
  return *value * unit->scale;
}

Result<Duration> parse_duration(std::string_view text) {
  const auto [number, name] = split_unit(text);
  const auto value = parse_number(number);
  const Unit* unit = find_unit(kTimeUnits, name);
  const bool zero = value && *value == 0 && name.empty();
  if (!value || (unit == nullptr && !zero)) {
    return invalid_argument(
        fmt::format("{} is not a duration such as 250ms, 3s, 1.5min or 2h", in_quotes(text)));
  }
  if (zero) return Duration::zero();
  const double nanoseconds = *value * static_cast<double>(unit->scale);
  if (nanoseconds > kMaxSeconds * 1e9) {
    return invalid_argument(fmt::format("{} is too long", in_quotes(text)));
  }
  return std::chrono::duration_cast<Duration>(
      std::chrono::nanoseconds(static_cast<int64_t>(std::llround(nanoseconds))));
}

Result<std::vector<uint32_t>> parse_cores(std::string_view text) {
  const auto bad = [&] {
    return invalid_argument(
        fmt::format("{} is not a list of cores such as 0-3,8 (ascending, below {})",
                    in_quotes(text), kMaxCore));
  };
  std::vector<uint32_t> cores;
  for (std::string_view rest = text; !rest.empty();) {
    const size_t comma = std::min(rest.find(','), rest.size());
    const std::string_view part = rest.substr(0, comma);
    if (comma + 1 == rest.size()) return bad();  // nothing behind the comma
    rest.remove_prefix(std::min(comma + 1, rest.size()));
    const size_t dash = part.find('-');
    const auto first = parse_integer(part.substr(0, std::min(dash, part.size())));
    const auto last = dash == std::string_view::npos ? first : parse_integer(part.substr(dash + 1));
    if (!first || !last || *first > *last || *last >= kMaxCore) return bad();
    if (!cores.empty() && *first <= cores.back()) return bad();
    for (uint64_t core = *first; core <= *last; ++core) {
      cores.push_back(static_cast<uint32_t>(core));
    }
  }
  return cores;
}

Status check_model_name(std::string_view name) {
  const auto bad = [&](std::string_view why) {
    return invalid_argument(fmt::format("{} {}", in_quotes(name), why));
  };
  if (name.empty()) return bad("is empty");
  if (name.size() > kMaxModelName) {
    return bad(fmt::format("is longer than the {} bytes a request may name", kMaxModelName));
  }
  if (!is_valid_utf8(name)) return bad("is not valid UTF-8");
  if (std::ranges::any_of(name, [](unsigned char c) { return c < ' ' || c == 0x7f; })) {
    return bad("has control characters in it");
  }
  if (name.front() == ' ' || name.back() == ' ') return bad("begins or ends with a space");
  return Status::ok();
}

std::string format_bytes(uint64_t bytes) {
  if (bytes == 0) return "0";
  for (const Unit& unit : kByteUnits) {
    if (unit.name.size() == 3 && bytes % unit.scale == 0) {  // binary units only
      return fmt::format("{} {}", bytes / unit.scale, unit.name);
    }
  }
  return fmt::format("{}", bytes);
}

std::string format_duration(Duration duration) {
  const auto count =
      static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(duration).count());
  if (count == 0) return "0";
  for (const Unit& unit : kTimeUnits) {
    if (count % unit.scale == 0) return fmt::format("{}{}", count / unit.scale, unit.name);
  }
  return fmt::format("{}us", static_cast<double>(count) / 1e3);
}

std::string format_cores(const std::vector<uint32_t>& cores) {
  std::string text;
  for (size_t i = 0; i < cores.size();) {
    size_t end = i + 1;
    while (end < cores.size() && cores[end] == cores[end - 1] + 1) ++end;
    if (!text.empty()) text += ',';
    text +=
        end - i == 1 ? fmt::format("{}", cores[i]) : fmt::format("{}-{}", cores[i], cores[end - 1]);
    i = end;
  }
  return text;
}

std::string format_number(double value) { return fmt::format("{}", value); }

std::string_view nearest(std::string_view word, const std::vector<std::string_view>& candidates) {
  // Levenshtein, with a swap of neighbours as one edit (optimal string alignment).
  const auto distance = [](std::string_view a, std::string_view b) {
    std::vector<size_t> before, last(b.size() + 1), row(b.size() + 1);
    for (size_t j = 0; j <= b.size(); ++j) last[j] = j;
    for (size_t i = 1; i <= a.size(); ++i) {
      row[0] = i;
      for (size_t j = 1; j <= b.size(); ++j) {
        row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] != b[j - 1])});
        if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
          row[j] = std::min(row[j], before[j - 2] + 1);
        }
      }
      before = last;
      last = row;
    }
    return last[b.size()];
  };
  constexpr size_t kLongestWord = 64;  // a "key" of kilobytes is no slip of the keys
  std::string_view best;
  size_t best_distance = word.size() <= 4 ? 2 : 3;
  if (word.size() > kLongestWord) return best;
  for (const std::string_view candidate : candidates) {
    const size_t d = distance(word, candidate);
    if (d < best_distance) {
      best_distance = d;
      best = candidate;
    }
  }
  return best;
}

}  // namespace shoal::config
