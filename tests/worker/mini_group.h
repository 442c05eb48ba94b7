// Ranks as threads: a whole tensor-parallel group in one process, down to the logits. What layout
// and batch-invariance tests compare.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "kernels/device.h"
#include "model/gguf.h"
#include "parallel/collective/collective.h"
#include "worker/kv_store.h"
#include "worker/model_shard.h"
#include "worker/transformer.h"

namespace shoal::testing {

// Consecutive tokens of one sequence, from `position` on.
struct Piece {
  int sequence = 0;
  int64_t position = 0;
  std::vector<int32_t> tokens;
};

struct MiniGroupOptions {
  std::vector<double> shares{1.0};  // one per rank
  ExpertPlan experts{};
  int routing_rank = -1;
  KvType kv = KvType::kF32;
  int64_t block_tokens = 16;
  int64_t sequences = 1;    // how many sequences have room
  int64_t max_tokens = 64;  // per sequence
  int64_t max_rows = 512;
  CpuOptions device{.threads = 1};
  // What each rank computes on, instead of a CPU with the options above.
  std::function<std::unique_ptr<Device>(int rank)> make_device{};
};

class MiniGroup {
 public:
  MiniGroup(const std::string& path, const MiniGroupOptions& options);

  // One step with these pieces, in this order; logits [vocab] of the last token of every piece.
  std::vector<std::vector<float>> step(const std::vector<Piece>& pieces);
  // A fresh sequence `sequence` in chunks of `chunk`; logits after the last token.
  std::vector<float> prefill(int sequence, const std::vector<int32_t>& tokens, int64_t chunk);

  const ModelSpec& spec() const { return spec_; }
  const ModelShard& model(int rank) const { return *members_[static_cast<size_t>(rank)].model; }
  const Transformer& transformer(int rank) const {
    return *members_[static_cast<size_t>(rank)].transformer;
  }

 private:
  struct Member {
    std::unique_ptr<Device> device;
    std::unique_ptr<ModelShard> model;
    std::unique_ptr<KvStore> kv;
    std::unique_ptr<Transformer> transformer;
    std::unique_ptr<Collective> group;
    std::vector<std::unique_ptr<Buffer>> step;  // arrays of a step
  };
  void run_rank(Member& member, const std::vector<Piece>& pieces,
                std::vector<std::vector<float>>* out);

  MiniGroupOptions options_;
  ModelSpec spec_;
  std::vector<Member> members_;
};

// max |a − b|, and whether all bits agree.
float max_difference(const std::vector<float>& a, const std::vector<float>& b);
bool bit_equal(const std::vector<float>& a, const std::vector<float>& b);

}  // namespace shoal::testing
