#include "bench/kernel_ops.h"

#include <fmt/core.h>

#include <algorithm>

namespace shoal {

Result<double> read_ceiling(KernelTimer& timer) {
  Device& device = timer.device();
  const uint64_t bytes = timer.cycle_bytes();
  SHOAL_ASSIGN(const auto memory, device.allocate(bytes, "memory to read"));
  const std::vector<uint8_t> ones(1 << 20, 1);  // untouched pages would all be one
  for (uint64_t at = 0; at < bytes; at += ones.size()) {
    device.copy_to_device(static_cast<uint8_t*>(memory->data()) + at, ones.data(),
                          std::min<uint64_t>(ones.size(), bytes - at));
  }
  SHOAL_ASSIGN(const double seconds,
               timer.time(1, [&](int64_t) { device.read_memory(memory->data(), bytes); }));
  return static_cast<double>(bytes) / seconds * 1e-9;
}

Status bench_matmul(KernelTimer& timer, TensorType type, const KernelShape& shape,
                    const std::vector<int64_t>& rows, const AddFigure& add) {
  Device& device = timer.device();
  Rng rng(1);
  const int64_t matrices = shape.gated ? 2 : 1;
  const auto bytes = static_cast<uint64_t>(matrices * shape.outputs) *
                     row_bytes(type, static_cast<uint64_t>(shape.features));
  const int64_t copies = timer.copies(bytes);
  std::vector<std::unique_ptr<Weight>> weights;
  for (int64_t i = 0; i < copies * matrices; ++i) {
    SHOAL_ASSIGN(auto weight, timer.weight(type, shape.outputs, shape.features, rng));
    weights.push_back(std::move(weight));
  }
  for (const int64_t n : rows) {
    SHOAL_ASSIGN(const auto x, timer.input(rng, n, shape.features));
    SHOAL_ASSIGN(const auto y, timer.floats(rng, shape.gated ? 1 : n * shape.outputs));
    SHOAL_ASSIGN(const auto gated, device.create_activations(n, shape.gated ? shape.outputs : 1));
    const auto call = [&](int64_t i) {
      const Weight* first = weights[static_cast<size_t>(i * matrices)].get();
      if (shape.gated) {
        GatedTask task;
        task.gate.weight = first;
        task.up.weight = weights[static_cast<size_t>(i * matrices + 1)].get();
        device.gated_matmul(task, *x, n, *gated);
      } else {
        const MatmulTask task{first, nullptr, y->f32(), shape.outputs};
        device.matmul({&task, 1}, *x, n);
      }
    };
    const auto seconds = timer.time(copies, call);
    if (!seconds) return seconds.status();
    const auto products =
        static_cast<double>(n) * static_cast<double>(matrices * shape.outputs * shape.features);
    add({shape.gated ? "gated" : "matmul", std::string(tensor_type_name(type)),
         fmt::format("{} {} × {}", shape.name, matrices * shape.outputs, shape.features), n,
         *seconds, static_cast<double>(bytes), 2 * products});
  }
  return Status::ok();
}

Status bench_norm(KernelTimer& timer, const std::vector<int64_t>& rows, const AddFigure& add) {
  constexpr int64_t kWidth = 8192;
  Device& device = timer.device();
  Rng rng(2);
  SHOAL_ASSIGN(const auto weight, timer.floats(rng, kWidth));
  for (const int64_t n : rows) {
    SHOAL_ASSIGN(const auto h, timer.floats(rng, n * kWidth));
    SHOAL_ASSIGN(const auto delta, timer.floats(rng, n * kWidth));
    SHOAL_ASSIGN(const auto out, device.create_activations(n, kWidth));
    ResidualNorm norm{.h = h->f32(), .rows = n, .cols = kWidth};
    norm.delta = delta->f32();
    norm.weight = weight->f32();
    norm.eps = 1e-5f;
    norm.out_rows = n;
    const auto seconds = timer.time(1, [&](int64_t) { device.residual_norm(norm, *out); });
    if (!seconds) return seconds.status();
    // h twice, delta, the row as floats and as codes
    add({"norm", "f32", fmt::format("{}", kWidth), n, *seconds,
         static_cast<double>(n * kWidth) * (4 * 4 + 1), 0, false, true});
  }
  return Status::ok();
}

Status bench_sampling(KernelTimer& timer, const AddFigure& add) {
  constexpr int64_t kVocab = 128256;
  Device& device = timer.device();
  Rng rng(3);
  SampleRow greedy, sampled, full;
  greedy.temperature = 0;
  sampled.temperature = 0.8f;
  full.temperature = 0.8f, full.shaped_candidates = 128, full.top_logprobs = 5;
  for (const auto& [name, row] :
       {std::pair{"greedy", greedy}, {"sampled", sampled}, {"top_p", full}}) {
    for (const int64_t n : {1, 8}) {
      SHOAL_ASSIGN(const auto logits, timer.floats(rng, n * kVocab));
      const std::vector<SampleRow> rows(static_cast<size_t>(n), row);
      std::vector<LocalSample> out(rows.size());
      const auto seconds = timer.time_waiting(
          [&] { device.sample_local(logits->f32(), kVocab, kVocab, 0, rows, out); });
      if (!seconds) return seconds.status();
      add({"sampling", name, fmt::format("{}", kVocab), n, *seconds,
           static_cast<double>(n * kVocab) * 4, 0, true, true});
    }
  }
  return Status::ok();
}

}  // namespace shoal
