#include "bench/kernel_figures.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstdio>

#include "base/quote.h"
#include "bench/kernel_ops.h"

namespace shoal {

const std::vector<std::string>& kernel_bench_ops() {
  static const std::vector<std::string> ops = {"matmul", "attention", "norm", "sampling",
                                               "experts"};
  return ops;
}

Result<std::vector<KernelShape>> parse_kernel_shapes(const std::vector<std::string>& texts) {
  constexpr int64_t kMost = int64_t{1} << 24;
  std::vector<KernelShape> shapes;
  for (const std::string& text : texts) {
    if (text == "70b") {  // hidden 8192, 64 / 8 heads of 128, 28672, 128256 tokens
      for (const KernelShape& shape : {KernelShape{"qkv", 10240, 8192},
                                       {"o", 8192, 8192},
                                       {"gate+up", 28672, 8192, true},
                                       {"down", 8192, 28672},
                                       {"output", 128256, 8192}}) {
        shapes.push_back(shape);
      }
      continue;
    }
    KernelShape shape;
    char rest = 0;
    const size_t equals = text.find('=');
    shape.name = text.substr(0, equals);
    const char* numbers = equals == std::string::npos ? "" : text.c_str() + equals + 1;
    long long outputs = 0, features = 0;
    if (shape.name.empty() ||
        std::sscanf(numbers, "%lldx%lld%c", &outputs, &features, &rest) != 2 || outputs < 1 ||
        features < 1 || outputs > kMost || features > kMost) {
      return invalid_argument("shape " + in_quotes(text) +
                              ": expected 70b or NAME=OUTPUTSxFEATURES, e.g. o=8192x8192");
    }
    shape.outputs = outputs, shape.features = features;
    shape.gated = shape.name.starts_with("gate");
    shapes.push_back(shape);
  }
  return shapes;
}

Result<KernelFigures> measure_kernels(Device& device, const KernelBenchOptions& options,
                                      const std::function<void(const KernelFigure&)>& progress) {
  constexpr uint64_t kLeast = uint64_t{64} << 20, kCaches = 4, kAlignment = 4096;
  KernelFigures figures;
  figures.device = device.describe();
  figures.arithmetic = device.arithmetic();
  figures.cycle_bytes = options.cycle_bytes > 0 ? options.cycle_bytes
                                                : std::max(kLeast, kCaches * device.cache_bytes());
  figures.cycle_bytes = (figures.cycle_bytes + kAlignment - 1) / kAlignment * kAlignment;
  KernelTimer timer(device, options.repeats, figures.cycle_bytes);
  SHOAL_ASSIGN(figures.ceiling_before, read_ceiling(timer));
  const auto add = [&](KernelFigure figure) {
    figures.rows.push_back(std::move(figure));
    progress(figures.rows.back());
  };
  const auto wanted = [&](const char* op) {
    return options.ops.empty() || std::ranges::find(options.ops, op) != options.ops.end();
  };
  for (const TensorType type : options.types) {
    for (const KernelShape& shape : options.shapes) {
      if (!wanted("matmul") || shape.features % traits(type).block_elems != 0) continue;
      SHOAL_TRY(bench_matmul(timer, type, shape, options.rows, add));
    }
    if (wanted("experts")) SHOAL_TRY(bench_experts(timer, type, options.rows, add));
  }
  for (const int64_t context : options.contexts) {
    if (wanted("attention")) SHOAL_TRY(bench_attention(timer, context, options.rows, add));
  }
  if (wanted("norm")) SHOAL_TRY(bench_norm(timer, options.rows, add));
  if (wanted("sampling")) SHOAL_TRY(bench_sampling(timer, add));
  SHOAL_ASSIGN(figures.ceiling_after, read_ceiling(timer));
  return figures;
}

}  // namespace shoal
