// A stack that runs a function and can be left and entered again: one emulated GPU thread. All
// switching of the emulator is here: fiber_fcontext.cc (Boost.Context) or, where a sanitizer must
// be told of every switch, fiber_ucontext.cc. A fiber stays on the OS thread that first entered it.
#pragma once

#include <cstddef>
#include <memory>

namespace shoal::emulator {

class Fiber {
 public:
  // The OS thread's own stack, to come back to.
  Fiber();
  // A stack of its own. `colour` spreads stacks over cache sets.
  explicit Fiber(size_t colour);
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // The next switch to this fiber calls entry(argument) on an empty stack, whatever was on it.
  // entry must not return: it leaves for good.
  void reset(void (*entry)(void*), void* argument);

  // Leaves `from`, which must be the running fiber, and enters `to`.
  static void switch_to(Fiber& from, Fiber& to);
  // The same for good: nothing on the stack of `from` is needed any more.
  static void leave(Fiber& from, Fiber& to);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace shoal::emulator
