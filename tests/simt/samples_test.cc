// The sample kernels are right on every seed and shape, and each of their mutants is caught on
// every seed: by a report of the emulator or by a wrong result.
#include "tests/simt/samples.h"

#include <sys/mman.h>

#include <cmath>
#include <functional>

#include "base/rng.h"
#include "tests/simt/simt_support.h"

namespace shoal::emulator {
namespace {

using simt::samples::Mutant;
using simt::samples::Softmax;
using simt::samples::Sum;
using simt::samples::ToyGemv;

std::vector<float> random_floats(uint64_t seed, size_t count) {
  Rng rng(seed);
  std::vector<float> values(count);
  for (float& v : values) v = static_cast<float>(rng.normal());
  return values;
}

// What a run came to: "" if it was right.
using Outcome = std::string;

Outcome compare(const Status& status, const float* got, const std::vector<double>& expected,
                double tolerance) {
  if (!status) return status.message();
  for (size_t i = 0; i < expected.size(); ++i) {
    if (!(std::fabs(got[i] - expected[i]) <= tolerance)) {
      return "value " + std::to_string(i) + " is " + std::to_string(got[i]) + ", not " +
             std::to_string(expected[i]);
    }
  }
  return "";
}

template <Mutant mutant, bool kChecked = true>
Outcome run_sum(uint64_t seed, int64_t n) {
  Memory memory;
  Stream<kChecked> stream(memory, {.seed = seed});
  const auto values = random_floats(seed, static_cast<size_t>(n));
  double expected = 0;
  for (const float v : values) expected += v;
  typename Sum<mutant>::Params params{};
  params.x = memory.upload_constant(values, "x");
  params.parts = memory.allocate<float>(5, "parts");
  params.total = memory.allocate<float>(1, "total");
  params.arrived = memory.upload<uint32_t>({0}, "arrived");
  params.n = n;
  Outcome outcome;
  for (int round = 0; round < 2 && outcome.empty(); ++round) {
    const Status status = simt::launch<Sum<mutant>, simt::Sm80>(
        stream, {.grid = {5}, .block = {96}, .shared_bytes = 33 * 4}, params);
    outcome = compare(status, params.total.address, {expected}, 1e-3);
  }
  return outcome;
}

struct ToyWeights {
  std::vector<uint8_t> bytes;
  std::vector<double> product;  // with x
};

ToyWeights toy_weights(uint64_t seed, int64_t rows, int64_t cols, const std::vector<float>& x) {
  Rng rng(seed);
  ToyWeights w;
  w.bytes.resize(static_cast<size_t>(rows * cols / 64 * 48));
  w.product.assign(static_cast<size_t>(rows), 0);
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t b = 0; b < cols / 64; ++b) {
      uint8_t* block = w.bytes.data() + (row * cols / 64 + b) * 48;
      for (int i = 4; i < 40; ++i) block[i] = static_cast<uint8_t>(rng() & (i < 8 ? 63 : 255));
      block[5] = static_cast<uint8_t>(block[4] ^ 33);  // the two scales differ
      body::store_u16(block, body::float_to_half(0.01f));
      body::store_u16(block + 2, body::float_to_half(0.02f));
      const double d = body::load_half(block), dmin = body::load_half(block + 2);
      for (int i = 0; i < 64; ++i) {
        const int code = i < 32 ? block[8 + i] & 15 : block[8 + i - 32] >> 4;
        const double weight = d * block[4 + i / 32] * code - dmin * block[6 + i / 32];
        w.product[static_cast<size_t>(row)] += weight * x[static_cast<size_t>(b * 64 + i)];
      }
    }
  }
  return w;
}

template <Mutant mutant, bool kChecked = true>
Outcome run_gemv(uint64_t seed, int64_t rows, int64_t cols) {
  using Kernel = ToyGemv<mutant>;
  Memory memory;
  Stream<kChecked> stream(memory, {.seed = seed});
  const auto x = random_floats(seed + 1, static_cast<size_t>(cols));
  const ToyWeights weights = toy_weights(seed, rows, cols, x);
  typename Kernel::Params params{};
  params.weights = memory.upload_constant(weights.bytes, "weights");
  params.x = memory.upload_constant(x, "x");
  params.y = memory.allocate<float>(static_cast<uint64_t>(rows), "y");
  params.rows = rows;
  params.cols = cols;
  const Status status =
      simt::launch<Kernel, simt::Sm80>(stream,
                                       {.grid = {static_cast<uint32_t>((rows + 3) / 4)},
                                        .block = {128},
                                        .shared_bytes = Kernel::shared_bytes(4)},
                                       params);
  return compare(status, params.y.address, weights.product, 1e-2);
}

// Rows beyond 2 GiB of weights; only they are ever touched.
template <Mutant mutant>
Outcome run_far_gemv(uint64_t seed) {
  constexpr int64_t kCols = 256, kRowBytes = kCols / 64 * 48,
                    kFirst = (int64_t{1} << 31) / kRowBytes;
  constexpr int64_t kRows = 8, kBytes = (kFirst + kRows) * kRowBytes;
  void* memory_map = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory_map == MAP_FAILED) return "cannot map 2 GiB";
  const auto x = random_floats(seed + 1, kCols);
  const ToyWeights weights = toy_weights(seed, kRows, kCols, x);
  std::copy(weights.bytes.begin(), weights.bytes.end(),
            static_cast<uint8_t*>(memory_map) + kFirst * kRowBytes);
  Outcome outcome;
  {
    Memory memory;
    Stream<> stream(memory, {.seed = seed});
    memory.adopt(memory_map, kBytes, "weights", MemoryKind::kConstant);
    typename ToyGemv<mutant>::Params params{};
    params.weights.address = static_cast<const uint8_t*>(memory_map);
    params.x = memory.upload_constant(x, "x");
    params.y = memory.allocate<float>(kRows, "y");
    params.first_row = kFirst;
    params.rows = kRows;
    params.cols = kCols;
    const Status status = simt::launch<ToyGemv<mutant>, simt::Sm80>(
        stream, {.grid = {2}, .block = {128}, .shared_bytes = ToyGemv<mutant>::shared_bytes(4)},
        params);
    outcome = compare(status, params.y.address, weights.product, 1e-2);
  }
  munmap(memory_map, kBytes);
  return outcome;
}

