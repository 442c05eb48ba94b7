// Embedding, residual + norm and the device itself, against double precision.
#include <algorithm>

#include "tests/kernels/cpu_support.h"

namespace shoal {
namespace {

using namespace testing;

TEST(CpuOps, EmbedEveryTypeAndForeignIds) {
  Rng rng(21);
  const auto device = make_device("", true);
  for (const TensorType type : storable_types()) {
    const int64_t cols = traits(type).block_elems == 1 ? 37 : 256;
    const Matrix table(type, 10, cols, rng);
    const auto weight = upload(*device, table);
    const int32_t ids[] = {100, 109, 99, 110, 0, 104, -1};
    std::vector<float> out(7 * static_cast<size_t>(cols), NAN);
    device->embed(*weight, ids, 7, 100, 1.0f, out.data());
    for (int r = 0; r < 7; ++r) {
      const int64_t id = ids[r] - 100;
      for (int64_t i = 0; i < cols; ++i) {
        const float want =
            id >= 0 && id < 10 ? table.values[static_cast<size_t>(id * cols + i)] : 0.0f;
        ASSERT_EQ(out[static_cast<size_t>(r * cols + i)], want) << tensor_type_name(type);
      }
    }
  }
}

struct NormCase {
  bool delta, bias, index;
};

TEST(CpuOps, ResidualRmsNorm) {
  Rng rng(22);
  const float eps = 1e-5f;
  for (const std::string& isa : usable_sets()) {
    for (const int64_t cols : {7, 64, 288}) {
      for (const NormCase c : {NormCase{true, true, false},
                               {true, false, true},
                               {false, true, true},
                               {false, false, false}}) {
        const auto device = make_device(isa, false, 2);
        const int64_t rows = 6;
        const auto h0 = random_values(rng, rows * cols);
        auto delta = random_values(rng, rows * cols);
        const auto bias = random_values(rng, cols), weight = random_values(rng, cols);
        const std::vector<int32_t> index = {5, 0, 5};
        const int64_t out_rows = c.index ? 3 : rows;
        auto h = h0;
        const auto out = activations(*device, rows, cols);
        ResidualNorm norm{.h = h.data(), .rows = rows, .cols = cols};
        norm.delta = c.delta ? delta.data() : nullptr;
        norm.delta_bias = c.bias ? bias.data() : nullptr;
        norm.weight = weight.data();
        norm.eps = eps;
        norm.row_index = c.index ? index.data() : nullptr;
        norm.out_rows = out_rows;
        device->residual_norm(norm, *out);
        const auto got = read_back(*out, out_rows);
        for (size_t i = 0; i < h.size(); ++i) {
          double want = h0[i];
          if (c.delta) want += delta[i];
          if (c.bias) want += bias[i % static_cast<size_t>(cols)];
          ASSERT_NEAR(h[i], want, 1e-5);
        }
        for (int64_t r = 0; r < out_rows; ++r) {
          const float* row = h.data() + (c.index ? index[static_cast<size_t>(r)] : r) * cols;
          double squares = 0;
          for (int64_t i = 0; i < cols; ++i) squares += static_cast<double>(row[i]) * row[i];
          const double factor = 1 / std::sqrt(squares / static_cast<double>(cols) + eps);
          for (int64_t i = 0; i < cols; ++i) {
            const double want = row[i] * factor * weight[static_cast<size_t>(i)];
            ASSERT_NEAR(got[static_cast<size_t>(r * cols + i)], want, 2e-6 * (1 + std::fabs(want)))
                << isa;
          }
        }
      }
    }
  }
}

TEST(CpuOps, NormWithoutOutputOnlyAdds) {
  const auto device = make_device("", true);
  const auto out = activations(*device, 1, 32);
  std::vector<float> h(64, 1.0f), delta(64, 2.0f);
  device->residual_norm({.h = h.data(), .rows = 2, .cols = 32, .delta = delta.data()}, *out);
  EXPECT_EQ(h, std::vector<float>(64, 3.0f));
}

TEST(CpuOps, NormOfARowDoesNotDependOnItsCompany) {
  Rng rng(23);
  const int64_t cols = 416, rows = 9;
  const auto h0 = random_values(rng, rows * cols), weight = random_values(rng, cols);
  const Matrix w(TensorType::kQ8_0, 8, cols, rng);
  for (const std::string& isa : usable_sets()) {
    std::vector<float> first;
    for (const int threads : {1, 2, 3}) {
      const auto device = make_device(isa, true, threads);
      const auto matrix = upload(*device, w);
      const auto run = [&](int64_t from, int64_t count) {
        std::vector<float> h(h0.begin() + from * cols, h0.begin() + (from + count) * cols);
        const auto out = activations(*device, count, cols);
        device->residual_norm({.h = h.data(),
                               .rows = count,
                               .cols = cols,
                               .weight = weight.data(),
                               .eps = 1e-6f,
                               .out_rows = count},
                              *out);
        std::vector<float> y(static_cast<size_t>(count * 8));
        const MatmulTask task{matrix.get(), nullptr, y.data(), 8, 1.0f};
        device->matmul({&task, 1}, *out, count);
        return y;
      };
      const auto all = run(0, rows);
      if (first.empty()) first = all;
      ASSERT_EQ(all, first);
      for (int64_t r = 0; r < rows; ++r) {
        const auto alone = run(r, 1);
        ASSERT_TRUE(std::equal(alone.begin(), alone.end(), first.begin() + r * 8));
      }
    }
  }
}

TEST(CpuDevice, OptionsAreChecked) {
  CpuOptions options;
  options.isa = "sse9";
  const auto device = make_cpu_device(options);
  ASSERT_FALSE(device.is_ok());
  EXPECT_EQ(device.status().code(), Code::kInvalidArgument);
  EXPECT_NE(device.status().message().find("generic"), std::string::npos)
      << device.status().message();
  options.isa = "generic";
  options.threads = 1 << 20;
  EXPECT_FALSE(make_cpu_device(options).is_ok());
  options.threads = 1;
  options.cores = {1 << 20};
  EXPECT_FALSE(make_cpu_device(options).is_ok()) << "a core that does not exist";
  options.cores = {};
  EXPECT_NE(make_cpu_device(options).value()->describe().find("generic"), std::string::npos);
  const std::string arithmetic = make_cpu_device(options).value()->arithmetic();
  EXPECT_TRUE(arithmetic.starts_with("cpu generic, glibc 2.")) << arithmetic;
  options.threads = 2;
  EXPECT_EQ(make_cpu_device(options).value()->arithmetic(), arithmetic);
}

TEST(CpuDevice, MemoryIsZeroedAlignedAndBounded) {
  const auto device = make_device("", true);
  EXPECT_GT(device->free_memory(), uint64_t{1} << 20);
  const auto buffer = device->allocate(12345, "test").value();
  EXPECT_EQ(buffer->bytes(), 12345u);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer->data()) % 64, 0u);
  const auto* bytes = static_cast<const uint8_t*>(buffer->data());
  EXPECT_TRUE(std::all_of(bytes, bytes + 12345, [](uint8_t b) { return b == 0; }));
  EXPECT_NE(device->allocate(0, "nothing").value()->data(), nullptr);
  const auto huge = device->allocate(uint64_t{1} << 60, "the moon");
  ASSERT_FALSE(huge.is_ok());
  EXPECT_NE(huge.status().message().find("the moon"), std::string::npos);
}

}  // namespace
}  // namespace shoal
