// Embedding, norms and activations of GpuDevice.
#include "kernels/cuda/elementwise_kernels.h"

namespace shoal::gpu {

inline uint32_t grid_of(int64_t count, int64_t per_block) {
  return static_cast<uint32_t>((count + per_block - 1) / per_block);
}

inline ActivationRows rows_of(const GpuActivations& x) {
  return {{x.values}, {x.codes}, {x.scales}, {x.sums}, x.stride};
}

template <class Backend>
void GpuDevice<Backend>::embed(const Weight& table, const int32_t* ids, int64_t rows,
                               int64_t first_id, float scale, float* out) {
  const GpuWeight& w = weight(table);
  SHOAL_CHECK(w.lead == 0, "an embedding is never cut by columns");
  SHOAL_CHECK(w.layout == WeightLayout::kRows, "an embedding is read by rows");
  start<EmbedRows>({.grid = {grid_of(rows, 1), grid_of(w.shape.cols, EmbedRows::kElements)},
                    .block = {EmbedRows::kThreads}},
                   {.type = w.shape.type,
                    .scale = scale,
                    .table = {w.data()},
                    .row_stride = w.row_stride,
                    .table_rows = w.shape.rows,
                    .cols = w.shape.cols,
                    .first_id = first_id,
                    .ids = {ids},
                    .out = {out}});
}

template <class Backend>
void GpuDevice<Backend>::residual_norm(const ResidualNorm& norm, Activations& output) {
  using Kernel = ResidualNormRows;
  GpuActivations& out = activations(output);
  const bool in_order = norm.row_index == nullptr;
  const bool adds = norm.delta != nullptr || norm.delta_bias != nullptr;
  SHOAL_CHECK(norm.out_rows == 0 || out.columns >= norm.cols, "norm output too narrow");
  SHOAL_CHECK(norm.out_rows <= out.rows, "norm output of too few rows");
  SHOAL_CHECK(!in_order || norm.out_rows <= norm.rows, "more norm rows than rows");
  SHOAL_CHECK(norm.delta_norm == nullptr || norm.delta != nullptr, "the norm of no delta");
  const uint64_t shared = Kernel::shared_bytes(norm.cols);
  SHOAL_CHECK(shared <= Arch::max_shared_bytes, "a norm of more features than a block can hold");
  if (norm.exchange != nullptr) norm.exchange->all_reduce(norm.delta, norm.rows * norm.cols);
  if (norm.out_rows > 0) out.width = norm.cols;
  typename Kernel::Params params{.h = {norm.h},
                                 .delta = {norm.delta},
                                 .delta_bias = {norm.delta_bias},
                                 .delta_norm = {norm.delta_norm},
                                 .weight = {norm.weight},
                                 .bias = {norm.form == NormKind::kLayer ? norm.bias : nullptr},
                                 .row_index = {},
                                 .out = rows_of(out),
                                 .cols = norm.cols,
                                 .out_rows = in_order ? norm.out_rows : 0,
                                 .form = norm.form,
                                 .eps = norm.eps};
  simt::LaunchShape shape{.grid = {grid_of(adds ? norm.rows : params.out_rows, 1)},
                          .block = {Kernel::threads(norm.cols)},
                          .shared_bytes = static_cast<uint32_t>(shared)};
  start<Kernel>(shape, params);
  if (in_order) return;
  params.delta = params.delta_bias = params.delta_norm = {};
  params.row_index = {norm.row_index};
  params.out_rows = norm.out_rows;
  shape.grid = {grid_of(norm.out_rows, 1)};
  start<Kernel>(shape, params);
}

template <class Backend>
void GpuDevice<Backend>::finish_activations(GpuActivations& out, int64_t rows) {
  SHOAL_CHECK(rows <= out.rows && out.width <= out.columns, "more than the activations hold");
  start<PackActivations>(
      {.grid = {grid_of(rows, 1), grid_of(out.stride / kActivationBlock, PackActivations::kBlocks)},
       .block = {PackActivations::kThreads}},
      {.x = {}, .x_stride = 0, .width = out.width, .out = rows_of(out)});
}

template <class Backend>
void GpuDevice<Backend>::load_activations(const float* x, int64_t x_stride, int64_t rows,
                                          Activations& output) {
  GpuActivations& out = activations(output);
  SHOAL_CHECK(rows <= out.rows, "more rows than the activations hold");
  out.width = out.columns;
  start<PackActivations>(
      {.grid = {grid_of(rows, 1), grid_of(out.stride / kActivationBlock, PackActivations::kBlocks)},
       .block = {PackActivations::kThreads}},
      {.x = {x}, .x_stride = x_stride, .width = out.width, .out = rows_of(out)});
}

template <class Backend>
void GpuDevice<Backend>::copy_heads(const HeadCopy& task, int64_t rows) {
  start<CopyHeads>(
      {.grid = {grid_of(rows, 1), grid_of(task.heads * task.features, CopyHeads::kThreads)},
       .block = {CopyHeads::kThreads}},
      {.x = {task.x + task.x_first},
       .out = {task.out + task.out_first},
       .heads = task.heads,
       .features = task.features,
       .x_stride = task.x_stride,
       .x_head_stride = task.x_head_stride,
       .out_stride = task.out_stride,
       .out_head_stride = task.out_head_stride});
}

template <class Backend>
void GpuDevice<Backend>::soft_cap(float* x, int64_t count, float cap) {
  start<SoftCap>({.grid = {grid_of(count, SoftCap::kThreads)}, .block = {SoftCap::kThreads}},
                 {.x = {x}, .count = count, .cap = cap});
}

}  // namespace shoal::gpu
