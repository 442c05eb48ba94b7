// The decoders and quantisers against the origin's own library, where it is installed: 4096 random
// blocks of every type and every codebook index; 0 floats may differ.
#include <dlfcn.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <vector>

#include "kernels/body/half.h"
#include "kernels/formats/decode.h"
#include "kernels/formats/encode.h"
#include "tests/support/support.h"

namespace shoal {
namespace {

namespace fs = std::filesystem;
using shoal::testing::test_seed;

// $SHOAL_GGML_BASE, or what tests/peer installed under a build tree; empty if there is none.
std::string library_path() {
  if (const char* path = std::getenv("SHOAL_GGML_BASE")) return path;
  const fs::path inside = "node_modules/@node-llama-cpp/linux-x64/bins/linux-x64/libggml-base.so";
  const fs::path root = fs::path(shoal::testing::source_dir());
  std::vector<fs::path> folders{root / "build/peer", root / "tests/peer"};
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(root / "build", error)) {
    folders.push_back(entry.path() / "peer");
  }
  for (const fs::path& folder : folders) {
    if (fs::exists(folder / inside, error)) return (folder / inside).string();
  }
  return {};
}

class Peer : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string path = library_path();
    if (path.empty()) GTEST_SKIP() << "needs libggml-base.so (SHOAL_GGML_BASE or tests/peer)";
    library_ = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    ASSERT_NE(library_, nullptr) << ::dlerror();
  }

  template <class F>
  F* symbol(const std::string& name) {
    return reinterpret_cast<F*>(::dlsym(library_, name.c_str()));
  }

 private:
  void* library_ = nullptr;  // never closed: it may own threads
};

using Dequantize = void(const void*, float*, int64_t);
using Quantize = void(const float*, void*, int64_t);

constexpr std::pair<TensorType, const char*> kTypes[] = {
    {TensorType::kQ4_0, "q4_0"},       {TensorType::kQ4_1, "q4_1"},
    {TensorType::kQ5_0, "q5_0"},       {TensorType::kQ5_1, "q5_1"},
    {TensorType::kQ8_0, "q8_0"},       {TensorType::kQ2_K, "q2_K"},
    {TensorType::kQ3_K, "q3_K"},       {TensorType::kQ4_K, "q4_K"},
    {TensorType::kQ5_K, "q5_K"},       {TensorType::kQ6_K, "q6_K"},
    {TensorType::kIQ1_S, "iq1_s"},     {TensorType::kIQ1_M, "iq1_m"},
    {TensorType::kIQ2_XXS, "iq2_xxs"}, {TensorType::kIQ2_XS, "iq2_xs"},
    {TensorType::kIQ2_S, "iq2_s"},     {TensorType::kIQ3_XXS, "iq3_xxs"},
    {TensorType::kIQ3_S, "iq3_s"},     {TensorType::kIQ4_NL, "iq4_nl"},
    {TensorType::kIQ4_XS, "iq4_xs"},   {TensorType::kTQ1_0, "tq1_0"},
    {TensorType::kTQ2_0, "tq2_0"},     {TensorType::kMXFP4, "mxfp4"},
    {TensorType::kNVFP4, "nvfp4"},     {TensorType::kQ1_0, "q1_0"},
    {TensorType::kQ2_0, "q2_0"},
};

// Equal bits, or NaN on both sides (a NaN's payload is the processor's affair).
int64_t mismatches(const std::vector<float>& a, const std::vector<float>& b) {
  int64_t wrong = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    if (std::isnan(a[i]) && std::isnan(b[i])) continue;
    wrong += std::memcmp(&a[i], &b[i], 4) != 0 ? 1 : 0;
  }
  return wrong;
}

int64_t compare(TensorType type, Dequantize* dequantize, const std::vector<uint8_t>& bytes) {
  const size_t n = bytes.size() / traits(type).block_bytes * traits(type).block_elems;
  std::vector<float> want(n), got(n);
  dequantize(bytes.data(), want.data(), static_cast<int64_t>(n));
  decode_row(type, bytes.data(), static_cast<int64_t>(n), got.data());
  return mismatches(got, want);
}

TEST_F(Peer, RandomBlocksOfEveryType) {
  constexpr int kBlocks = 4096;
  Rng rng(test_seed(11));
  int64_t floats = 0;
  for (const auto& [type, name] : kTypes) {
    auto* dequantize = symbol<Dequantize>(std::string("dequantize_row_") + name);
    ASSERT_NE(dequantize, nullptr) << name;
    // Half of them any bytes at all (with NaN and infinite scales), half with sane scales.
    std::vector<uint8_t> bytes(static_cast<size_t>(kBlocks) * traits(type).block_bytes);
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(rng());
    random_row(type, rng, 0.05f, kBlocks / 2 * static_cast<int64_t>(traits(type).block_elems),
               bytes.data());
    EXPECT_EQ(compare(type, dequantize, bytes), 0) << name;
    floats += kBlocks * static_cast<int64_t>(traits(type).block_elems);
  }
  std::printf("%zu types, %lld floats\n", std::size(kTypes), static_cast<long long>(floats));
}

