// A layer of experts for tests of devices.
#pragma once

#include <numeric>
#include <utility>
#include <vector>

#include "tests/kernels/cpu_support.h"

namespace shoal::testing {

struct ExpertShape {
  TensorType gate_up, down;
  int64_t experts, top_k, width, features;
  GateFunction kind = GateFunction::kSilu;
  bool biases = false, scale_input = false, gated = true;
};

// The experts of one layer as a file holds them, and one step's rows.
struct ExpertLayer {
  ExpertLayer(const ExpertShape& s, int64_t rows_in, Rng& rng)
      : shape(s),
        rows(rows_in),
        gate(s.gate_up, s.experts * s.features, s.width, rng, 0.1f),
        up(s.gate_up, s.experts * s.features, s.width, rng, 0.1f),
        down(s.down, s.experts * s.width, s.features, rng, 0.1f),
        gate_bias(random_values(rng, s.experts * s.features)),
        up_bias(random_values(rng, s.experts * s.features)),
        down_bias(random_values(rng, s.experts * s.width)),
        x(random_values(rng, rows * s.width)) {
    std::vector<int32_t> order(static_cast<size_t>(s.experts));
    std::iota(order.begin(), order.end(), 0);
    for (int64_t r = 0; r < rows; ++r) {
      for (size_t k = 0; k < static_cast<size_t>(s.top_k); ++k) {
        std::swap(order[k], order[k + rng.below(order.size() - k)]);
        ids.push_back(order[k]);
        weights.push_back(static_cast<float>(0.1 + rng.uniform()));
      }
      positions.push_back(static_cast<int32_t>(100 + 7 * r));
    }
  }

  ExpertShape shape;
  int64_t rows;
  Matrix gate, up, down;
  std::vector<float> gate_bias, up_bias, down_bias, x;
  std::vector<int32_t> ids, positions;
  std::vector<float> weights;
};

}  // namespace shoal::testing
