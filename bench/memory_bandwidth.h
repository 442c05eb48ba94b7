// The ceiling of a decode step: how fast this machine's threads can stream memory they only read.
#pragma once

#include <vector>

namespace shoal {

// GB/s (10^9 bytes per second) of `threads` threads that read disjoint parts of a buffer far larger
// than the last-level cache, the median of `repeats` passes. Pins thread i to cores[i] if given.
double measure_read_bandwidth(int threads, int repeats = 5, const std::vector<int>& cores = {});

}  // namespace shoal
