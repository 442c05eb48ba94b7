// Memory, weights and activations of GpuDevice.
namespace shoal::gpu {

template <class Backend>
std::string GpuDevice<Backend>::describe() const {
  return "cuda: " + backend_->name();
}

template <class Backend>
std::string GpuDevice<Backend>::arithmetic() const {
  // The order of additions in products of tiles follows from the number of multiprocessors.
  return "cuda " + backend_->generation() + ", " + std::to_string(backend_->multiprocessors()) +
         " multiprocessors";
}

template <class Backend>
Result<std::unique_ptr<Buffer>> GpuDevice<Backend>::allocate(uint64_t bytes,
                                                             const std::string& what) {
  SHOAL_ASSIGN(void* data, backend_->allocate(std::max<uint64_t>(bytes, 256), what));
  return std::unique_ptr<Buffer>(std::make_unique<GpuBuffer<Backend>>(*backend_, data, bytes));
}

template <class Backend>
void GpuDevice<Backend>::copy_to_device(void* to, const void* from, uint64_t bytes) {
  if (bytes > 0) backend_->upload(to, from, bytes);
}

template <class Backend>
void GpuDevice<Backend>::copy_to_host(void* to, const void* from, uint64_t bytes) {
  if (bytes > 0) backend_->download(to, from, bytes);
}

template <class Backend>
Status GpuDevice<Backend>::synchronize(TimePoint deadline) {
  Status status = backend_->synchronize(deadline);
  if (!error_.is_ok()) return std::exchange(error_, Status::ok());
  return status;
}

template <class Backend>
Result<std::unique_ptr<Weight>> GpuDevice<Backend>::create_weight(const WeightSlice& slice,
                                                                  const std::string& name) {
  constexpr uint64_t kRowAlignment = 16;
  // Tiles of codes want codes of the activations; a slice without columns has no units.
  const bool tiled = slice.use == WeightUse::kProducts && tile_unit_features(slice.type) > 0 &&
                     slice.cols > 0 && (int8_ || !tile_takes_codes(slice.type));
  auto weight = std::make_unique<GpuWeight>();
  weight->shape = slice;
  weight->row_stride =
      (slice.slice_row_bytes() + kRowAlignment - 1) / kRowAlignment * kRowAlignment;
  weight->lead =
      slice.cols == 0 ? 0 : slice.first_col - slice.first_block() * traits(slice.type).block_elems;
  weight->layout = tiled ? WeightLayout::kTiles : WeightLayout::kRows;
  const uint64_t bytes =
      tiled ? weight_tiles(slice).bytes() : static_cast<uint64_t>(slice.rows) * weight->row_stride;
  SHOAL_ASSIGN(weight->memory, allocate(bytes, name));
  return std::unique_ptr<Weight>(std::move(weight));
}

// How many rows there are in `rows`.
inline uint64_t check_rows(const GpuWeight& weight, int64_t first_row,
                           std::span<const uint8_t> rows) {
  const uint64_t row = weight.shape.slice_row_bytes();
  const uint64_t count = row == 0 ? 0 : rows.size() / row;
  SHOAL_CHECK(
      first_row >= 0 && count * row == rows.size() &&
          static_cast<uint64_t>(first_row) + count <= static_cast<uint64_t>(weight.shape.rows),
      "rows outside the weight");
  return count;
}

template <class Backend>
Status GpuWeightLane<Backend>::fill(Weight& target, int64_t first_row,
                                    std::span<const uint8_t> rows) {
  const auto& weight = static_cast<const GpuWeight&>(target);
  const uint64_t row = weight.shape.slice_row_bytes(), count = check_rows(weight, first_row, rows);
  if (count == 0) return Status::ok();
  auto* to = static_cast<uint8_t*>(weight.memory->data());
  if (weight.layout == WeightLayout::kTiles) {
    lane_->upload(lane_->staging(), row, rows.data(), row, count);
    PutRowsParams p;
    p.row_bytes = static_cast<int64_t>(row);
    p.units = weight_tiles(weight.shape).units;
    p.to.address = to;
    p.from.address = lane_->staging();
    p.first_row = first_row;
    p.count = static_cast<int64_t>(count);
    SHOAL_TRY(launch_put_rows<Arch>(lane_->stream(), weight.shape.type, p));
  } else {
    lane_->upload(to + static_cast<uint64_t>(first_row) * weight.row_stride, weight.row_stride,
                  rows.data(), row, count);
  }
  return lane_->started();
}

template <class Backend>
Status GpuDevice<Backend>::fill_weight(Weight& target, int64_t first_row,
                                       std::span<const uint8_t> rows) {
  auto& weight = static_cast<GpuWeight&>(target);
  const uint64_t row = weight.shape.slice_row_bytes(), count = check_rows(weight, first_row, rows);
  if (count == 0) return Status::ok();
  if (weight.layout == WeightLayout::kTiles) return put_rows(weight, first_row, rows);
  auto* to = static_cast<uint8_t*>(weight.memory->data()) +
             static_cast<uint64_t>(first_row) * weight.row_stride;
  if (row == weight.row_stride) {
    backend_->upload(to, rows.data(), rows.size());
    return Status::ok();
  }
  std::vector<uint8_t> padded(count * weight.row_stride);
  for (uint64_t r = 0; r < count; ++r) {
    std::copy_n(rows.data() + r * row, row, padded.data() + r * weight.row_stride);
  }
  backend_->upload(to, padded.data(), padded.size());
  return Status::ok();
}

template <class Backend>
Result<std::unique_ptr<Activations>> GpuDevice<Backend>::create_activations(int64_t max_rows,
                                                                            int64_t cols) {
  constexpr int64_t kBlock = 32;
  auto x = std::make_unique<GpuActivations>();
  x->rows = max_rows;
  x->columns = cols;
  x->stride = (cols + kBlock - 1) / kBlock * kBlock + kBlock;
  const auto features = static_cast<uint64_t>(max_rows * x->stride);
  const uint64_t blocks = features / kBlock;
  const uint64_t bytes = features * sizeof(float) + (int8_ ? features + 2 * blocks * 4 : 0);
  SHOAL_ASSIGN(x->memory, allocate(bytes, "activations"));
  x->values = static_cast<float*>(x->memory->data());
  if (int8_) {
    x->codes = reinterpret_cast<int8_t*>(x->values + features);
    x->scales = reinterpret_cast<float*>(x->codes + features);
    x->sums = x->scales + blocks;
  }
  return std::unique_ptr<Activations>(std::move(x));
}

template <class Backend>
void* GpuDevice<Backend>::grow(std::unique_ptr<Buffer>* buffer, uint64_t bytes, const char* what) {
  if (!*buffer || (*buffer)->bytes() < bytes) {
    buffer->reset();
    ++scratch_generation_;
    auto grown = allocate(bytes, what);
    if (!grown.is_ok()) {
      keep_error(grown.status());
      return nullptr;
    }
    *buffer = std::move(grown).value();
  }
  return (*buffer)->data();
}

}  // namespace shoal::gpu
