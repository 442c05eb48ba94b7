// The seeds of the fuzz targets still get past the first check of what they are for, so that
// fuzzing starts where the interesting code is. Frames of the wire: tests/wire/seeds_test.cc.
#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "config/parser.h"
#include "config/placement_file.h"
#include "coordinator/gateway/api_request.h"
#include "model/chat_template.h"
#include "tests/support/support.h"

namespace shoal::testing {
namespace {

std::map<std::string, std::string> seeds_of(const std::string& target) {
  std::map<std::string, std::string> seeds;
  for (const auto& entry :
       std::filesystem::directory_iterator(source_dir() + "/tests/fuzz/corpus/" + target)) {
    seeds[entry.path().filename().string()] = read_file(entry.path().string());
  }
  EXPECT_FALSE(seeds.empty()) << target;
  return seeds;
}

// The refusal, or "".
template <class T>
std::string refusal(const std::variant<T, gateway::ApiError>& parsed) {
  const auto* error = std::get_if<gateway::ApiError>(&parsed);
  return error == nullptr ? "" : error->message;
}

TEST(FuzzSeeds, Requests) {
  const std::set<std::string> wrong = {"deep", "numbers", "unsupported"};  // on purpose
  gateway::RequestLimits limits;
  limits.vocab_size = 1000;
  limits.served_model = "m";
  std::set<int> endpoints;
  for (const auto& [name, bytes] : seeds_of("fuzz_request")) {
    if (wrong.contains(name)) continue;
    const auto json = gateway::parse_json(std::string_view(bytes).substr(1));
    ASSERT_TRUE(json) << name;
    const int endpoint = bytes[0] % 4;
    endpoints.insert(endpoint);
    const std::string why =
        endpoint == 0   ? refusal(gateway::parse_chat_request(*json, limits))
        : endpoint == 1 ? refusal(gateway::parse_completion_request(*json, limits))
        : endpoint == 2 ? refusal(gateway::parse_tokenize_request(*json))
                        : refusal(gateway::parse_detokenize_request(*json, limits));
    EXPECT_EQ(why, "") << name;
  }
  EXPECT_EQ(endpoints.size(), 4u);
}

TEST(FuzzSeeds, Configurations) {
  for (const auto& [name, text] : seeds_of("fuzz_config")) {
    if (name == "placement.yaml") {
      const auto masks = config::parse_placement(text, name, {0, 4, 2, 130}, 5);
      EXPECT_TRUE(masks.is_ok()) << masks.status().message();
      continue;
    }
    const auto settings = config::parse(text, name);
    EXPECT_TRUE(settings.is_ok()) << settings.status().message();
  }
}

TEST(FuzzSeeds, Templates) {
  using Json = nlohmann::ordered_json;
  for (const auto& [name, bytes] : seeds_of("fuzz_template")) {
    const size_t end = bytes.find('\0');
    ASSERT_NE(end, std::string::npos) << name;
    Json context = Json::parse(bytes.substr(end + 1), nullptr, false);
    ASSERT_TRUE(context.is_object()) << name;
    context["add_generation_prompt"] = true;
    context["bos_token"] = "<s>";
    const auto chat = ChatTemplate::parse(bytes.substr(0, end));
    ASSERT_TRUE(chat.is_ok()) << name << ": " << chat.status().message();
    RenderControl control;
    const auto text = chat->render(context, 1'700'000'000, control);
    EXPECT_TRUE(text.is_ok() || name == "errors") << name << ": " << text.status().message();
  }
}

}  // namespace
}  // namespace shoal::testing
