#include "config/values.h"

#include <gtest/gtest.h>

namespace shoal::config {
namespace {

using std::chrono::hours;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::seconds;

TEST(Values, Bytes) {
  EXPECT_EQ(*parse_bytes("0"), 0u);
  EXPECT_EQ(*parse_bytes("4096"), 4096u);
  EXPECT_EQ(*parse_bytes("4096 B"), 4096u);
  EXPECT_EQ(*parse_bytes("16 MiB"), 16u << 20);
  EXPECT_EQ(*parse_bytes("16MiB"), 16u << 20);
  EXPECT_EQ(*parse_bytes("1 GiB"), 1u << 30);
  EXPECT_EQ(*parse_bytes("2 GB"), 2'000'000'000u);
  EXPECT_EQ(*parse_bytes("16777215 TiB"), 16777215ull << 40);
  for (const char* bad :
       {"", " ", "MiB", "-1", "-1 MiB", "1.5 GiB", "16 mib", "16 M", "1 MiB x", "16777216 TiB",
        "99999999999999999999", "0x10", "1e3", "+5", " 5", "1_000"}) {
    EXPECT_FALSE(parse_bytes(bad).is_ok()) << bad;
  }
  for (const uint64_t bytes :
       {0ull, 1ull, 1000ull, 1024ull, 1536ull, 1ull << 20, 3ull << 30, 1ull << 63}) {
    EXPECT_EQ(*parse_bytes(format_bytes(bytes)), bytes) << format_bytes(bytes);
  }
}

TEST(Values, Durations) {
  EXPECT_EQ(*parse_duration("0"), Duration::zero());
  EXPECT_EQ(*parse_duration("250ms"), milliseconds(250));
  EXPECT_EQ(*parse_duration("3s"), seconds(3));
  EXPECT_EQ(*parse_duration("3 s"), seconds(3));
  EXPECT_EQ(*parse_duration("1.5min"), seconds(90));
  EXPECT_EQ(*parse_duration("2h"), hours(2));
  EXPECT_EQ(*parse_duration("10us"), microseconds(10));
  for (const char* bad : {"", "3", "s", "-1s", "1d", "3 sec", "1e3s", "nan s", "inf",
                          "999999999999h", "1..5s", ".", "3s 4ms"}) {
    EXPECT_FALSE(parse_duration(bad).is_ok()) << bad;
  }
  for (const Duration d :
       {Duration::zero(), Duration(microseconds(7)), Duration(milliseconds(1500)),
        Duration(seconds(75)), Duration(minutes(30)), Duration(hours(24))}) {
    EXPECT_EQ(*parse_duration(format_duration(d)), d) << format_duration(d);
  }
}

TEST(Values, Addresses) {
  EXPECT_EQ(*parse_host_port("127.0.0.1:8080"), (HostPort{"127.0.0.1", 8080}));
  EXPECT_EQ(*parse_host_port("[::1]:80"), (HostPort{"::1", 80}));
  EXPECT_EQ(*parse_host_port("[fe80::1%eth0]:80"), (HostPort{"fe80::1%eth0", 80}));
  EXPECT_EQ(*parse_host_port("gpu-1.rack_2.example:0"), (HostPort{"gpu-1.rack_2.example", 0}));
  for (const char* bad : {"", "8080", ":8080", "host", "host:", "host:65536", "host:-1", "::1:80",
                          "[::1]", "[]:80", "a b:80", "tcp://a:80", "host:80x"}) {
    EXPECT_FALSE(parse_host_port(bad).is_ok()) << bad;
  }
  for (const HostPort& address : {HostPort{"::", 1}, HostPort{"10.0.0.1", 65535}}) {
    EXPECT_EQ(*parse_host_port(format_host_port(address)), address);
  }
}

TEST(Values, Cores) {
  using Cores = std::vector<uint32_t>;
  EXPECT_EQ(*parse_cores(""), Cores{});
  EXPECT_EQ(*parse_cores("5"), Cores{5});
  EXPECT_EQ(*parse_cores("0-3,8"), (Cores{0, 1, 2, 3, 8}));
  EXPECT_EQ(parse_cores("0-4095")->size(), 4096u);
  for (const char* bad : {",", "1,", ",1", "3-1", "1,1", "2,1", "0-3,3", "a", "1-", "-1", "4096",
                          "0-4294967296", "1--2", "1 ,2"}) {
    EXPECT_FALSE(parse_cores(bad).is_ok()) << bad;
  }
  for (const char* same : {"", "5", "0-3,8", "0,2,4-5"}) {
    EXPECT_EQ(format_cores(*parse_cores(same)), same);
  }
}

TEST(Values, NumbersAreFinite) {
  EXPECT_EQ(*parse_number("2.5"), 2.5);
  EXPECT_EQ(*parse_number("1e3"), 1000);
  for (const char* bad :
       {"", "nan", "inf", "-inf", ".inf", ".nan", "1e999", "1x", "0x1p3", "1,5"}) {
    EXPECT_FALSE(parse_number(bad).is_ok()) << bad;
  }
  for (const double value : {1.0, 0.1, 1e-300, 123456.789}) {
    EXPECT_EQ(*parse_number(format_number(value)), value);
  }
}

TEST(Values, Tokens) {
  EXPECT_EQ(*expand_tokens("4096"), "4096");
  EXPECT_EQ(*expand_tokens("4k"), "4096");
  EXPECT_EQ(*expand_tokens("32K"), "32768");
  EXPECT_EQ(*expand_tokens("1M"), "1048576");
  EXPECT_EQ(*expand_tokens("0m"), "0");
  EXPECT_EQ(*expand_tokens("auto"), "auto");  // for others to judge
  for (const char* bad :
       {"k", "1.5k", "-1k", "1 k", "1kk", "99999999999999999999k", "18014398509481984k"}) {
    EXPECT_FALSE(expand_tokens(bad).is_ok()) << bad;
  }
}

TEST(Values, ModelNames) {
  for (const std::string& name :
       {std::string("m"), std::string("org/Model 7B: chat"), std::string("Modell \xc3\xa4"),
        std::string(kMaxModelName, 'x')}) {
    EXPECT_TRUE(check_model_name(name).is_ok()) << name;
  }
  for (const std::string& name :
       {std::string(), std::string(" "), std::string(" m"), std::string("m "), std::string("a\tb"),
        std::string("a\nb"), std::string("a\x7f"), std::string("a\0b", 3), std::string("\xff"),
        std::string("\xc3"), std::string(kMaxModelName + 1, 'x')}) {
    const Status status = check_model_name(name);
    EXPECT_EQ(status.code(), Code::kInvalidArgument) << name;
    EXPECT_LT(status.message().size(), 400u);
  }
}

TEST(Values, NearestIsOnlyASlip) {
  const std::vector<std::string_view> keys{"type", "context", "blocks", "block_tokens"};
  EXPECT_EQ(nearest("tpye", keys), "type");
  EXPECT_EQ(nearest("contex", keys), "context");
  EXPECT_EQ(nearest("block-tokens", keys), "block_tokens");
  EXPECT_EQ(nearest("block", keys), "blocks");
  EXPECT_EQ(nearest("tape", keys), "type");
  EXPECT_EQ(nearest("tap", keys), "");
  EXPECT_EQ(nearest("precision", keys), "");
  EXPECT_EQ(nearest("", keys), "");
  EXPECT_EQ(nearest(std::string(100000, 'x'), keys), "");
}

}  // namespace
}  // namespace shoal::config
