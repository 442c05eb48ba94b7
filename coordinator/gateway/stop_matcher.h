// Finds stop strings in text that arrives in pieces. Text that might be the beginning of a stop
// string is held back; a stop string itself and what follows never come out.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace shoal::gateway {

class StopMatcher {
 public:
  // REQUIRES no stop string to be empty.
  explicit StopMatcher(std::vector<std::string> stops) : stops_(std::move(stops)) {}

  // Takes the next piece and returns the text that is certain now. Once stopped() it returns
  // nothing.
  std::string push(std::string_view piece);
  // The text held back, when nothing more comes and no stop string was found.
  std::string flush();
  bool stopped() const { return stopped_; }

 private:
  const std::vector<std::string> stops_;
  std::string held_;  // shorter than the longest stop string
  bool stopped_ = false;
};

}  // namespace shoal::gateway
