// How fast the emulator is: simt_speed. Not a test; docs/testing-on-the-emulator.md quotes it.
#include <chrono>
#include <cstdio>

#include "base/check.h"
#include "base/clock.h"
#include "tests/simt/emulator.h"

namespace shoal::emulator {
namespace {

// Each warp multiplies tiles of 16 × 32 codes by 32 × 8: a fragment is one 16-byte load per lane.
struct MmaLoop {
  static constexpr const char* kName = "mma_loop";
  struct Params {
    simt::Global<const simt::U32x4> a;  // [warps, steps, 32]
    simt::Global<const simt::U32x2> b;  // [steps, 32]
    simt::Global<int32_t> c;            // [warps, 32, 4]
    uint32_t steps;
  };
  template <class Ctx, class Arch>
  static void body(Ctx& ctx, const Params& p) {
    const uint32_t warp = ctx.block().x * (ctx.block_dim().x / 32) + ctx.warp();
    const auto a = ctx.global(p.a) + (int64_t{warp} * p.steps * 32 + ctx.lane());
    const auto b = ctx.global(p.b) + ctx.lane();
    int32_t c[4] = {};
    for (uint32_t step = 0; step < p.steps; ++step) {
      const simt::U32x4 wa = a[step * 32];
      const simt::U32x2 wb = b[step * 32];
      const uint32_t fa[4] = {wa.x, wa.y, wa.z, wa.w}, fb[2] = {wb.x, wb.y};
      ctx.mma(simt::U8S8{}, c, fa, fb);
    }
    for (uint32_t i = 0; i < 4; ++i) ctx.global(p.c)[(warp * 32 + ctx.lane()) * 4 + i] = c[i];
  }
};

// Each thread sums a column of products read from a tile in shared memory.
struct SharedLoop {
  static constexpr const char* kName = "shared_loop";
  struct Params {
    simt::Global<float> out;
    uint32_t rounds;
  };
  template <class Ctx, class Arch>
  static void body(Ctx& ctx, const Params& p) {
    const auto tile = simt::shared_array<float>(ctx, 0, 1024);
    for (uint32_t i = ctx.thread().x; i < 1024; i += ctx.block_dim().x) tile[i] = 1.0f;
    ctx.sync_threads();
    float sum = 0;
    for (uint32_t round = 0; round < p.rounds; ++round) {
      for (uint32_t i = 0; i < 256; ++i) sum += tile[(ctx.thread().x + i) % 1024] * 0.5f;
      ctx.sync_threads();
    }
    ctx.global(p.out)[ctx.block().x * ctx.block_dim().x + ctx.thread().x] = sum;
  }
};

template <class Kernel, bool kChecked>
void measure(Memory& memory, const simt::LaunchShape& shape, const typename Kernel::Params& params,
             double macs) {
  Stream<kChecked> stream(memory);
  double best = 1e30;
  for (int round = 0; round < 5; ++round) {
    const TimePoint start = std::chrono::steady_clock::now();
    const Status status = simt::launch<Kernel, simt::Sm80>(stream, shape, params);
    best = std::min(best, to_seconds(std::chrono::steady_clock::now() - start));
    SHOAL_CHECK(status.is_ok(), status.message());
  }
  std::printf("%-12s %-9s %6.0f million MAC/s\n", Kernel::kName, kChecked ? "checked" : "unchecked",
              macs / best / 1e6);
}

template <bool kChecked>
void measure_all() {
  Memory memory;
  constexpr uint32_t kWarps = 32, kSteps = 100, kRounds = 20;
  MmaLoop::Params mma{};
  mma.a.address =
      memory.upload(std::vector<simt::U32x4>(kWarps * kSteps * 32), "a", MemoryKind::kConstant)
          .address;
  mma.b.address =
      memory.upload(std::vector<simt::U32x2>(kSteps * 32), "b", MemoryKind::kConstant).address;
  mma.c = memory.allocate<int32_t>(kWarps * 32 * 4, "c");
  mma.steps = kSteps;
  measure<MmaLoop, kChecked>(memory, {.grid = {kWarps / 8}, .block = {256}}, mma,
                             double{kWarps} * kSteps * 16 * 32 * 8);
  const SharedLoop::Params shared = {memory.allocate<float>(512, "out"), kRounds};
  measure<SharedLoop, kChecked>(memory, {.grid = {2}, .block = {256}, .shared_bytes = 4096}, shared,
                                512.0 * kRounds * 256);
}

}  // namespace
}  // namespace shoal::emulator

int main() {
  shoal::emulator::measure_all<false>();
  shoal::emulator::measure_all<true>();
  return 0;
}
