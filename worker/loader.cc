#include <algorithm>
#include <mutex>
#include <thread>

#include <fmt/core.h>

#include "kernels/decode.h"
#include "worker/model_shard.h"

namespace shoal {
namespace {

// Bytes a reader takes at a time: large enough for sequential speed, small enough that a few
// readers stay within the memory promised beyond the shard itself.
constexpr uint64_t kChunkBytes = 2 << 20;
// A column slice at least this long is read row by row; a shorter one with its surroundings.
constexpr uint64_t kMinSegmentBytes = 16 << 10;

// Where a declared tensor goes. One place knows which member a role fills.
struct Destination {
  Linear* linear = nullptr;
  std::unique_ptr<Buffer>* vector = nullptr;
};

Destination destination_of(const TensorDecl& decl, ModelShard& model) {
  const auto linear = [&](Linear& target) {
    return decl.bias ? Destination{nullptr, &target.bias} : Destination{&target, nullptr};
  };
  const auto vector = [](std::unique_ptr<Buffer>& target) { return Destination{nullptr, &target}; };
  switch (decl.role) {
    case Role::kTokenEmbedding:
      return linear(model.embedding);
    case Role::kOutput:
      return linear(model.output);
    case Role::kOutputNorm:
      return vector(model.output_norm);
    case Role::kRopeFactors:
      return {};
    default:
      break;
  }
  ShardLayer& layer = model.layers[static_cast<size_t>(decl.layer)];
  switch (decl.role) {
    case Role::kAttnNorm:
      return vector(layer.attn_norm);
    case Role::kAttnQ:
      return linear(layer.q);
    case Role::kAttnK:
      return linear(layer.k);
    case Role::kAttnV:
      return linear(layer.v);
    case Role::kAttnOut:
      return linear(layer.attn_out);
    case Role::kAttnQNorm:
      return vector(layer.q_norm);
    case Role::kAttnKNorm:
      return vector(layer.k_norm);
    case Role::kFfnNorm:
      return vector(layer.ffn_norm);
    case Role::kFfnGate:
      return linear(layer.gate);
    case Role::kFfnUp:
      return linear(layer.up);
    case Role::kFfnDown:
      return linear(layer.down);
    default:
      break;
  }
  SHOAL_CHECK(false, "role without a place: " + decl.name);
  return {};
}

// Rows [begin, end) of one weight, read by one thread.
struct ReadTask {
  const TensorInfo* tensor;
  Weight* weight;
  int64_t first_row;  // of the weight
  int64_t file_row;   // of the tensor
  int64_t rows;
};

class Loader {
 public:
  Loader(const GgufFile& file, Device& device, const LoadOptions& options, ModelShard& model)
      : file_(file), device_(device), options_(options), model_(model) {}

  Status run() {
    for (const TensorDecl& decl : model_.spec.tensors) SHOAL_TRY(prepare(decl));
    SHOAL_TRY(make_rope_tables());
    return read_all();
  }

 private:
  Status prepare(const TensorDecl& decl) {
    if (decl.role == Role::kOutput && model_.spec.tied_output) return Status::ok();
    const Destination to = destination_of(decl, model_);
    const TensorInfo& tensor = *file_.find_tensor(decl.name);
    const TensorSlice slice = slice_tensor(decl, model_.spec, model_.shard);
    if (to.vector != nullptr) return load_vector(decl, tensor, slice, to.vector);
    if (to.linear == nullptr) return Status::ok();
    return prepare_matrix(decl, tensor, slice, *to.linear);
  }

  // Vectors are small: read at once, converted to float32.
  Status load_vector(const TensorDecl& decl, const TensorInfo& tensor, const TensorSlice& slice,
                     std::unique_ptr<Buffer>* out) {
    SHOAL_ASSIGN(const std::vector<float> values, read_vector(tensor));
    SHOAL_ASSIGN(*out, device_.allocate(static_cast<uint64_t>(slice.rows.size()) * sizeof(float),
                                        decl.name));
    if (slice.rows.size() > 0) {
      device_.copy_to_device((*out)->data(), values.data() + slice.rows.begin,
                             static_cast<uint64_t>(slice.rows.size()) * sizeof(float));
    }
    model_.weight_bytes += (*out)->bytes();
    return Status::ok();
  }

  Result<std::vector<float>> read_vector(const TensorInfo& tensor) {
    std::vector<uint8_t> raw(tensor.bytes);
    SHOAL_TRY(file_.read_tensor(tensor, 0, raw));
    std::vector<float> values(tensor.elements());
    decode_row(tensor.type, raw.data(), static_cast<int64_t>(values.size()), values.data());
    for (size_t i = 0; i < values.size(); ++i) {
      if (!(std::abs(values[i]) <= 3.4e38f)) {
        return file_.tensor_error(tensor, "element " + std::to_string(i) + " is not finite");
      }
    }
    return values;
  }

  Status prepare_matrix(const TensorDecl& decl, const TensorInfo& tensor, const TensorSlice& slice,
                        Linear& linear) {
    WeightSlice shape;
    shape.type = tensor.type;
    shape.rows = slice.rows.size();
    shape.cols = slice.cols.size();
    shape.first_col = slice.cols.begin;
    shape.file_cols = decl.cols;
    SHOAL_ASSIGN(linear.weight, device_.create_weight(shape, decl.name));
    model_.weight_bytes += linear.weight->device_bytes();
    if (!decl.scale_name.empty()) {
      SHOAL_ASSIGN(const std::vector<float> scale,
                   read_vector(*file_.find_tensor(decl.scale_name)));
      linear.scale = scale[0];
    }
    const uint64_t row = std::max<uint64_t>(1, read_span_bytes(shape));
    const int64_t step = std::max<int64_t>(1, static_cast<int64_t>(kChunkBytes / row));
    for (int64_t at = 0; at < shape.rows && shape.cols > 0; at += step) {
      const int64_t rows = std::min(step, shape.rows - at);
      tasks_.push_back({&tensor, linear.weight.get(), at, slice.rows.begin + at, rows});
      total_bytes_ += static_cast<uint64_t>(rows) * shape.slice_row_bytes();
    }
    return Status::ok();
  }

