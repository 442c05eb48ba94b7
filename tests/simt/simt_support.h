// Kernels of tests: a lambda with what it captured as parameters.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "tests/simt/emulator.h"

namespace shoal::emulator {

template <class F>
struct LambdaKernel {
  static constexpr const char* kName = "lambda";
  using Params = F;
  template <class Ctx, class Arch>
  static void body(Ctx& ctx, const Params& f) {
    f(ctx);
  }
};

template <class Arch = simt::Sm80, bool kChecked, class F>
Status run_lambda(Stream<kChecked>& stream, const simt::LaunchShape& shape, const F& f) {
  return simt::launch<LambdaKernel<F>, Arch>(stream, shape, f);
}

// One launch with one seed on a stream of its own.
template <class F>
Status run_once(Memory& memory, uint64_t seed, const simt::LaunchShape& shape, const F& f) {
  Stream<> stream(memory, {.seed = seed});
  return run_lambda(stream, shape, f);
}

template <class T>
std::vector<T> download(const simt::Global<T>& memory, size_t count) {
  return {memory.address, memory.address + count};
}

inline constexpr uint64_t kSeeds = 8;

// Every seed must fail with this regular expression in the message.
template <class F>
void expect_fault(const simt::LaunchShape& shape, const std::string& message, const F& make) {
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    Memory memory;
    const Status status = run_once(memory, seed, shape, make(memory));
    EXPECT_FALSE(status.is_ok()) << "seed " << seed << ": not noticed: " << message;
    EXPECT_THAT(status.message(), ::testing::ContainsRegex(message)) << "seed " << seed;
  }
}

// Every seed must run without complaint.
template <class F>
void expect_clean(const simt::LaunchShape& shape, const F& make) {
  for (uint64_t seed = 0; seed < kSeeds; ++seed) {
    Memory memory;
    const Status status = run_once(memory, seed, shape, make(memory));
    EXPECT_TRUE(status.is_ok()) << "seed " << seed << ": " << status.message();
  }
}

}  // namespace shoal::emulator
