// Device on one GPU: what the host does. The kernels are in the *_kernels.h beside this file; where
// they run is the Backend's business:
//
//   struct Backend {
//     using Stream = …;                        // what simt::launch<Kernel, Arch>(stream, …) takes
//     using Arch = simt::Sm80;                 // what kernels are compiled for
//     Stream& stream();
//     Result<void*> allocate(uint64_t bytes, const std::string& what);  // zeroed, 256-byte aligned
//     void release(void* memory);              // after everything that uses it has run
//     void upload(void* to, const void* from, uint64_t bytes);    // in stream order; `from` may go
//                                              // as soon as it returns
//     void download(void* to, const void* from, uint64_t bytes);  // in stream order, and waits
//     Status synchronize(TimePoint deadline);  // an error of any launch since the last call
//     uint64_t free_memory() const;
//     std::string name() const;                // "NVIDIA H200", "emulated"
//     std::string generation() const;          // "sm90": what results may depend on
//     uint32_t multiprocessors() const;
//     uint64_t cache_bytes() const;            // of the L2
//     Result<double> time_of(const std::function<void()>& ops);  // seconds, without the host's
//   };
//
// CudaBackend (cuda_backend.h) is a card, EmulatedBackend (tests/simt/emulated_backend.h) the
// emulator: the same host code and the same kernels in both.
//
// Ops return nothing; a launch that fails is kept and comes out of synchronize(), which everything
// that reads results calls first.
#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "kernels/cuda/experts_kernels.h"
#include "kernels/cuda/gate_kernel.h"
#include "kernels/cuda/gpu_weight_lane.h"
#include "kernels/cuda/product.h"
#include "kernels/cuda/product_launch.h"
#include "kernels/cuda/recorder.h"
#include "kernels/cuda/simt.h"
#include "kernels/cuda/tile_launch.h"
#include "kernels/device.h"

namespace shoal::gpu {

using simt::Global;
struct AttentionParams;  // attention_kernels.h

template <class Backend>
class GpuBuffer final : public Buffer {
 public:
  GpuBuffer(Backend& backend, void* data, uint64_t bytes)
      : backend_(backend), data_(data), bytes_(bytes) {}
  ~GpuBuffer() override { backend_.release(data_); }
  GpuBuffer(const GpuBuffer&) = delete;
  GpuBuffer& operator=(const GpuBuffer&) = delete;
  void* data() override { return data_; }
  uint64_t bytes() const override { return bytes_; }

 private:
  Backend& backend_;
  void* data_;
  uint64_t bytes_;
};

// How a weight lies in the card's memory.
enum class WeightLayout : uint8_t {
  kRows,   // rows as in the file, each starting at a multiple of 16 bytes
  kTiles,  // units of 16 rows in the order tensor cores take them (weight_tiles.h)
};

// `data` holds what `layout` says; columns [lead, lead + slice.cols) of a stored row count.
struct GpuWeight final : Weight {
  const WeightSlice& slice() const override { return shape; }
  uint64_t device_bytes() const override { return memory ? memory->bytes() : 0; }
  const uint8_t* data() const {
    return memory ? static_cast<const uint8_t*>(memory->data()) : nullptr;
  }

  WeightSlice shape;
  WeightLayout layout = WeightLayout::kRows;
  uint64_t row_stride = 0;  // bytes, kRows
  int64_t lead = 0;         // masked features in front of column 0
  std::unique_ptr<Buffer> memory;
};

// Float rows of `stride` features, zeros behind the first `width`; where `codes` is not null, every
// block of 32 features also as int8 codes (activations.h makes them):
//   scale = max|x| / 127 rounded up to 22 bits; 0 where that is denormal, and the codes with it
//   code  = x / scale rounded to the nearest (within 2⁻¹⁵ of a tie to either side): −127 … 127
//   sum   = scale · Σ codes
// A block with a NaN or an infinity has codes 0, a NaN scale and a NaN sum: every product with it
// shows it.
struct GpuActivations final : Activations {
  int64_t max_rows() const override { return rows; }
  int64_t cols() const override { return columns; }

