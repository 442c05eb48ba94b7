// Offsets beyond 2^31 elements or bytes: rows, units and pages far apart in memory that is only
// reserved give the same bits as close together. An offset computed in 32 bits ends elsewhere.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <vector>

#include "base/rng.h"
#include "tests/simt/emulator.h"

#include "kernels/cuda/attention_kernels.h"
#include "kernels/cuda/attention_tensor.h"
#include "kernels/cuda/code_product.h"
#include "kernels/cuda/elementwise_kernels.h"
#include "kernels/cuda/experts_kernels.h"
#include "kernels/cuda/sample_kernels.h"
#include "kernels/cuda/tile_gemm.h"
#include "kernels/cuda/tile_gemv.h"
#include "kernels/cuda/tile_put.h"
#include "kernels/formats/encode.h"

namespace shoal::gpu {
namespace {

constexpr int64_t kFar = int64_t{3} << 30;

// Zeros; only pages that are touched take memory.
class Sparse {
 public:
  explicit Sparse(uint64_t bytes) : bytes_(bytes) {
    data_ = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  }
  ~Sparse() {
    if (is_there()) munmap(data_, bytes_);
  }
  Sparse(const Sparse&) = delete;
  bool is_there() const { return data_ != MAP_FAILED; }
  template <class T>
  T* as() {
    return static_cast<T*>(data_);
  }

 private:
  uint64_t bytes_;
  void* data_;
};

class GpuFar : public ::testing::Test {
 protected:
  // Zeros for the whole test.
  template <class T>
  T* reserve(int64_t count) {
    memory_.push_back(std::make_unique<Sparse>(static_cast<uint64_t>(count) * sizeof(T) + 4096));
    if (!memory_.back()->is_there()) throw std::runtime_error("no address space to reserve");
    return memory_.back()->template as<T>();
  }
  // `rows` rows of `width` random numbers, `stride` apart, the same for every stride.
  float* rows_of(int64_t rows, int64_t width, int64_t stride, uint64_t seed) {
    float* data = reserve<float>((rows - 1) * stride + width);
    Rng rng(seed);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t i = 0; i < width; ++i) {
        data[r * stride + i] = static_cast<float>(rng.normal());
      }
    }
    return data;
  }
  template <class Kernel>
  void start(const simt::LaunchShape& shape, const typename Kernel::Params& params) {
    const Status status = simt::launch<Kernel, simt::Sm80>(stream_, shape, params);
    EXPECT_TRUE(status.is_ok()) << status.to_string();
  }
  static std::vector<float> gather(const float* data, int64_t rows, int64_t width, int64_t stride) {
    std::vector<float> out;
    for (int64_t r = 0; r < rows; ++r) {
      out.insert(out.end(), data + r * stride, data + r * stride + width);
    }
    return out;
  }
  // `run` near and far; both must give the same numbers, not all zeros.
  template <class F>
  void compare(const F& run) {
    const std::vector<float> near = run(false), far = run(true);
    ASSERT_EQ(near.size(), far.size());
    EXPECT_EQ(std::memcmp(near.data(), far.data(), near.size() * sizeof(float)), 0);
    EXPECT_TRUE(std::any_of(near.begin(), near.end(), [](float x) { return x != 0; }));
  }

  emulator::Memory card_;
  emulator::Stream<false> stream_{card_};
  std::vector<std::unique_ptr<Sparse>> memory_;
};

TEST_F(GpuFar, EmbeddingTables) {
  compare([&](bool far) {
    const int64_t stride = far ? kFar : 256;
    auto* table = reserve<uint8_t>(2 * stride + 256);
    for (int64_t r = 0; r < 3; ++r) {
      auto* row = reinterpret_cast<float*>(table + r * stride);
      for (int i = 0; i < 64; ++i) row[i] = static_cast<float>(100 * r + i);
    }
    const int32_t ids[] = {2, 0, 1};
    std::vector<float> out(3 * 64);
    start<EmbedRows>({.grid = {3}, .block = {EmbedRows::kThreads}},
                     {.type = TensorType::kF32,
                      .scale = 1.0f,
                      .table = {table},
                      .row_stride = static_cast<uint64_t>(stride),
                      .table_rows = 3,
                      .cols = 64,
                      .first_id = 0,
                      .ids = {ids},
                      .out = {out.data()}});
    return out;
  });
}

