#include <algorithm>

#include <fmt/core.h>

#include "kernels/formats/weight_check.h"
#include "worker/model_shard.h"
#include "worker/weight_reader.h"

namespace shoal {
namespace {

// Where a declared tensor goes. One place knows which member a role fills.
struct Destination {
  Linear* linear = nullptr;
  std::unique_ptr<Buffer>* vector = nullptr;
};

Destination to_linear(const TensorDecl& decl, Linear& target) {
  return decl.bias ? Destination{nullptr, &target.bias} : Destination{&target, nullptr};
}
Destination to_norm(const TensorDecl& decl, NormWeights& target) {
  return {nullptr, decl.bias ? &target.bias : &target.weight};
}

Destination attention_destination(const TensorDecl& decl, ShardLayer& layer) {
  switch (decl.role) {
    case Role::kAttnNorm:
      return to_norm(decl, layer.attn_norm);
    case Role::kAttnNorm2:
      return to_norm(decl, layer.attn_norm2);
    case Role::kAttnPostNorm:
      return to_norm(decl, layer.attn_post_norm);
    case Role::kAttnQ:
      return to_linear(decl, layer.q);
    case Role::kAttnK:
      return to_linear(decl, layer.k);
    case Role::kAttnV:
      return to_linear(decl, layer.v);
    case Role::kAttnOut:
      return to_linear(decl, layer.attn_out);
    case Role::kAttnQNorm:
      return {nullptr, &layer.q_norm};
    case Role::kAttnKNorm:
    case Role::kLatentKvANorm:  // of the first features of the one key
      return {nullptr, &layer.k_norm};
    case Role::kAttnSinks:
      return {nullptr, &layer.sinks};
    case Role::kLatentQA:
      return to_linear(decl, layer.q_a);
    case Role::kLatentQANorm:
      return {nullptr, &layer.q_a_norm};
    case Role::kLatentKvA:
      return to_linear(decl, layer.kv_a);
    case Role::kLatentKB:
      return to_linear(decl, layer.k_b);
    case Role::kLatentVB:
      return to_linear(decl, layer.v_b);
    default:
      return {};
  }
}

Destination ffn_destination(const TensorDecl& decl, ShardLayer& layer) {
  Mixture& mixture = layer.mixture;
  switch (decl.role) {
    case Role::kFfnNorm:
      return to_norm(decl, layer.ffn_norm);
    case Role::kFfnPostNorm:
      return to_norm(decl, layer.ffn_post_norm);
    case Role::kFfnGate:
      return to_linear(decl, layer.gate);
    case Role::kFfnUp:
      return to_linear(decl, layer.up);
    case Role::kFfnDown:
      return to_linear(decl, layer.down);
    case Role::kRouter:
      return to_linear(decl, mixture.router);
    case Role::kRouterSelectionBias:
      return {nullptr, &mixture.selection_bias};
    case Role::kExpertGate:
      return to_linear(decl, mixture.gate);
    case Role::kExpertUp:
      return to_linear(decl, mixture.up);
    case Role::kExpertDown:
      return to_linear(decl, mixture.down);
    case Role::kSharedGate:
      return to_linear(decl, mixture.shared_gate);
    case Role::kSharedUp:
      return to_linear(decl, mixture.shared_up);
    case Role::kSharedDown:
      return to_linear(decl, mixture.shared_down);
    case Role::kSharedRouter:
      return to_linear(decl, mixture.shared_router);
    default:
      return {};
  }
}

Destination destination_of(const TensorDecl& decl, ModelShard& model) {
  switch (decl.role) {
    case Role::kTokenEmbedding:
      return to_linear(decl, model.embedding);
    case Role::kOutput:  // a tied one's bias belongs to the matrix that it shares
      return to_linear(decl, model.spec.tied_output ? model.embedding : model.output);
    case Role::kOutputNorm:
      return to_norm(decl, model.output_norm);
    case Role::kRopeFactors:
    case Role::kRopeFactorsLong:
    case Role::kRopeFactorsShort:
      return {};
    default:
      break;
  }
  ShardLayer& layer = model.layers[static_cast<size_t>(decl.layer)];
  Destination to = attention_destination(decl, layer);
  if (to.linear == nullptr && to.vector == nullptr) to = ffn_destination(decl, layer);
  SHOAL_CHECK(to.linear != nullptr || to.vector != nullptr, "role without a place: " + decl.name);
  return to;
}

// The embedding is read row by row, also where it is the output's matrix too; k_b and v_b are a
// small matrix per head.
WeightUse use_of(Role role) {
  return role == Role::kTokenEmbedding || role == Role::kLatentKB || role == Role::kLatentVB
             ? WeightUse::kRows
             : WeightUse::kProducts;
}

class Loader {
 public:
  Loader(const GgufFile& file, Device& device, const LoadOptions& options, ModelShard& model)
      : file_(file),
        device_(device),
        options_(options),
        model_(model),
        reader_(file, device, options) {}