  int64_t rows = 0, columns = 0;
  int64_t width = 0;        // features the last op wrote
  int64_t stride = 0;       // features per row: columns rounded up to a multiple of 32, plus 32
  float* values = nullptr;  // [rows × stride]
  int8_t* codes = nullptr;  // [rows × stride] or null; read 16 at a time
  float* scales = nullptr;  // [rows × stride / 32]
  float* sums = nullptr;    // [rows × stride / 32], of the values' codes times their scale
  std::unique_ptr<Buffer> memory;
};

// What weights are multiplied with.
struct ProductInput {
  ProductParams params;             // all but the weights
  int64_t sets = 0;                 // of rows; of the plan of experts: as many as it may have
  int64_t set_rows = kProductRows;  // of the plan
  int64_t choices = 1;              // experts of a row
};

// Gate and up products of [rows] and the gate; of experts: of each `features`.
struct GateRows {
  MatmulTask gate, up;  // `gate` without a weight: ungated
  int64_t rows = 0, features = 0;
  Gate::Params params;  // where the features go
};

template <class Backend>
class GpuDevice final : public Device {
 public:
  using Arch = typename Backend::Arch;

  explicit GpuDevice(std::unique_ptr<Backend> backend) : backend_(std::move(backend)) {}

  Backend& backend() { return *backend_; }

  std::string describe() const override;
  std::string arithmetic() const override;
  bool host_visible() const override { return false; }
  uint64_t free_memory() const override { return backend_->free_memory(); }

  // memory.inl
  Result<std::unique_ptr<Buffer>> allocate(uint64_t bytes, const std::string& what) override;
  void copy_to_device(void* to, const void* from, uint64_t bytes) override;
  void copy_to_host(void* to, const void* from, uint64_t bytes) override;
  Status synchronize(TimePoint deadline) override;
  bool lost() const override { return backend_->lost(); }
  void use_int8_activations(bool on) override { int8_ = on; }
  std::unique_ptr<OpRecorder> make_recorder() override {
    return std::make_unique<GpuRecorder<Backend>>(*this);
  }
  Result<std::unique_ptr<Weight>> create_weight(const WeightSlice& slice,
                                                const std::string& name) override;
  Status fill_weight(Weight& weight, int64_t first_row, std::span<const uint8_t> rows) override;
  Result<std::unique_ptr<WeightLane>> make_weight_lane(uint64_t bytes) override {
    SHOAL_ASSIGN(auto lane, backend_->make_lane(bytes));
    return std::unique_ptr<WeightLane>(std::make_unique<GpuWeightLane<Backend>>(std::move(lane)));
  }
  Result<std::unique_ptr<Activations>> create_activations(int64_t max_rows, int64_t cols) override;

  // attention.inl: memory for the results of splits of long contexts. Where it does not hold them
  // all, a block walks through all splits of its rows: fewer blocks, the same result.
  void limit_attention_memory(uint64_t bytes) { attention_bytes_ = bytes; }

  // matmul.inl: floats that products of gated networks and experts may have in memory at a time.
  // Rows beyond go later: the same result.
  void limit_product_floats(int64_t floats) { band_floats_ = floats; }

  // elementwise.inl
  void embed(const Weight& table, const int32_t* ids, int64_t rows, int64_t first_id, float scale,
             float* out) override;
  void residual_norm(const ResidualNorm& norm, Activations& out) override;
  void load_activations(const float* x, int64_t x_stride, int64_t rows, Activations& out) override;
  void copy_heads(const HeadCopy& task, int64_t rows) override;
  void soft_cap(float* x, int64_t count, float cap) override;

  // matmul.inl
  void matmul(std::span<const MatmulTask> tasks, const Activations& x, int64_t rows) override;
  void gated_matmul(const GatedTask& task, const Activations& x, int64_t rows,
                    Activations& out) override;
  void head_matmul(const HeadMatmul& task, const Activations& x, int64_t rows) override;

  // experts.inl
  void route(const float* logits, int64_t rows, const RouteSpec& spec, int32_t* ids,
             float* weights) override;
  void experts(const ExpertTask& task, const Activations& x, int64_t rows,
               Activations& hidden) override;

  // attention.inl
  uint64_t kv_layer_bytes(const KvLayer& shape) const override;
  void store_kv(const AttentionInput& input, const StepView& step, const KvLayer& kv) override;
  void attention(const float* q, int64_t q_stride, const AttentionSpec& spec, const StepView& step,
                 const KvLayer& kv, Activations& out) override;

