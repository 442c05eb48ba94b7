// The digest of all bytes: finds what the sampled one does not, and depends on nothing but the
// bytes.
#include "model/gguf_verify.h"

#include <gtest/gtest.h>

#include <unistd.h>

#include <cstdio>
#include <set>

#include "base/rng.h"
#include "tests/model/gguf_raw.h"
#include "tests/support/support.h"

namespace shoal {
namespace {

using namespace shoal::testing;

// A model of some pieces, the last of them cut, with something else in every byte.
std::vector<uint8_t> model_bytes(uint64_t size) {
  std::vector<uint8_t> bytes = small_gguf().bytes();
  Rng rng(71);
  bytes.reserve(size + 8);
  while (bytes.size() < size) {
    const uint64_t word = rng();
    bytes.insert(bytes.end(), reinterpret_cast<const uint8_t*>(&word),
                 reinterpret_cast<const uint8_t*>(&word) + 8);
  }
  bytes.resize(size);
  return bytes;
}

GgufFile open(std::vector<uint8_t> bytes) {
  return GgufFile::parse(make_memory_source("m.gguf", std::move(bytes))).value();
}

constexpr uint64_t kPiece = 16 << 20, kSize = 2 * kPiece + 12345;

TEST(GgufVerify, FindsOneFlippedBitAnywhere) {
  const std::vector<uint8_t> bytes = model_bytes(kSize);
  const GgufFile file = open(bytes);
  const std::string digest = full_digest(file, {}).value();
  EXPECT_EQ(digest.size(), 32u);
  std::set<std::string> seen = {digest};
  int unsampled = 0;
  for (const uint64_t at : {kSize - 1, kPiece - 1, kPiece, 2 * kPiece - 1, 2 * kPiece,
                            uint64_t{5000000}, uint64_t{20000001}}) {
    for (const uint8_t flip : {0x01, 0x80}) {
      std::vector<uint8_t> changed = bytes;
      changed[at] ^= flip;
      const GgufFile other = open(std::move(changed));
      EXPECT_TRUE(seen.insert(full_digest(other, {}).value()).second) << at;
      unsampled += other.digest() == file.digest() ? 1 : 0;
    }
  }
  EXPECT_GE(unsampled, 8) << "the sampled digest would do";
}

TEST(GgufVerify, ThreadsAndNamesDoNotMatter) {
  const std::vector<uint8_t> bytes = model_bytes(kSize);
  const GgufFile file = open(bytes);
  const std::string digest = full_digest(file, {.threads = 1}).value();
  for (const int threads : {0, 2, 3, 100}) {
    std::atomic<uint64_t> done{0};
    EXPECT_EQ(full_digest(file, {.threads = threads, .bytes_done = &done}).value(), digest);
    EXPECT_EQ(done.load(), kSize);
  }
  const TempDir dir;
  for (const char* name : {"/a.gguf", "/other.gguf"}) {
    FILE* out = std::fopen((dir.path() + name).c_str(), "wb");
    ASSERT_NE(out, nullptr);
    ASSERT_EQ(std::fwrite(bytes.data(), 1, bytes.size(), out), bytes.size());
    std::fclose(out);
    const GgufFile on_disk = GgufFile::open(dir.path() + name).value();
    EXPECT_EQ(full_digest(on_disk, {}).value(), digest);
    EXPECT_EQ(on_disk.file_bytes(), kSize);
  }
}

TEST(GgufVerify, BytesBehindTheLastTensorCount) {
  const GgufFile a = open(model_bytes(kPiece)), b = open(model_bytes(kPiece + 1));
  EXPECT_NE(full_digest(a, {}).value(), full_digest(b, {}).value());
}

TEST(GgufVerify, StopsAndFailsAsReadingDoes) {
  const GgufFile file = open(model_bytes(kSize));
  const std::atomic<bool> stop{true};
  EXPECT_EQ(full_digest(file, {.stop = &stop}).status().code(), Code::kCancelled);
  const TempDir dir;
  const std::string path = dir.path() + "/m.gguf";
  const std::vector<uint8_t> bytes = model_bytes(kSize);
  FILE* out = std::fopen(path.c_str(), "wb");
  ASSERT_NE(out, nullptr);
  ASSERT_EQ(std::fwrite(bytes.data(), 1, bytes.size(), out), bytes.size());
  std::fclose(out);
  const GgufFile cut = GgufFile::open(path).value();
  ASSERT_EQ(::truncate(path.c_str(), kPiece + 5), 0);
  const Status status = full_digest(cut, {}).status();
  EXPECT_EQ(status.code(), Code::kDataLoss) << status.message();
  EXPECT_NE(status.message().find(path), std::string::npos);
}

}  // namespace
}  // namespace shoal
