// Keys and values of 64 KiB, in every place of a configuration: refused in messages of ordinary
// length.
#include <gtest/gtest.h>

#include "base/utf8.h"
#include "config/parser.h"
#include "config/placement_file.h"
#include "config/schema.h"

namespace shoal::config {
namespace {

void expect_short(const Status& status, const std::string& what) {
  const std::string& message = status.message();
  EXPECT_LE(message.size(), 1024u) << what << ": " << message.substr(0, 2000);
  EXPECT_TRUE(is_valid_utf8(message)) << what;
  for (const char c : message) {
    ASSERT_TRUE(static_cast<unsigned char>(c) >= 0x20 && c != 0x7f) << what << ": " << message;
  }
}

// Within what the reader takes as one value, and beyond.
std::vector<std::string> values() {
  return {std::string(4000, 'v'), std::string(65536, 'v'), "\"" + std::string(2000, '7') + "\"",
          "\"\\e[2J" + std::string(3000, 'x') + "\"", "\"" + std::string(900, '\xc3') + "\""};
}

TEST(LongText, EveryKeyOfTheFile) {
  int refused = 0;
  for (const auto& field : config_fields()) {
    const size_t dot = field.key.rfind('.');
    std::string head, tail;
    for (size_t at = 0; at < dot;) {  // coordinator.limits.x: nested flow maps
      const size_t next = std::min(field.key.find('.', at), dot);
      head += std::string(field.key.substr(at, next - at)) + ": {";
      tail += "}";
      at = next + 1;
    }
    const std::string name(field.key.substr(dot + 1));
    for (const std::string& value : values()) {
      const auto settings = parse(head + name + ": " + value + tail, "c.yaml");
      refused += settings.is_ok() ? 0 : 1;
      if (!settings.is_ok()) expect_short(settings.status(), std::string(field.key));
    }
    for (const size_t n : {size_t{3000}, size_t{65536}}) {
      const auto settings = parse(head + std::string(n, 'k') + ": 1" + tail, "c.yaml");
      ASSERT_FALSE(settings.is_ok());
      expect_short(settings.status(), "a key beside " + std::string(field.key));
    }
  }
  EXPECT_GT(refused, 100);
}

TEST(LongText, WorkersNamesVariablesAndFlags) {
  for (const std::string& value : values()) {
    for (const auto& field : worker_fields()) {
      const auto settings =
          parse("workers: [{" + std::string(field.key) + ": " + value + "}]", "c.yaml");
      if (!settings.is_ok()) expect_short(settings.status(), std::string(field.key));
    }
    expect_short(parse("kv: !<" + value + "> {}", "c.yaml").status(), "a tag");
    expect_short(parse("kv: *" + std::string(5000, 'a'), "c.yaml").status(), "an alias");
    expect_short(parse("a: 1", value).status(), "the file's name");
    Settings settings;
    expect_short(apply_overrides({{value, "1", "--flag"}}, &settings), "a flag's key");
    expect_short(apply_overrides({{"kv.context", value, "--context"}}, &settings), "its value");
    expect_short(environment_overrides({{"SHOAL_KV_" + value, "1"}}).status(), "a variable");
  }
}

}  // namespace
}  // namespace shoal::config
