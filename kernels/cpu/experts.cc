// The experts of a layer on the CPU. The (row, choice) pairs that fall to experts held here are
// sorted by expert: each expert's weights are then read once for all its rows, and weights of
// experts nobody chose are not touched. Two passes:
//
//   hidden[slot] = kind(gate_e x, up_e x)             bands of features of every expert that occurs
//   out[r] (+)= Σ_k weight · (down_e hidden[slot])    bands of output columns, k ascending
//
// A slot is a pair's place in that order. Sums run over k in order for each row on its own, so a
// row's result does not depend on its company.
#include <algorithm>

#include "kernels/cpu/cpu_device.h"

namespace shoal {

struct ExpertGroups {
  struct Group {
    int64_t expert;        // local
    int64_t first, count;  // its slots
  };
  std::vector<Group> groups;   // experts that occur, ascending
  std::vector<int32_t> rows;   // of each slot
  std::vector<float> weights;  // of each slot
  std::vector<int64_t> slots;  // [rows, top_k]; −1: not computed here
};

namespace {

constexpr int64_t kFeatureBand = 32;
// Outputs of all slots computed before they are summed: 128 KiB, of 32 to 512 columns. Long bands
// of one expert keep a single row's weights streaming.
constexpr int64_t kOutputScratch = 32768;
constexpr int64_t kMinOutputBand = 32, kMaxOutputBand = 512;
constexpr int64_t kOutputGrain = 8;

// The local number of a pair's expert, or −1 where another rank computes it.
int64_t local_expert(const ExpertTask& task, int64_t row, int32_t id) {
  SHOAL_CHECK(id >= 0 && id < task.experts, "an expert that does not exist");
  const int64_t local = task.local[id];
  SHOAL_CHECK(local < task.count, "an expert beyond those held here");
  if (local < 0 || task.replicas == nullptr || task.replicas[id] <= 1) return local;
  const int32_t replica = task.replica == nullptr ? 0 : task.replica[id];
  return task.positions[row] % task.replicas[id] == replica ? local : -1;
}

ExpertGroups group_by_expert(const ExpertTask& task, int64_t rows) {
  ExpertGroups by_expert;
  std::vector<int64_t> next(static_cast<size_t>(task.count) + 1);
  by_expert.slots.resize(static_cast<size_t>(rows * task.top_k));
  for (int64_t p = 0; p < rows * task.top_k; ++p) {
    const int64_t expert = local_expert(task, p / task.top_k, task.ids[p]);
    by_expert.slots[static_cast<size_t>(p)] = expert;
    if (expert >= 0) ++next[static_cast<size_t>(expert) + 1];
  }
  for (size_t e = 0; e < static_cast<size_t>(task.count); ++e) {
    const int64_t count = next[e + 1];
    if (count > 0) by_expert.groups.push_back({static_cast<int64_t>(e), next[e], count});
    next[e + 1] += next[e];
  }
  by_expert.rows.resize(static_cast<size_t>(next.back()));
  by_expert.weights.resize(by_expert.rows.size());
  for (int64_t p = 0; p < rows * task.top_k; ++p) {
    int64_t& slot = by_expert.slots[static_cast<size_t>(p)];
    if (slot < 0) continue;
    slot = next[static_cast<size_t>(slot)]++;
    by_expert.rows[static_cast<size_t>(slot)] = static_cast<int32_t>(p / task.top_k);
    by_expert.weights[static_cast<size_t>(slot)] = task.weights[p];
  }
  return by_expert;
}

void check_shapes(const ExpertTask& task, const CpuActivations& x, int64_t slots,
                  const CpuActivations& hidden) {
  const WeightSlice &up = task.up.weight->slice(), &down = task.down.weight->slice();
  SHOAL_CHECK(up.rows % task.count == 0, "experts of unequal size");
  SHOAL_CHECK(task.gate.weight == nullptr || (task.gate.weight->slice().rows == up.rows &&
                                              task.gate.weight->slice().cols == up.cols),
              "gate and up differ");
  SHOAL_CHECK(up.cols == x.width, "a weight's columns differ from the activations'");
  SHOAL_CHECK(down.rows == task.count * x.width && down.cols == up.rows / task.count,
              "an expert's down does not fit its up");
  SHOAL_CHECK(slots <= hidden.rows && down.cols <= hidden.columns, "scratch of experts too small");
}

}  // namespace

void CpuDevice::expert_features(const ExpertTask& task, const ExpertGroups& by_expert,
                                const CpuActivations& x, CpuActivations& hidden) {
  const bool gated = task.gate.weight != nullptr;
  const int64_t n = hidden.width;
  const int64_t bands = (n + kFeatureBand - 1) / kFeatureBand;
  std::vector<int64_t> cost;  // of each (expert, band): reading its weights, then its rows
  for (const ExpertGroups::Group& group : by_expert.groups) {
    cost.insert(cost.end(), static_cast<size_t>(bands), kTileRows + group.count);
  }
  pool_.parallel_weighted(cost, [&](int64_t begin, int64_t end) {
    std::vector<float> scratch;
    for (int64_t unit = begin; unit < end; ++unit) {
      const ExpertGroups::Group& group = by_expert.groups[static_cast<size_t>(unit / bands)];
      const int64_t band = unit % bands * kFeatureBand;
      const int64_t count = std::min(kFeatureBand, n - band), first = group.expert * n + band;
      scratch.resize(static_cast<size_t>(2 * group.count * kFeatureBand));
      const ProductRows rows{
          .count = group.count,
          .index = by_expert.rows.data() + group.first,
          .scale = task.scale_input ? by_expert.weights.data() + group.first : nullptr};
      const auto product = [&](MatmulTask part, float* to) {
        part.out = to - first;  // outputs are addressed by their index in the weight
        part.out_stride = kFeatureBand;
        part.accumulate = false;
        matmul_rows(part, x, rows, first, first + count);
      };
      float* up = scratch.data() + group.count * kFeatureBand;
      if (gated) product(task.gate, scratch.data());
      product(task.up, up);
      for (int64_t i = 0; i < group.count; ++i) {
        gate_row(task.kind, gated ? scratch.data() + i * kFeatureBand : nullptr,
                 up + i * kFeatureBand, count, 1.0f, hidden.row(group.first + i) + band);
      }
    }
  });
  pool_.parallel_for(static_cast<int64_t>(by_expert.rows.size()), 1,
                     [&](int64_t begin, int64_t end) {
                       for (int64_t slot = begin; slot < end; ++slot) finish_row(hidden, slot);
                     });
}

void CpuDevice::expert_outputs(const ExpertTask& task, const ExpertGroups& by_expert, int64_t rows,
                               int64_t width, const CpuActivations& hidden) {
  const auto slots = static_cast<int64_t>(by_expert.rows.size());
  const int64_t step =
      std::clamp(kOutputScratch / std::max<int64_t>(slots, 1), kMinOutputBand, kMaxOutputBand);
  pool_.parallel_for(width, kOutputGrain, [&](int64_t begin, int64_t end) {
    std::vector<float> products(static_cast<size_t>(slots * step)), sum(static_cast<size_t>(step));
    for (int64_t band = begin; band < end; band += step) {
      const int64_t count = std::min(step, end - band);
      for (const ExpertGroups::Group& group : by_expert.groups) {
        const int64_t first = group.expert * width + band;
        MatmulTask part = task.down;
        part.out = products.data() + group.first * step - first;
        part.out_stride = step;
        part.accumulate = false;
        matmul_rows(part, hidden, {.count = group.count, .first = group.first}, first,
                    first + count);
      }
      for (int64_t r = 0; r < rows; ++r) {
        std::fill_n(sum.data(), count, 0.0f);
        for (int64_t p = r * task.top_k; p < (r + 1) * task.top_k; ++p) {
          const int64_t slot = by_expert.slots[static_cast<size_t>(p)];
          if (slot < 0) continue;
          set_.axpy(task.scale_input ? 1.0f : task.weights[p], products.data() + slot * step, count,
                    sum.data());
        }
        float* out = task.down.out + r * task.down.out_stride + band;
        if (task.down.accumulate) {
          set_.axpy(1.0f, sum.data(), count, out);
        } else {
          std::copy_n(sum.data(), count, out);
        }
      }
    }
  });
}

void CpuDevice::experts(const ExpertTask& task, const Activations& input, int64_t rows,
                        Activations& scratch) {
  const auto& x = static_cast<const CpuActivations&>(input);
  auto& hidden = static_cast<CpuActivations&>(scratch);
  SHOAL_CHECK(rows <= x.rows, "more rows than the activations hold");
  const ExpertGroups by_expert = group_by_expert(task, rows);
  if (!by_expert.groups.empty()) {
    check_shapes(task, x, static_cast<int64_t>(by_expert.rows.size()), hidden);
    hidden.width = task.down.weight->slice().cols;
    expert_features(task, by_expert, x, hidden);
  }
  expert_outputs(task, by_expert, rows, x.width, hidden);
}

}  // namespace shoal
