// The rendezvous store as a worker sees it: set and get travel over the control plane.
#pragma once

#include <condition_variable>
#include <map>
#include <mutex>
#include <string>

#include "parallel/collective/collective.h"
#include "wire/link.h"

namespace shoal {

class StoreClient final : public RendezvousStore {
 public:
  explicit StoreClient(wire::WorkerLink& link) : link_(link) {}

  // Called by whoever forms the group (any thread).
  Status set(const std::string& key, const std::string& value) override;
  Result<std::string> get(const std::string& key, TimePoint deadline) override;

  // Control thread: a new epoch forgets everything; get() calls of the old one fail.
  void begin_epoch(uint64_t epoch);
  void deliver(const wire::StoreSet& message);
  void cancel(uint64_t epoch);  // waiting get() calls fail now, if it is still this one

 private:
  wire::WorkerLink& link_;
  std::mutex mutex_;
  std::condition_variable changed_;
  uint64_t epoch_ = 0;
  bool cancelled_ = false;
  std::map<std::string, std::string> values_;
};

}  // namespace shoal
