// What a launch may ask for, on a GPU and on the emulator alike.
#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"
#include "kernels/cuda/simt.h"

namespace shoal::simt {

// Refuses what cudaLaunchKernel would refuse on a card with this much shared memory per block.
inline Status check_launch(const char* kernel, const LaunchShape& shape, uint32_t max_shared_bytes,
                           uint32_t param_bytes) {
  constexpr uint32_t kMaxThreads = 1024, kMaxGridYz = 65535, kMaxGridX = 0x7fffffff;
  const auto refuse = [&](const std::string& what, uint64_t value, uint64_t limit) {
    return invalid_argument(std::string("kernel ") + kernel + ": " + what + " " +
                            std::to_string(value) + " is not in 1 … " + std::to_string(limit));
  };
  const Dim3& grid = shape.grid;
  if (grid.x < 1 || grid.x > kMaxGridX) return refuse("grid.x", grid.x, kMaxGridX);
  if (grid.y < 1 || grid.y > kMaxGridYz) return refuse("grid.y", grid.y, kMaxGridYz);
  if (grid.z < 1 || grid.z > kMaxGridYz) return refuse("grid.z", grid.z, kMaxGridYz);
  if (shape.block.x < 1 || shape.block.x > kMaxThreads) {
    return refuse("block.x", shape.block.x, kMaxThreads);
  }
  if (shape.block.y != 1) return refuse("block.y", shape.block.y, 1);
  if (shape.block.z != 1) return refuse("block.z", shape.block.z, 1);
  if (shape.shared_bytes > max_shared_bytes) {
    return refuse("shared memory", shape.shared_bytes, max_shared_bytes);
  }
  if (param_bytes > kMaxParamBytes) return refuse("parameter size", param_bytes, kMaxParamBytes);
  return Status::ok();
}

}  // namespace shoal::simt
