// Choice of experts and their products. The host never learns which experts occur: it starts as
// many tiles as there may be, and those beyond the plan's count end at once.
#include "kernels/cuda/experts_kernels.h"
#include "kernels/cuda/route_kernel.h"

namespace shoal::gpu {

template <class Backend>
void GpuDevice<Backend>::route(const float* logits, int64_t rows, const RouteSpec& spec,
                               int32_t* ids, float* weights) {
  SHOAL_CHECK(spec.top_k >= 1 && spec.top_k <= spec.experts, "no expert chosen, or too many");
  SHOAL_CHECK(spec.groups >= 1 && spec.experts % spec.groups == 0 && spec.groups_used >= 1,
              "groups of unequal size");
  RouteRows::Params p;
  p.spec = spec;
  p.logits.address = logits;
  p.bias.address = spec.selection_bias;
  p.ids.address = ids;
  p.weights.address = weights;
  uint64_t shared = static_cast<uint64_t>(spec.experts + spec.groups) * sizeof(float);
  if (shared > RouteRows::kMaxSharedBytes) {
    p.scratch.address = static_cast<float*>(scratch(static_cast<uint64_t>(rows) * shared));
    shared = 0;
  }
  start<RouteRows>(
      {{static_cast<uint32_t>(rows)}, {simt::kWarpSize}, static_cast<uint32_t>(shared)}, p);
}

// Cuts device memory into arrays, each aligned as allocations are; without memory it only measures.
class ScratchCutter {
 public:
  explicit ScratchCutter(void* memory) : memory_(static_cast<uint8_t*>(memory)) {}
  template <class T>
  void take(int64_t count, Global<T>* to) {
    if (memory_ != nullptr) to->address = reinterpret_cast<T*>(memory_ + used_);
    used_ += (static_cast<uint64_t>(count) * sizeof(T) + 255) / 256 * 256;
  }
  uint64_t used() const { return used_; }

