// Weights in tiles: filling them, and their products.
namespace shoal::gpu {

template <class Backend>
Status GpuDevice<Backend>::put_rows(const GpuWeight& weight, int64_t first_row,
                                    std::span<const uint8_t> rows) {
  constexpr uint64_t kStagingBytes = 4 << 20;
  const uint64_t row = weight.shape.slice_row_bytes();
  const uint64_t step = std::max<uint64_t>(kStagingBytes / row, 1);
  PutRowsParams p;
  p.row_bytes = static_cast<int64_t>(row);
  p.units = weight_tiles(weight.shape).units;
  p.to.address = static_cast<uint8_t*>(weight.memory->data());
  // One buffer for all threads: what comes next waits, in stream order, for what was there.
  const std::lock_guard lock(staging_mutex_);
  for (uint64_t at = 0; at < rows.size() / row; at += step) {
    const uint64_t count = std::min(step, rows.size() / row - at);
    if (!staging_ || staging_->bytes() < count * row) {
      staging_.reset();
      SHOAL_ASSIGN(staging_, allocate(std::max(count * row, std::min(step * row, kStagingBytes)),
                                      "rows on their way into tiles"));
    }
    backend_->upload(staging_->data(), rows.data() + at * row, count * row);
    p.from.address = static_cast<const uint8_t*>(staging_->data());
    p.first_row = first_row + static_cast<int64_t>(at);
    p.count = static_cast<int64_t>(count);
    SHOAL_TRY(launch_put_rows<Arch>(backend_->stream(), weight.shape.type, p));
  }
  return Status::ok();
}

// Few rows: every 8 of them read the weights. Many: a block has 8 tiles, so that small weights
// would leave most of a card idle. Both compute the same bits.
inline TileKernel tile_kernel(TensorType type, int64_t rows, int64_t tiles,
                              int64_t multiprocessors) {
  constexpr int64_t kFewRows = 16, kTilesOfBlock = 8, kIdle = 8;
  const int64_t most = set_rows(TileKernel::kManyRows, type);
  const int64_t blocks = ((tiles + kTilesOfBlock - 1) / kTilesOfBlock) * ((rows + most - 1) / most);
  return rows <= kFewRows || blocks * kIdle < multiprocessors ? TileKernel::kFewRows
                                                              : TileKernel::kManyRows;
}

template <class Backend>
void GpuDevice<Backend>::start_tile_products(std::span<const MatmulTask* const> tasks,
                                             const ProductInput& input) {
  constexpr uint64_t kPartialBytes = 16 << 20;
  constexpr uint64_t kRunPlaces = 2 * simt::kWarpSize;  // of partials
  const ProductParams& x = input.params;
  const GpuWeight& like = weight(*tasks[0]->weight);
  const TensorType type = like.shape.type;
  const bool plan = x.tiles.address != nullptr;
  SHOAL_CHECK(!tile_takes_codes(type) || x.codes.address != nullptr,
              "activations without codes meet a weight that was made for them");
  TileProductParams p;
  int64_t tiles = 0;
  for (const MatmulTask* task : tasks) {
    const GpuWeight& w = weight(*task->weight);
    TileWeight& to = p.weights[p.count++];
    to.units.address = w.data();
    to.bias.address = task->bias;
    to.out.address = task->out;
    to.out_stride = task->out_stride;
    to.rows = plan ? x.expert_rows : w.shape.rows;
    to.stored_tiles = static_cast<int32_t>(weight_tiles(w.shape).tiles);
    to.first_tile = static_cast<int32_t>(tiles);
    to.scale = task->out_scale;
    to.accumulate = task->accumulate ? 1 : 0;
    tiles += plan ? expert_tiles(to.rows) : to.stored_tiles;
  }
  const int64_t units = weight_tiles(like.shape).units;
  SHOAL_CHECK(tiles * units < INT32_MAX, "weights of too many units");
  p.tiles = static_cast<int32_t>(tiles);
  p.units = static_cast<int32_t>(units);
  p.runs = tile_runs(tiles * units, tile_unit_bytes(type), backend_->multiprocessors(),
                     input.choices);
  p.first_part = static_cast<int32_t>(like.lead / 32);
  p.parts = static_cast<int32_t>((like.shape.cols + 31) / 32);
  p.x = {const_cast<float*>(x.values.address), const_cast<int8_t*>(x.codes.address),
         const_cast<float*>(x.scales.address), const_cast<float*>(x.sums.address), x.x_stride};
  p.x_rows = x.rows;
  p.slots = x.tiles;
  p.slot_tiles = x.tile_count;
  p.slot_rows = x.slot_rows;
  p.slot_scales = x.slot_scales;

  TileKernel kernel = input.set_rows > kProductRows ? TileKernel::kManyRows : TileKernel::kFewRows;
  if (!plan) kernel = tile_kernel(type, x.rows, tiles, backend_->multiprocessors());
  const int64_t per_set = set_rows(kernel, type);
  const int64_t sets = plan ? input.sets : (x.rows + per_set - 1) / per_set;
  int64_t step = sets;
  if (kernel == TileKernel::kFewRows) {
    const uint64_t set_bytes =
        static_cast<uint64_t>(p.runs.count) * kRunPlaces * sizeof(simt::F32x4);
    step = std::min(sets, static_cast<int64_t>(std::max<uint64_t>(kPartialBytes / set_bytes, 1)));
    p.partials.address = static_cast<simt::F32x4*>(
        // All there may ever be, at once: growing later would stop the card.
        grow(&partials_, std::max(kPartialBytes, set_bytes), "partial sums of products"));
    p.arrivals.address = arrivals(static_cast<uint64_t>(step * tiles));
  }
  for (int64_t first = 0; first < sets; first += step) {
    p.first_set = static_cast<int32_t>(first);
    if (broken()) return;
    keep_error(launch_tiles<Arch>(backend_->stream(), kernel, type,
                                  static_cast<uint32_t>(std::min(step, sets - first)), p));
  }
}

}  // namespace shoal::gpu