  // sample.inl
  void sample_local(float* logits, int64_t logits_stride, int64_t vocab, int64_t first_id,
                    std::span<const SampleRow> rows, std::span<LocalSample> out) override;

  // measure.inl
  void read_memory(const void* from, uint64_t bytes) override;
  uint64_t cache_bytes() const override { return backend_->cache_bytes(); }
  Result<double> time_of(const std::function<void()>& ops) override;

 private:
  friend class GpuRecorder<Backend>;
  static GpuActivations& activations(Activations& x) { return static_cast<GpuActivations&>(x); }
  static const GpuActivations& activations(const Activations& x) {
    return static_cast<const GpuActivations&>(x);
  }
  static const GpuWeight& weight(const Weight& w) { return static_cast<const GpuWeight&>(w); }

  // After an error nothing is started until synchronize() has told it: memory may be missing.
  bool broken() const { return !error_.is_ok(); }
  // Starts a kernel; its error comes out of synchronize(). An empty grid starts nothing.
  template <class Kernel>
  void start(const simt::LaunchShape& shape, const typename Kernel::Params& params) {
    if (broken() || shape.grid.x == 0 || shape.grid.y == 0 || shape.grid.z == 0) return;
    keep_error(simt::launch<Kernel, Arch>(backend_->stream(), shape, params));
  }
  void keep_error(Status status) {
    if (!status && error_.is_ok()) error_ = std::move(status);
  }
  // Zeros behind the last feature, int8 codes: what every op that writes Activations ends with.
  void finish_activations(GpuActivations& out, int64_t rows);
  // Device memory for ops that need some, grown as needed and kept; null, and broken(), where there
  // is none left.
  void* scratch(uint64_t bytes) { return grow(&scratch_, bytes, "scratch of an operation"); }
  // Counters: zeros between launches.
  uint32_t* arrivals(uint64_t count) {
    constexpr uint64_t kLeastBytes = 1 << 20;  // few need more, and later growing stops the card
    return static_cast<uint32_t*>(
        grow(&arrivals_, std::max(count * sizeof(uint32_t), kLeastBytes), "counters"));
  }
  void* grow(std::unique_ptr<Buffer>* buffer, uint64_t bytes, const char* what);
  template <class Kernel>
  void start_attention(AttentionParams& params);  // attention.inl

  // matmul.inl
  static ProductInput product_input(const GpuActivations& x, int64_t first, int64_t rows);
  void start_products(std::span<const MatmulTask> tasks, const ProductInput& input);
  void start_row_products(std::span<const MatmulTask* const> tasks, const ProductInput& input);
  void start_gate(const GateRows& task, const ProductInput& input, float* products);
  // tiles.inl
  void start_tile_products(std::span<const MatmulTask* const> tasks, const ProductInput& input);
  Status put_rows(const GpuWeight& weight, int64_t first_row, std::span<const uint8_t> rows);
  // experts.inl
  void combine_experts(const ExpertTask& task, const PlanExperts::Params& plan,
                       const float* products, int64_t columns, int64_t rows);
  void run_experts(const ExpertTask& task, const GpuActivations& x, int64_t first, int64_t rows,
                   GpuActivations& hidden);

  std::unique_ptr<Backend> backend_;
  bool int8_ = true;
  Status error_;
  std::unique_ptr<Buffer> scratch_, partials_, arrivals_;
  uint64_t scratch_generation_ = 0;  // counts how often memory of ops has moved
  std::mutex staging_mutex_;         // weights are filled by several threads
  std::unique_ptr<Buffer> staging_;
  int64_t band_floats_ = kBandFloats;
  uint64_t attention_bytes_ = uint64_t{64} << 20;
};

}  // namespace shoal::gpu

#include "kernels/cuda/attention.inl"
#include "kernels/cuda/elementwise.inl"
#include "kernels/cuda/experts.inl"
#include "kernels/cuda/matmul.inl"
#include "kernels/cuda/measure.inl"
#include "kernels/cuda/memory.inl"
#include "kernels/cuda/sample.inl"
#include "kernels/cuda/tiles.inl"
