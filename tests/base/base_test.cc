#include <gtest/gtest.h>

#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <utility>

#include "base/bounded_queue.h"
#include "base/file.h"
#include "base/rng.h"
#include "base/status.h"
#include "base/utf8.h"
#include "tests/support/support.h"

namespace shoal {
namespace {

TEST(Status, AnnotateKeepsCodeAndPutsPlaceInFront) {
  const Status status = data_loss("key 'a' is empty").annotate("x.gguf");
  EXPECT_EQ(status.code(), Code::kDataLoss);
  EXPECT_EQ(status.message(), "x.gguf: key 'a' is empty");
  EXPECT_TRUE(Status::ok().annotate("x").is_ok());
}

Result<int> half(int n) {
  if (n % 2) return invalid_argument("odd");
  return n / 2;
}
Result<int> quarter(int n) {
  SHOAL_ASSIGN(const int h, half(n));
  SHOAL_ASSIGN(const int q, half(h));
  return q;
}

TEST(Result, AssignPassesErrorsOn) {
  EXPECT_EQ(*quarter(8), 2);
  EXPECT_EQ(quarter(6).status().message(), "odd");
  EXPECT_DEATH(quarter(6).value(), "odd");
}

TEST(Utf8, Validity) {
  const struct {
    std::string_view text;
    bool valid;
  } cases[] = {{"", true},
               {"a\xc3\xa9", true},
               {"\xf0\x9f\x98\x80", true},
               {"\xf4\x8f\xbf\xbf", true},
               {"\xf4\x90\x80\x80", false},  // above U+10FFFF
               {"\xc0\x80", false},          // overlong
               {"\xe0\x9f\xbf", false},      // overlong
               {"\xed\xa0\x80", false},      // surrogate
               {"\x80", false},
               {"\xe2\x82", false},
               {"\xff", false}};
  for (const auto& c : cases) EXPECT_EQ(is_valid_utf8(c.text), c.valid) << c.text;
}

TEST(Utf8, CompletePrefixKeepsWholeCharactersOnly) {
  const std::string text = "a\xf0\x9f\x98\x80z";
  const size_t expected[] = {0, 1, 1, 1, 1, 5, 6};
  for (size_t n = 0; n <= text.size(); ++n) {
    EXPECT_EQ(complete_utf8_prefix(text.substr(0, n)), expected[n]) << n;
  }
  EXPECT_EQ(complete_utf8_prefix("a\xff"), 2u);  // invalid is not incomplete
}

TEST(Utf8, EveryCodePointRoundTrips) {
  for (uint32_t c = 0; c <= 0x10ffff; ++c) {
    if (c >= 0xd800 && c <= 0xdfff) continue;
    std::string text;
    append_utf8(c, &text);
    size_t pos = 0;
    ASSERT_EQ(next_code_point(text, &pos), c);
    ASSERT_EQ(pos, text.size());
  }
}

// As Python's bytes.decode("utf-8", "replace").
TEST(Utf8, SanitizeReplacesEachMaximalPart) {
  const std::string_view bad = "\xef\xbf\xbd";
  const struct {
    std::string_view text;
    int parts;
  } cases[] = {
      {"\xff", 1},         {"\x80\x80", 2},     {"\xe2\x82", 1},         {"\xf0\x9f\x98", 1},
      {"\xf0\x9f", 1},     {"\xf0", 1},         {"\xe0\x80", 2},         {"\xe0\x80\x80", 3},
      {"\xed\xa0\x80", 3}, {"\xc0\xaf", 2},     {"\xf5\x80\x80\x80", 4}, {"\xf4\x90\x80\x80", 4},
      {"\xff\xe2\x82", 2}, {"\xe2\x82\xe2", 2}, {"\xf0\x9f\xf0\x9f", 2},
  };
  for (const auto& c : cases) {
    std::string expected;
    for (int i = 0; i < c.parts; ++i) expected += bad;
    EXPECT_EQ(sanitize_utf8(c.text), expected);
    EXPECT_EQ(sanitize_utf8("a" + std::string(c.text) + "\xc3\xa9"), "a" + expected + "\xc3\xa9");
  }
  EXPECT_TRUE(is_valid_utf8(sanitize_utf8("\xed\xa0\x80")));
}

TEST(BoundedQueue, FullRefusesAndCloseWakes) {
  BoundedQueue<int> queue(2);
  EXPECT_TRUE(queue.try_push(1));
  EXPECT_TRUE(queue.try_push(2));
  EXPECT_FALSE(queue.try_push(3));
  EXPECT_EQ(queue.pop(Duration::zero()), 1);
  queue.close();
  EXPECT_EQ(queue.pop(std::chrono::hours(1)), 2);
  EXPECT_EQ(queue.pop(std::chrono::hours(1)), std::nullopt);
  EXPECT_FALSE(queue.try_push(4));
}

TEST(File, ReadsAreBoundedBySize) {
  testing::TempDir dir;
  const std::string path = dir.path() + "/f";
  ASSERT_TRUE(write_file_atomically(path, "hello", 0600).is_ok());
  auto file = File::open(path);
  ASSERT_TRUE(file.is_ok());
  uint8_t buffer[5];
  EXPECT_TRUE(file->read_at(0, buffer).is_ok());
  EXPECT_EQ(file->read_at(1, buffer).code(), Code::kDataLoss);
  EXPECT_EQ(file->read_at(~0ull, buffer).code(), Code::kDataLoss);
  EXPECT_EQ(File::open(dir.path() + "/none").status().code(), Code::kNotFound);
  EXPECT_FALSE(File::open(dir.path()).is_ok());
  EXPECT_FALSE(read_text_file(path, 4).is_ok());
  EXPECT_EQ(*read_text_file(path, 5), "hello");
}

TEST(File, ReadsPastTheCacheAreTheSame) {
  testing::TempDir dir;
  const std::string path = dir.path() + "/f";
  Rng rng(testing::test_seed(3));
  std::string text(3 * File::kPage * 16 + 777, '\0');
  for (char& c : text) c = static_cast<char>(rng());
  ASSERT_TRUE(write_file_atomically(path, text, 0600).is_ok());
  const auto file = File::open(path);
  ASSERT_TRUE(file.is_ok());
  const uint64_t room = text.size() + 2 * File::kPage;
  auto* raw = static_cast<uint8_t*>(std::aligned_alloc(File::kPage, (room / 4096 + 1) * 4096));
  const std::span<uint8_t> memory(raw, room);
  for (int i = 0; i < 400; ++i) {
    if (i % 2 == 0) file->drop_cache(0, text.size());  // else some of it is in memory
    uint64_t begin = rng.below(text.size() + 1), end = rng.below(text.size() + 1);
    if (begin > end) std::swap(begin, end);
    if (i % 5 == 0) end = text.size();
    const auto read = file->read_past_cache(begin, end - begin, memory);
    ASSERT_TRUE(read.is_ok()) << read.status().to_string();
    ASSERT_EQ(read->size(), end - begin);
    ASSERT_EQ(std::memcmp(read->data(), text.data() + begin, end - begin), 0)
        << begin << " … " << end;
  }
  EXPECT_EQ(file->read_past_cache(1, text.size(), memory).status().code(), Code::kDataLoss);
  // A file that has become shorter is an error, not a hang.
  ASSERT_EQ(::truncate(path.c_str(), 5000), 0);
  EXPECT_EQ(file->read_past_cache(4000, 9000, memory).status().code(), Code::kDataLoss);
  std::free(raw);
}

TEST(Rng, SameSeedSameNumbers) {
  Rng a(7), b(7), c(8);
  const uint64_t first = a();
  EXPECT_EQ(first, b());
  EXPECT_NE(first, c());
  for (int i = 0; i < 1000; ++i) {
    const double u = a.uniform();
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
  }
}

}  // namespace
}  // namespace shoal
