// Matrix products of GpuDevice. Weights of one type and slice that meet the same input share a
// launch.
#include "kernels/cuda/product_launch.h"

namespace shoal::gpu {

// Tiles are dealt to at most so many blocks in y.
inline constexpr int64_t kMaxTileBlocks = 32768;

template <class Backend>
ProductParams GpuDevice<Backend>::product_input(const GpuWeight& w, const GpuActivations& x,
                                                int64_t rows) const {
  SHOAL_CHECK(w.layout == WeightLayout::kRows, "a weight in tiles");
  SHOAL_CHECK(w.shape.rows < int64_t{1} << 31, "a weight of too many rows");
  ProductParams p;
  p.row_bytes = w.shape.slice_row_bytes();
  p.first_part = w.lead / 32;
  p.cols = w.shape.cols;
  p.values.address = x.values;
  p.codes.address = x.codes;
  p.scales.address = x.scales;
  p.sums.address = x.sums;
  p.x_stride = x.stride;
  p.rows = rows;
  return p;
}

template <class Backend>
void GpuDevice<Backend>::add_product(const MatmulTask& task, int64_t outputs, uint32_t* blocks,
                                     ProductParams* p) const {
  const GpuWeight& w = weight(*task.weight);
  ProductWeight& to = p->weights[p->count++];
  to.data.address = w.data();
  to.bias.address = task.bias;
  to.out.address = task.out;
  to.row_stride = static_cast<int64_t>(w.row_stride);
  to.out_stride = task.out_stride;
  to.rows = outputs;
  to.first_block = *blocks;
  to.scale = task.out_scale;
  to.accumulate = task.accumulate ? 1 : 0;
  *blocks += static_cast<uint32_t>((outputs + kProductWarps - 1) / kProductWarps);
}

template <class Backend>
void GpuDevice<Backend>::start_product(TensorType type, uint32_t blocks, int64_t tiles,
                                       const ProductParams& params) {
  const auto y = static_cast<uint32_t>(std::min(tiles, kMaxTileBlocks));
  keep_error(launch_product<Arch>(backend_->stream(), type, {blocks, y, 1}, params));
}

template <class Backend>
void GpuDevice<Backend>::matmul(std::span<const MatmulTask> tasks, const Activations& input,
                                int64_t rows) {
  const GpuActivations& x = activations(input);
  SHOAL_CHECK(rows <= x.rows, "more rows than the activations hold");
  const int64_t tiles = (rows + kProductRows - 1) / kProductRows;
  const auto like = [](const MatmulTask& a, const MatmulTask& b) {
    const GpuWeight &u = weight(*a.weight), &v = weight(*b.weight);
    return u.shape.type == v.shape.type && u.lead == v.lead && u.layout == v.layout;
  };
  std::vector<bool> done(tasks.size());
  for (size_t first = 0; first < tasks.size(); ++first) {
    if (done[first]) continue;
    const GpuWeight& w = weight(*tasks[first].weight);
    ProductParams p = product_input(w, x, rows);
    uint32_t blocks = 0;
    for (size_t i = first; i < tasks.size() && p.count < kMaxProducts; ++i) {
      if (done[i] || !like(tasks[first], tasks[i])) continue;
      const WeightSlice& slice = tasks[i].weight->slice();
      SHOAL_CHECK(slice.cols == x.width, "a weight's columns differ from the activations'");
      done[i] = true;
      if (slice.rows > 0) add_product(tasks[i], slice.rows, &blocks, &p);
    }
    start_product(w.shape.type, blocks, tiles, p);
  }
}

template <class Backend>
void GpuDevice<Backend>::head_matmul(const HeadMatmul& task, const Activations& input,
                                     int64_t rows) {
  if (task.heads == 0) return;
  const GpuActivations& x = activations(input);
  const GpuWeight& w = weight(*task.weight);
  SHOAL_CHECK(w.shape.rows % task.heads == 0, "heads of unequal size");
  SHOAL_CHECK(task.x_first >= 0 && task.x_head_stride >= 0 &&
                  task.x_first + (task.heads - 1) * task.x_head_stride + w.shape.cols <= x.width,
              "heads beyond the activations");
  SHOAL_CHECK(rows <= x.rows, "more rows than the activations hold");
  if (w.shape.rows == 0) return;
  ProductParams p = product_input(w, x, rows);
  p.head_rows = static_cast<uint32_t>(w.shape.rows / task.heads);
  p.x_first = task.x_first;
  p.x_head_stride = task.x_head_stride;
  p.out_head_stride = task.out_head_stride;
  p.whole_vectors = task.x_first % 4 == 0 && task.x_head_stride % 4 == 0 ? 1 : 0;
  uint32_t blocks = 0;
  add_product({.weight = task.weight, .out = task.out, .out_stride = task.out_stride},
              w.shape.rows, &blocks, &p);
  start_product(w.shape.type, blocks, (rows + kProductRows - 1) / kProductRows, p);
}

template <class Backend>
void GpuDevice<Backend>::gated_matmul(const GatedTask& task, const Activations& input,
                                      int64_t rows, Activations& output) {
  GpuActivations& out = activations(output);
  const bool gated = task.gate.weight != nullptr;
  const int64_t n = task.up.weight->slice().rows;
  SHOAL_CHECK(n <= out.columns && (!gated || n == task.gate.weight->slice().rows),
              "gate and up differ");
  SHOAL_CHECK(rows <= out.rows, "more rows than the activations hold");
  SHOAL_CHECK(gated || task.kind == GateKind::kGeluTanh, "an ungated network is of GELU");
  out.width = n;
  auto* products = static_cast<float*>(scratch(static_cast<uint64_t>(2 * rows * n) * 4));
  MatmulTask parts[2] = {task.up, task.gate};
  for (int i = 0; i < 2; ++i) {
    parts[i].out = products + i * rows * n;
    parts[i].out_stride = n;
    parts[i].accumulate = false;
  }
  matmul({parts, gated ? size_t{2} : size_t{1}}, input, rows);
  Gate::Params p;
  p.up.address = products;
  p.gate.address = gated ? products + rows * n : nullptr;
  p.row_gate.address = task.row_gate;
  p.kind = task.kind;
  start_gate(p, n, rows, out);
}

// Applies a gate to products and makes activations of them.
template <class Backend>
void GpuDevice<Backend>::start_gate(Gate::Params p, int64_t features, int64_t rows,
                                    GpuActivations& out) {
  p.features = features;
  p.out.address = out.values;
  p.out_stride = out.stride;
  const auto blocks = static_cast<uint32_t>((features + Gate::kThreads - 1) / Gate::kThreads);
  start<Gate>({{static_cast<uint32_t>(rows), blocks, 1}, {Gate::kThreads}}, p);
  finish_activations(out, rows);
}

}  // namespace shoal::gpu
