// Device: the one interface between the model code and a processor. A CPU and a CUDA
// implementation exist; nothing above kernels/ knows how either lays a weight out.
//
// Contract shared by all ops
//  * Pointers named *_d or held in Buffer, Weight, Activations live in the device's address space;
//    host code must not dereference them unless host_visible().
//  * Ops are enqueued in call order on one stream; the CPU runs them at once. synchronize() waits.
//  * One thread calls ops of one Device (the step loop). fill_weight() may be called from several
//    threads for disjoint rows.
//  * rows = tokens of the step. All matrices are row-major float32 unless said otherwise.
//  * Batch invariance: what an op writes for one row depends on that row, the shape and the layout
//    only, bit for bit — never on how many other rows there are, their order, or thread count.
//  * Sizes are 64-bit; shapes that disagree are bugs and abort (SHOAL_CHECK), lack of memory is a
//    Status.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "kernels/exchange.h"
#include "model/functions.h"
#include "model/tensor_type.h"

namespace shoal {

// Zero-initialised memory of a device; freed with the object.
class Buffer {
 public:
  virtual ~Buffer() = default;
  virtual void* data() = 0;
  virtual uint64_t bytes() const = 0;
  float* f32() { return static_cast<float*>(data()); }
  int32_t* i32() { return static_cast<int32_t*>(data()); }
};

// What a weight is for. A device may keep the two in different orders.
enum class WeightUse : uint8_t {
  kProducts,  // matmul, gated_matmul, experts
  kRows,      // embed, head_matmul; and matmul, slower
};

// Columns [first_col, first_col + cols) of a matrix whose file rows have `file_cols` features.
// first_col and cols are multiples of 32 (the shard granularity) or cover the whole row.
// The bytes given to fill_weight are the blocks that touch these columns:
// blocks [first_col / B, ceil((first_col + cols) / B)), B = elements per block. Features of those
// blocks outside [first_col, first_col + cols) are masked: they never contribute.
struct WeightSlice {
  TensorType type = TensorType::kF32;
  int64_t rows = 0;       // output features of this shard; may be 0
  int64_t cols = 0;       // input features of this shard; may be 0
  int64_t first_col = 0;  // position of column 0 in the file row
  int64_t file_cols = 0;  // length of the file row
  WeightUse use = WeightUse::kProducts;

