// How fast requests are through everything but HTTP: coordinator, control plane, workers as
// processes, collectives. What `shoal bench latency` measures.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "config/config.h"
#include "coordinator/server/served_model.h"

namespace shoal {

struct LatencyOptions {
  int workers = 1;
  int threads = 1;                  // of each worker
  int streams = 1;                  // requests at once, each with a prompt of its own
  int prompt = 256, generate = 64;  // tokens of each
  int repeats = 3;
  bool kv_f32 = false;
  config::Experts experts = config::Experts::kAuto;
};

struct LatencyFigures {
  // Medians over the repeats, all streams together. Decode: while every stream had its first token
  // and none its last.
  double prefill_tokens_per_second = 0, decode_tokens_per_second = 0;
  // While decoding, over all repeats: [ranks] seconds in expert products per step. Empty: a model
  // without experts.
  std::vector<double> expert_seconds;
  // Streaming reads with as many threads, before and after: the ceiling of one stream.
  double ceiling_before = 0, ceiling_after = 0;  // GB/s

  double expert_imbalance() const;  // the busiest rank ÷ the mean; 1 without experts
};

// Starts a group, warms it up, measures, stops it.
Result<LatencyFigures> measure_latency(const ServedModel& model, const LatencyOptions& options);

}  // namespace shoal
