// The samples are the configuration's documentation: they must parse, name every key, and state the
// defaults the structs really have.
#include <cctype>
#include <map>
#include <optional>
#include <sstream>
#include <string_view>

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
    std::string key = doc.key;
    if (const size_t brackets = key.find("[]"); brackets != std::string::npos) {
      key.insert(brackets + 1, "0");
    }
    EXPECT_TRUE(settings.origins.contains(key)) << key << " is not in the sample";
    EXPECT_NE(text.find(squeezed(doc.doc)), std::string::npos) << key << ": " << doc.doc;
    if (doc.expected != "text" && doc.expected != "true, false") {
      EXPECT_NE(text.find(squeezed("[" + doc.expected + "]")), std::string::npos) << key;
    }
  }
}

// "      share: 2   # default: 1" or "  - name: x" → indentation, key, stated default.
struct Line {
  size_t indent = 0;
  std::string key;
  std::optional<std::string> stated;
};

std::optional<Line> read_line(std::string_view text) {
  Line line;
  while (line.indent < text.size() && (text[line.indent] == ' ' || text[line.indent] == '-')) {
    ++line.indent;
  }
  const size_t colon = text.find(':', line.indent);
  if (colon == std::string_view::npos || text[line.indent] == '#') return {};
  line.key = text.substr(line.indent, colon - line.indent);
  constexpr std::string_view kMark = "# default: ";
  if (const size_t mark = text.find(kMark); mark != std::string_view::npos) {
    line.stated = std::string(text.substr(mark + kMark.size()));
    if (line.stated == "\"\"") line.stated = "";
  }
  return line;
}

TEST(Samples, TwoHostsStatesRealDefaults) {
  const Settings settings = settings_of("two-hosts.yaml");
  EXPECT_EQ(settings.config.workers.size(), 3u);
  EXPECT_EQ(settings.config.coordinator.listen, (HostPort{"10.0.0.1", 8080}));
  EXPECT_EQ(settings.config.workers[2].share, 2.0);
  std::map<std::string, std::string> defaults;
  for (const KeyDoc& doc : key_docs()) defaults[doc.key] = doc.default_value;
  std::vector<Line> path;
  std::istringstream lines(sample("two-hosts.yaml"));
  int compared = 0;
  for (std::string text; std::getline(lines, text);) {
    const auto line = read_line(text);
    if (!line) continue;
    while (!path.empty() && path.back().indent >= line->indent) path.pop_back();
    path.push_back(*line);
    if (!line->stated) continue;
    std::string key;
    for (const Line& part : path) {
      key += (key.empty() ? "" : ".") + part.key + (part.key == "workers" ? "[]" : "");
    }
    ASSERT_TRUE(defaults.contains(key)) << key;
    EXPECT_EQ(*line->stated, defaults[key]) << key;
    ++compared;
  }
  EXPECT_GE(compared, 16) << "the comments were not recognised";
}

}  // namespace
}  // namespace shoal::config