  int64_t first_block() const;
  int64_t block_count() const;       // blocks per row that touch the slice
  uint64_t slice_row_bytes() const;  // bytes per row as given to fill_weight
};

class Weight {
 public:
  virtual ~Weight() = default;
  virtual const WeightSlice& slice() const = 0;
  virtual uint64_t device_bytes() const = 0;
};

// One thread's way into weights: memory to read file rows into, and from there to the device while
// the thread reads on.
class WeightLane {
 public:
  virtual ~WeightLane() = default;
  // Page-aligned, of the size the lane was made for; nothing of it is under way any more.
  virtual Result<std::span<uint8_t>> memory() = 0;
  // As Device::fill_weight(), with rows in what memory() gave last.
  virtual Status fill(Weight& weight, int64_t first_row, std::span<const uint8_t> rows) = 0;
  virtual Status finish() = 0;  // waits until all rows are there
};

// Input rows of a matmul: float32 values and, where the device's kernels want them, int8 codes with
// a float scale and sum per 32 features. Made once (by a norm, a gate, attention), read by many
// matmuls.
class Activations {
 public:
  virtual ~Activations() = default;
  virtual int64_t max_rows() const = 0;
  virtual int64_t cols() const = 0;
};

// y[r, 0..weight.rows) (+)= x[r, :] · weightᵀ (+ bias). out row stride is out_stride floats.
struct MatmulTask {
  const Weight* weight = nullptr;
  const float* bias = nullptr;  // [weight.rows] or null
  float* out = nullptr;
  int64_t out_stride = 0;
  float out_scale = 1.0f;   // multiplies the product before the bias (NVFP4's per-tensor scale)
  bool accumulate = false;  // add to `out` instead of setting it
};

// h[r, :] += norm?(Σ delta[r, :] + delta_bias); out[i, :] = norm(h[row_index[i], :]).
struct ResidualNorm {
  float* h = nullptr;  // [rows, cols], changed if there is a delta
  int64_t rows = 0;
  int64_t cols = 0;
  float* delta = nullptr;             // [rows, cols] or null
  Exchange* exchange = nullptr;       // `delta` is this rank's part of a sum, which replaces it
  const float* delta_bias = nullptr;  // [cols] or null; needs no delta
  const float* delta_norm = nullptr;  // [cols] RMSNorm weight of delta + delta_bias, or null
  NormKind form = NormKind::kRms;
  const float* weight = nullptr;  // [cols]; may be null where out_rows is 0
  const float* bias = nullptr;    // [cols] or null; kLayer only
  float eps = 0;
  const int32_t* row_index = nullptr;  // [out_rows] (device); null: rows 0 … out_rows−1 in order
  int64_t out_rows = 0;                // 0: only the sum
};

// out[r, h · out_head_stride + i] = Σ_j W[h · n + i, j] · x[r, x_first + h · x_head_stride + j]
// with n = weight.rows / heads: one small matrix per head.
struct HeadMatmul {
  const Weight* weight = nullptr;
  int64_t heads = 0;
  int64_t x_first = 0;
  int64_t x_head_stride = 0;
  float* out = nullptr;
  int64_t out_stride = 0;  // between rows
  int64_t out_head_stride = 0;
};

// out[r, out_first + h · out_head_stride + i] = x[r, x_first + h · x_head_stride + i], i <
// features.
struct HeadCopy {
  int64_t heads = 0;
  int64_t features = 0;
  const float* x = nullptr;
  int64_t x_stride = 0;  // between rows
  int64_t x_first = 0;
  int64_t x_head_stride = 0;
  float* out = nullptr;
  int64_t out_stride = 0;
  int64_t out_first = 0;
  int64_t out_head_stride = 0;
};

// What one step looks like to the attention ops. Arrays are device pointers, one entry per row
// unless said otherwise.
struct StepView {
  int64_t rows = 0;
  const int32_t* positions = nullptr;     // position of the row's token in its sequence
  const int64_t* kv_slots = nullptr;      // where its K/V go: block × block_tokens + offset
  const int32_t* sequences = nullptr;     // index of the row's sequence in block_tables
  const int32_t* block_tables = nullptr;  // [sequences][table_stride] physical block ids
  int64_t table_stride = 0;
};

enum class KvType : uint8_t { kF32, kF16 };

// The K/V cache of one layer on this rank. Layout belongs to the device:
// kv_layer_bytes() says how large `data` must be.
struct KvLayer {
  void* data = nullptr;
  KvType type = KvType::kF16;
  int64_t blocks = 0;
  int64_t block_tokens = 0;  // tokens per block
  int64_t kv_heads = 0;      // of this rank
  int64_t head_dim = 0;
  // > 0: only keys are stored; a value is the first latent_dim features of its key (MLA).
  int64_t latent_dim = 0;

