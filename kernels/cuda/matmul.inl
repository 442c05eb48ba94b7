// Matrix products of GpuDevice. Weights of one type and slice that meet the same input share a
// launch.
namespace shoal::gpu {

// Rows [first, first + rows) of x.
template <class Backend>
ProductInput GpuDevice<Backend>::product_input(const GpuActivations& x, int64_t first,
                                               int64_t rows) {
  SHOAL_CHECK(first + rows <= x.rows, "more rows than the activations hold");
  ProductInput input;
  ProductParams& p = input.params;
  p.values.address = x.values + first * x.stride;
  if (x.codes != nullptr) {
    p.codes.address = x.codes + first * x.stride;
    p.use_codes = 1;
    p.scales.address = x.scales + first * (x.stride / 32);
    p.sums.address = x.sums + first * (x.stride / 32);
  }
  p.x_stride = x.stride;
  p.rows = rows;
  input.sets = product_tiles(rows);
  return input;
}

// Weights of one type, slice and layout share a launch.
template <class Backend>
void GpuDevice<Backend>::start_products(std::span<const MatmulTask> tasks,
                                        const ProductInput& input) {
  constexpr size_t kMost = std::min(kMaxProducts, kMaxTileWeights);
  const auto like = [](const GpuWeight& a, const GpuWeight& b) {
    return a.shape.type == b.shape.type && a.shape.cols == b.shape.cols && a.lead == b.lead &&
           a.layout == b.layout;
  };
  std::vector<bool> done(tasks.size());
  for (size_t first = 0; first < tasks.size(); ++first) {
    if (done[first]) continue;
    const GpuWeight& w = weight(*tasks[first].weight);
    std::vector<const MatmulTask*> launch;
    for (size_t i = first; i < tasks.size() && launch.size() < kMost; ++i) {
      const GpuWeight& other = weight(*tasks[i].weight);
      if (done[i] || !like(w, other)) continue;
      done[i] = true;
      if (other.shape.rows > 0) launch.push_back(&tasks[i]);
    }
    if (launch.empty()) continue;
    if (w.layout == WeightLayout::kTiles) {
      start_tile_products(launch, input);
    } else {
      start_row_products(launch, input);
    }
  }
}

template <class Backend>
void GpuDevice<Backend>::start_row_products(std::span<const MatmulTask* const> tasks,
                                            const ProductInput& input) {
  const GpuWeight& like = weight(*tasks[0]->weight);
  ProductParams p = input.params;
  p.row_bytes = like.shape.slice_row_bytes();
  p.first_part = like.lead / 32;
  p.cols = like.shape.cols;
  uint32_t blocks = 0;
  for (const MatmulTask* task : tasks) {
    const GpuWeight& w = weight(*task->weight);
    ProductWeight& to = p.weights[p.count++];
    to.rows = p.expert_rows > 0 ? p.expert_rows : w.shape.rows;
    SHOAL_CHECK(to.rows < int64_t{1} << 31, "a weight of too many rows");
    to.data.address = w.data();
    to.bias.address = task->bias;
    to.out.address = task->out;
    to.row_stride = static_cast<int64_t>(w.row_stride);
    to.out_stride = task->out_stride;
    to.first_block = blocks;
    to.scale = task->out_scale;
    to.accumulate = task->accumulate ? 1 : 0;
    blocks += static_cast<uint32_t>((to.rows + kProductWarps - 1) / kProductWarps);
  }
  const auto y = static_cast<uint32_t>(std::min(input.sets, kMaxTileBlocks));
  if (!broken())
    keep_error(launch_product<Arch>(backend_->stream(), like.shape.type, {blocks, y, 1}, p));
}

template <class Backend>
void GpuDevice<Backend>::matmul(std::span<const MatmulTask> tasks, const Activations& input,
                                int64_t rows) {
  const GpuActivations& x = activations(input);
  for (const MatmulTask& task : tasks) {
    SHOAL_CHECK(task.weight->slice().cols == x.width,
                "a weight's columns differ from the activations'");
  }
  start_products(tasks, product_input(x, 0, rows));
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
  SHOAL_CHECK(weight(*task.weight).layout == WeightLayout::kRows, "heads of a weight in tiles");
  ProductInput heads = product_input(x, 0, rows);
  ProductParams& p = heads.params;
  p.head_rows = static_cast<uint32_t>(slice.rows / task.heads);
  p.x_first = task.x_first;
  p.x_head_stride = task.x_head_stride;
  p.out_head_stride = task.out_head_stride;
  p.whole_vectors = task.x_first % 4 == 0 && task.x_head_stride % 4 == 0 ? 1 : 0;
  if (task.x_first % 32 != 0 || task.x_head_stride % 32 != 0) p.use_codes = 0;
  const MatmulTask product{.weight = task.weight, .out = task.out, .out_stride = task.out_stride};
  start_products({&product, 1}, heads);
}

// Products of gate and up, [rows, features] each in `products`, and the gate.
template <class Backend>
void GpuDevice<Backend>::start_gate(const GateRows& task, const ProductInput& input,
                                    float* products) {
  const bool gated = task.gate.weight != nullptr;
  MatmulTask both[2] = {task.up, task.gate};
  for (int i = 0; i < 2; ++i) {
    both[i].out = products + i * task.rows * task.features;
    both[i].out_stride = task.features;
    both[i].accumulate = false;
  }
  start_products({both, gated ? size_t{2} : size_t{1}}, input);
  Gate::Params p = task.params;
  p.up.address = both[0].out;
  p.gate.address = gated ? both[1].out : nullptr;
  p.features = task.features;
  const auto blocks = static_cast<uint32_t>((p.out.stride + Gate::kThreads - 1) / Gate::kThreads);
  start<Gate>({{static_cast<uint32_t>(task.rows), blocks, 1}, {Gate::kThreads}}, p);
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
  SHOAL_CHECK(gated || task.kind == GateFunction::kGeluTanh, "an ungated network is of GELU");
  out.width = up.rows;
  if (up.rows == 0) return finish_activations(out, rows);
  const int64_t step = band_rows(rows, 2 * up.rows, band_floats_);
  auto* products = static_cast<float*>(scratch(static_cast<uint64_t>(2 * step * up.rows) * 4));
  for (int64_t first = 0; first < rows; first += step) {
    GateRows band{task.gate, task.up, std::min(step, rows - first), up.rows, {}};
    band.params.out = rows_of(out);
    band.params.first_row = first;
    band.params.row_gate.address = task.row_gate == nullptr ? nullptr : task.row_gate + first;
    band.params.kind = task.kind;
    start_gate(band, product_input(x, first, band.rows), products);
  }
}

}  // namespace shoal::gpu
