#include "kernels/cpu/grids.h"

#include "kernels/body/iq_codebooks.h"

namespace shoal {
namespace {

// The bytes level(0), level(1), … from the lowest up.
template <class Word, class Level>
Word pack_bytes(const Level& level) {
  Word word = 0;
  for (unsigned j = 0; j < sizeof(Word); ++j) {
    word |= static_cast<Word>(static_cast<uint8_t>(level(static_cast<int>(j)))) << (8 * j);
  }
  return word;
}

uint64_t spread_bits(uint32_t mask) {
  return pack_bytes<uint64_t>([&](int j) { return (mask >> j) & 1 ? 0xff : 0; });
}

}  // namespace

Grids::Grids() {
  const auto iq2 = [](uint16_t entry) {
    return pack_bytes<uint64_t>([&](int j) { return body::iq2_level(entry, j); });
  };
  for (uint32_t i = 0; i < 256; ++i) iq2_xxs[i] = iq2(body::iq2_xxs_entry(i));
  for (uint32_t i = 0; i < 512; ++i) iq2_xs[i] = iq2(body::iq2_xs_entry(i));
  for (uint32_t i = 0; i < 1024; ++i) iq2_s[i] = iq2(body::iq2_s_entry(i));
  for (uint32_t i = 0; i < 256; ++i) {
    iq3_xxs[i] =
        pack_bytes<uint32_t>([&](int j) { return body::iq3_xxs_level(body::iq3_xxs_entry(i), j); });
  }
  for (uint32_t i = 0; i < 512; ++i) {
    iq3_s[i] =
        pack_bytes<uint32_t>([&](int j) { return body::iq3_s_level(body::iq3_s_entry(i), j); });
  }
  for (uint32_t i = 0; i < 2048; ++i) {
    iq1[i] =
        pack_bytes<uint64_t>([&](int j) { return 8 * body::iq1_level(body::iq1_s_entry(i), j); });
  }
  for (uint32_t i = 0; i < 256; ++i) sign_bytes[i] = spread_bits(i);
  for (uint32_t i = 0; i < 128; ++i) parity_sign_bytes[i] = spread_bits(body::iq_signs(i));
}

const Grids kGrids;

}  // namespace shoal
