#include <sys/mman.h>

#include "kernels/device.h"

namespace shoal {
namespace {

class HostLane final : public WeightLane {
 public:
  HostLane(Device& device, uint8_t* memory, uint64_t bytes)
      : device_(device), memory_(memory), bytes_(bytes) {}
  ~HostLane() override { ::munmap(memory_, bytes_); }
  HostLane(const HostLane&) = delete;
  HostLane& operator=(const HostLane&) = delete;

  Result<std::span<uint8_t>> memory() override { return std::span(memory_, bytes_); }
  Status fill(Weight& weight, int64_t first_row, std::span<const uint8_t> rows) override {
    return device_.fill_weight(weight, first_row, rows);
  }
  Status finish() override { return Status::ok(); }

 private:
  Device& device_;
  uint8_t* memory_;
  uint64_t bytes_;
};

}  // namespace

Result<std::unique_ptr<WeightLane>> Device::make_weight_lane(uint64_t bytes) {
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    return resource_exhausted("no memory for " + std::to_string(bytes) + " bytes to read into");
  }
  return std::unique_ptr<WeightLane>(
      std::make_unique<HostLane>(*this, static_cast<uint8_t*>(memory), bytes));
}

}  // namespace shoal
