// The codebooks of the IQ formats with one byte per element, as the CPU's unpackers read them. Made
// from kernels/body/iq_codebooks.h when the program starts.
#pragma once

#include <cstdint>

namespace shoal {

struct Grids {
  Grids();
  uint64_t iq2_xxs[256], iq2_xs[512], iq2_s[1024];  // eight int8 magnitudes
  uint32_t iq3_xxs[256], iq3_s[512];                // four
  uint64_t iq1[2048];                               // eight times the values −1, 0, 1
  uint64_t sign_bytes[256];         // 0xff in byte j where bit j of the index is set
  uint64_t parity_sign_bytes[128];  // of the seven stored bits and their parity
};

extern const Grids kGrids;

}  // namespace shoal