  int64_t value_dim() const { return latent_dim > 0 ? latent_dim : head_dim; }
};

// Norms (optional), rope, and the write of K and V into the cache.
struct AttentionInput {
  float* q = nullptr;  // [rows, q_stride]: q_heads × head_dim; rotated in place
  float* k = nullptr;  // [rows, kv_stride]
  float* v = nullptr;  // [rows, kv_stride]; unused where KvLayer::latent_dim > 0
  int64_t q_heads = 0;
  int64_t q_stride = 0;
  int64_t kv_stride = 0;
  QkNorm norm = QkNorm::kNone;
  const float* q_norm =
      nullptr;  // [head_dim], kLayerPerHead: [q_heads × head_dim]; null: q as it is
  const float* k_norm = nullptr;  // [k_norm_dims or head_dim], kLayerPerHead: [kv_heads × head_dim]
  int64_t k_norm_dims = 0;        // > 0: only the first so many features of a key are normed
  float norm_eps = 0;
  int64_t rope_first = 0;  // first feature of each head that rotates
  RopeStyle rope = RopeStyle::kNone;
  int64_t rope_dims = 0;            // features of each head that rotate; even
  const float* inv_freq = nullptr;  // [rope_dims / 2] radians per position
  float rope_magnitude = 1.0f;      // multiplies cos and sin (YaRN)
  // q (after rope and norm) is multiplied by temperature_scale · ln(⌊(position +
  // temperature_offset) / temperature_length⌋ + 1) + 1; scale 0: not.
  float temperature_scale = 0;
  int64_t temperature_length = 1;
  int64_t temperature_offset = 0;
};

// Causal attention of each row over positions [visible start, its own] of its sequence.
struct AttentionSpec {
  int64_t q_heads = 0;        // of this rank
  int64_t first_q_head = 0;   // global index of the rank's first query head
  int64_t first_kv_head = 0;  // global index of the rank's first KV head
  int64_t group = 1;          // query heads per KV head, global
  float scale = 1.0f;
  int64_t window = 0;            // > 0: row i sees j with i − j < window
  int64_t chunk = 0;             // > 0: row i sees j ≥ ⌊i / chunk⌋ · chunk
  float softcap = 0;             // > 0: s = cap · tanh(s / cap)
  const float* sinks = nullptr;  // [q_heads] extra logits of this rank's heads, or null
};

// out[r, i] = kind(x·gateᵀ + gate_bias, x·upᵀ + up_bias)[i] · σ(row_gate[r]).
struct GatedTask {
  MatmulTask gate;  // weight null: out = kind(x·upᵀ + up_bias) with u = 1: an ungated network
  MatmulTask up;    // `out` of both is unused
  GateFunction kind = GateFunction::kSilu;
  const float* row_gate = nullptr;  // [rows] (device) or null
};

// Selection: the top_k largest of gate(logits) + selection_bias, ties to the lowest expert
// (kSoftmax, kSigmoid, kSoftmaxSelected without a bias rank by the logits themselves, which cannot
// tie by rounding), once all but the groups_used best groups are out; a group's score is the sum of
// its two best. Weights: gate(logits) of the selected without the bias; kSoftmaxSelected: softmax
// over the selected logits; divided by max(their sum, 6.1035e−5) if `normalise`; times `scale`.
struct RouteSpec {
  int64_t experts = 0;  // ≤ 65536
  int64_t top_k = 0;    // ≤ experts
  Gating gating = Gating::kSoftmax;
  bool normalise = false;
  float scale = 1.0f;
  const float* selection_bias = nullptr;  // [experts] (device) or null
  int64_t groups = 1, groups_used = 1;    // groups divides experts
};

// The experts of one layer that this rank holds: local expert l is rows [l · n, (l + 1) · n) of
// each matrix, n = its rows ÷ count. All pointers are device pointers.
struct ExpertTask {
  int64_t experts = 0;  // of the layer, global
  int64_t count = 0;    // held here; may be 0
  int64_t top_k = 0;
  MatmulTask gate,
      up;           // [count × features, width]; biases [count × features] or null; `out` unused
  MatmulTask down;  // [count × width, features]; bias [count × width] or null; out [rows, width]
  GateFunction kind = GateFunction::kSilu;
  bool scale_input =
      false;  // weights multiply gate and up products (bias excluded), not the output
  // Of a global expert: its local number, or −1. With replicas: this rank computes a row if
  // position % replicas == replica.
  const int32_t* local = nullptr;      // [experts]
  const int32_t* replicas = nullptr;   // [experts] or null: 1 everywhere
  const int32_t* replica = nullptr;    // [experts] or null: 0 everywhere
  const int32_t* positions = nullptr;  // [rows]; needed with replicas
  const int32_t* ids = nullptr;        // [rows, top_k] selected experts
  const float* weights = nullptr;      // [rows, top_k]
};

// Per-row sampling instructions; see kernels/body/sampling.h for the rule.
struct TokenBias {  // one entry per token id of this rank's vocabulary slice that needs a change
  int32_t id = 0;
  int32_t output_count = 0;  // times generated so far (presence, frequency)
  bool seen = false;         // in prompt or output (repetition)
  float bias = 0;            // logit_bias
};

struct SampleRow {
  float temperature = 1.0f;  // 0: greedy
  float presence = 0, frequency = 0, repetition = 1.0f;
  uint64_t seed = 0;
  uint32_t choice = 0;
  uint32_t position = 0;      // position of the token being sampled
  int32_t top_logprobs = -1;  // raw candidates wanted; −1: no logprob either
  int32_t shaped_candidates =
      0;  // candidates wanted after penalties and temperature; > 0: no noise
  std::span<const TokenBias> biases;  // host memory
};

struct Candidate {
  int32_t id = -1;  // global token id; −1: none
  float value = 0;  // what it competes with: shaped, shaped + noise, or the raw logit
  float raw = 0;    // its unmodified logit
};

// What one rank knows of one row after looking at its vocabulary slice [first_id, first_id + n).
// value ties go to the lowest id. `shaped` = (logit with penalties and bias) ÷ temperature
// (temperature 0: not divided).
struct LocalSample {
  // A logit of the slice is NaN or +∞: nothing can be sampled from the row, and nothing else is
  // set. −∞ is a logit like any other: of a token that is never drawn.
  bool broken = false;
  // argmax of shaped + Gumbel(seed, choice, position, id); of shaped if greedy or shaped_candidates
  // > 0
  Candidate best;
  float raw_max = 0;  // max and Σ exp(raw − raw_max) over the slice
  double raw_sum = 0;
  float shaped_max = 0;
  double shaped_sum = 0;
  std::vector<Candidate> raw_top;     // by raw logit, descending
  std::vector<Candidate> shaped_top;  // by shaped value, descending
};

// What tells one sequence of ops from another: see OpRecorder.
using OpKey = std::array<int64_t, 4>;

// Runs sequences of ops that repeat, as every decoded token does. Belongs to the thread that calls
// its device's ops; the device outlives it.
class OpRecorder {
 public:
  virtual ~OpRecorder() = default;
  // Runs `ops`, or again what an earlier call with this key started: the same kernels with the same
  // arguments. So whatever `ops` does must follow from the key and from what is in the memory it
  // works on, and that memory must stay. Ops only: no copies, no allocations, no synchronize.
  virtual void run(const OpKey& key, const std::function<void()>& ops) {
    (void)key;
    ops();
  }
};

class Device {
 public:
  virtual ~Device() = default;

