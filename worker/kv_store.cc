#include "worker/kv_store.h"

namespace shoal {

Result<std::unique_ptr<KvStore>> KvStore::create(const ModelSpec& spec, const RankShard& shard,
                                                 const KvShape& shape, Device& device) {
  auto store = std::make_unique<KvStore>();
  store->shape_ = shape;
  for (size_t i = 0; i < spec.layer.size(); ++i) {
    KvLayer layer;
    layer.type = shape.type;
    const AttentionLayer& attention = spec.layer[i].attention;
    layer.blocks = shape.blocks.at(static_cast<size_t>(attention.kv_group));
    layer.block_tokens = shape.block_tokens;
    layer.kv_heads = shard.layers[i].kv_heads.size();
    layer.head_dim = attention.head_dim;
    layer.latent_dim = attention.latent.kv_rank;
    const uint64_t bytes = device.kv_layer_bytes(layer);
    SHOAL_ASSIGN(auto buffer, device.allocate(bytes, "KV cache of layer " + std::to_string(i)));
    layer.data = buffer->data();
    store->bytes_ += bytes;
    store->buffers_.push_back(std::move(buffer));
    store->layers_.push_back(layer);
  }
  return store;
}

}  // namespace shoal
