#include "coordinator/server/repeated_lines.h"

#include <algorithm>
#include <cctype>

#include <fmt/core.h>
#include <fmt/ranges.h>

namespace shoal {
namespace {

constexpr size_t kTimeBytes = 23;  // "2026-01-31T12:00:00.000"
constexpr size_t kShownNames = 6;

struct Parts {
  std::string_view head, text;  // without the name between them
};

// A line as base/log.h writes it; `head` is empty if it is another.
Parts parts_of(std::string_view line) {
  const auto digit = [&](size_t i) {
    return std::isdigit(static_cast<unsigned char>(line[i])) != 0;
  };
  if (line.size() < kTimeBytes + 2 || !digit(0) || !digit(kTimeBytes - 1)) return {"", line};
  if (line[4] != '-' || line[10] != 'T' || line[13] != ':' || line[kTimeBytes] != ' ')
    return {"", line};
  const size_t open = line.find(" [", kTimeBytes), close = line.find("] ", kTimeBytes);
  if (open == std::string_view::npos || close == std::string_view::npos || close < open)
    return {"", line};
  return {line.substr(0, open + 1), line.substr(close + 2)};
}

// The level, which is the end of it.
std::string_view level_of(std::string_view head) {
  return head.size() > kTimeBytes ? head.substr(kTimeBytes) : head;
}

}  // namespace

void RepeatedLines::add(std::string_view name, std::string_view line, TimePoint now) {
  const Parts parts = parts_of(line);
  for (Group& group : groups_) {
    if (group.closed || group.text != parts.text || level_of(group.head) != level_of(parts.head))
      continue;
    if (std::ranges::find(group.names, name) == group.names.end()) {
      group.names.emplace_back(name);
      return;
    }
    group.closed = true;  // a new group follows
  }
  groups_.push_back({std::string(parts.head),
                     std::string(parts.text),
                     {std::string(name)},
                     workers_ > 1 ? now + kWindow : now});
}

std::string RepeatedLines::shown(const Group& group) {
  const size_t count = group.names.size();
  const std::string names = count <= kShownNames
                                ? fmt::format("{}", fmt::join(group.names, ", "))
                                : fmt::format("{}, {} … {}: {} workers", group.names[0],
                                              group.names[1], group.names.back(), count);
  return fmt::format("{}[{}] {}", group.head, names, group.text);
}

std::vector<std::string> RepeatedLines::take(TimePoint now) {
  std::vector<std::string> lines;
  while (!groups_.empty()) {
    const Group& first = groups_.front();
    if (!first.closed && first.names.size() < workers_ && now < first.until) break;
    lines.push_back(shown(first));
    groups_.pop_front();
  }
  return lines;
}

std::vector<std::string> RepeatedLines::take_all() {
  std::vector<std::string> lines;
  for (const Group& group : groups_) lines.push_back(shown(group));
  groups_.clear();
  return lines;
}

}  // namespace shoal