template <Mutant mutant, bool kChecked = true>
Outcome run_softmax(uint64_t seed, uint32_t rows, uint32_t cols) {
  Memory memory;
  Stream<kChecked> stream(memory, {.seed = seed});
  const auto x = random_floats(seed, rows * cols);
  std::vector<double> expected(x.size());
  for (uint32_t r = 0; r < rows; ++r) {
    double sum = 0;
    for (uint32_t c = 0; c < cols; ++c) sum += std::exp(double{x[r * cols + c]});
    for (uint32_t c = 0; c < cols; ++c)
      expected[r * cols + c] = std::exp(double{x[r * cols + c]}) / sum;
  }
  typename Softmax<mutant>::Params params{};
  params.x = memory.upload_constant(x, "x");
  params.y = memory.allocate<float>(rows * cols, "y");
  params.cols = cols;
  const Status status = simt::launch<Softmax<mutant>, simt::Sm80>(
      stream, {.grid = {rows}, .block = {64}, .shared_bytes = Softmax<mutant>::shared_bytes(cols)},
      params);
  return compare(status, params.y.address, expected, 1e-5);
}

TEST(Samples, AreRightOnEveryShapeAndSeed) {
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    for (const int64_t n : {1, 95, 96, 97, 1408, 2880})
      EXPECT_EQ(run_sum<Mutant::kNone>(seed, n), "");
    for (const int64_t rows : {1, 3, 17}) {
      for (const int64_t cols : {64, 320, 1408}) {
        EXPECT_EQ(run_gemv<Mutant::kNone>(seed, rows, cols), "");
      }
    }
    for (const uint32_t cols : {1u, 63u, 64u, 129u}) {
      EXPECT_EQ(run_softmax<Mutant::kNone>(seed, 3, cols), "");
    }
    EXPECT_EQ(run_far_gemv<Mutant::kNone>(seed), "");
  }
}

TEST(Samples, UncheckedRunsGiveTheSame) {
  EXPECT_EQ((run_sum<Mutant::kNone, false>(1, 2880)), "");
  EXPECT_EQ((run_gemv<Mutant::kNone, false>(1, 17, 1408)), "");
  EXPECT_EQ((run_softmax<Mutant::kNone, false>(1, 3, 129)), "");
}

TEST(Samples, EveryMutantIsCaughtOnEverySeed) {
  struct Row {
    const char* name;
    std::function<Outcome(uint64_t)> run;
    const char* caught_by;  // a regular expression
  };
  const char* const kMemory = "race|nothing was written|async copy";
  const char* const kResult = "^value";
  const Row rows[] = {
      {"sum without its barrier",
       [](uint64_t s) { return run_sum<Mutant::kMissingBarrier>(s, 2880); }, kMemory},
      {"sum without its tail", [](uint64_t s) { return run_sum<Mutant::kDroppedTail>(s, 2900); },
       kResult},
      {"sum without the fence", [](uint64_t s) { return run_sum<Mutant::kMissingFence>(s, 2880); },
       kMemory},
      {"gemv without sync_warp",
       [](uint64_t s) { return run_gemv<Mutant::kMissingBarrier>(s, 5, 1408); }, kMemory},
      {"gemv overwriting what is still read",
       [](uint64_t s) { return run_gemv<Mutant::kStaleSharedRead>(s, 5, 1408); }, kMemory},
      {"gemv not waiting for its copies",
       [](uint64_t s) { return run_gemv<Mutant::kMissingCopyWait>(s, 5, 1408); }, kMemory},
      {"gemv without its tail",
       [](uint64_t s) { return run_gemv<Mutant::kDroppedTail>(s, 5, 1408); }, kResult},
      {"gemv with the first scale everywhere",
       [](uint64_t s) { return run_gemv<Mutant::kWrongScaleIndex>(s, 5, 1408); }, kResult},
      {"gemv with 32-bit offsets", run_far_gemv<Mutant::kInt32Size>, "out of bounds"},
      {"softmax without its barrier",
       [](uint64_t s) { return run_softmax<Mutant::kMissingBarrier>(s, 3, 129); }, kMemory},
      {"softmax reusing words still read",
       [](uint64_t s) { return run_softmax<Mutant::kStaleSharedRead>(s, 3, 129); }, kMemory},
      {"softmax without its tail",
       [](uint64_t s) { return run_softmax<Mutant::kDroppedTail>(s, 3, 129); }, kResult},
  };
  for (const Row& row : rows) {
    for (uint64_t seed = 0; seed < kSeeds; ++seed) {
      EXPECT_THAT(row.run(seed), ::testing::ContainsRegex(row.caught_by))
          << row.name << ", seed " << seed;
    }
  }
}

}  // namespace
}  // namespace shoal::emulator
