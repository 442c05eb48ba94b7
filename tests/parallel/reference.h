// What collectives must give, computed one element at a time, and a seeded sequence of operations
// that checks them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "parallel/collective/collective.h"

namespace shoal::testing {

// Any float but NaN, also +inf-prone ones, denormals and −0: sums must agree in every bit.
float sample(uint64_t seed, int rank, uint64_t i);
std::vector<float> samples(uint64_t seed, int rank, int64_t count);
// The rank-order sum of samples().
std::vector<float> serial_sum(uint64_t seed, int world, int64_t count);
bool same_bits(const std::vector<float>& a, const std::vector<float>& b);

uint8_t byte_of(uint64_t seed, int rank, uint64_t i);
std::vector<uint8_t> bytes_of(uint64_t seed, int rank, uint64_t n);

// Runs `steps` random operations (the same on every rank) and checks every result. Empty if all is
// well, else what went wrong.
std::string run_random_sequence(Collective& member, uint64_t epoch, uint64_t seed, uint64_t steps,
                                double timeout_seconds);

}  // namespace shoal::testing
