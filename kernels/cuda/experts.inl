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

// Where a plan and its products stand.
struct ExpertScratch {
  ExpertScratch(PlanExperts::Params* p, int64_t products_count, void* memory) {
    ScratchCutter cut(memory);
    cut.take(p->pairs, &p->expert_of);
    cut.take(p->count, &p->counts);
    cut.take(p->count, &p->first_slots);
    cut.take(p->pairs, &p->slots);
    cut.take(p->pairs, &p->slot_rows);
    cut.take(p->pairs, &p->slot_weights);
    cut.take(PlanExperts::most_tiles(*p), &p->tiles);
    cut.take(2, &p->totals);
    cut.take(products_count, &products);
    bytes = cut.used();
  }
  Global<float> products;
  uint64_t bytes;
};

// Of rows [first, first + rows).
inline PlanExperts::Params expert_plan(const ExpertTask& task, int64_t first, int64_t rows) {
  PlanExperts::Params p;
  p.local.address = task.local;
  p.replicas.address = task.replicas;
  p.replica.address = task.replica;
  p.positions.address = task.positions == nullptr ? nullptr : task.positions + first;
  p.ids.address = task.ids + first * task.top_k;
  p.weights.address = task.weights + first * task.top_k;
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
  SHOAL_CHECK(task.gate.weight != nullptr || task.kind == GateFunction::kGeluTanh,
              "an ungated network is of GELU");
  SHOAL_CHECK(up.cols == x.width, "a weight's columns differ from the activations'");
  SHOAL_CHECK(down.rows == task.count * x.width && down.cols == up.rows / task.count,
              "an expert's down does not fit its up");
  SHOAL_CHECK(pairs <= hidden.rows && down.cols <= hidden.columns, "scratch of experts too small");
}

// Slots of a tile of the plan: many where all weights are in tiles and experts have that many rows.
inline int64_t slots_of_tile(const ExpertTask& task, int64_t pairs) {
  constexpr int64_t kManySlots = 16;  // of an expert, on average
  int64_t slots = INT64_MAX;
  for (const MatmulTask* of : {&task.gate, &task.up, &task.down}) {
    if (of->weight == nullptr) continue;
    const auto& w = static_cast<const GpuWeight&>(*of->weight);
    if (w.layout != WeightLayout::kTiles) return kProductRows;
    slots = std::min(slots, set_rows(TileKernel::kManyRows, w.shape.type));
  }
  return pairs > kManySlots * task.count ? slots : kProductRows;
}

template <class Backend>
void GpuDevice<Backend>::combine_experts(const ExpertTask& task, const PlanExperts::Params& plan,
                                         const float* products, int64_t columns, int64_t rows) {
  CombineExperts::Params p;
  p.slots.address = products == nullptr ? nullptr : plan.slots.address;
  p.weights.address = task.scale_input ? nullptr : plan.weights.address;
  p.products.address = products;
  p.out.address = task.down.out;
  p.columns = columns;
  p.out_stride = task.down.out_stride;
  p.top_k = task.top_k;
  p.accumulate = task.down.accumulate ? 1 : 0;
  const auto blocks =
      static_cast<uint32_t>((p.columns + CombineExperts::kThreads - 1) / CombineExperts::kThreads);
  start<CombineExperts>({{static_cast<uint32_t>(rows), blocks, 1}, {CombineExperts::kThreads}}, p);
}

// Rows [first, first + rows).
template <class Backend>
void GpuDevice<Backend>::run_experts(const ExpertTask& task, const GpuActivations& x, int64_t first,
                                     int64_t rows, GpuActivations& hidden) {
  PlanExperts::Params plan = expert_plan(task, first, rows);
  const int64_t n = task.down.weight->slice().cols, width = x.width, pairs = plan.pairs;
  plan.tile_rows = static_cast<int32_t>(slots_of_tile(task, pairs));
  const int64_t floats = pairs * std::max(2 * n, width);
  const uint64_t bytes = ExpertScratch(&plan, floats, nullptr).bytes;
  float* products = ExpertScratch(&plan, floats, scratch(bytes)).products.address;
  const uint32_t warps = static_cast<uint32_t>(std::min<int64_t>(task.count, 32));
  start<PlanExperts>({{1}, {warps * simt::kWarpSize}}, plan);

  const auto planned = [&](ProductInput input, int64_t outputs) {
    input.sets = PlanExperts::most_tiles(plan);
    input.set_rows = plan.tile_rows;
    input.choices = task.top_k;
    input.params.tiles.address = plan.tiles.address;
    input.params.tile_count.address = plan.totals.address;
    input.params.expert_rows = outputs;
    return input;
  };
  ProductInput input = planned(product_input(x, first, rows), n);
  input.params.slot_rows.address = plan.slot_rows.address;
  if (task.scale_input) input.params.slot_scales.address = plan.slot_weights.address;
  GateRows gate{task.gate, task.up, pairs, n, {}};
  gate.params.out = rows_of(hidden);
  gate.params.rows_used.address = plan.totals.address + 1;
  gate.params.kind = task.kind;
  start_gate(gate, input, products);

  MatmulTask down = task.down;
  down.out = products;
  down.out_stride = width;
  down.accumulate = false;
  start_products({&down, 1}, planned(product_input(hidden, 0, pairs), width));
  ExpertTask band = task;
  band.down.out = task.down.out + first * task.down.out_stride;
  combine_experts(band, plan, products, width, rows);
}

template <class Backend>
void GpuDevice<Backend>::experts(const ExpertTask& task, const Activations& input, int64_t rows,
                                 Activations& scratch_rows) {
  const GpuActivations& x = activations(input);
  GpuActivations& hidden = activations(scratch_rows);
  SHOAL_CHECK(rows <= x.rows, "more rows than the activations hold");
  if (rows == 0) return;
  if (task.count == 0) return combine_experts(task, {}, nullptr, x.width, rows);
  check_experts(task, x, rows * task.top_k, hidden);
  hidden.width = task.down.weight->slice().cols;
  const int64_t step =
      band_rows(rows, task.top_k * std::max(2 * hidden.width, x.width), band_floats_);
  for (int64_t first = 0; first < rows; first += step) {
    run_experts(task, x, first, std::min(step, rows - first), hidden);
  }
}

}  // namespace shoal::gpu
