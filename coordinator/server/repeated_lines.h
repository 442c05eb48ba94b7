// Lines of several workers' logs in one stream: what all of them say at the same time is said once.
// Pure: time is an argument.
#pragma once

#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"

namespace shoal {

class RepeatedLines {
 public:
  // `workers`: how many there are; with one nothing waits.
  explicit RepeatedLines(size_t workers) : workers_(workers) {}

  // A line of `name`'s output without its end: of its log ("2026-01-31T12:00:00.000 info [NAME]
  // text") or anything else. It waits at most kWindow for others who say the same.
  void add(std::string_view name, std::string_view line, TimePoint now);
  // Lines whose time has come, in the order in which they came first: those said by several with
  // all their names, what is no line of a log with its worker's.
  std::vector<std::string> take(TimePoint now);
  // All of them: somebody wants to say something that belongs behind.
  std::vector<std::string> take_all();
  bool empty() const { return groups_.empty(); }

  static constexpr Duration kWindow = std::chrono::milliseconds(250);

 private:
  struct Group {
    std::string head, text;  // "2026-01-31T12:00:00.000 info "; what is compared besides the time
    std::vector<std::string> names;
    TimePoint until;
    bool closed = false;  // one of them said it again
  };

  static std::string shown(const Group& group);

  const size_t workers_;
  std::deque<Group> groups_;
};

}  // namespace shoal