  // Bytes read per row: the slice, or the whole row when its pieces would be too small to seek for.
  static uint64_t read_span_bytes(const WeightSlice& shape) {
    const uint64_t segment = shape.slice_row_bytes();
    return segment >= kMinSegmentBytes
               ? segment
               : row_bytes(shape.type, static_cast<uint64_t>(shape.file_cols));
  }

  Status make_rope_tables() {
    std::vector<float> factors;
    if (const TensorDecl* decl = model_.spec.find(Role::kRopeFactors, -1)) {
      const TensorInfo& tensor = *file_.find_tensor(decl->name);
      SHOAL_ASSIGN(factors, read_vector(tensor));
      for (const float factor : factors) {
        if (!(factor > 0)) return file_.tensor_error(tensor, "a rope factor is not positive");
      }
    }
    for (size_t i = 0; i < model_.layers.size(); ++i) {
      const RopeSpec& rope = model_.spec.layer[i].attention.rope;
      if (rope.style == RopeStyle::kNone) continue;
      const std::vector<float> table = rope_inverse_frequencies(rope, factors);
      SHOAL_ASSIGN(model_.layers[i].inv_freq,
                   device_.allocate(table.size() * sizeof(float), "rope frequencies"));
      device_.copy_to_device(model_.layers[i].inv_freq->data(), table.data(),
                             table.size() * sizeof(float));
    }
    return Status::ok();
  }

  Status read_all() {
    if (options_.bytes_total) options_.bytes_total->store(total_bytes_);
    std::vector<std::thread> threads;
    const int count = std::clamp(options_.threads, 1, 16);
    for (int i = 1; i < count; ++i) threads.emplace_back([this] { read_some(); });
    read_some();
    for (std::thread& thread : threads) thread.join();
    return error_;
  }

  void read_some() {
    std::vector<uint8_t> raw, packed;
    for (;;) {
      const size_t index = next_.fetch_add(1);
      if (index >= tasks_.size() || failed_.load()) return;
      Status status = options_.stop && options_.stop->load()
                          ? cancelled("loading was stopped")
                          : read_task(tasks_[index], raw, packed);
      if (status) continue;
      failed_.store(true);
      std::lock_guard lock(mutex_);
      if (error_.is_ok()) error_ = std::move(status);
    }
  }

  Status read_task(const ReadTask& task, std::vector<uint8_t>& raw, std::vector<uint8_t>& packed) {
    const WeightSlice& shape = task.weight->slice();
    const uint64_t file_row = row_bytes(shape.type, static_cast<uint64_t>(shape.file_cols));
    const uint64_t segment = shape.slice_row_bytes();
    const uint64_t skip =
        static_cast<uint64_t>(shape.first_block()) * traits(shape.type).block_bytes;
    const uint64_t first = static_cast<uint64_t>(task.file_row) * file_row;
    const auto rows = static_cast<uint64_t>(task.rows);
    packed.resize(rows * segment);
    if (segment == file_row) {
      SHOAL_TRY(file_.read_tensor(*task.tensor, first, packed));
    } else if (segment >= kMinSegmentBytes) {
      for (uint64_t r = 0; r < rows; ++r) {
        SHOAL_TRY(file_.read_tensor(*task.tensor, first + r * file_row + skip,
                                    std::span(packed).subspan(r * segment, segment)));
      }
    } else {
      raw.resize(rows * file_row);
      SHOAL_TRY(file_.read_tensor(*task.tensor, first, raw));
      for (uint64_t r = 0; r < rows; ++r) {
        std::copy_n(raw.data() + r * file_row + skip, segment, packed.data() + r * segment);
      }
    }
    SHOAL_TRY(device_.fill_weight(*task.weight, task.first_row, packed));
    if (options_.bytes_done) options_.bytes_done->fetch_add(packed.size());
    return Status::ok();
  }

  const GgufFile& file_;
  Device& device_;
  const LoadOptions& options_;
  ModelShard& model_;
  std::vector<ReadTask> tasks_;
  uint64_t total_bytes_ = 0;
  std::atomic<size_t> next_{0};
  std::atomic<bool> failed_{false};
  std::mutex mutex_;  // guards error_
  Status error_;
};

}  // namespace

Result<std::unique_ptr<ModelShard>> load_model_shard(const GgufFile& file, const ModelSpec& spec,
                                                     const RankShard& shard, Device& device,
                                                     const LoadOptions& options) {
  auto model = std::make_unique<ModelShard>();
  model->spec = spec;
  model->shard = shard;
  model->layers.resize(static_cast<size_t>(spec.layers));
  for (size_t i = 0; i < model->layers.size(); ++i) model->layers[i].range = shard.layers[i];
  Status status = Loader(file, device, options, *model).run();
  if (!status) {
    return status.annotate(fmt::format("loading rank {} of {}", shard.rank, shard.world));
  }
  return model;
}

}  // namespace shoal