 private:
  uint8_t* memory_;
  uint64_t used_ = 0;
};

// Where a plan and the products of a band stand.
struct ExpertScratch {
  ExpertScratch(PlanExperts::Params* p, int64_t products_count, void* memory) {
    ScratchCutter cut(memory);
    cut.take(p->pairs, &p->expert_of);
    cut.take(p->count, &p->counts);
    cut.take(p->count, &p->first_slots);
    cut.take(p->pairs, &p->slots);
    cut.take(p->pairs, &p->slot_rows);
    cut.take(p->pairs, &p->slot_weights);
    cut.take(PlanExperts::most_tiles(p->pairs, p->count), &p->tiles);
    cut.take(2, &p->totals);
    cut.take(products_count, &products);
    bytes = cut.used();
  }
  Global<float> products;
  uint64_t bytes;
};

inline PlanExperts::Params expert_plan(const ExpertTask& task, int64_t rows) {
  PlanExperts::Params p;
  p.local.address = task.local;
  p.replicas.address = task.replicas;
  p.replica.address = task.replica;
  p.positions.address = task.positions;
  p.ids.address = task.ids;
  p.weights.address = task.weights;
  p.pairs = rows * task.top_k;
  p.top_k = task.top_k;
  p.experts = static_cast<int32_t>(task.experts);
  p.count = static_cast<int32_t>(task.count);
  return p;
}

inline void check_experts(const ExpertTask& task, const GpuActivations& x, int64_t pairs,
                          const GpuActivations& hidden) {
  const WeightSlice &up = task.up.weight->slice(), &down = task.down.weight->slice();
  SHOAL_CHECK(up.rows % task.count == 0, "experts of unequal size");
  SHOAL_CHECK(task.gate.weight == nullptr || (task.gate.weight->slice().rows == up.rows &&
                                              task.gate.weight->slice().cols == up.cols),
              "gate and up differ");
  SHOAL_CHECK(task.gate.weight != nullptr || task.kind == GateKind::kGeluTanh,
              "an ungated network is of GELU");
  SHOAL_CHECK(up.cols == x.width, "a weight's columns differ from the activations'");
  SHOAL_CHECK(down.rows == task.count * x.width && down.cols == up.rows / task.count,
              "an expert's down does not fit its up");
  SHOAL_CHECK(pairs <= hidden.rows && down.cols <= hidden.columns, "scratch of experts too small");
}

template <class Backend>
void GpuDevice<Backend>::combine_experts(const ExpertTask& task, const PlanExperts::Params& plan,
                                         const float* products, int64_t first, int64_t columns,
                                         int64_t rows) {
  CombineExperts::Params p;
  p.slots.address = products == nullptr ? nullptr : plan.slots.address;
  p.weights.address = task.scale_input ? nullptr : task.weights;
  p.products.address = products;
  p.out.address = task.down.out + first;
  p.columns = columns;
  p.out_stride = task.down.out_stride;
  p.top_k = task.top_k;
  p.accumulate = task.down.accumulate ? 1 : 0;
  const auto blocks =
      static_cast<uint32_t>((columns + CombineExperts::kThreads - 1) / CombineExperts::kThreads);
  start<CombineExperts>({{static_cast<uint32_t>(rows), blocks, 1}, {CombineExperts::kThreads}}, p);
}

template <class Backend>
void GpuDevice<Backend>::experts(const ExpertTask& task, const Activations& input, int64_t rows,
                                 Activations& scratch_rows) {
  const GpuActivations& x = activations(input);
  GpuActivations& hidden = activations(scratch_rows);
  SHOAL_CHECK(rows <= x.rows, "more rows than the activations hold");
  PlanExperts::Params plan = expert_plan(task, rows);
  if (rows == 0) return;
  if (task.count == 0) return combine_experts(task, plan, nullptr, 0, x.width, rows);
  check_experts(task, x, plan.pairs, hidden);
  const int64_t n = task.down.weight->slice().cols, width = x.width, pairs = plan.pairs;
  const int64_t up_step = band_of(n, 2 * pairs), down_step = band_of(width, pairs);
  const int64_t floats = std::max(2 * pairs * up_step, pairs * down_step);
  const uint64_t bytes = ExpertScratch(&plan, floats, nullptr).bytes;
  float* products = ExpertScratch(&plan, floats, scratch(bytes)).products.address;

  const uint32_t warps = static_cast<uint32_t>(std::min<int64_t>(task.count, 32));
  start<PlanExperts>({{1}, {warps * simt::kWarpSize}}, plan);
  const int64_t tiles = PlanExperts::most_tiles(pairs, task.count);
  ProductParams p = product_input(x, rows);
  p.tiles.address = plan.tiles.address;
  p.tile_count.address = plan.totals.address;
  p.slot_rows.address = plan.slot_rows.address;
  if (task.scale_input) p.slot_scales.address = plan.slot_weights.address;
  p.expert_rows = n;
  hidden.width = n;
  for (int64_t first = 0; first < n; first += up_step) {
    GateBand band{task.gate, task.up, first, std::min(up_step, n - first), {}};
    band.params.out.address = hidden.values + first;
    band.params.out_stride = hidden.stride;
    band.params.rows_used.address = plan.totals.address + 1;
    band.params.kind = task.kind;
    start_gate_band(band, p, tiles, pairs, products);
  }
  finish_activations(hidden, pairs);

  p = product_input(hidden, pairs);
  p.tiles.address = plan.tiles.address;
  p.tile_count.address = plan.totals.address;
  p.expert_rows = width;
  for (int64_t first = 0; first < width; first += down_step) {
    ProductTask part{task.down, first, std::min(down_step, width - first)};
    part.task.out = products;
    part.task.out_stride = part.count;
    part.task.accumulate = false;
    start_products({&part, 1}, p, tiles);
    combine_experts(task, plan, products, first, part.count, rows);
  }
}

}  // namespace shoal::gpu
