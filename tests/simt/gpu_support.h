// Helpers of tests that run GpuDevice on the emulator beside the CPU device; on a card too where
// there is one (card_device.cc).
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/rng.h"
#include "tests/kernels/cpu_support.h"
#include "tests/simt/emulated_backend.h"

// After what defines simt::launch.
#include "kernels/cuda/gpu_device.h"

namespace shoal::testing {

// GpuDevice on an emulated card; `seed` draws the order of its threads. `checked` false: plain
// pointers, no shadow memory, several times faster.
std::unique_ptr<Device> make_emulated_device(uint64_t seed, bool checked = true);
// Whether that is a card; the functions below then do nothing.
bool on_card();
// Recordings a device made by make_emulated_device() has started.
uint64_t graphs_started(Device& device);
// No allocation of such a device may be larger from now on.
void limit_allocations(Device& device, uint64_t bytes);
// GpuDevice::limit_attention_memory, limit_product_floats.
void limit_attention_memory(Device& device, uint64_t bytes);
void limit_product_floats(Device& device, int64_t floats);

// Orders of threads a test tries. Sanitizers make each ten times as slow.
#ifdef SHOAL_SANITIZED
inline constexpr uint64_t kEmulatorSeeds = 1;
#else
inline constexpr uint64_t kEmulatorSeeds = 8;
#endif

// Fails the test if a launch since the last call did; the message names kernel, block and thread.
inline void expect_clean(Device& device) {
  const Status status = device.synchronize(SteadyClock().now() + std::chrono::seconds(60));
  EXPECT_TRUE(status.is_ok()) << status.to_string();
}

// An array in the memory of either device.
template <class T>
class DeviceArray {
 public:
  DeviceArray(Device& device, const std::vector<T>& values, const std::string& name = "array")
      : device_(device), count_(values.size()) {
    auto buffer = device.allocate(bytes(), name);
    SHOAL_CHECK(buffer.is_ok(), buffer.status().to_string());
    buffer_ = std::move(buffer).value();
    device.copy_to_device(buffer_->data(), values.data(), bytes());
  }
  T* data() { return static_cast<T*>(buffer_->data()); }
  std::vector<T> values() {
    std::vector<T> out(count_);
    device_.copy_to_host(out.data(), buffer_->data(), bytes());
    return out;
  }

 private:
  uint64_t bytes() const { return count_ * sizeof(T); }

  Device& device_;
  size_t count_;
  std::unique_ptr<Buffer> buffer_;
};

// Rows of `stride` features with what belongs to them, downloaded.
struct GpuRows {
  int64_t stride = 0;
  std::vector<float> values;  // [rows × stride]
  std::vector<int8_t> codes;  // the same, or empty
  std::vector<float> scales, sums;
};

inline GpuRows read_gpu_rows(Device& device, const Activations& activations, int64_t rows) {
  const auto& x = static_cast<const gpu::GpuActivations&>(activations);
  GpuRows out;
  out.stride = x.stride;
  const auto features = static_cast<size_t>(rows * x.stride);
  const auto read = [&](auto& to, const auto* from, size_t count) {
    to.resize(count);
    device.copy_to_host(to.data(), from, count * sizeof(*from));
  };
  read(out.values, x.values, features);
  if (x.codes == nullptr) return out;
  read(out.codes, x.codes, features);
  read(out.scales, x.scales, features / 32);
  read(out.sums, x.sums, features / 32);
  return out;
}

// The float values of the first `rows` rows of Activations of either device, without padding.
inline std::vector<float> read_values(Device& device, const Activations& activations,
                                      int64_t rows) {
  if (device.host_visible()) return read_back(activations, rows);
  const GpuRows all = read_gpu_rows(device, activations, rows);
  std::vector<float> out;
  for (int64_t r = 0; r < rows; ++r) {
    const auto row = all.values.begin() + r * all.stride;
    out.insert(out.end(), row, row + activations.cols());
  }
  return out;
}

// Every value within `tolerance` · (1 + |want|); NaN only where NaN is wanted, infinities equal.
inline void expect_close(std::span<const float> got, std::span<const float> want, double tolerance,
                         const std::string& what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  for (size_t i = 0; i < got.size(); ++i) {
    if (std::isnan(want[i]) || std::isinf(want[i])) {
      ASSERT_EQ(std::isnan(got[i]), std::isnan(want[i])) << what << ", element " << i;
      ASSERT_TRUE(std::isnan(want[i]) || got[i] == want[i]) << what << ", element " << i;
      continue;
    }
    ASSERT_NEAR(got[i], want[i], tolerance * (1 + std::fabs(want[i]))) << what << ", element " << i;
  }
}

// The same bits, NaNs included.
template <class T>
void expect_same_bits(std::span<const T> got, std::span<const T> want, const std::string& what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_EQ(std::memcmp(&got[i], &want[i], sizeof(T)), 0)
        << what << ", element " << i << ": " << +got[i] << " is not " << +want[i];
  }
}
template <class T>
void expect_same_bits(const std::vector<T>& got, const std::vector<T>& want,
                      const std::string& what) {
  expect_same_bits(std::span<const T>(got), std::span<const T>(want), what);
}

}  // namespace shoal::testing
