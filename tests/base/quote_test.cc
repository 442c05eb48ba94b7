// Text from outside in messages: bounded, valid UTF-8, on one line; and what of it reaches the log.
#include "base/quote.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>

#include "base/log.h"
#include "base/rng.h"
#include "base/utf8.h"
#include "tests/support/support.h"

namespace shoal {
namespace {

bool has_control(std::string_view text, bool lines = false) {
  for (size_t pos = 0; pos < text.size();) {
    const uint32_t c = next_code_point(text, &pos);
    if (lines && c == '\n') continue;
    if (c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x2028 || c == 0x202e) return true;
  }
  return false;
}

TEST(Quote, ShowsWhatIsShort) {
  const struct {
    std::string_view text, excerpt;
  } cases[] = {
      {"", ""},
      {"abc", "abc"},
      {"na\xc3\xafve \xe2\x80\xa6 \xf0\x9f\x98\x80", "na\xc3\xafve \xe2\x80\xa6 \xf0\x9f\x98\x80"},
      {"it's", "it's"},
      {"a\nb\r\tc", "a\\nb\\r\\tc"},
      {std::string_view("a\0b", 3), "a\\x00b"},
      {"\x1b[31mred", "\\x1b[31mred"},
      {"\x7f", "\\x7f"},
      {"\xc2\x9b"
       "31m",
       "\\xc2\\x9b31m"},                                  // CSI of C1
      {"a\xe2\x80\xa8z", "a\\xe2\\x80\\xa8z"},            // a line separator
      {"\xe2\x80\xaetxt.exe", "\\xe2\\x80\\xaetxt.exe"},  // right to left from here
      {"\xff\xfe", "\\xff\\xfe"},
      {"\xe2\x82", "\\xe2\\x82"},
      {"\xef\xbf\xbd", "\xef\xbf\xbd"},  // U+FFFD itself is a character
  };
  for (const auto& c : cases) {
    EXPECT_EQ(excerpt(c.text), c.excerpt);
    EXPECT_EQ(in_quotes(c.text), "'" + std::string(c.excerpt) + "'");
  }
}

TEST(Quote, CutsWhatIsLong) {
  EXPECT_EQ(excerpt(std::string(200, 'a')), std::string(200, 'a'));
  EXPECT_EQ(excerpt(std::string(201, 'a')), std::string(200, 'a') + "… (201 bytes)");
  EXPECT_EQ(in_quotes(std::string(1 << 20, 'a')),
            "'" + std::string(200, 'a') + "…' (1048576 bytes)");
  EXPECT_EQ(excerpt("abcdef", 3), "abc… (6 bytes)");
  // Whole characters, and whole escapes.
  EXPECT_EQ(excerpt("ab\xc3\xaf", 3), "ab… (4 bytes)");
  EXPECT_EQ(excerpt("ab\x01z", 5), "ab… (4 bytes)");
  EXPECT_EQ(excerpt("ab\x01z", 6), "ab\\x01… (4 bytes)");
}

TEST(Quote, IsBoundedAndCleanWhateverComes) {
  Rng rng(testing::test_seed(61));
  for (int round = 0; round < 2000; ++round) {
    std::string text(rng.below(600), '\0');
    for (char& c : text) {
      c = static_cast<char>(rng.below(3) == 0 ? rng.below(256) : 0x20 + rng.below(95));
    }
    for (const std::string& shown : {excerpt(text), in_quotes(text)}) {
      ASSERT_LE(shown.size(), kQuotedBytes + 30);
      ASSERT_TRUE(is_valid_utf8(shown));
      ASSERT_FALSE(has_control(shown));
    }
    ASSERT_EQ(excerpt(excerpt(text, 5000), 5000), excerpt(text, 5000)) << "once is enough";
  }
}

TEST(Quote, MessagesKeepTheirLines) {
  EXPECT_EQ(bounded_message("rank 0: 1 GiB\nrank 1: 2 GiB"), "rank 0: 1 GiB\nrank 1: 2 GiB");
  EXPECT_EQ(bounded_message("a\rb\n\x1b"), "a\\rb\n\\x1b");
  const std::string cut = bounded_message(std::string(5000, '\n'));
  EXPECT_LE(cut.size(), kMessageBytes);
  EXPECT_EQ(bounded_message(cut), cut);
  EXPECT_NE(cut.find("… (5000 bytes)"), std::string::npos);
}

// What `action` writes to standard error.
template <class Action>
std::string logged(const Action& action) {
  const testing::TempDir dir;
  const std::string path = dir.path() + "/log";
  const int file = ::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
  const int before = ::dup(2);
  ::dup2(file, 2);
  action();
  ::dup2(before, 2);
  ::close(before);
  ::close(file);
  return testing::read_file(path);
}

TEST(Quote, ALogLineIsOneLine) {
  const std::string text = logged([] {
    init_logging(LogLevel::kInfo, "w%v\n" + std::string(1 << 20, 'x'));
    log_warn("forged\n2026-01-01T00:00:00 info [coordinator] all is well\x1b[2J");
    log_error(std::string(1 << 20, 'y'));
    log_error("\xff\xfe" + std::string(1 << 20, '\x01'));
    flush_log(std::chrono::seconds(10));
    init_logging(LogLevel::kOff, "");
  });
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 3) << text.substr(0, 1000);
  EXPECT_LT(text.size(), 3 * 4400u);
  EXPECT_TRUE(is_valid_utf8(text));
  EXPECT_FALSE(has_control(text, true));
  EXPECT_NE(text.find("[w%v\\nxxx"), std::string::npos) << text.substr(0, 200);
  EXPECT_NE(text.find("forged\\n2026"), std::string::npos);
}

}  // namespace
}  // namespace shoal
