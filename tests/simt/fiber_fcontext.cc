// Switching by Boost.Context's fcontext: a dozen instructions, no system call.
#include <boost/context/detail/fcontext.hpp>

#include "tests/simt/fiber.h"
#include "tests/simt/fiber_stack.h"

namespace shoal::emulator {

namespace context = boost::context::detail;

struct Fiber::State {
  context::fcontext_t resume = nullptr;
  FiberStack stack;
  void (*entry)(void*) = nullptr;
  void* argument = nullptr;

  // Runs on the entered stack: remembers where the left one goes on.
  static State* arrived(context::transfer_t transfer) {
    State** pair = static_cast<State**>(transfer.data);
    pair[0]->resume = transfer.fctx;
    return pair[1];
  }
  static void start(context::transfer_t transfer) {
    const State* self = arrived(transfer);
    self->entry(self->argument);
  }
};

Fiber::Fiber() : state_(std::make_unique<State>()) {}
Fiber::Fiber(size_t colour) : state_(std::make_unique<State>()) { state_->stack.map(colour); }
Fiber::~Fiber() = default;

void Fiber::reset(void (*entry)(void*), void* argument) {
  state_->entry = entry;
  state_->argument = argument;
  state_->resume =
      context::make_fcontext(state_->stack.top(), state_->stack.bytes(), &State::start);
}

void Fiber::switch_to(Fiber& from, Fiber& to) {
  State* pair[2] = {from.state_.get(), to.state_.get()};
  State::arrived(context::jump_fcontext(to.state_->resume, pair));
}

void Fiber::leave(Fiber& from, Fiber& to) { switch_to(from, to); }

}  // namespace shoal::emulator
