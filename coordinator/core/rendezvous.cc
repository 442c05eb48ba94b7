#include "coordinator/core/rendezvous.h"

#include <fmt/core.h>

#include "base/quote.h"

namespace shoal {

void Rendezvous::begin(uint64_t epoch) {
  epoch_ = epoch;
  bytes_ = 0;
  waiting_count_ = 0;
  values_.clear();
  waiting_.clear();
}

Status Rendezvous::set(const wire::StoreSet& message, Actions& actions) {
  if (message.epoch != epoch_) return Status::ok();
  const auto known = values_.find(message.key);
  if (known != values_.end()) {
    if (known->second == message.value) return Status::ok();
    return invalid_argument(fmt::format("rendezvous key {} is set twice", in_quotes(message.key)));
  }
  bytes_ += message.key.size() + message.value.size();
  if (values_.size() >= kMaxKeys || bytes_ > kMaxBytes) {
    return resource_exhausted(
        fmt::format("the rendezvous store is full: {} keys, {} bytes", values_.size(), bytes_));
  }
  values_.emplace(message.key, message.value);
  if (auto waiting = waiting_.extract(message.key)) {
    waiting_count_ -= waiting.mapped().size();
    actions.emplace_back(SendAction{std::move(waiting.mapped()), message});
  }
  return Status::ok();
}

Status Rendezvous::get(const wire::PeerId& peer, const wire::StoreGet& message, Actions& actions) {
  if (message.epoch != epoch_) return Status::ok();
  if (const auto known = values_.find(message.key); known != values_.end()) {
    actions.emplace_back(SendAction{{peer}, wire::StoreSet{epoch_, message.key, known->second}});
    return Status::ok();
  }
  if (waiting_count_ >= kMaxWaiting) {
    return resource_exhausted("too many workers wait for rendezvous keys");
  }
  ++waiting_count_;
  waiting_[message.key].push_back(peer);
  return Status::ok();
}

}  // namespace shoal
