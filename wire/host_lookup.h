// Looks a name up without making anybody wait: resolvers take seconds to give up. One at a time.
#pragma once

#include <future>
#include <optional>
#include <string>
#include <vector>

#include "base/status.h"

namespace shoal::wire {

class HostLookup {
 public:
  using Addresses = Result<std::vector<std::string>>;
  // Unless one is on its way.
  void start(const std::string& host);
  // What came of it, once. Never waits; a look-up that is forgotten ends by itself.
  std::optional<Addresses> take();

 private:
  std::future<Addresses> answer_;
};

}  // namespace shoal::wire
