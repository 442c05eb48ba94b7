#include "config/placement_file.h"

#include <gtest/gtest.h>

#include "base/file.h"
#include "tests/support/support.h"

namespace shoal::config {
namespace {

using Masks = std::vector<uint64_t>;

const std::vector<int64_t> kModel{0, 4, 2};  // a dense layer, then 4 and 2 experts

Masks parsed(const std::string& text, int world = 3) {
  const auto masks = parse_placement(text, "p.yaml", kModel, world);
  EXPECT_TRUE(masks.is_ok()) << masks.status().message();
  return masks ? *masks : Masks{};
}

TEST(PlacementFile, Forms) {
  EXPECT_EQ(parsed("placement: []"), Masks(6, 0));
  EXPECT_EQ(parsed("placement:\n  - {layer: 1, expert: 2, rank: 1}"), (Masks{0, 0, 2, 0, 0, 0}));
  EXPECT_EQ(parsed("placement:\n  - {layers: all, experts: all, ranks: 2}"), Masks(6, 4));
  EXPECT_EQ(parsed("placement:\n"
                   "  - {layers: 1-2, experts: 0-1, ranks: [0, 2]}\n"
                   "  - layers: 1\n"
                   "    experts: [2, '3-3']\n"
                   "    ranks: 0-1\n"),
            (Masks{5, 5, 3, 3, 5, 5}));
  EXPECT_EQ(parsed("placement:\n  - {layers: 1, experts: '0 - 1, 3', ranks: 1}"),
            (Masks{2, 2, 0, 2, 0, 0}));
  EXPECT_EQ(parsed(R"({"unlisted": "refuse",
                       "placement": [{"layers": [1, 2], "experts": "all", "ranks": [1]}]})"),
            Masks(6, 2))
      << "JSON";
  EXPECT_EQ(parsed("placement:\n  - {layers: 2, experts: 1, ranks: 63}", 64)[5], uint64_t{1} << 63);
}

TEST(PlacementFile, RefusalsSayWhereAndWhat) {
  const struct {
    const char* text;
    const char* expected;
  } cases[] = {
      {"", "1:1: `placement` is missing"},
      {"- 1", "1:1: "},
      {"placemant: []", "1:1: unknown key 'placemant'; known here: unlisted, placement"},
      {"placement: {}", "1:12: placement: expected a list"},
      {"placement: [3]", "1:13: expected a map with layers, experts and ranks"},
      {"placement: []\nunlisted: maybe", "2:11: unlisted: expected auto or refuse"},
      {"placement:\n- {layers: 1, experts: 0}", "2:3: ranks are missing"},
      {"placement:\n- {layers: 1, experts: 0, ranks: 0, hosts: a}", "2:37: unknown key 'hosts'"},
      {"placement:\n- {layers: 1, layer: 2, experts: 0, ranks: 0}", "2:15: layers are given twice"},
      {"placement:\n- {layers: 1, layers: 2, experts: 0, ranks: 0}",
       "2:15: duplicate key 'layers'"},
      {"placement:\n- {layers: 3, experts: 0, ranks: 0}",
       "2:12: layer 3: the model has 3 layers, counted from 0"},
      {"placement:\n- {layers: 0-1, experts: 0, ranks: 0}", "2:12: layer 0 has no experts"},
      {"placement:\n- {layers: 1, experts: 4, ranks: 0}",
       "2:24: expert 4: the layer has 4 experts, counted from 0"},
      {"placement:\n- {layers: all, experts: 3, ranks: 0}",
       "2:26: expert 3: the layer has 2 experts, counted from 0"},
      {"placement:\n- {layers: 1, experts: 0, ranks: [0, 3]}",
       "2:38: rank 3: the group has 3 ranks, counted from 0"},
      {"placement:\n- {layers: 1, experts: 0, ranks: [1, 0-1]}", "2:38: rank 1 is listed twice"},
      {"placement:\n- {layers: 1, experts: 0, ranks: all}",
       "2:34: ranks: expected numbers and ranges such as 3 or 0-7,12, got 'all'"},
      {"placement:\n- {layers: 1, experts: 2-1, ranks: 0}",
       "2:24: experts: expected numbers and ranges such as 3 or 0-7,12, or all, got '2-1'"},
      {"placement:\n- {layers: 1, experts: '1,', ranks: 0}", "2:24: experts: expected numbers"},
      {"placement:\n- {layers: 1, experts: -1, ranks: 0}", "2:24: experts: expected numbers"},
      {"placement:\n- {layers: 1, experts: 99999999999999999999, ranks: 0}",
       "2:24: experts: expected numbers"},
      {"placement:\n- {layers: 1, experts: [], ranks: 0}",
       "2:24: experts: expected at least one number"},
      {"placement:\n- {layers: 1, experts: [[1]], ranks: 0}", "2:25: experts: expected numbers"},
      {"placement:\n- {layers: 1, experts: [1, 1], ranks: 0}",
       "2:28: expert 1 of layer 1 is listed already in line 2"},
      {"placement:\n- {layers: 1, experts: 0-3, ranks: 0}\n- {layers: all, experts: 1, ranks: 1}",
       "3:26: expert 1 of layer 1 is listed already in line 2"},
      {"unlisted: refuse\nplacement:\n- {layers: 1, experts: 1-3, ranks: 0}",
       "3:1: 3 of 6 experts are not listed, the first is expert 0 of layer 1"},
  };
  for (const auto& c : cases) {
    const auto masks = parse_placement(c.text, "p.yaml", kModel, 3);
    ASSERT_FALSE(masks.is_ok()) << c.text;
    const std::string expected = std::string("p.yaml:") + c.expected;
    EXPECT_EQ(masks.status().message().substr(0, expected.size()), expected) << c.text;
    EXPECT_EQ(masks.status().code(), Code::kInvalidArgument) << c.text;
  }
}

TEST(PlacementFile, FromDisk) {
  const shoal::testing::TempDir folder;
  const std::string path = folder.path() + "/p.yaml";
  ASSERT_FALSE(read_placement(path, kModel, 2).is_ok()) << "no such file";
  ASSERT_TRUE(write_file_atomically(path, "placement: [{layers: 2, experts: all, ranks: 1}]", 0600)
                  .is_ok());
  EXPECT_EQ(read_placement(path, kModel, 2).value(), (Masks{0, 0, 0, 0, 2, 2}));
  EXPECT_EQ(read_placement(path, kModel, 1).status().message().substr(0, path.size() + 6),
            path + ":1:46:");
}

}  // namespace
}  // namespace shoal::config