  Status run() {
    for (const TensorDecl& decl : model_.spec.tensors) SHOAL_TRY(prepare(decl));
    SHOAL_TRY(make_rope_tables());
    SHOAL_TRY(make_expert_tables());
    return reader_.read_all();
  }

 private:
  Status prepare(const TensorDecl& decl) {
    if (decl.role == Role::kOutput && model_.spec.tied_output && !decl.bias) return Status::ok();
    const Destination to = destination_of(decl, model_);
    const TensorInfo& tensor = *file_.find_tensor(decl.name);
    const TensorSlice slice = slice_tensor(decl, model_.spec, model_.shard);
    if (to.vector != nullptr) return load_vector(decl, tensor, slice, to.vector);
    if (to.linear == nullptr) return Status::ok();
    return prepare_matrix(decl, tensor, slice, *to.linear);
  }

  // Vectors are small: read at once, converted to float32.
  Status load_vector(const TensorDecl& decl, const TensorInfo& tensor, const TensorSlice& slice,
                     std::unique_ptr<Buffer>* out) {
    SHOAL_ASSIGN(const std::vector<float> values, read_finite_vector(file_, tensor));
    std::vector<float> held;
    if (decl.experts == 0) {
      held.assign(values.begin() + slice.rows.begin, values.begin() + slice.rows.end);
    } else if (slice.experts.empty()) {
      return Status::ok();  // another rank adds it
    }
    for (const int64_t expert : slice.experts) {
      const auto part = values.begin() + expert * decl.expert_rows;
      held.insert(held.end(), part + slice.rows.begin, part + slice.rows.end);
    }
    SHOAL_ASSIGN(*out, upload(held, decl.name));
    model_.weight_bytes += (*out)->bytes();
    return Status::ok();
  }

  template <class T>
  Result<std::unique_ptr<Buffer>> upload(const std::vector<T>& values, const std::string& what) {
    SHOAL_ASSIGN(auto buffer, device_.allocate(values.size() * sizeof(T), what));
    device_.copy_to_device(buffer->data(), values.data(), values.size() * sizeof(T));
    return buffer;
  }

  Status make_expert_tables() {
    for (size_t i = 0; i < model_.layers.size(); ++i) {
      const int64_t experts = model_.spec.layer[i].ffn.moe.experts;
      if (experts == 0) continue;
      ShardLayer& layer = model_.layers[i];
      std::vector<int32_t> local(static_cast<size_t>(experts), -1), replicas(local.size(), 1),
          replica(local.size(), 0);
      bool replicated = false;
      for (size_t l = 0; l < layer.range.experts.size(); ++l) {
        const HeldExpert& held = layer.range.experts[l];
        const auto id = static_cast<size_t>(held.id);
        local[id] = static_cast<int32_t>(l);
        replicas[id] = held.replicas;
        replica[id] = held.replica;
        replicated = replicated || held.replicas > 1;
      }
      SHOAL_ASSIGN(layer.mixture.local, upload(local, "expert table"));
      if (!replicated) continue;
      SHOAL_ASSIGN(layer.mixture.replicas, upload(replicas, "expert table"));
      SHOAL_ASSIGN(layer.mixture.replica, upload(replica, "expert table"));
    }
    return Status::ok();
  }

