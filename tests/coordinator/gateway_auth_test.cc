// Key files and the rule that nothing unguarded listens off loopback.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>

#include "coordinator/gateway/auth.h"
#include "tests/support/support.h"

namespace shoal::gateway {
namespace {

Result<ApiKeys> load(const std::string& text, unsigned mode = 0600, bool allow_open = false) {
  shoal::testing::TempDir dir;
  const std::string path = dir.path() + "/keys";
  std::ofstream(path) << text;
  chmod(path.c_str(), mode);
  return ApiKeys::load(path, allow_open);
}

TEST(GatewayAuth, KeyFiles) {
  const auto keys = load("# ours\n\n  sk-0123456789abcdef  \r\nsk-fedcba9876543210");
  ASSERT_TRUE(keys) << keys.status().message();
  EXPECT_EQ(keys->size(), 2u);
  EXPECT_TRUE(keys->accepts("sk-0123456789abcdef"));
  EXPECT_TRUE(keys->accepts("sk-fedcba9876543210"));
  EXPECT_FALSE(keys->accepts("# ours"));
  EXPECT_FALSE(keys->accepts(""));
  EXPECT_FALSE(keys->accepts("sk-0123456789abcde"));
}

TEST(GatewayAuth, BadKeyFiles) {
  const std::string good = "sk-0123456789abcdef\n";
  for (const unsigned mode : {0604u, 0602u, 0601u, 0620u, 0666u}) {
    const auto keys = load(good, mode);
    ASSERT_FALSE(keys) << mode;
    EXPECT_EQ(keys.status().code(), Code::kFailedPrecondition);
  }
  EXPECT_TRUE(load(good, 0440));
  EXPECT_TRUE(load(good, 0666, true));
  EXPECT_FALSE(load(""));
  EXPECT_FALSE(load("# nothing\n"));
  const auto brief = load("\nshort-key\n");
  ASSERT_FALSE(brief);
  EXPECT_NE(brief.status().message().find(":2"), std::string::npos);
  EXPECT_EQ(brief.status().message().find("short-key"), std::string::npos);  // keys are not shown
  EXPECT_FALSE(load("sk-0123456789 abcdef\n"));
  EXPECT_FALSE(load(std::string(257, 'a')));
  EXPECT_EQ(ApiKeys::load("/nonexistent/keys").status().code(), Code::kNotFound);
}

TEST(GatewayAuth, Exposure) {
  const ApiKeys none;
  const ApiKeys some = ApiKeys::from_keys({"sk-0123456789abcdef"}).value();
  for (const char* host : {"127.0.0.1", "127.1.2.3", "::1", "localhost", "Localhost."}) {
    EXPECT_TRUE(check_exposure(host, none, false)) << host;
  }
  for (const char* host : {"0.0.0.0", "", "::", "192.168.1.5", "example.org", "localhost.evil"}) {
    EXPECT_EQ(check_exposure(host, none, false).code(), Code::kFailedPrecondition) << host;
    EXPECT_TRUE(check_exposure(host, some, false)) << host;
    EXPECT_TRUE(check_exposure(host, none, true)) << host;
  }
}

}  // namespace
}  // namespace shoal::gateway
