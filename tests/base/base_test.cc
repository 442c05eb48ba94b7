#include <gtest/gtest.h>

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

TEST(Utf8, SanitizeReplacesEachInvalidByte) {
  EXPECT_EQ(sanitize_utf8("a\xff\xe2\x82"), "a\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd");
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
