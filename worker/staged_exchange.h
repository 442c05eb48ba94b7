// The exchange of devices that have none of their own: through host memory and a Collective. On a
// device whose memory the host sees that is the memory itself; on others every op waits for the
// stream, copies there and back, and cannot be recorded.
#pragma once

#include <string>
#include <vector>

#include "kernels/device.h"
#include "kernels/exchange.h"
#include "parallel/collective/collective.h"

namespace shoal {

class StagedExchange final : public Exchange {
 public:
  // Both outlive it.
  StagedExchange(Device& device, Collective& group) : device_(device), group_(group) {}

  int rank() const override { return group_.rank(); }
  int world() const override { return group_.world(); }
  bool in_stream() const override { return group_.world() == 1; }  // which does nothing
  void begin_step(const ExchangeStep& step) override;
  Status end_step() override { return error_; }
  bool failed() const override { return !error_.is_ok(); }
  void all_reduce(float* data, int64_t count) override;
  void broadcast(void* data, uint64_t bytes, int root) override;
  void broadcast_ids(int32_t* ids, int64_t count, int32_t limit, int root) override;

 private:
  // Where the host sees the `bytes` at `data`: there, or their copy. Null after an error.
  void* fetch(void* data, uint64_t bytes);
  void put_back(void* data, uint64_t bytes);

  Device& device_;
  Collective& group_;
  OpContext op_;
  Status error_;  // the first of the step
  std::vector<uint64_t> staging_;
};

}  // namespace shoal
