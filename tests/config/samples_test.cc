// The samples are the configuration's documentation: they must parse, name every key, and state the
// defaults the structs really have.
#include <cctype>
#include <map>
#include <regex>
#include <set>
#include <sstream>

#include <gtest/gtest.h>

#include "config/parser.h"
#include "tests/support/support.h"

namespace shoal::config {
namespace {

std::string sample(const std::string& name) {
  return shoal::testing::read_file(shoal::testing::source_dir() + "/config/samples/" + name);
}

Settings settings_of(const std::string& name) {
  auto settings = parse(sample(name), name);
  EXPECT_TRUE(settings.is_ok()) << settings.status().message();
  EXPECT_TRUE(check(*settings).is_ok()) << check(*settings).message();
  return std::move(settings).value();
}

// Comment marks and white space removed, so that line breaks do not matter.
std::string squeezed(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (!std::isspace(static_cast<unsigned char>(c)) && c != '#') out += c;
  }
  return out;
}

TEST(Samples, MinimalIsDefaultsAndAModel) {
  Config expected;
  expected.model.path = "/models/model.gguf";
  EXPECT_EQ(settings_of("minimal.yaml").config, expected);
}

TEST(Samples, SingleHostSaysEveryKeyWithItsDefault) {
  const Settings settings = settings_of("single-host.yaml");
  Config expected;
  expected.model.path = "/models/model.gguf";
  expected.workers = {Worker{.name = "w0"}, Worker{.name = "w1"}};
  EXPECT_EQ(settings.config, expected);
  const std::string text = squeezed(sample("single-host.yaml"));
  for (const KeyDoc& doc : key_docs()) {
    const std::string key = std::regex_replace(doc.key, std::regex("\\[\\]"), "[0]");
    EXPECT_TRUE(settings.origins.contains(key)) << key << " is not in the sample";
    EXPECT_NE(text.find(squeezed(doc.doc)), std::string::npos) << key << ": " << doc.doc;
    if (doc.expected != "text" && doc.expected != "true, false") {
      EXPECT_NE(text.find(squeezed("[" + doc.expected + "]")), std::string::npos) << key;
    }
  }
}

// Lines "key: value  # default: X" of the other samples.
TEST(Samples, TwoHostsStatesRealDefaults) {
  const Settings settings = settings_of("two-hosts.yaml");
  EXPECT_EQ(settings.config.workers.size(), 3u);
  EXPECT_EQ(settings.config.coordinator.listen, (HostPort{"10.0.0.1", 8080}));
  EXPECT_EQ(settings.config.workers[2].share, 2.0);
  std::map<std::string, std::string> defaults;
  for (const KeyDoc& doc : key_docs()) defaults[doc.key] = doc.default_value;
  const std::regex pattern(R"re(^(\s*(?:- )?)(\w+):\s*(\S.*?)?\s*(?:# default: (.*))?$)re");
  std::vector<std::pair<size_t, std::string>> path;  // indentation, key
  std::istringstream lines(sample("two-hosts.yaml"));
  int compared = 0;
  for (std::string line; std::getline(lines, line);) {
    std::smatch match;
    if (line.starts_with("#") || !std::regex_match(line, match, pattern)) continue;
    const size_t indent = match[1].str().size();
    while (!path.empty() && path.back().first >= indent) path.pop_back();
    path.emplace_back(indent, match[2].str());
    if (!match[4].matched) continue;
    std::string key;
    for (const auto& [_, part] : path) key += (key.empty() ? "" : ".") + part;
    key = std::regex_replace(key, std::regex("^workers\\."), "workers[].");
    ASSERT_TRUE(defaults.contains(key)) << key;
    const std::string stated = match[4].str() == "\"\"" ? "" : match[4].str();
    EXPECT_EQ(stated, defaults[key]) << key;
    ++compared;
  }
  EXPECT_GE(compared, 16) << "the comments were not recognised";
}

}  // namespace
}  // namespace shoal::config
