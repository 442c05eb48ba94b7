// The K/V cache of one rank: one paged buffer per layer, the same block ids in every layer of a KV
// group.
#pragma once

#include <memory>
#include <vector>

#include "kernels/device.h"
#include "model/model_spec.h"
#include "parallel/plan/shard.h"

namespace shoal {

struct KvShape {
  KvType type = KvType::kF16;
  std::vector<int64_t> blocks;  // per KV group of the model
  int64_t block_tokens = 0;
  friend bool operator==(const KvShape&, const KvShape&) = default;
};

class KvStore {
 public:
  static Result<std::unique_ptr<KvStore>> create(const ModelSpec& spec, const RankShard& shard,
                                                 const KvShape& shape, Device& device);
  const KvLayer& layer(size_t index) const { return layers_[index]; }
  const KvShape& shape() const { return shape_; }
  uint64_t bytes() const { return bytes_; }

 private:
  KvShape shape_;
  std::vector<std::unique_ptr<Buffer>> buffers_;
  std::vector<KvLayer> layers_;
  uint64_t bytes_ = 0;
};

}  // namespace shoal
