// Attention and experts of `shoal bench kernels`.
#include <fmt/core.h>

#include <algorithm>
#include <set>

#include "bench/kernel_ops.h"

namespace shoal {
namespace {

constexpr int64_t kQueryHeads = 64, kKvHeads = 8, kDim = 128, kBlockTokens = 64;
constexpr int64_t kChunk = 512;  // from so many rows on they are one sequence's prefill

// The KV cache of one layer for some sequences of `context` tokens, filled with random values.
Result<std::unique_ptr<Buffer>> filled_cache(KernelTimer& timer, KvLayer& kv, Rng& rng) {
  Device& device = timer.device();
  SHOAL_ASSIGN(auto memory, device.allocate(device.kv_layer_bytes(kv), "KV cache of the bench"));
  kv.data = memory->data();
  const int64_t width = kKvHeads * kDim;
  SHOAL_ASSIGN(const auto k, timer.floats(rng, kBlockTokens * width));
  SHOAL_ASSIGN(const auto v, timer.floats(rng, kBlockTokens * width));
  std::vector<int32_t> positions(kBlockTokens);
  for (size_t t = 0; t < positions.size(); ++t) positions[t] = static_cast<int32_t>(t);
  SHOAL_ASSIGN(const auto positions_d, timer.array(positions));
  for (int64_t block = 0; block < kv.blocks; ++block) {
    std::vector<int64_t> slots(kBlockTokens);
    for (int64_t t = 0; t < kBlockTokens; ++t) {
      slots[static_cast<size_t>(t)] = block * kBlockTokens + t;
    }
    SHOAL_ASSIGN(const auto slots_d, timer.array(slots));
    AttentionInput in;
    in.k = k->f32(), in.v = v->f32(), in.kv_stride = width;
    StepView step{.rows = kBlockTokens, .positions = positions_d->i32()};
    step.kv_slots = static_cast<int64_t*>(slots_d->data());
    device.store_kv(in, step, kv);
    SHOAL_TRY(device.synchronize(SteadyClock().now() + std::chrono::seconds(60)));
  }
  return memory;
}

Status attention_rows(KernelTimer& timer, KvType type, int64_t context, int64_t rows,
                      const AddFigure& add) {
  Device& device = timer.device();
  Rng rng(4);
  const bool prefill = rows >= kChunk;
  const int64_t sequences = prefill ? 1 : rows;
  const int64_t stride = (context + kBlockTokens - 1) / kBlockTokens;
  KvLayer shape{nullptr, type, sequences * stride, kBlockTokens, kKvHeads, kDim};
  const int64_t layers = prefill ? 1 : timer.copies(device.kv_layer_bytes(shape));
  std::vector<KvLayer> kv(static_cast<size_t>(layers), shape);
  std::vector<std::unique_ptr<Buffer>> caches;
  for (KvLayer& layer : kv) {
    SHOAL_ASSIGN(auto cache, filled_cache(timer, layer, rng));
    caches.push_back(std::move(cache));
  }
  std::vector<int32_t> table, positions, owners;
  for (int64_t b = 0; b < sequences * stride; ++b) table.push_back(static_cast<int32_t>(b));
  double seen = 0;  // positions, over all rows
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t position = prefill ? std::max<int64_t>(context - rows + r, 0) : context - 1;
    positions.push_back(static_cast<int32_t>(position));
    owners.push_back(prefill ? 0 : static_cast<int32_t>(r));
    seen += static_cast<double>(position + 1);
  }
  SHOAL_ASSIGN(const auto table_d, timer.array(table));
  SHOAL_ASSIGN(const auto positions_d, timer.array(positions));
  SHOAL_ASSIGN(const auto owners_d, timer.array(owners));
  SHOAL_ASSIGN(const auto q, timer.floats(rng, rows * kQueryHeads * kDim));
  SHOAL_ASSIGN(const auto out, device.create_activations(rows, kQueryHeads * kDim));
  AttentionSpec spec;
  spec.q_heads = kQueryHeads, spec.group = kQueryHeads / kKvHeads, spec.scale = 0.088f;
  const StepView step{.rows = rows,
                      .positions = positions_d->i32(),
                      .sequences = owners_d->i32(),
                      .block_tables = table_d->i32(),
                      .table_stride = stride};
  const auto seconds = timer.time(layers, [&](int64_t i) {
    device.attention(q->f32(), kQueryHeads * kDim, spec, step, kv[static_cast<size_t>(i)], *out);
  });
  if (!seconds) return seconds.status();
  const double element = type == KvType::kF32 ? 4 : 2;
  add({"attention", type == KvType::kF32 ? "f32" : "f16",
       fmt::format("{}/{} × {} at {}", kQueryHeads, kKvHeads, kDim, context), rows, *seconds,
       static_cast<double>(sequences * context * kKvHeads * kDim) * 2 * element,
       4 * seen * static_cast<double>(kQueryHeads * kDim)});
  return Status::ok();
}

}  // namespace

