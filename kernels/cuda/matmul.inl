// Matrix products of GpuDevice. Weights of one type and slice that meet the same input share a
// launch.
namespace shoal::gpu {

template <class Backend>
ProductParams GpuDevice<Backend>::product_input(const GpuActivations& x, int64_t rows) {
  SHOAL_CHECK(rows <= x.rows, "more rows than the activations hold");
  ProductParams p;
  p.values.address = x.values;
  p.codes.address = x.codes;
  p.use_codes = x.codes != nullptr ? 1 : 0;
  p.scales.address = x.scales;
  p.sums.address = x.sums;
  p.x_stride = x.stride;
  p.rows = rows;
  return p;
}

// Adds outputs [first, first + count) of a task to a launch; column 0 of its `out` is output `first`.
template <class Backend>
void GpuDevice<Backend>::add_product(const ProductTask& part, const GpuWeight& w, uint32_t* blocks,
                        ProductParams* p) {
  SHOAL_CHECK(part.count < int64_t{1} << 31, "a weight of too many rows");
  ProductWeight& to = p->weights[p->count++];
  const MatmulTask& task = part.task;
  to.data.address = w.data() + static_cast<uint64_t>(part.first) * w.row_stride;
  to.bias.address = task.bias == nullptr ? nullptr : task.bias + part.first;
  to.out.address = task.out;
  to.row_stride = static_cast<int64_t>(w.row_stride);
  to.out_stride = task.out_stride;
  to.rows = part.count;
  to.first_block = *blocks;
  to.scale = task.out_scale;
  to.accumulate = task.accumulate ? 1 : 0;
  *blocks += static_cast<uint32_t>((part.count + kProductWarps - 1) / kProductWarps);
}

// `input` holds everything but the weights. `tiles`: as many as there may be.
template <class Backend>
void GpuDevice<Backend>::start_products(std::span<const ProductTask> tasks,
                                        const ProductParams& input, int64_t tiles) {
  const auto like = [](const GpuWeight& a, const GpuWeight& b) {
    return a.shape.type == b.shape.type && a.shape.cols == b.shape.cols && a.lead == b.lead &&
           a.layout == b.layout;
  };
  std::vector<bool> done(tasks.size());
  for (size_t first = 0; first < tasks.size(); ++first) {
    if (done[first]) continue;
    const GpuWeight& w = weight(*tasks[first].task.weight);
    SHOAL_CHECK(w.layout == WeightLayout::kRows, "a weight in tiles");
    ProductParams p = input;
    p.row_bytes = w.shape.slice_row_bytes();
    p.first_part = w.lead / 32;
    p.cols = w.shape.cols;
    uint32_t blocks = 0;
    for (size_t i = first; i < tasks.size() && p.count < kMaxProducts; ++i) {
      const GpuWeight& other = weight(*tasks[i].task.weight);
      if (done[i] || !like(w, other)) continue;
      done[i] = true;
      if (tasks[i].count > 0) add_product(tasks[i], other, &blocks, &p);
    }
    const auto y = static_cast<uint32_t>(std::min(tiles, kMaxTileBlocks));
    keep_error(launch_product<Arch>(backend_->stream(), w.shape.type, {blocks, y, 1}, p));
  }
}

template <class Backend>
void GpuDevice<Backend>::matmul(std::span<const MatmulTask> tasks, const Activations& input,
                                int64_t rows) {
  const GpuActivations& x = activations(input);
  std::vector<ProductTask> parts;
  for (const MatmulTask& task : tasks) {
    const WeightSlice& slice = task.weight->slice();
    SHOAL_CHECK(slice.cols == x.width, "a weight's columns differ from the activations'");
    parts.push_back({task, 0, slice.rows});
  }
  start_products(parts, product_input(x, rows), product_tiles(rows));
}

template <class Backend>
void GpuDevice<Backend>::head_matmul(const HeadMatmul& task, const Activations& input,
                                     int64_t rows) {
  if (task.heads == 0 || task.weight->slice().rows == 0) return;
  const GpuActivations& x = activations(input);
  const WeightSlice& slice = task.weight->slice();
  SHOAL_CHECK(slice.rows % task.heads == 0, "heads of unequal size");
  SHOAL_CHECK(task.x_first >= 0 && task.x_head_stride >= 0 &&
                  task.x_first + (task.heads - 1) * task.x_head_stride + slice.cols <= x.width,
              "heads beyond the activations");
  ProductParams p = product_input(x, rows);
  p.head_rows = static_cast<uint32_t>(slice.rows / task.heads);
  p.x_first = task.x_first;
  p.x_head_stride = task.x_head_stride;
  p.out_head_stride = task.out_head_stride;
  p.whole_vectors = task.x_first % 4 == 0 && task.x_head_stride % 4 == 0 ? 1 : 0;
  if (task.x_first % 32 != 0 || task.x_head_stride % 32 != 0) p.use_codes = 0;
  const ProductTask part{
      {.weight = task.weight, .out = task.out, .out_stride = task.out_stride}, 0, slice.rows};
  start_products({&part, 1}, p, product_tiles(rows));
}

// Products of one band of gate and up features, [rows, count] each in `scratch`, and the gate.
template <class Backend>
void GpuDevice<Backend>::start_gate_band(const GateBand& band, const ProductParams& input,
                                         int64_t tiles, int64_t rows, float* products) {
  const bool gated = band.gate.weight != nullptr;
  ProductTask parts[2] = {{band.up, band.first, band.count}, {band.gate, band.first, band.count}};
  for (int i = 0; i < 2; ++i) {
    parts[i].task.out = products + i * rows * band.count;
    parts[i].task.out_stride = band.count;
    parts[i].task.accumulate = false;
  }
  start_products({parts, gated ? size_t{2} : size_t{1}}, input, tiles);
  Gate::Params p = band.params;
  p.up.address = products;
  p.gate.address = gated ? products + rows * band.count : nullptr;
  p.features = band.count;
  const auto blocks = static_cast<uint32_t>((band.count + Gate::kThreads - 1) / Gate::kThreads);
  start<Gate>({{static_cast<uint32_t>(rows), blocks, 1}, {Gate::kThreads}}, p);
}

template <class Backend>
void GpuDevice<Backend>::gated_matmul(const GatedTask& task, const Activations& input, int64_t rows,
                                      Activations& output) {
  const GpuActivations& x = activations(input);
  GpuActivations& out = activations(output);
  const WeightSlice& up = task.up.weight->slice();
  const bool gated = task.gate.weight != nullptr;
  SHOAL_CHECK(up.rows <= out.columns && (!gated || up.rows == task.gate.weight->slice().rows),
              "gate and up differ");
  SHOAL_CHECK(rows <= out.rows, "more rows than the activations hold");
  SHOAL_CHECK(up.cols == x.width && (!gated || task.gate.weight->slice().cols == x.width),
              "a weight's columns differ from the activations'");
  SHOAL_CHECK(gated || task.kind == GateKind::kGeluTanh, "an ungated network is of GELU");
  out.width = up.rows;
  const int64_t step = band_of(up.rows, 2 * rows);
  auto* products = static_cast<float*>(scratch(static_cast<uint64_t>(2 * rows * step) * 4));
  for (int64_t first = 0; first < up.rows; first += step) {
    GateBand band{task.gate, task.up, first, std::min(step, up.rows - first), {}};
    band.params.out.address = out.values + first;
    band.params.out_stride = out.stride;
    band.params.row_gate.address = task.row_gate;
    band.params.kind = task.kind;
    start_gate_band(band, product_input(x, rows), product_tiles(rows), rows, products);
  }
  finish_activations(out, rows);
}

}  // namespace shoal::gpu