  virtual std::string describe() const = 0;  // "cpu: 2 threads, AVX-512 VNNI"
  // Devices that say the same compute the same bits from the same input: "cpu avx512vnni, glibc
  // 2.36". Others must not route tokens to experts on their own.
  virtual std::string arithmetic() const = 0;
  virtual bool host_visible() const = 0;     // may the host dereference device pointers?
  virtual uint64_t free_memory() const = 0;  // bytes available for allocate() now, estimated

  // ---- memory
  virtual Result<std::unique_ptr<Buffer>> allocate(uint64_t bytes, const std::string& what) = 0;
  virtual void copy_to_device(void* to, const void* from, uint64_t bytes) = 0;
  virtual void copy_to_host(void* to, const void* from, uint64_t bytes) = 0;
  virtual Status synchronize(TimePoint deadline) = 0;
  // Nothing works any more on this device in this process: another one must take over.
  virtual bool lost() const { return false; }

  // Whether Activations made from now on carry int8 codes for quantised weights, where the device
  // has kernels for them; otherwise float activations everywhere (slower, exact to rounding).
  virtual void use_int8_activations(bool on) = 0;

  // CUDA graphs; devices that start ops cheaply run them one by one.
  virtual std::unique_ptr<OpRecorder> make_recorder() { return std::make_unique<OpRecorder>(); }

