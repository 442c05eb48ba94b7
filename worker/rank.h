// Everything a worker holds for its rank: file, shard, KV cache, collective, runner. Weights
// survive a new plan epoch if the part of the model stays the same.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "kernels/device.h"
#include "parallel/collective/collective.h"
#include "wire/messages.h"
#include "worker/kv_store.h"
#include "worker/model_shard.h"
#include "worker/step_runner.h"

namespace shoal {

class Rank {
 public:
  explicit Rank(Device& device) : device_(device) {}

  struct FormOptions {
    LoadOptions load;
    RendezvousStore* store = nullptr;
    std::string data_address;
  };
  // Loads (if needed), allocates, connects. Compute thread only. kUnavailable, kDeadlineExceeded,
  // kCancelled: another epoch may work; anything else is permanent.
  Result<wire::Ready> form(const wire::Assign& plan, const FormOptions& options);
  // Whether the last form() failed at loading: something about the file, or no memory for it.
  bool load_failed() const { return load_failed_; }
  Result<wire::StepResult> run(const wire::Step& step);
  // Of rank 0 of a model with mixtures, while a group is formed. Compute thread only.
  std::optional<wire::ExpertLoad> expert_load() const;
  // Drops the group and the KV cache's contents, keeps weights. Compute thread only.
  void leave();

  // Wakes a waiting collective of `epoch` or older. Any thread.
  void abort(uint64_t epoch, const std::string& reason);
  std::string held_digest() const;  // of loaded weights, or empty. Any thread.
  // Of weights, KV cache and scratch held now. Any thread.
  uint64_t held_bytes() const { return held_bytes_.load(); }

 private:
  Status load(const wire::Assign& plan, const LoadOptions& options);
  Status connect(const wire::Assign& plan, const FormOptions& options);

  Device& device_;
  std::string load_key_;  // what model_ was loaded for
  bool load_failed_ = false;
  std::unique_ptr<ModelShard> model_;
  std::unique_ptr<KvStore> kv_;
  std::unique_ptr<StepRunner> runner_;

  mutable std::mutex mutex_;  // guards what other threads see
  std::shared_ptr<Collective> group_;
  uint64_t group_epoch_ = 0;
  uint64_t aborted_epoch_ = 0;
  std::string digest_;
  void note_held();
  std::atomic<uint64_t> held_bytes_{0};
};

}  // namespace shoal