TEST_F(GpuFar, RowsOfElementwiseKernels) {
  compare([&](bool far) {
    const int64_t stride = far ? kFar / 4 : 64;
    const float* x = rows_of(4, 64, stride, 1);
    float* copied = reserve<float>(3 * stride + 64);
    start<CopyHeads>({.grid = {4}, .block = {CopyHeads::kThreads}},
                     {{x}, {copied}, 1, 64, stride, 64, stride, 64});
    std::vector<float> packed(4 * 64), normed(64);
    start<PackActivations>(
        {.grid = {4}, .block = {PackActivations::kThreads}},
        {.x = {x}, .x_stride = stride, .width = 64, .out = {{packed.data()}, {}, {}, {}, 64}});
    const int32_t from = static_cast<int32_t>(3 * stride / 64);
    ResidualNormRows::Params norm{};
    norm.h = {const_cast<float*>(x)};
    norm.row_index = {&from};
    norm.out = {{normed.data()}, {}, {}, {}, 64};
    norm.cols = 64;
    norm.out_rows = 1;
    norm.eps = 1e-5f;
    start<ResidualNormRows>(
        {.grid = {1},
         .block = {ResidualNormRows::threads(64)},
         .shared_bytes = static_cast<uint32_t>(ResidualNormRows::shared_bytes(64))},
        norm);
    std::vector<float> all = gather(copied, 4, 64, stride);
    all.insert(all.end(), packed.begin(), packed.end());
    all.insert(all.end(), normed.begin(), normed.end());
    return all;
  });
}

TEST_F(GpuFar, RowsOfLogits) {
  compare([&](bool far) {
    const int64_t stride = far ? kFar / 4 : 128;
    float* logits = rows_of(4, 100, stride, 2);
    const SampleSpec specs[4] = {};
    ChunkFindings findings[4] = {};
    ChunkBest bests[4] = {};
    start<SampleChunks>({.grid = {1, 4},
                         .block = {SampleChunks::kThreads},
                         .shared_bytes = SampleChunks::kSharedBytes},
                        {.logits = {logits},
                         .stride = stride,
                         .vocab = 100,
                         .first_id = 0,
                         .specs = {specs},
                         .findings = {findings},
                         .bests = {bests},
                         .shaped = true});
    const SelectJob job{.row = 3, .wanted = 1, .first = 0};
    FoundLogit found[1] = {};
    uint32_t count = 0;
    start<SelectTop>(
        {.grid = {1}, .block = {SelectTop::threads(100)}, .shared_bytes = SelectTop::kSharedBytes},
        {.logits = {logits},
         .stride = stride,
         .vocab = 100,
         .specs = {specs},
         .jobs = {&job},
         .found = {found},
         .counts = {&count},
         .shaped = true});
    const SamplePenalties penalties[4] = {};
    const SampleBias bias{.row = 3, .index = 5, .count_and_seen = 0, .bias = 2.5f};
    float original = 0;
    start<ApplyBiases>({.grid = {1}, .block = {ApplyBiases::kThreads}},
                       {{logits}, stride, {penalties}, {&bias}, 1, {&original}});
    return std::vector<float>{findings[3].max, bests[3].value, found[0].value, original,
                              logits[3 * stride + 5]};
  });
}

