#include "worker/staged_exchange.h"

#include <algorithm>
#include <span>

#include <fmt/core.h>

namespace shoal {

void StagedExchange::begin_step(const ExchangeStep& step) {
  op_ = {step.epoch, step.deadline, step.step};
  error_ = Status::ok();
}

void* StagedExchange::fetch(void* data, uint64_t bytes) {
  if (failed()) return nullptr;
  if (device_.host_visible()) return data;
  error_ = device_.synchronize(op_.deadline);
  if (failed()) return nullptr;
  staging_.resize((bytes + 7) / 8);
  device_.copy_to_host(staging_.data(), data, bytes);
  return staging_.data();
}

void StagedExchange::put_back(void* data, uint64_t bytes) {
  if (!device_.host_visible()) device_.copy_to_device(data, staging_.data(), bytes);
}

void StagedExchange::all_reduce(float* data, int64_t count) {
  if (group_.world() == 1) return;
  const uint64_t bytes = static_cast<uint64_t>(count) * sizeof(float);
  void* staged = fetch(data, bytes);
  if (staged == nullptr) return;
  error_ = group_.all_reduce_sum(static_cast<float*>(staged), count, op_);
  if (!failed()) put_back(data, bytes);
}

void StagedExchange::broadcast(void* data, uint64_t bytes, int root) {
  if (group_.world() == 1) return;
  void* staged = fetch(data, bytes);
  if (staged == nullptr) return;
  error_ = group_.broadcast(staged, bytes, root, op_);
  if (!failed()) put_back(data, bytes);
}

void StagedExchange::broadcast_ids(int32_t* ids, int64_t count, int32_t limit, int root) {
  if (group_.world() == 1) return;
  const uint64_t bytes = static_cast<uint64_t>(count) * sizeof(int32_t);
  void* staged = fetch(ids, bytes);
  if (staged != nullptr) error_ = group_.broadcast(staged, bytes, root, op_);
  if (!device_.host_visible()) staging_.resize((bytes + 7) / 8);
  auto* host = static_cast<int32_t*>(device_.host_visible() ? ids : staged);
  if (host == nullptr) host = reinterpret_cast<int32_t*>(staging_.data());
  const std::span<int32_t> all(host, static_cast<size_t>(count));
  if (!failed()) {
    const auto bad =
        std::find_if(all.begin(), all.end(), [&](int32_t id) { return id < 0 || id >= limit; });
    if (bad != all.end()) {
      error_ = data_loss(fmt::format("rank {} selected {} of {}", root, *bad, limit));
    }
  }
  if (failed()) std::fill(all.begin(), all.end(), 0);
  put_back(ids, bytes);
}

}  // namespace shoal
