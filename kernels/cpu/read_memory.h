// Reading memory as fast as one thread can.
#pragma once

#include <cstddef>
#include <cstdint>

namespace shoal {

// The sum of data[0 … words): what it is for is that all of it has been read. `data` is aligned to
// 64 bytes; words beyond the last multiple of 64 are left out.
uint64_t sum_words(const uint64_t* data, size_t words);

}  // namespace shoal