  Status prepare_matrix(const TensorDecl& decl, const TensorInfo& tensor, const TensorSlice& slice,
                        Linear& linear) {
    const bool transposed = decl.form == TensorForm::kKeysOfKvB;
    WeightSlice shape;
    shape.type = transposed ? TensorType::kF32 : tensor.type;
    shape.rows = slice.rows.size();
    if (decl.experts > 0) shape.rows *= static_cast<int64_t>(slice.experts.size());
    shape.cols = slice.cols.size();
    shape.first_col = slice.cols.begin;
    shape.file_cols = decl.cols;
    shape.use = use_of(decl.role);
    SHOAL_ASSIGN(linear.weight, device_.create_weight(shape, decl.name));
    model_.weight_bytes += linear.weight->device_bytes();
    const bool looked_up = decl.role == Role::kTokenEmbedding && !model_.spec.tied_output;
    if (decl.experts == 0 && !looked_up) model_.step_bytes += linear.weight->device_bytes();
    if (!decl.scale_name.empty()) {
      SHOAL_ASSIGN(const std::vector<float> scale,
                   read_finite_vector(file_, *file_.find_tensor(decl.scale_name)));
      linear.scale = scale[0];
    }
    if (decl.form != TensorForm::kPlain) {
      read_from_kv_b(decl, tensor, slice, *linear.weight);
    } else if (decl.experts > 0) {
      for (size_t i = 0; i < slice.experts.size(); ++i) {
        reader_.add_rows(tensor, *linear.weight, static_cast<int64_t>(i) * slice.rows.size(),
                         slice.experts[i] * decl.expert_rows + slice.rows.begin, slice.rows.size());
      }
    } else {
      reader_.add_rows(tensor, *linear.weight, 0, slice.rows.begin, slice.rows.size());
    }
    return Status::ok();
  }

  // attn_kv_b has, head by head, `nope` rows of keys, then `value` rows of values. Keys are needed
  // transposed, which a quantised block cannot be: float32.
  void read_from_kv_b(const TensorDecl& decl, const TensorInfo& tensor, const TensorSlice& slice,
                      Weight& weight) {
    const AttentionLayer& a = model_.spec.layer[static_cast<size_t>(decl.layer)].attention;
    const bool keys = decl.form == TensorForm::kKeysOfKvB;
    const int64_t own = keys ? a.latent.kv_rank : a.latent.value;  // rows of the weight per head
    const int64_t first_head = slice.rows.begin / own;
    for (int64_t h = 0; h < slice.rows.size() / own; ++h) {
      const int64_t file_row = (first_head + h) * (a.latent.nope + a.latent.value);
      if (keys) {
        reader_.add_transposed(tensor, weight, h * own, file_row, a.latent.nope);
      } else {
        reader_.add_rows(tensor, weight, h * own, file_row + a.latent.nope, own);
      }
    }
  }

  // LongRoPE's table depends on the context the model runs with, once for all its sequences: a
  // cache filled with one table cannot be read with the other.
  const TensorDecl* rope_factors(const RopeSpec& rope) const {
    const Role role =
        options_.context > rope.original_context ? Role::kRopeFactorsLong : Role::kRopeFactorsShort;
    const TensorDecl* by_context = model_.spec.find(role, -1);
    return by_context != nullptr ? by_context : model_.spec.find(Role::kRopeFactors, -1);
  }

  Result<std::vector<float>> factors_of(const RopeSpec& rope) {
    const TensorDecl* decl = rope_factors(rope);
    if (decl == nullptr || decl->rows != rope.dims / 2) return std::vector<float>{};
    return read_rope_factors(file_, *file_.find_tensor(decl->name));
  }

  Status make_rope_tables() {
    for (size_t i = 0; i < model_.layers.size(); ++i) {
      const RopeSpec& rope = model_.spec.layer[i].attention.rope;
      if (rope.style == RopeStyle::kNone) continue;
      SHOAL_ASSIGN(const std::vector<float> factors, factors_of(rope));
      SHOAL_ASSIGN(model_.layers[i].inv_freq,
                   upload(rope_inverse_frequencies(rope, factors), "rope frequencies"));
    }
    return Status::ok();
  }

  const GgufFile& file_;
  Device& device_;
  const LoadOptions& options_;
  ModelShard& model_;
  WeightReader reader_;
};

}  // namespace

Result<std::unique_ptr<ModelShard>> load_model_shard(const GgufFile& file, const ModelSpec& spec,
                                                     const RankShard& shard, Device& device,
                                                     const LoadOptions& options) {
  auto model = std::make_unique<ModelShard>();
  model->spec = spec;
  model->shard = shard;
  model->layers.resize(static_cast<size_t>(spec.layers));
  for (size_t i = 0; i < model->layers.size(); ++i) model->layers[i].range = shard.layers[i];
  Status status = Loader(file, device, options, *model).run();
  if (!status) {
    return status.annotate(fmt::format("loading rank {} of {}", shard.rank, shard.world));
  }
  return model;
}

}  // namespace shoal