TEST_F(GpuFar, RowsOfProducts) {
  constexpr int64_t kCols = 256, kRowBytes = kCols / 32 * 34;
  using Kernel = CodeProduct<TensorType::kQ8_0>;
  compare([&](bool far) {
    const int64_t row_stride = far ? int64_t{1} << 30 : 288, out_stride = far ? kFar / 4 : 4;
    auto* weights = reserve<uint8_t>(3 * row_stride + 288);
    Rng rng(3);
    for (int64_t r = 0; r < 4; ++r) {
      random_row(TensorType::kQ8_0, rng, 0.5f, kCols, weights + r * row_stride);
    }
    std::vector<int8_t> codes(4 * kCols);
    for (auto& code : codes) code = static_cast<int8_t>(rng.below(255));
    const std::vector<float> scales(4 * kCols / 32, 0.01f);
    float* out = reserve<float>(3 * out_stride + 4);
    ProductParams p;
    p.count = 1;
    p.weights[0].data = {weights};
    p.weights[0].out = {out};
    p.weights[0].row_stride = row_stride;
    p.weights[0].out_stride = out_stride;
    p.weights[0].rows = 4;
    p.row_bytes = kRowBytes;
    p.cols = kCols;
    p.codes = {codes.data()};
    p.scales = {scales.data()};
    p.sums = {scales.data()};
    p.x_stride = kCols;
    p.rows = 4;
    start<Kernel>(
        {.grid = {1}, .block = {Kernel::kMaxThreads}, .shared_bytes = Kernel::kSharedBytes}, p);
    return gather(out, 4, 4, out_stride);
  });
}

// Expert 4 million of one unit each, rows of x and of the results far apart.
TEST_F(GpuFar, Tiles) {
  constexpr TensorType kType = TensorType::kQ8_0;
  constexpr int64_t kUnitBytes = TileGemv<kType>::kUnitBytes;
  compare([&](bool far) {
    const auto expert = static_cast<int32_t>(far ? kFar / kUnitBytes : 3);
    auto* units = reserve<uint8_t>((expert + 1) * kUnitBytes);
    std::vector<uint8_t> stored(16 * 34);
    Rng rng(4);
    for (int r = 0; r < 16; ++r) random_row(kType, rng, 0.5f, 32, stored.data() + 34 * r);
    start<PutRows<kType>>({.grid = {1}, .block = {PutRows<kType>::kThreads}},
                          {.from = {stored.data()},
                           .to = {units},
                           .first_row = int64_t{expert} * 16,
                           .count = 16,
                           .row_bytes = 34,
                           .units = 1});
    const int64_t stride = far ? 3 * kFar : 64, out_stride = far ? kFar / 2 : 16;
    auto* codes = reserve<int8_t>(stride + 64);
    float* scales = reserve<float>(stride / 32 + 2);
    for (int r = 0; r < 2; ++r) {
      for (int i = 0; i < 32; ++i) codes[r * stride + i] = static_cast<int8_t>(rng.below(255));
      scales[r * (stride / 32)] = 0.01f;
    }
    std::vector<float> all;
    for (const bool many : {false, true}) {
      float* out = reserve<float>(2 * out_stride + 16);
      const ExpertTile slot{expert, 1, 2, 0};
      const int32_t tiles = 1, slot_rows[] = {0, 0, 1};
      TileProductParams p;
      p.weights[0].units = {units};
      p.weights[0].out = {out};
      p.weights[0].out_stride = out_stride;
      p.weights[0].rows = 16;
      p.weights[0].stored_tiles = expert + 1;
      p.count = p.tiles = p.units = p.parts = 1;
      p.runs = cut_runs(1, 1);
      p.x = {{}, {codes}, {scales}, {scales}, stride};
      p.slots = {&slot};
      p.slot_tiles = {&tiles};
      p.slot_rows = {slot_rows};
      if (many) {
        using Kernel = TileGemm<kType>;
        start<Kernel>(
            {.grid = {1, 1}, .block = {Kernel::kThreads}, .shared_bytes = Kernel::kSharedBytes}, p);
      } else {
        using Kernel = TileGemv<kType>;
        start<Kernel>(
            {.grid = {1, 1}, .block = {Kernel::kThreads}, .shared_bytes = Kernel::kSharedBytes}, p);
      }
      const auto got = gather(out + out_stride, 2, 16, out_stride);
      all.insert(all.end(), got.begin(), got.end());
    }
    return all;
  });
}

TEST_F(GpuFar, ProductsOfExperts) {
  compare([&](bool far) {
    const auto slot = static_cast<int32_t>(far ? kFar / 64 : 3);
    float* products = rows_of(2, 64, int64_t{slot} * 64, 5);
    const int32_t slots[] = {0, slot};
    const float weights[] = {0.5f, 0.25f};
    std::vector<float> out(64);
    start<CombineExperts>({.grid = {1}, .block = {CombineExperts::kThreads}},
                          {.slots = {slots},
                           .weights = {weights},
                           .products = {products},
                           .out = {out.data()},
                           .columns = 64,
                           .out_stride = 64,
                           .top_k = 2});
    return out;
  });
}

