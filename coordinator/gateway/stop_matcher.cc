#include "coordinator/gateway/stop_matcher.h"

#include <algorithm>
#include <utility>

namespace shoal::gateway {
namespace {

// Length of the longest suffix of `text` that is a proper prefix of `stop`.
size_t partial_match(std::string_view text, std::string_view stop) {
  for (size_t length = std::min(text.size(), stop.size() - 1); length > 0; --length) {
    if (text.substr(text.size() - length) == stop.substr(0, length)) return length;
  }
  return 0;
}

}  // namespace

std::string StopMatcher::push(std::string_view piece) {
  if (stopped_) return {};
  if (stops_.empty()) return std::string(piece);
  held_ += piece;
  size_t found = std::string::npos;
  size_t hold = 0;
  for (const std::string& stop : stops_) {
    found = std::min(found, held_.find(stop));
    hold = std::max(hold, partial_match(held_, stop));
  }
  if (found != std::string::npos) {
    stopped_ = true;
    std::string out = held_.substr(0, found);
    held_.clear();
    return out;
  }
  // Stop strings are valid UTF-8, so a held suffix starts on a character boundary.
  std::string out = held_.substr(0, held_.size() - hold);
  held_.erase(0, out.size());
  return out;
}

std::string StopMatcher::flush() { return std::exchange(held_, {}); }

}  // namespace shoal::gateway
