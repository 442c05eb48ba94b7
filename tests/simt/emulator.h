// Runs kernels written against kernels/cuda/simt.h on this CPU.
//
//   Memory card;
//   Stream<> stream(card, {.seed = 7});
//   const auto x = card.upload_constant(values, "x");
//   EXPECT_TRUE(launch<Scale, Sm80>(stream, {.grid = {4}, .block = {256}}, params).is_ok());
//
// A Stream belongs to one OS thread; several streams may share a Memory. launch() returns when the
// kernel has run: an error says kernel, seed, block, thread and what was wrong; memory then holds
// whatever had been written.
#pragma once

#include <functional>
#include <vector>

#include "kernels/cuda/launch_limits.h"
#include "tests/simt/context.h"

namespace shoal::emulator {

template <bool kChecked = true>
class Stream {
 public:
  explicit Stream(Memory& memory, const Options& options = {})
      : memory_(memory), options_(options) {}
  Memory& memory() { return memory_; }
  Options& options() { return options_; }

  template <class Kernel, class Arch>
  Status run(const simt::LaunchShape& shape, const typename Kernel::Params& params) {
    using Ctx = Context<kChecked>;
    static_assert(std::is_trivially_copyable_v<typename Kernel::Params>);
    SHOAL_TRY(simt::check_launch(Kernel::kName, shape, Arch::max_shared_bytes, sizeof(params)));
    if (recording_ != nullptr) {
      recording_->push_back([this, shape, params] { return run<Kernel, Arch>(shape, params); });
      return Status::ok();
    }
    Launch launch({.kernel = Kernel::kName,
                   .number = launches_++,
                   .shape = shape,
                   .checked = kChecked,
                   .memory = &memory_,
                   .body =
                       [&params](Thread& thread) {
                         Ctx ctx(thread);
                         Kernel::template body<Ctx, Arch>(ctx, params);
                       }},
                  options_, blocks_);
    return launch.run();
  }

  // Launches that are not run but kept, with the parameters they have now; null: run.
  using Recording = std::vector<std::function<Status()>>;
  void record(Recording* recording) { recording_ = recording; }

 private:
  Memory& memory_;
  Recording* recording_ = nullptr;
  Options options_;
  uint64_t launches_ = 0;  // each has its own order
  Blocks blocks_;
};

}  // namespace shoal::emulator

namespace shoal::simt {

// The one way to start a kernel; kernels/cuda/launch_cuda.cuh has the same for a card's stream.
template <class Kernel, class Arch, bool kChecked>
Status launch(emulator::Stream<kChecked>& stream, const LaunchShape& shape,
              const typename Kernel::Params& params) {
  return stream.template run<Kernel, Arch>(shape, params);
}

}  // namespace shoal::simt
