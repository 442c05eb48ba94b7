// Switching by swapcontext, telling AddressSanitizer and ThreadSanitizer of each switch.
#include <ucontext.h>

#include "tests/simt/fiber.h"
#include "tests/simt/fiber_stack.h"

#if defined(__SANITIZE_ADDRESS__)
#include <pthread.h>
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

namespace shoal::emulator {

struct Fiber::State {
  ucontext_t context = {};
  FiberStack stack;
  void (*entry)(void*) = nullptr;
  void* argument = nullptr;
#if defined(__SANITIZE_ADDRESS__)
  void* fake_stack = nullptr;
  const void* bottom = nullptr;
  size_t size = 0;
#endif
#if defined(__SANITIZE_THREAD__)
  void* tsan = nullptr;
  int resets = -1;  // own stacks: since its context was made
#endif

  static void start(unsigned high, unsigned low) {
    State* self = reinterpret_cast<State*>((static_cast<uintptr_t>(high) << 32) | low);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
    self->entry(self->argument);
  }
};

Fiber::Fiber() : state_(std::make_unique<State>()) {
#if defined(__SANITIZE_ADDRESS__)
  pthread_attr_t attributes;
  pthread_getattr_np(pthread_self(), &attributes);
  void* bottom = nullptr;
  pthread_attr_getstack(&attributes, &bottom, &state_->size);
  pthread_attr_destroy(&attributes);
  state_->bottom = bottom;
#endif
#if defined(__SANITIZE_THREAD__)
  state_->tsan = __tsan_get_current_fiber();
#endif
}

Fiber::Fiber(size_t colour) : state_(std::make_unique<State>()) {
  state_->stack.map(colour);
#if defined(__SANITIZE_ADDRESS__)
  state_->bottom = state_->stack.bottom();
  state_->size = state_->stack.bytes();
#endif
#if defined(__SANITIZE_THREAD__)
  state_->tsan = __tsan_create_fiber(0);
  state_->resets = 0;
#endif
}

Fiber::~Fiber() {
#if defined(__SANITIZE_THREAD__)
  if (state_->resets >= 0) __tsan_destroy_fiber(state_->tsan);
#endif
}

void Fiber::reset(void (*entry)(void*), void* argument) {
  State& s = *state_;
  s.entry = entry;
  s.argument = argument;
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(s.stack.bottom(), s.stack.bytes());
  s.fake_stack = nullptr;
#endif
#if defined(__SANITIZE_THREAD__)
  // Making one is slow; each dropped stack leaves a few entries in the sanitizer's copy of it.
  if (++s.resets % 256 == 0) {
    __tsan_destroy_fiber(s.tsan);
    s.tsan = __tsan_create_fiber(0);
  }
#endif
  getcontext(&s.context);
  s.context.uc_stack.ss_sp = s.stack.bottom();
  s.context.uc_stack.ss_size = s.stack.bytes();
  s.context.uc_link = nullptr;
  const uintptr_t self = reinterpret_cast<uintptr_t>(&s);
  makecontext(&s.context, reinterpret_cast<void (*)()>(&State::start), 2,
              static_cast<unsigned>(self >> 32), static_cast<unsigned>(self));
}

// AddressSanitizer keeps locals of each start in a fake stack of their own, which it frees only
// where it is told that the fiber does not come back.
void Fiber::leave(Fiber& /*from*/, Fiber& to) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(nullptr, to.state_->bottom, to.state_->size);
#endif
#if defined(__SANITIZE_THREAD__)
  __tsan_switch_to_fiber(to.state_->tsan, 0);
#endif
  setcontext(&to.state_->context);
}

void Fiber::switch_to(Fiber& from, Fiber& to) {
  State& left = *from.state_;
  State& entered = *to.state_;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&left.fake_stack, entered.bottom, entered.size);
#endif
#if defined(__SANITIZE_THREAD__)
  __tsan_switch_to_fiber(entered.tsan, 0);
#endif
  swapcontext(&left.context, &entered.context);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(left.fake_stack, nullptr, nullptr);
#endif
}

}  // namespace shoal::emulator
