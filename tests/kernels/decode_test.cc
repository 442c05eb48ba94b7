// The block decoders against the reference data: 0 floats may differ, bit for bit.
#include "kernels/formats/decode.h"

#include <gtest/gtest.h>

#include <cstring>
#include <nlohmann/json.hpp>
#include <vector>

#include "kernels/body/half.h"
#include "kernels/body/iq_codebooks.h"
#include "tests/support/support.h"

namespace shoal {
namespace {

using nlohmann::json;
using shoal::testing::read_file;
using shoal::testing::shared_path;

std::vector<uint8_t> from_hex(const std::string& hex) {
  std::vector<uint8_t> bytes(hex.size() / 2);
  for (size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<uint8_t>(std::stoul(hex.substr(2 * i, 2), nullptr, 16));
  }
  return bytes;
}

std::vector<float> floats_from_hex(const std::string& hex) {
  const std::vector<uint8_t> bytes = from_hex(hex);
  std::vector<float> values(bytes.size() / 4);
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

uint32_t bits(float value) { return body::bits_from_float(value); }

TEST(Decode, GoldenBlocks) {
  SHOAL_SKIP_WITHOUT_SHARED("facts/dequant-golden.json");
  const json golden = json::parse(read_file(*shared_path("facts/dequant-golden.json")));
  int types = 0, floats = 0, wrong = 0;
  for (const auto& [name, entry] : golden["types"].items()) {
    const auto type = tensor_type_from_name(name);
    ASSERT_TRUE(type.is_ok()) << type.status().message();
    EXPECT_EQ(static_cast<int>(*type), entry["id"].get<int>()) << name;
    EXPECT_EQ(traits(*type).block_elems, entry["elems"].get<uint32_t>()) << name;
    EXPECT_EQ(traits(*type).block_bytes, entry["bytes"].get<uint32_t>()) << name;
    ++types;
    for (const json& one : entry["cases"]) {
      const std::vector<uint8_t> block = from_hex(one["block"]);
      const std::vector<float> want = floats_from_hex(one["f32le"]);
      std::vector<float> got(want.size());
      decode_row(*type, block.data(), static_cast<int64_t>(want.size()), got.data());
      for (size_t i = 0; i < want.size(); ++i) {
        ++floats;
        if (bits(got[i]) == bits(want[i])) continue;
        ++wrong;
        ADD_FAILURE() << name << " element " << i << ": " << got[i] << ", expected " << want[i];
        break;
      }
    }
  }
  std::printf("%d types, %d floats, %d mismatches\n", types, floats, wrong);
  EXPECT_EQ(types, 25);
  EXPECT_EQ(wrong, 0);
}

template <class Entry, class Level>
int check_codebook(const json& book, int elements, Entry entry, Level level) {
  int wrong = 0;
  for (size_t i = 0; i < book.size(); ++i) {
    std::string text;
    for (int j = 0; j < elements; ++j) {
      text += (j == 0 ? "" : ",") + std::to_string(level(entry(static_cast<uint32_t>(i)), j));
    }
    if (text != book[i].get<std::string>()) {
      ++wrong;
      ADD_FAILURE() << "entry " << i << ": " << text << ", expected " << book[i];
    }
  }
  return wrong;
}

TEST(Decode, EveryCodebookEntry) {
  SHOAL_SKIP_WITHOUT_SHARED("facts/iq-codebooks.json");
  const json books = json::parse(read_file(*shared_path("facts/iq-codebooks.json")));
  ASSERT_EQ(books["iq2_xxs"].size(), 256u);
  ASSERT_EQ(books["iq2_xs"].size(), 512u);
  ASSERT_EQ(books["iq2_s"].size(), 1024u);
  ASSERT_EQ(books["iq3_xxs"].size(), 256u);
  ASSERT_EQ(books["iq3_s"].size(), 512u);
  ASSERT_EQ(books["iq1_s"].size(), 2048u);
#define ENTRY(F) [](uint32_t i) { return body::F(i); }
#define LEVEL(F) [](uint16_t e, int j) { return body::F(e, j); }
  EXPECT_EQ(check_codebook(books["iq2_xxs"], 8, ENTRY(iq2_xxs_entry), LEVEL(iq2_level)), 0);
  EXPECT_EQ(check_codebook(books["iq2_xs"], 8, ENTRY(iq2_xs_entry), LEVEL(iq2_level)), 0);
  EXPECT_EQ(check_codebook(books["iq2_s"], 8, ENTRY(iq2_s_entry), LEVEL(iq2_level)), 0);
  EXPECT_EQ(check_codebook(books["iq3_xxs"], 4, ENTRY(iq3_xxs_entry), LEVEL(iq3_xxs_level)), 0);
  EXPECT_EQ(check_codebook(books["iq3_s"], 4, ENTRY(iq3_s_entry), LEVEL(iq3_s_level)), 0);
  EXPECT_EQ(check_codebook(books["iq1_s"], 8, ENTRY(iq1_s_entry), LEVEL(iq1_level)), 0);
#undef ENTRY
#undef LEVEL
}

}  // namespace
}  // namespace shoal