TEST_F(Peer, EveryCodebookIndexAndSign) {
  // `put` writes index i into every group of a block whose other bytes are random.
  struct Book {
    TensorType type;
    const char* name;
    int entries;
    std::function<void(uint8_t* block, int i)> put;
  };
  const auto high_bits = [](uint8_t* at, int bytes, int groups_per_byte, int width, int value) {
    for (int b = 0; b < bytes; ++b) {
      at[b] = 0;
      for (int g = 0; g < groups_per_byte; ++g) at[b] |= static_cast<uint8_t>(value << (width * g));
    }
  };
  const Book books[] = {
      {TensorType::kIQ2_XXS, "iq2_xxs", 256,
       [](uint8_t* b, int i) {
         for (int p = 0; p < 8; ++p) std::memset(b + 2 + 8 * p, i, 4);
       }},
      {TensorType::kIQ2_XS, "iq2_xs", 512,
       [](uint8_t* b, int i) {
         for (int k = 0; k < 32; ++k) {
           const int code = (body::load_u16(b + 2 + 2 * k) & 0xfe00) | i;
           body::store_u16(b + 2 + 2 * k, static_cast<uint16_t>(code));
         }
       }},
      {TensorType::kIQ2_S, "iq2_s", 1024,
       [&](uint8_t* b, int i) {
         std::memset(b + 2, i & 255, 32);
         high_bits(b + 66, 8, 4, 2, i >> 8);
       }},
      {TensorType::kIQ3_XXS, "iq3_xxs", 256, [](uint8_t* b, int i) { std::memset(b + 2, i, 64); }},
      {TensorType::kIQ3_S, "iq3_s", 512,
       [&](uint8_t* b, int i) {
         std::memset(b + 2, i & 255, 64);
         high_bits(b + 66, 8, 8, 1, i >> 8);
       }},
      {TensorType::kIQ1_S, "iq1_s", 2048,
       [](uint8_t* b, int i) {
         std::memset(b + 2, i & 255, 32);
         for (int p = 0; p < 8; ++p) {
           const int high = i >> 8;
           const int packed = high | (high << 3) | (high << 6) | (high << 9);
           const int kept = body::load_u16(b + 34 + 2 * p) & 0xf000;
           body::store_u16(b + 34 + 2 * p, static_cast<uint16_t>(kept | packed));
         }
       }},
      {TensorType::kIQ1_M, "iq1_m", 2048,
       [](uint8_t* b, int i) {
         std::memset(b, i & 255, 32);
         for (int p = 0; p < 16; ++p) {
           const int high = i >> 8;
           b[32 + p] = static_cast<uint8_t>((b[32 + p] & 0x88) | high | (high << 4));
         }
       }},
  };
  Rng rng(test_seed(12));
  for (const Book& book : books) {
    auto* dequantize = symbol<Dequantize>(std::string("dequantize_row_") + book.name);
    ASSERT_NE(dequantize, nullptr) << book.name;
    const size_t stride = traits(book.type).block_bytes;
    std::vector<uint8_t> bytes(stride * static_cast<size_t>(book.entries));
    for (int i = 0; i < book.entries; ++i) {
      uint8_t* block = bytes.data() + stride * static_cast<size_t>(i);
      random_block(book.type, rng, 1.0f, block);
      book.put(block, i);
    }
    EXPECT_EQ(compare(book.type, dequantize, bytes), 0) << book.name;
  }
}

TEST_F(Peer, QuantisersWriteTheSameBytes) {
  Rng rng(test_seed(13));
  constexpr int64_t kValues = 32 * 4096;
  std::vector<float> values(kValues);
  for (float& v : values) v = static_cast<float>(rng.normal() * std::exp(2 * rng.normal()));
  std::fill_n(values.begin() + 64, 32, 0.0f);
  for (const auto& [type, name] :
       {std::pair{TensorType::kQ8_0, "q8_0"}, {TensorType::kQ4_0, "q4_0"}}) {
    auto* quantize = symbol<Quantize>(std::string("quantize_row_") + name + "_ref");
    ASSERT_NE(quantize, nullptr) << name;
    std::vector<uint8_t> want(row_bytes(type, kValues)), got(want.size());
    quantize(values.data(), want.data(), kValues);
    ASSERT_TRUE(encode_row(type, values.data(), kValues, got.data()).is_ok());
    EXPECT_EQ(got, want) << name;
  }
}

}  // namespace
}  // namespace shoal
