// The FFN half of a layer: dense, or a mixture of experts with its shared expert. Either way the
// rank's part ends up in delta, and one all-reduce makes the layer's output of it.
#include <chrono>

#include "worker/transformer.h"

namespace shoal {
namespace {

const int32_t* ints_or_null(const std::unique_ptr<Buffer>& buffer) {
  return buffer ? buffer->i32() : nullptr;
}

// Of one of the experts held here.
uint64_t expert_bytes(const ShardLayer& layer) {
  uint64_t all = 0;
  for (const Linear* linear : {&layer.mixture.gate, &layer.mixture.up, &layer.mixture.down}) {
    if (*linear) all += linear->weight->device_bytes();
  }
  return layer.range.experts.empty() ? 0 : all / layer.range.experts.size();
}

}  // namespace

void Transformer::ffn_block(size_t index, bool accumulate) {
  if (model_.spec.layer[index].ffn.moe.experts > 0) return mixture(index, accumulate);
  dense_ffn(index, accumulate);
}

void Transformer::dense_ffn(size_t index, bool accumulate) {
  const ShardLayer& layer = model_.layers[index];
  GatedTask gated;
  if (layer.gate) gated.gate = layer.gate.task(nullptr, 0);
  gated.up = layer.up.task(nullptr, 0);
  gated.kind = model_.spec.layer[index].ffn.gate;
  device_.gated_matmul(gated, *scratch_.normed, rows(), *scratch_.gated);
  MatmulTask down = layer.down.task(scratch_.delta->f32(), model_.spec.width);
  down.bias = nullptr;  // once, after the reduce
  down.accumulate = accumulate;
  device_.matmul({&down, 1}, *scratch_.gated, rows());
}

void Transformer::mixture(size_t index, bool accumulate) {
  select_experts(index);
  const auto start = std::chrono::steady_clock::now();
  run_experts(index, accumulate);
  expert_seconds_ += to_seconds(std::chrono::steady_clock::now() - start);
  if (!model_.layers[index].range.shared.empty()) shared_expert(index);
}

// Every rank from the same bits with the same arithmetic, or one rank for all.
void Transformer::select_experts(size_t index) {
  const MoeLayer& moe = model_.spec.layer[index].ffn.moe;
  const Mixture& mixture = model_.layers[index].mixture;
  const bool broadcasts = options_.routing_rank >= 0 && exchange_->world() > 1;
  if (!broadcasts || exchange_->rank() == options_.routing_rank) {
    const MatmulTask router = mixture.router.task(scratch_.router_logits->f32(), moe.experts);
    device_.matmul({&router, 1}, *scratch_.normed, rows());
    RouteSpec route;
    route.experts = moe.experts;
    route.top_k = moe.top_k;
    route.gating = moe.gating;
    route.normalise = moe.normalise;
    route.scale = moe.weight_scale;
    route.selection_bias = mixture.selection_bias ? mixture.selection_bias->f32() : nullptr;
    route.groups = moe.groups;
    route.groups_used = moe.groups_used;
    device_.route(scratch_.router_logits->f32(), rows(), route, expert_ids(index),
                  scratch_.expert_weights->f32());
  }
  if (!broadcasts) return;
  const int64_t selected = rows() * moe.top_k;
  exchange_->broadcast_ids(expert_ids(index), selected, static_cast<int32_t>(moe.experts),
                           options_.routing_rank);
  exchange_->broadcast(scratch_.expert_weights->f32(),
                       static_cast<uint64_t>(selected) * sizeof(float), options_.routing_rank);
}

int32_t* Transformer::expert_ids(size_t index) const {
  return scratch_.expert_ids->i32() + mixture_index_[index] * rows() * scratch_.most_top_k;
}

void Transformer::account() {
  bytes_read_ += model_.step_bytes;
  if (!scratch_.expert_ids) return;
  // The slices of the mixtures lie one behind the other: see expert_ids().
  std::vector<int32_t> all(
      static_cast<size_t>((mixture_index_.back() + 1) * rows() * scratch_.most_top_k));
  device_.copy_to_host(all.data(), scratch_.expert_ids->data(), all.size() * sizeof(int32_t));
  std::vector<bool> visited;
  for (size_t i = 0; i < model_.layers.size(); ++i) {
    const MoeLayer& moe = model_.spec.layer[i].ffn.moe;
    if (moe.experts == 0) continue;
    uint64_t* tokens = expert_tokens_.data() + expert_counters_[i];
    visited.assign(static_cast<size_t>(moe.experts), false);
    const int32_t* ids = all.data() + (expert_ids(i) - scratch_.expert_ids->i32());
    for (int64_t n = 0; n < rows() * moe.top_k; ++n) {
      ++tokens[ids[n]];
      visited[static_cast<size_t>(ids[n])] = true;
    }
    uint64_t held = 0;
    for (const HeldExpert& expert : model_.layers[i].range.experts) {
      held += visited[static_cast<size_t>(expert.id)] ? 1 : 0;
    }
    bytes_read_ += held * expert_bytes(model_.layers[i]);
  }
}

void Transformer::run_experts(size_t index, bool accumulate) {
  const ShardLayer& layer = model_.layers[index];
  const FfnLayer& ffn = model_.spec.layer[index].ffn;
  const Mixture& mixture = layer.mixture;
  ExpertTask task;
  task.experts = ffn.moe.experts;
  task.count = static_cast<int64_t>(layer.range.experts.size());
  task.top_k = ffn.moe.top_k;
  task.gate = mixture.gate.task(nullptr, 0);
  task.up = mixture.up.task(nullptr, 0);
  task.down = mixture.down.task(scratch_.delta->f32(), model_.spec.width);
  task.down.accumulate = accumulate;
  task.kind = ffn.gate;
  task.scale_input = ffn.moe.scale_input;
  task.local = mixture.local->i32();
  task.replicas = ints_or_null(mixture.replicas);
  task.replica = ints_or_null(mixture.replica);
  task.positions = input_.steps[0].positions;
  task.ids = expert_ids(index);
  task.weights = scratch_.expert_weights->f32();
  device_.experts(task, *scratch_.normed, rows(), *scratch_.expert_mid);
}

void Transformer::shared_expert(size_t index) {
  const Mixture& mixture = model_.layers[index].mixture;
  GatedTask gated;
  gated.gate = mixture.shared_gate.task(nullptr, 0);
  gated.up = mixture.shared_up.task(nullptr, 0);
  gated.kind = model_.spec.layer[index].ffn.gate;
  if (mixture.shared_router) {
    const MatmulTask task = mixture.shared_router.task(scratch_.row_gate->f32(), 1);
    device_.matmul({&task, 1}, *scratch_.normed, rows());
    gated.row_gate = scratch_.row_gate->f32();
  }
  device_.gated_matmul(gated, *scratch_.normed, rows(), *scratch_.gated);
  MatmulTask down = mixture.shared_down.task(scratch_.delta->f32(), model_.spec.width);
  down.accumulate = true;  // one reduce for routed and shared experts
  device_.matmul({&down, 1}, *scratch_.gated, rows());
}

}  // namespace shoal
