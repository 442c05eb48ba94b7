// What a worker computes on, as people write it.
#pragma once

#include <memory>
#include <string>

#include "base/status.h"
#include "kernels/device.h"

namespace shoal {

struct DeviceChoice {
  enum Kind { kCpu, kCuda, kAuto } kind = kCpu;
  int index = 0;  // of the card
};

// "cpu", "cuda:N", "auto:N"; "cuda" and "auto" mean N = 0. Errors name what was found.
Result<DeviceChoice> parse_device(const std::string& text);

// kAuto takes the CPU where there is no such card, and logs why.
Result<std::unique_ptr<Device>> open_device(const DeviceChoice& choice, const CpuOptions& cpu);

}  // namespace shoal
