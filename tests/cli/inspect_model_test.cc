#include "cli/inspect_model.h"

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include <set>
#include <string>

#include "tests/support/support.h"

namespace shoal {
namespace {

using Json = nlohmann::ordered_json;

struct Model {
  explicit Model(const std::string& path)
      : file(GgufFile::open(path).value()), spec(read_model_spec(file).value()) {}
  Json ranks(const RankOptions& options) const {
    auto out = describe_ranks(file, spec, options);
    EXPECT_TRUE(out.is_ok()) << out.status().message();
    return out ? *out : Json::array();
  }
  GgufFile file;
  ModelSpec spec;
};

const Model& mixture() {
  static const Model model(testing::model_path("shoal-tiny-moe-q8_0.gguf"));
  return model;
}

TEST(InspectModel, AMixture) {
  const Json model = describe_model(mixture().file, mixture().spec);
  EXPECT_LT(model["active_parameters"].get<uint64_t>(), model["parameters"].get<uint64_t>());
  EXPECT_LT(model["bytes_per_token"].get<uint64_t>(), mixture().file.data_bytes());
  ASSERT_EQ(model["mixtures"].size(), 1u);
  const MoeLayer& moe = mixture().spec.layer.back().ffn.moe;
  EXPECT_EQ(model["mixtures"][0]["experts"], moe.experts);
  EXPECT_EQ(model["mixtures"][0]["top_k"], moe.top_k);
  EXPECT_EQ(model["mixtures"][0]["features"], moe.features);
  ASSERT_EQ(model["kv_groups"].size(), 1u);
  EXPECT_EQ(model["kv_groups"][0]["kind"], "full");
}

TEST(InspectModel, ADenseModel) {
  const Model model(testing::model_path("shoal-tiny-dense-q8_0.gguf"));
  const Json json = describe_model(model.file, model.spec);
  EXPECT_EQ(json["active_parameters"], json["parameters"]);
  EXPECT_TRUE(json["mixtures"].empty());
  const Json ranks = model.ranks({.workers = 2});
  ASSERT_EQ(ranks.size(), 2u);
  EXPECT_FALSE(ranks[0].contains("experts"));
  EXPECT_EQ(ranks[0]["ffn"][1], ranks[1]["ffn"][0]);
  EXPECT_EQ(ranks[0]["expert_bytes"], 0);
}

TEST(InspectModel, RanksHoldEveryExpertOnce) {
  const MoeLayer& moe = mixture().spec.layer.back().ffn.moe;
  const Json placed = mixture().ranks({.workers = 2, .expert_workers = 1});
  ASSERT_EQ(placed.size(), 3u);
  for (size_t layer = 0; layer < placed[0]["experts"].size(); ++layer) {
    std::multiset<int64_t> ids;
    for (const Json& rank : placed) {
      for (const Json& id : rank["experts"][layer]) ids.insert(id.get<int64_t>());
    }
    EXPECT_EQ(static_cast<int64_t>(ids.size()), moe.experts);
    EXPECT_EQ(static_cast<int64_t>(std::set<int64_t>(ids.begin(), ids.end()).size()), moe.experts);
  }
  EXPECT_EQ(placed[2]["kv_bytes_per_token_f16"], 0);
  EXPECT_EQ(placed[2]["heads"], (Json{0, 0}));
  EXPECT_GT(placed[2]["expert_bytes"].get<uint64_t>(), 0u);

  const Json sliced = mixture().ranks({.workers = 3, .shares = {1, 2, 1}, .experts = "sliced"});
  EXPECT_EQ(sliced[0]["expert_features"][0], 0);
  EXPECT_EQ(sliced[0]["expert_features"][1], sliced[1]["expert_features"][0]);
  EXPECT_EQ(sliced[2]["expert_features"][1], moe.features);
  EXPECT_GT(sliced[1]["expert_bytes"].get<uint64_t>(), sliced[0]["expert_bytes"].get<uint64_t>());
}

TEST(InspectModel, KvGroupsOfReferenceModels) {
  const struct {
    const char* name;
    Json kinds;
  } cases[] = {{"gptoss", {"window", "full"}},
               {"gemma3", {"window", "full"}},
               {"llama4", {"chunk", "full"}},
               {"deepseek2", {"latent"}}};
  for (const auto& c : cases) {
    const std::string packed = std::string("oracle/") + c.name + "-f32.gguf.gz";
    SHOAL_SKIP_WITHOUT_SHARED(packed);
    const Model model(testing::gunzip_shared(packed));
    const Json json = describe_model(model.file, model.spec);
    Json kinds = Json::array();
    int64_t layers = 0;
    uint64_t bytes = 0;
    for (const Json& group : json["kv_groups"]) {
      kinds.push_back(group["kind"]);
      layers += group["layers"].get<int64_t>();
      bytes += group["bytes_per_token_f16"].get<uint64_t>();
    }
    EXPECT_EQ(kinds, c.kinds) << c.name;
    EXPECT_EQ(layers, model.spec.layers);
    EXPECT_EQ(model.ranks({.workers = 1})[0]["kv_bytes_per_token_f16"], bytes) << c.name;
  }
}

TEST(InspectModel, RefusalsAreThoseOfAPlan) {
  const auto refusal = [](const RankOptions& options) {
    const auto out = describe_ranks(mixture().file, mixture().spec, options);
    EXPECT_FALSE(out.is_ok());
    return out ? std::string() : out.status().message();
  };
  EXPECT_NE(refusal({.workers = 2, .shares = {1}}).find("1 entries for 2 ranks"),
            std::string::npos);
  EXPECT_NE(refusal({.workers = 60, .expert_workers = 10}).find("70 ranks"), std::string::npos);
  EXPECT_NE(refusal({.workers = 2, .placement = "/no/such/file"}).find("/no/such/file"),
            std::string::npos);
  EXPECT_NE(refusal({.workers = 2, .experts = "sliced", .placement = "/x"}), "");
}

}  // namespace
}  // namespace shoal
