// The CPU implementation of Device. Weights keep the file's block layout, one allocation each; ops
// run at once on a fork-join pool.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "kernels/cpu/kernel_set.h"
#include "kernels/cpu/thread_pool.h"
#include "kernels/device.h"

namespace shoal {

// Page-aligned zeroed memory straight from the kernel: pages count only once they are touched,
// large ones may be huge pages, and freeing gives them back.
class CpuMemory {
 public:
  static Result<CpuMemory> map(uint64_t bytes, const std::string& what);
  CpuMemory() = default;
  CpuMemory(CpuMemory&& other) noexcept;
  CpuMemory& operator=(CpuMemory&& other) noexcept;
  ~CpuMemory();
  uint8_t* data() const { return data_; }
  uint64_t bytes() const { return bytes_; }

 private:
  uint8_t* data_ = nullptr;
  uint64_t bytes_ = 0;
};

struct CpuWeight final : Weight {
  const WeightSlice& slice() const override { return shape; }
  uint64_t device_bytes() const override { return memory.bytes(); }
  const uint8_t* row(int64_t r) const {
    return memory.data() + static_cast<uint64_t>(r) * row_bytes;
  }

  WeightSlice shape;
  uint64_t row_bytes = 0;
  int64_t lead = 0;      // masked features in front of column 0
  int64_t features = 0;  // in a stored row: lead + cols + masked features behind
  CpuMemory memory;
};

// Row r's features start at values + r · stride; kActivationPad zeros stand in front and behind.
struct CpuActivations final : Activations {
  int64_t max_rows() const override { return rows; }
  int64_t cols() const override { return columns; }
  float* row(int64_t r) const { return values + r * stride; }
  QuantRow quant(int64_t r, int64_t lead) const;

  int64_t rows = 0, columns = 0;
  int64_t width = 0;   // features the last op wrote; up to a pad of zeros follows
  int64_t stride = 0;  // features per row with pads; a multiple of 32
  bool int8 = false;
  float* values = nullptr;
  int8_t *codes = nullptr, *fine = nullptr;
  float *scales = nullptr, *sums = nullptr, *half_sums = nullptr;
  CpuMemory memory;
};

// The activation rows of one product: output row i is that of row first + i, or of index[i].
struct ProductRows {
  int64_t count = 0;
  int64_t first = 0;
  const int32_t* index = nullptr;
  const float* scale = nullptr;  // [count]: multiplies the products before the bias, or null
  int64_t column = 0;            // the feature that meets the weight's column 0

  int64_t row(int64_t i) const { return index != nullptr ? index[i] : first + i; }
};

struct ExpertGroups;

class CpuDevice final : public Device {
 public:
  CpuDevice(const KernelSet& set, int threads, const CpuOptions& options);

  std::string describe() const override;
  std::string arithmetic() const override;
  bool host_visible() const override { return true; }
  uint64_t free_memory() const override;
  Result<std::unique_ptr<Buffer>> allocate(uint64_t bytes, const std::string& what) override;
  void copy_to_device(void* to, const void* from, uint64_t bytes) override;
  void copy_to_host(void* to, const void* from, uint64_t bytes) override;
  Status synchronize(TimePoint) override { return Status::ok(); }
  void use_int8_activations(bool on) override { int8_ = on && set_.quant_dot[8] != nullptr; }
  Result<std::unique_ptr<Weight>> create_weight(const WeightSlice& slice,
                                                const std::string& name) override;
  Status fill_weight(Weight& weight, int64_t first_row, std::span<const uint8_t> rows) override;
  Result<std::unique_ptr<Activations>> create_activations(int64_t max_rows, int64_t cols) override;

  void embed(const Weight& table, const int32_t* ids, int64_t rows, int64_t first_id, float scale,
             float* out) override;
  void residual_norm(const ResidualNorm& task, Activations& out) override;
  void load_activations(const float* x, int64_t x_stride, int64_t rows, Activations& out) override;
  void matmul(std::span<const MatmulTask> tasks, const Activations& x, int64_t rows) override;
  void gated_matmul(const GatedTask& task, const Activations& x, int64_t rows,
                    Activations& out) override;
  void head_matmul(const HeadMatmul& task, const Activations& x, int64_t rows) override;
  void copy_heads(const HeadCopy& task, int64_t rows) override;
  void route(const float* logits, int64_t rows, const RouteSpec& spec, int32_t* ids,
             float* weights) override;
  void experts(const ExpertTask& task, const Activations& x, int64_t rows,
               Activations& hidden) override;
  void soft_cap(float* x, int64_t count, float cap) override;
  uint64_t kv_layer_bytes(const KvLayer& shape) const override;
  void store_kv(const AttentionInput& input, const StepView& step, const KvLayer& kv) override;
  void attention(const float* q, int64_t q_stride, const AttentionSpec& spec, const StepView& step,
                 const KvLayer& kv, Activations& out) override;
  void sample_local(float* logits, int64_t logits_stride, int64_t vocab, int64_t first_id,
                    std::span<const SampleRow> rows, std::span<LocalSample> out) override;
  void read_memory(const void* from, uint64_t bytes) override;
  uint64_t cache_bytes() const override;
  Result<double> time_of(const std::function<void()>& ops) override;

 private:
  // Completes a row whose first out.width values are in place: zeros behind them, int8 codes.
  void finish_row(CpuActivations& out, int64_t row) const;
  // Outputs [begin, end) of one task.
  void matmul_rows(const MatmulTask& task, const CpuActivations& x, const ProductRows& rows,
                   int64_t begin, int64_t end) const;
  void expert_features(const ExpertTask& task, const ExpertGroups& by_expert,
                       const CpuActivations& x, CpuActivations& hidden);
  void expert_outputs(const ExpertTask& task, const ExpertGroups& by_expert, int64_t rows,
                      int64_t width, const CpuActivations& hidden);
  void gate_row(GateFunction kind, const float* g, const float* u, int64_t n, float factor,
                float* out) const;
  // weight null: all ones
  void rms_norm(const float* x, int64_t n, const float* weight, float eps, float* out) const;
  void norm_head(const AttentionInput& in, const float* weight, int64_t n, float* head) const;
  void layer_norm(const float* x, int64_t n, const float* weight, const float* bias, float eps,
                  float* out) const;

  const KernelSet& set_;
  ThreadPool pool_;
  bool int8_;
  std::vector<float> partials_;  // scratch of split attention
};

}  // namespace shoal
