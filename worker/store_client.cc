#include "worker/store_client.h"

#include "base/quote.h"

namespace shoal {

Status StoreClient::set(const std::string& key, const std::string& value) {
  uint64_t epoch;
  {
    std::lock_guard lock(mutex_);
    epoch = epoch_;
  }
  return link_.send(wire::StoreSet{epoch, key, value});
}

Result<std::string> StoreClient::get(const std::string& key, TimePoint deadline) {
  std::unique_lock lock(mutex_);
  const uint64_t epoch = epoch_;
  if (!values_.contains(key)) {
    lock.unlock();
    SHOAL_TRY(link_.send(wire::StoreGet{epoch, key}));
    lock.lock();
  }
  const bool woken = changed_.wait_until(
      lock, deadline, [&] { return cancelled_ || epoch_ != epoch || values_.contains(key); });
  if (!woken) return deadline_exceeded("no peer published " + in_quotes(key) + " in time");
  if (cancelled_ || epoch_ != epoch) return cancelled("the plan was withdrawn");
  return values_.at(key);
}

void StoreClient::begin_epoch(uint64_t epoch) {
  {
    std::lock_guard lock(mutex_);
    epoch_ = epoch;
    cancelled_ = false;
    values_.clear();
  }
  changed_.notify_all();
}

void StoreClient::deliver(const wire::StoreSet& message) {
  {
    std::lock_guard lock(mutex_);
    if (message.epoch != epoch_) return;
    values_[message.key] = message.value;
  }
  changed_.notify_all();
}

void StoreClient::cancel(uint64_t epoch) {
  {
    std::lock_guard lock(mutex_);
    if (epoch != epoch_) return;
    cancelled_ = true;
  }
  changed_.notify_all();
}

}  // namespace shoal
