// Reads tensors of a file into weights with several threads: everything is planned first, then
// read.
#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <span>
#include <vector>

#include "kernels/device.h"
#include "model/gguf.h"
#include "worker/model_shard.h"

namespace shoal {

class WeightReader {
 public:
  // All outlive the reader.
  WeightReader(const GgufFile& file, Device& device, const LoadOptions& options)
      : file_(file), device_(device), options_(options) {}

  // Plans `count` rows of the tensor, from file_row, for the weight from first_row.
  void add_rows(const TensorInfo& tensor, Weight& weight, int64_t first_row, int64_t file_row,
                int64_t count);
  // Plans columns × count float32 rows of the weight, from first_row: the tensor's rows from
  // file_row turned about. A quantised block cannot be.
  void add_transposed(const TensorInfo& tensor, Weight& weight, int64_t first_row, int64_t file_row,
                      int64_t count);
  // Everything that was planned, or the first error: of the file (a weight that is no finite number
  // is one), of the device, or kCancelled.
  Status read_all();

 private:
  struct Task {
    const TensorInfo* tensor;
    Weight* weight;
    int64_t first_row;  // of the weight
    int64_t file_row;   // of the tensor
    int64_t rows;
    bool transpose;
  };
  static uint64_t read_span_bytes(const WeightSlice& shape);
  void read_some();
  Status read_tasks(WeightLane& lane, std::vector<uint8_t>& raw);
  Status read_task(const Task& task, WeightLane& lane, std::vector<uint8_t>& raw);
  Status read_transposed(const Task& task, WeightLane& lane, std::vector<uint8_t>& raw);

  const GgufFile& file_;
  Device& device_;
  const LoadOptions& options_;
  std::vector<Task> tasks_;
  uint64_t total_bytes_ = 0, lane_bytes_ = 0;
  std::atomic<size_t> next_{0};
  std::atomic<bool> failed_{false};
  std::mutex mutex_;  // guards error_
  Status error_;
};

}  // namespace shoal