Status bench_attention(KernelTimer& timer, int64_t context, const std::vector<int64_t>& rows,
                       const AddFigure& add) {
  for (const KvType type : {KvType::kF16, KvType::kF32}) {
    for (const int64_t n : rows) {
      SHOAL_TRY(attention_rows(timer, type, context, n, add).annotate("attention"));
    }
  }
  return Status::ok();
}

Status bench_experts(KernelTimer& timer, TensorType type, const std::vector<int64_t>& rows,
                     const AddFigure& add) {
  constexpr int64_t kExperts = 128, kTopK = 8, kWidth = 2048, kFeatures = 768;
  constexpr int64_t kChoices = 64;  // selections to go round among
  if (kFeatures % traits(type).block_elems != 0) return Status::ok();
  Device& device = timer.device();
  Rng rng(5);
  SHOAL_ASSIGN(const auto gate, timer.weight(type, kExperts * kFeatures, kWidth, rng));
  SHOAL_ASSIGN(const auto up, timer.weight(type, kExperts * kFeatures, kWidth, rng));
  SHOAL_ASSIGN(const auto down, timer.weight(type, kExperts * kWidth, kFeatures, rng));
  std::vector<int32_t> local;
  for (int32_t e = 0; e < kExperts; ++e) local.push_back(e);
  SHOAL_ASSIGN(const auto local_d, timer.array(local));
  const auto expert_bytes = static_cast<double>(3 * kFeatures) *
                            static_cast<double>(row_bytes(type, static_cast<uint64_t>(kWidth)));
  for (const int64_t n : rows) {
    std::vector<int32_t> ids;
    double used = 0;  // experts of a selection, the mean
    for (int64_t c = 0; c < kChoices; ++c) {
      std::set<int32_t> chosen;
      for (int64_t r = 0; r < n; ++r) {
        const auto first = static_cast<int32_t>(rng.below(kExperts));
        for (int32_t k = 0; k < kTopK; ++k) {  // neighbours five apart: all different
          ids.push_back((first + 5 * k) % kExperts);
          chosen.insert(ids.back());
        }
      }
      used += static_cast<double>(chosen.size()) / kChoices;
    }
    SHOAL_ASSIGN(const auto ids_d, timer.array(ids));
    SHOAL_ASSIGN(const auto weights,
                 timer.array(std::vector<float>(static_cast<size_t>(n * kTopK), 0.125f)));
    SHOAL_ASSIGN(const auto x, timer.input(rng, n, kWidth));
    SHOAL_ASSIGN(const auto y, timer.floats(rng, n * kWidth));
    SHOAL_ASSIGN(const auto hidden, device.create_activations(n * kTopK, kFeatures));
    ExpertTask task{.experts = kExperts, .count = kExperts, .top_k = kTopK};
    task.gate.weight = gate.get(), task.up.weight = up.get();
    task.down = {down.get(), nullptr, y->f32(), kWidth};
    task.local = local_d->i32(), task.weights = weights->f32();
    const auto seconds = timer.time(kChoices, [&](int64_t i) {
      task.ids = ids_d->i32() + i * n * kTopK;
      device.experts(task, *x, n, *hidden);
    });
    if (!seconds) return seconds.status();
    add({"experts", std::string(tensor_type_name(type)),
         fmt::format("{} of {}, {} × {}", kTopK, kExperts, kFeatures, kWidth), n, *seconds,
         used * expert_bytes, 6 * static_cast<double>(n * kTopK * kWidth * kFeatures)});
  }
  return Status::ok();
}

}  // namespace shoal
