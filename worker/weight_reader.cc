#include "worker/weight_reader.h"

#include <algorithm>
#include <thread>

#include "base/file.h"
#include "kernels/formats/decode.h"
#include "kernels/formats/weight_check.h"

namespace shoal {
namespace {

// Bytes a reader takes at a time: large enough for sequential speed, small enough that a few
// readers stay within the memory promised beyond the shard itself.
constexpr uint64_t kChunkBytes = 2 << 20;
// A column slice at least this long is read row by row; a shorter one with its surroundings.
constexpr uint64_t kMinSegmentBytes = 16 << 10;

}  // namespace

// Bytes read per row: the slice, or the whole row when its pieces would be too small to seek for.
uint64_t WeightReader::read_span_bytes(const WeightSlice& shape) {
  const uint64_t segment = shape.slice_row_bytes();
  return segment >= kMinSegmentBytes
             ? segment
             : row_bytes(shape.type, static_cast<uint64_t>(shape.file_cols));
}

void WeightReader::add_rows(const TensorInfo& tensor, Weight& weight, int64_t first_row,
                            int64_t file_row, int64_t count) {
  const WeightSlice& shape = weight.slice();
  const uint64_t row = std::max<uint64_t>(1, read_span_bytes(shape));
  const int64_t step = std::max<int64_t>(1, static_cast<int64_t>(kChunkBytes / row));
  for (int64_t at = 0; at < count && shape.cols > 0; at += step) {
    const int64_t rows = std::min(step, count - at);
    tasks_.push_back({&tensor, &weight, first_row + at, file_row + at, rows, false});
    const uint64_t bytes = static_cast<uint64_t>(rows) * shape.slice_row_bytes();
    total_bytes_ += bytes;
    lane_bytes_ = std::max(lane_bytes_, bytes);
  }
}

void WeightReader::add_transposed(const TensorInfo& tensor, Weight& weight, int64_t first_row,
                                  int64_t file_row, int64_t count) {
  tasks_.push_back({&tensor, &weight, first_row, file_row, count, true});
  total_bytes_ += static_cast<uint64_t>(count) * row_bytes(tensor.type, tensor.dims[0]);
  lane_bytes_ =
      std::max(lane_bytes_, static_cast<uint64_t>(count) * tensor.dims[0] * sizeof(float));
}

Status WeightReader::read_all() {
  if (options_.bytes_total) options_.bytes_total->store(total_bytes_);
  std::vector<std::thread> threads;
  const int count = std::clamp(options_.threads, 1, 16);
  for (int i = 1; i < count; ++i) threads.emplace_back([this] { read_some(); });
  read_some();
  for (std::thread& thread : threads) thread.join();
  return error_;
}

void WeightReader::read_some() {
  std::vector<uint8_t> raw;
  Status status = [&]() -> Status {
    SHOAL_ASSIGN(const auto lane, device_.make_weight_lane(lane_bytes_ + 2 * File::kPage));
    SHOAL_TRY(read_tasks(*lane, raw));
    return lane->finish();
  }();
  if (status) return;
  failed_.store(true);
  std::lock_guard lock(mutex_);
  if (error_.is_ok()) error_ = std::move(status);
}

Status WeightReader::read_tasks(WeightLane& lane, std::vector<uint8_t>& raw) {
  for (;;) {
    const size_t index = next_.fetch_add(1);
    if (index >= tasks_.size() || failed_.load()) return Status::ok();
    if (options_.stop && options_.stop->load()) return cancelled("loading was stopped");
    const Task& task = tasks_[index];
    SHOAL_TRY(task.transpose ? read_transposed(task, lane, raw) : read_task(task, lane, raw));
  }
}

Status WeightReader::read_transposed(const Task& task, WeightLane& lane,
                                     std::vector<uint8_t>& raw) {
  const TensorInfo& tensor = *task.tensor;
  const auto cols = static_cast<int64_t>(tensor.dims[0]);
  const uint64_t file_row = row_bytes(tensor.type, tensor.dims[0]);
  raw.resize(static_cast<uint64_t>(task.rows) * file_row);
  SHOAL_TRY(file_.read_tensor(tensor, static_cast<uint64_t>(task.file_row) * file_row, raw));
  SHOAL_ASSIGN(const std::span<uint8_t> memory, lane.memory());
  auto* turned = reinterpret_cast<float*>(memory.data());
  std::vector<float> row(tensor.dims[0]);
  for (int64_t r = 0; r < task.rows; ++r) {
    const std::span<const uint8_t> stored =
        std::span(raw).subspan(static_cast<uint64_t>(r) * file_row, file_row);
    SHOAL_TRY(check_rows(file_, tensor, static_cast<uint64_t>(task.file_row + r), 0, tensor.dims[0],
                         stored));
    decode_row(tensor.type, stored.data(), cols, row.data());
    for (int64_t c = 0; c < cols; ++c) turned[c * task.rows + r] = row[static_cast<size_t>(c)];
  }
  const uint64_t bytes = static_cast<uint64_t>(task.rows * cols) * sizeof(float);
  SHOAL_TRY(lane.fill(*task.weight, task.first_row, memory.first(bytes)));
  if (options_.bytes_done) options_.bytes_done->fetch_add(raw.size());
  return Status::ok();
}

Status WeightReader::read_task(const Task& task, WeightLane& lane, std::vector<uint8_t>& raw) {
  const WeightSlice& shape = task.weight->slice();
  const uint64_t file_row = row_bytes(shape.type, static_cast<uint64_t>(shape.file_cols));
  const uint64_t segment = shape.slice_row_bytes();
  const uint64_t skip = static_cast<uint64_t>(shape.first_block()) * traits(shape.type).block_bytes;
  const uint64_t first = static_cast<uint64_t>(task.file_row) * file_row;
  const auto rows = static_cast<uint64_t>(task.rows);
  SHOAL_ASSIGN(const std::span<uint8_t> memory, lane.memory());
  std::span<uint8_t> packed = memory.first(rows * segment);
  if (segment == file_row) {
    SHOAL_ASSIGN(packed, file_.read_tensor_past_cache(*task.tensor, first, rows * segment, memory));
  } else if (segment >= kMinSegmentBytes) {
    for (uint64_t r = 0; r < rows; ++r) {
      SHOAL_TRY(file_.read_tensor(*task.tensor, first + r * file_row + skip,
                                  packed.subspan(r * segment, segment)));
    }
  } else {
    raw.resize(rows * file_row);
    SHOAL_TRY(file_.read_tensor(*task.tensor, first, raw));
    for (uint64_t r = 0; r < rows; ++r) {
      std::copy_n(raw.data() + r * file_row + skip, segment, packed.data() + r * segment);
    }
  }
  const uint64_t block = traits(shape.type).block_elems;
  SHOAL_TRY(check_rows(file_, *task.tensor, static_cast<uint64_t>(task.file_row),
                       static_cast<uint64_t>(shape.first_block()) * block,
                       static_cast<uint64_t>(shape.block_count()) * block, packed));
  SHOAL_TRY(lane.fill(*task.weight, task.first_row, packed));
  if (options_.bytes_done) options_.bytes_done->fetch_add(packed.size());
  return Status::ok();
}

}  // namespace shoal
