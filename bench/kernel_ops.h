// One op each of `shoal bench kernels` (kernel_figures.h).
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/rng.h"
#include "bench/kernel_figures.h"

namespace shoal {

// Times calls on a device, going round among copies of what they read so that it comes from memory.
class KernelTimer {
 public:
  KernelTimer(Device& device, int repeats, uint64_t cycle_bytes)
      : device_(device), repeats_(repeats), cycle_bytes_(cycle_bytes) {}

  Device& device() { return device_; }
  uint64_t cycle_bytes() const { return cycle_bytes_; }
  // Copies of something of `bytes` that fill the cycle.
  int64_t copies(uint64_t bytes) const;

  // Seconds of one call, the median of the repeats; call(i) is to use copy i % copies. As many
  // calls make one measurement as fill `least_seconds`, and all copies where a call is short.
  Result<double> time(int64_t copies, const std::function<void(int64_t)>& call);
  // The same for calls that wait for their result: by the clock, one after another.
  Result<double> time_waiting(const std::function<void()>& call);

  // Memory of the device with these values.
  template <class T>
  Result<std::unique_ptr<Buffer>> array(const std::vector<T>& values) {
    SHOAL_ASSIGN(auto buffer, device_.allocate(values.size() * sizeof(T), "an array of the bench"));
    device_.copy_to_device(buffer->data(), values.data(), values.size() * sizeof(T));
    return buffer;
  }
  Result<std::unique_ptr<Buffer>> floats(Rng& rng, int64_t count);
  // A weight of random blocks: the same 64 rows again and again.
  Result<std::unique_ptr<Weight>> weight(TensorType type, int64_t rows, int64_t cols, Rng& rng);
  // Activations of normal values.
  Result<std::unique_ptr<Activations>> input(Rng& rng, int64_t rows, int64_t cols);

 private:
  Status wait();

  Device& device_;
  int repeats_;
  uint64_t cycle_bytes_;
};

using AddFigure = std::function<void(KernelFigure)>;

// GB/s
Result<double> read_ceiling(KernelTimer& timer);
Status bench_matmul(KernelTimer& timer, TensorType type, const KernelShape& shape,
                    const std::vector<int64_t>& rows, const AddFigure& add);
// 64 / 8 heads of 128; a row is a sequence of its own, but 512 rows and more are a part of one.
Status bench_attention(KernelTimer& timer, int64_t context, const std::vector<int64_t>& rows,
                       const AddFigure& add);
// A residual sum and RMSNorm of 8192 features.
Status bench_norm(KernelTimer& timer, const std::vector<int64_t>& rows, const AddFigure& add);
// One row and eight of 128256 tokens: greedy, plain, and with top_p and log-probabilities.
Status bench_sampling(KernelTimer& timer, const AddFigure& add);
// 128 experts of 768 features at width 2048, 8 per row.
Status bench_experts(KernelTimer& timer, TensorType type, const std::vector<int64_t>& rows,
                     const AddFigure& add);

}  // namespace shoal
