// What a worker computes on, as people write it.
#pragma once

#include <string>

#include "base/status.h"

namespace shoal {

struct DeviceChoice {
  enum Kind { kCpu, kCuda, kAuto } kind = kCpu;
  int index = 0;  // of the card
};

// "cpu", "cuda:N", "auto:N"; "cuda" and "auto" mean N = 0. Errors name what was found.
Result<DeviceChoice> parse_device(const std::string& text);

}  // namespace shoal
