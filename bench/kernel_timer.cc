#include <algorithm>
#include <chrono>

#include "bench/kernel_ops.h"
#include "kernels/formats/encode.h"

namespace shoal {
namespace {

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<long>(values.size() / 2),
                   values.end());
  return values[values.size() / 2];
}

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

}  // namespace

Status KernelTimer::wait() {
  return device_.synchronize(SteadyClock().now() + std::chrono::minutes(2));
}

int64_t KernelTimer::copies(uint64_t bytes) const {
  constexpr uint64_t kMost = 4096;
  return static_cast<int64_t>(
      std::clamp<uint64_t>(cycle_bytes_ / std::max<uint64_t>(bytes, 1) + 1, 1, kMost));
}

Result<double> KernelTimer::time(int64_t copies, const std::function<void(int64_t)>& call) {
  constexpr double kLeast = 0.01, kMost = 0.5;               // seconds of one measurement
  for (const int64_t i : {int64_t{0}, copies - 1}) call(i);  // scratch grows, pages are touched
  SHOAL_TRY(wait());
  SHOAL_ASSIGN(const double once, device_.time_of([&] { call(0); }));
  auto calls = static_cast<int64_t>(kLeast / std::max(once, 1e-7)) + 1;
  // A cycle must be gone through whole, unless a call takes so long that its weights are gone from
  // any cache by the time the next begins.
  calls = std::max(calls, copies);
  calls = std::clamp(calls, int64_t{1}, static_cast<int64_t>(kMost / std::max(once, 1e-7)) + 1);
  std::vector<double> seconds;
  for (int r = 0; r < repeats_; ++r) {
    SHOAL_ASSIGN(const double all, device_.time_of([&] {
      for (int64_t i = 0; i < calls; ++i) call(i % copies);
    }));
    seconds.push_back(all / static_cast<double>(calls));
  }
  return median(std::move(seconds));
}

Result<double> KernelTimer::time_waiting(const std::function<void()>& call) {
  call();
  SHOAL_TRY(wait());
  std::vector<double> seconds;
  for (int r = 0; r < 3 * repeats_; ++r) {
    const double start = now();
    call();
    SHOAL_TRY(wait());
    seconds.push_back(now() - start);
  }
  return median(std::move(seconds));
}

Result<std::unique_ptr<Buffer>> KernelTimer::floats(Rng& rng, int64_t count) {
  std::vector<float> values(static_cast<size_t>(count));
  for (float& v : values) v = static_cast<float>(rng.normal());
  return array(values);
}

Result<std::unique_ptr<Weight>> KernelTimer::weight(TensorType type, int64_t rows, int64_t cols,
                                                    Rng& rng) {
  constexpr int64_t kRows = 64;
  const uint64_t row = row_bytes(type, static_cast<uint64_t>(cols));
  std::vector<uint8_t> bytes(kRows * row);
  random_row(type, rng, 0.02f, kRows * cols, bytes.data());
  SHOAL_ASSIGN(auto weight, device_.create_weight({type, rows, cols, 0, cols}, "bench"));
  for (int64_t r = 0; r < rows; r += kRows) {
    const auto count = static_cast<uint64_t>(std::min(kRows, rows - r));
    SHOAL_TRY(device_.fill_weight(*weight, r, std::span(bytes).first(count * row)));
  }
  return weight;
}

Result<std::unique_ptr<Activations>> KernelTimer::input(Rng& rng, int64_t rows, int64_t cols) {
  SHOAL_ASSIGN(auto out, device_.create_activations(rows, cols));
  SHOAL_ASSIGN(const auto values, floats(rng, rows * cols));
  device_.load_activations(values->f32(), cols, rows, *out);
  SHOAL_TRY(wait());
  return out;
}

}  // namespace shoal
