// Seeded, counter-friendly random numbers. No process-wide generator exists: a seed is always an
// argument, so a run can be repeated.
#pragma once

#include <cstdint>

namespace shoal {

// SplitMix64 finaliser (Steele, Lea, Flood 2014): a bijection that scatters consecutive inputs.
constexpr uint64_t mix64(uint64_t z) {
  z += 0x9e3779b97f4a7c15ull;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

// SplitMix64 generator; usable as a UniformRandomBitGenerator.
class Rng {
 public:
  using result_type = uint64_t;
  explicit constexpr Rng(uint64_t seed) : state_(seed) {}
  static constexpr uint64_t min() { return 0; }
  static constexpr uint64_t max() { return ~0ull; }
  constexpr uint64_t operator()() {
    const uint64_t value = mix64(state_);
    state_ += 0x9e3779b97f4a7c15ull;
    return value;
  }
  // Uniform in [0, 1) with 53 bits.
  constexpr double uniform() { return static_cast<double>((*this)() >> 11) * 0x1.0p-53; }
  // Uniform in [0, n); REQUIRES n > 0. The bias below 2^-32 for n < 2^32 does not matter here.
  constexpr uint64_t below(uint64_t n) { return (*this)() % n; }
  // Approximately standard normal (sum of 12 uniforms − 6): enough for synthetic weights.
  constexpr double normal() {
    double sum = 0;
    for (int i = 0; i < 12; ++i) sum += uniform();
    return sum - 6.0;
  }

 private:
  uint64_t state_;
};

// A seed from the operating system, for requests that bring none.
uint64_t random_seed();

}  // namespace shoal
