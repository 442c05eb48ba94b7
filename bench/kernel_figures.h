// Figures of a Device's kernels beside what its memory can do: the same code measures a CPU and a
// card.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/status.h"
#include "kernels/device.h"

namespace shoal {

// A weight of `outputs` rows of `features`; gated: two of them and the product of both.
struct KernelShape {
  std::string name;
  int64_t outputs = 0, features = 0;
  bool gated = false;
};

// "NAME=OUTPUTSxFEATURES", e.g. "o=8192x8192"; a name that starts with "gate" is gated. "70b"
// stands for the five matrices of a 70B llama layer and its output.
Result<std::vector<KernelShape>> parse_kernel_shapes(const std::vector<std::string>& texts);

struct KernelBenchOptions {
  std::vector<TensorType> types;
  std::vector<KernelShape> shapes;
  std::vector<int64_t> rows = {1, 8, 512};
  std::vector<int64_t> contexts = {4096};  // tokens of attention
  std::vector<std::string> ops;            // empty: all of kernel_bench_ops()
  int repeats = 5;                         // the median counts
  uint64_t cycle_bytes = 0;  // distinct weights to go through; 0: 4 × the last cache, ≥ 64 MiB
};

// matmul, attention, norm, sampling, experts.
const std::vector<std::string>& kernel_bench_ops();

struct KernelFigure {
  std::string op;     // "matmul", "gated", "attention", …
  std::string type;   // of the weight or the KV cache; of sampling what is asked for
  std::string shape;  // "o 8192 × 8192"
  int64_t rows = 0;
  double seconds = 0;  // of one call
  double bytes = 0;    // that a call cannot but read and write
  double flop = 0;
  bool waits = false;   // the call waits for its result: the host's time is in it
  bool cached = false;  // every call met the same memory: its rate has no ceiling
};

struct KernelFigures {
  std::string device, arithmetic;
  uint64_t cycle_bytes = 0;
  double ceiling_before = 0, ceiling_after = 0;  // GB/s of memory that is only read
  std::vector<KernelFigure> rows;

  // Whichever was higher.
  double ceiling() const { return ceiling_before > ceiling_after ? ceiling_before : ceiling_after; }
};

// Memory that does not suffice and kernels that fail are errors that name the op, type and shape.
Result<KernelFigures> measure_kernels(Device& device, const KernelBenchOptions& options,
                                      const std::function<void(const KernelFigure&)>& progress);

}  // namespace shoal
