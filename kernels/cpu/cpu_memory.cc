#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <fmt/core.h>

#include "kernels/cpu/cpu_device.h"
#include "kernels/cpu/free_memory.h"

namespace shoal {
namespace {

constexpr uint64_t kHugePage = 2 << 20;

class CpuBuffer final : public Buffer {
 public:
  CpuBuffer(CpuMemory memory, uint64_t bytes) : memory_(std::move(memory)), bytes_(bytes) {}
  void* data() override { return memory_.data(); }
  uint64_t bytes() const override { return bytes_; }

 private:
  CpuMemory memory_;
  uint64_t bytes_;
};

}  // namespace

Result<CpuMemory> CpuMemory::map(uint64_t bytes, const std::string& what) {
  CpuMemory memory;
  if (bytes == 0) return memory;
  void* data = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) {
    return resource_exhausted(
        fmt::format("cannot allocate {} bytes for {}: {}", bytes, what, std::strerror(errno)));
  }
  if (bytes >= 8 * kHugePage) (void)::madvise(data, bytes, MADV_HUGEPAGE);
  memory.data_ = static_cast<uint8_t*>(data);
  memory.bytes_ = bytes;
  return memory;
}

CpuMemory::CpuMemory(CpuMemory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

CpuMemory& CpuMemory::operator=(CpuMemory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

CpuMemory::~CpuMemory() {
  if (data_ != nullptr) ::munmap(data_, bytes_);
}

Result<std::unique_ptr<Buffer>> CpuDevice::allocate(uint64_t bytes, const std::string& what) {
  SHOAL_ASSIGN(CpuMemory memory, CpuMemory::map(std::max<uint64_t>(bytes, 64), what));
  return std::unique_ptr<Buffer>(std::make_unique<CpuBuffer>(std::move(memory), bytes));
}

void CpuDevice::copy_to_device(void* to, const void* from, uint64_t bytes) {
  if (bytes > 0) std::memcpy(to, from, bytes);
}

void CpuDevice::copy_to_host(void* to, const void* from, uint64_t bytes) {
  if (bytes > 0) std::memcpy(to, from, bytes);
}

uint64_t CpuDevice::free_memory() const { return free_memory_bytes(); }

Result<std::unique_ptr<Weight>> CpuDevice::create_weight(const WeightSlice& slice,
                                                         const std::string& name) {
  auto weight = std::make_unique<CpuWeight>();
  const int64_t elems = traits(slice.type).block_elems;
  weight->shape = slice;
  weight->row_bytes = slice.slice_row_bytes();
  weight->lead = slice.cols == 0 ? 0 : slice.first_col - slice.first_block() * elems;
  weight->features = slice.block_count() * elems;
  // Vector loads of the last block may run past its end.
  constexpr uint64_t kGuard = 64;
  SHOAL_ASSIGN(
      weight->memory,
      CpuMemory::map(static_cast<uint64_t>(slice.rows) * weight->row_bytes + kGuard, name));
  return std::unique_ptr<Weight>(std::move(weight));
}

Status CpuDevice::fill_weight(Weight& weight, int64_t first_row, std::span<const uint8_t> rows) {
  auto& target = static_cast<CpuWeight&>(weight);
  if (rows.empty()) return Status::ok();
  const uint64_t offset = static_cast<uint64_t>(first_row) * target.row_bytes;
  const uint64_t total = static_cast<uint64_t>(target.shape.rows) * target.row_bytes;
  SHOAL_CHECK(first_row >= 0 && offset <= total && rows.size() <= total - offset,
              "rows outside the weight");
  std::memcpy(target.memory.data() + offset, rows.data(), rows.size());
  return Status::ok();
}

Result<std::unique_ptr<Activations>> CpuDevice::create_activations(int64_t max_rows, int64_t cols) {
  auto x = std::make_unique<CpuActivations>();
  x->rows = max_rows;
  x->columns = cols;
  x->stride = (cols + 31) / 32 * 32 + 2 * kActivationPad;
  x->int8 = int8_;
  const auto features = static_cast<uint64_t>(max_rows * x->stride);
  const uint64_t quantised = int8_ ? 2 * features + features / 32 * 4 * 4 : 0;
  SHOAL_ASSIGN(x->memory, CpuMemory::map(features * 4 + quantised + 64, "activations"));
  x->values = reinterpret_cast<float*>(x->memory.data()) + kActivationPad;
  if (int8_) {
    uint8_t* at = x->memory.data() + features * 4;
    x->scales = reinterpret_cast<float*>(at);
    x->sums = x->scales + features / 32;
    x->half_sums = x->sums + features / 32;
    x->codes = reinterpret_cast<int8_t*>(x->half_sums + features / 16);
    x->fine = x->codes + features;
  }
  return std::unique_ptr<Activations>(std::move(x));
}

QuantRow CpuActivations::quant(int64_t r, int64_t lead) const {
  const int64_t first = r * stride + kActivationPad - lead;
  return {codes + first, fine + first, scales + first / 32, sums + first / 32,
          half_sums + first / 16};
}

int64_t WeightSlice::first_block() const { return first_col / traits(type).block_elems; }

int64_t WeightSlice::block_count() const {
  if (cols == 0) return 0;
  const int64_t elems = traits(type).block_elems;
  return (first_col + cols + elems - 1) / elems - first_block();
}

uint64_t WeightSlice::slice_row_bytes() const {
  return static_cast<uint64_t>(block_count()) * traits(type).block_bytes;
}

}  // namespace shoal
