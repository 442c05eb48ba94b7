// The seeds of the fuzz targets that read frames are those that the protocol's version makes.
#include <gtest/gtest.h>

#include <filesystem>
#include <set>

#include "tests/support/support.h"
#include "tests/wire/wire_seeds.h"

namespace shoal::wire::testing {
namespace {

TEST(WireSeeds, AreCurrent) {
  const std::string corpus = shoal::testing::source_dir() + "/tests/fuzz/corpus/";
  const auto seeds = wire_seeds();
  for (const auto& [path, bytes] : seeds) {
    ASSERT_TRUE(std::filesystem::exists(corpus + path)) << path << ": run wire_seed_tool";
    EXPECT_EQ(shoal::testing::read_file(corpus + path), bytes) << path << ": run wire_seed_tool";
  }
  // None is left over from a message that does not exist any more.
  for (const auto& entry : std::filesystem::directory_iterator(corpus + "fuzz_wire")) {
    EXPECT_TRUE(seeds.contains("fuzz_wire/" + entry.path().filename().string())) << entry.path();
  }
}

// The name of a frame's message, whichever side sends it; empty: it cannot be read.
std::string name_of(std::string_view frame) {
  if (const auto decoded = decode<ToWorker>(frame)) {
    return std::string(message_name(decoded->message));
  }
  const auto decoded = decode<ToCoordinator>(frame);
  return decoded ? std::string(message_name(decoded->message)) : "";
}

constexpr size_t kKinds =
    std::variant_size_v<ToWorker> + std::variant_size_v<ToCoordinator> - 1;  // StoreSet is in both

TEST(WireSeeds, EveryFrameOfEveryMessageIsRead) {
  std::set<std::string> read;
  for (const auto& [path, bytes] : wire_seeds()) {
    if (!path.starts_with("fuzz_wire/") || path.ends_with("/sequence")) continue;
    EXPECT_EQ(path, "fuzz_wire/" + name_of(bytes));
    read.insert(path);
  }
  EXPECT_EQ(read.size(), kKinds);
  // As fuzz_wire.cc takes a sequence apart.
  const std::string sequence = wire_seeds().at("fuzz_wire/sequence");
  std::string_view input = sequence;
  size_t frames = 0;
  while (input.size() >= 3) {
    const size_t length = static_cast<uint8_t>(input[1]) | static_cast<uint8_t>(input[2]) << 8;
    ASSERT_LE(3 + length, input.size());
    if (length > 0) {
      EXPECT_NE(name_of(input.substr(3, length)), "") << frames;
      ++frames;
    }
    input.remove_prefix(3 + length);
  }
  EXPECT_TRUE(input.empty());
  EXPECT_GT(frames, 2 * kKinds);
}

}  // namespace
}  // namespace shoal::wire::testing