  // ---- weights
  virtual Result<std::unique_ptr<Weight>> create_weight(const WeightSlice& slice,
                                                        const std::string& name) = 0;
  // `rows` holds slice_row_bytes() × n bytes for rows [first_row, first_row + n), file layout.
  virtual Status fill_weight(Weight& weight, int64_t first_row, std::span<const uint8_t> rows) = 0;
  // A lane with memory for `bytes` at a time; by default through fill_weight(). Any thread; the
  // device outlives it.
  virtual Result<std::unique_ptr<WeightLane>> make_weight_lane(uint64_t bytes);
  virtual Result<std::unique_ptr<Activations>> create_activations(int64_t max_rows,
                                                                  int64_t cols) = 0;

  // ---- ops
  // out[r, 0..cols) = scale · row ids[r] − first_id of the table, or zeros if not in this slice.
  virtual void embed(const Weight& table, const int32_t* ids, int64_t rows, int64_t first_id,
                     float scale, float* out) = 0;
  virtual void residual_norm(const ResidualNorm& norm, Activations& out) = 0;
  // Makes Activations from float rows (stride x_stride).
  virtual void load_activations(const float* x, int64_t x_stride, int64_t rows,
                                Activations& out) = 0;
  // All tasks read the same input; devices may fuse them.
  virtual void matmul(std::span<const MatmulTask> tasks, const Activations& x, int64_t rows) = 0;
  virtual void gated_matmul(const GatedTask& task, const Activations& x, int64_t rows,
                            Activations& out) = 0;
  virtual void head_matmul(const HeadMatmul& task, const Activations& x, int64_t rows) = 0;

  virtual void copy_heads(const HeadCopy& task, int64_t rows) = 0;

  // ids and weights [rows, top_k], best first, from logits [rows, experts]. Device pointers.
  virtual void route(const float* logits, int64_t rows, const RouteSpec& spec, int32_t* ids,
                     float* weights) = 0;
  // down.out[r, :] (+)= Σ_k weights[r, k] · expert ids[r, k] (x[r, :]) over the experts held here,
  // k ascending; zeros where there are none. Reads only the weights of experts that occur. `hidden`
  // is scratch: [max_rows × top_k, features].
  virtual void experts(const ExpertTask& task, const Activations& x, int64_t rows,
                       Activations& hidden) = 0;
  // x[i] = cap · tanh(x[i] / cap)
  virtual void soft_cap(float* x, int64_t count, float cap) = 0;

  virtual uint64_t kv_layer_bytes(const KvLayer& shape) const = 0;
  virtual void store_kv(const AttentionInput& input, const StepView& step, const KvLayer& kv) = 0;
  // out[r, head × kv.value_dim() + i]; q as left by store_kv, head_dim features per head.
  virtual void attention(const float* q, int64_t q_stride, const AttentionSpec& spec,
                         const StepView& step, const KvLayer& kv, Activations& out) = 0;

  // One LocalSample per row of logits [rows, vocab] (row stride logits_stride); overwrites logits.
  virtual void sample_local(float* logits, int64_t logits_stride, int64_t vocab, int64_t first_id,
                            std::span<const SampleRow> rows, std::span<LocalSample> out) = 0;

  // ---- measuring
  // Reads `bytes` (a multiple of 16) at `from` and writes nothing: no op that has as much to read
  // can be faster.
  virtual void read_memory(const void* from, uint64_t bytes) = 0;
  // Bytes of the last cache before memory; 0: unknown. What is to be read from memory and not from
  // there must be several times as large.
  virtual uint64_t cache_bytes() const = 0;
  // Seconds the device takes for the ops that `ops` calls. The host's time to enqueue them is left
  // out where the device can (CUDA: they become a graph, timed between two events). REQUIRES that
  // they have run once before, and neither allocate nor copy.
  virtual Result<double> time_of(const std::function<void()>& ops) = 0;
};

struct CpuOptions {
  int threads = 0;               // 0: one per core this process may run on, minus none
  std::vector<int> cores;        // pin thread i to cores[i]; empty: not pinned
  bool int8_activations = true;  // false: float activations for every type (reference path)
  std::string isa;  // "", "generic", "avx2", "avxvnni", "avx512vnni": force a kernel set
};
Result<std::unique_ptr<Device>> make_cpu_device(const CpuOptions& options);

}  // namespace shoal
