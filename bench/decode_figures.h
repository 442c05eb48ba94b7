// How fast one device decodes a model that no file holds: random weights of a real shape go
// straight into its memory, one stream generates, and every token's bytes are set against memory
// that is only read.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "bench/synth.h"
#include "kernels/device.h"

namespace shoal {

struct DecodeBenchOptions {
  SynthShape shape;
  std::string mix = "Q4_K_M";
  int64_t context = 1024;  // tokens of the prompt, ≥ 1
  int64_t generate = 64;   // tokens, ≥ 1; the first few, which record graphs, come on top
  KvType kv = KvType::kF16;
};

struct DecodeFigures {
  std::string device, arithmetic;
  uint64_t weight_bytes = 0;     // on the device
  uint64_t bytes_per_token = 0;  // of weights that a token reads
  uint64_t kv_bytes = 0;         // of the prompt's K and V, which a token reads too
  double load_seconds = 0;       // making the weights included
  double prefill_seconds = 0;    // of the prompt
  std::vector<double> step_seconds;
  double ceiling_before = 0, ceiling_after = 0;  // GB/s of memory that is only read

  double ceiling() const { return ceiling_before > ceiling_after ? ceiling_before : ceiling_after; }
  double step() const;  // the median
};

// A model that does not fit is refused with its bytes before anything is loaded.
Result<DecodeFigures> measure_decode(Device& device, const DecodeBenchOptions& options);

}  // namespace shoal