// K and V written to and read from a page beyond 2^31 bytes; rows of q far apart.
template <class Kernel, KvType kType>
std::vector<float> attend(emulator::Stream<false>& stream, uint8_t* cache, int32_t page, float* q,
                          int64_t q_stride) {
  constexpr int64_t kDim = 64, kTokens = 16;
  const KvLayer shape{cache, kType, page + 1, kTokens, 1, kDim, 0};
  Rng rng(6);
  std::vector<float> k(kTokens * kDim), v(kTokens * kDim), no_q(kDim);
  for (auto& x : k) x = static_cast<float>(rng.normal());
  for (auto& x : v) x = static_cast<float>(rng.normal());
  std::vector<int32_t> positions(kTokens);
  std::vector<int64_t> slots(kTokens);
  for (int32_t t = 0; t < kTokens; ++t) {
    positions[static_cast<size_t>(t)] = t;
    slots[static_cast<size_t>(t)] = int64_t{page} * kTokens + t;
  }
  using Store = StoreKv<kType>;
  typename Store::Params s{};
  s.q = {no_q.data()};
  s.k = {k.data()};
  s.v = {v.data()};
  s.positions = {positions.data()};
  s.slots = {slots.data()};
  s.cache = {cache};
  s.places = KvPlaces::of(shape);
  s.rows = kTokens;
  s.head_dim = s.kv_stride = s.key_norm_dims = kDim;
  s.has_values = true;
  EXPECT_TRUE((simt::launch<Store, simt::Sm80>(stream,
                                               {.grid = {kTokens / Store::kWarps},
                                                .block = {32 * Store::kWarps},
                                                .shared_bytes = Store::shared_bytes(kDim)},
                                               s)));
  const int32_t rows[] = {15, 14, 13, 15}, sequences[] = {0, 0, 0, 0};
  std::vector<float> out(4 * kDim);
  AttentionParams p{};
  p.q = {q};
  p.out = {out.data()};
  p.positions = {rows};
  p.sequences = {sequences};
  p.tables = {&page};
  p.cache = {cache};
  p.places = s.places;
  p.q_stride = q_stride;
  p.out_stride = kDim;
  p.table_stride = 1;
  p.rows = 4;
  p.q_heads = p.group = 1;
  p.head_dim = p.value_dim = kDim;
  p.scale = 0.125f;
  Kernel::shape(p);
  std::vector<uint32_t> arrivals(kAttentionRows);
  std::vector<float> partials(Kernel::slot_floats(p) * (Kernel::kBlockSlots + 1));
  p.arrivals = {arrivals.data()};
  p.partials = {partials.data()};
  EXPECT_TRUE((simt::launch<Kernel, simt::Sm80>(
      stream, {.grid = {1}, .block = {Kernel::kThreads}, .shared_bytes = Kernel::shared_bytes(p)},
      p)));
  return out;
}

TEST_F(GpuFar, PagesOfTheCacheAndRowsOfQueries) {
  constexpr int64_t kPageBytes = 16 * 64 * 2 * 4;
  const auto run = [&]<class Kernel, KvType kType>() {
    compare([&](bool far) {
      const auto page = static_cast<int32_t>(far ? 2 * kFar / kPageBytes : 1);
      auto* cache = reserve<uint8_t>((page + 1) * kPageBytes);
      const int64_t stride = far ? kFar / 4 : 64;
      return attend<Kernel, kType>(stream_, cache, page, rows_of(4, 64, stride, 7), stride);
    });
  };
  run.template operator()<PlainAttention<KvType::kF32>, KvType::kF32>();
  run.template operator()<PlainAttention<KvType::kF16>, KvType::kF16>();
  run.template operator()<TensorAttention<64>, KvType::kF16>();
}

}  // namespace
}  // namespace shoal::gpu
