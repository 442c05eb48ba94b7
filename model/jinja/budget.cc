#include "model/jinja/budget.h"

#include <algorithm>

#include <fmt/format.h>

#include "model/jinja/error.h"

namespace shoal::jinja {

MutableObject::MutableObject(Budget& budget) : Object(budget), next_(budget.mutables_) {
  if (next_) next_->previous_ = this;
  budget.mutables_ = this;
}

MutableObject::~MutableObject() { unlink(); }

void MutableObject::unlink() {
  if (!std::exchange(linked_, false)) return;
  if (next_) next_->previous_ = previous_;
  (previous_ ? previous_->next_ : budget().mutables_) = next_;
}

Budget::Budget(const TemplateLimits& limits, RenderControl& control)
    : limits_(limits), control_(control) {
  plan_check();
}

Budget::~Budget() {
  while (mutables_ != nullptr) {
    // Emptying it may free it and others with it; the reference keeps it until that is done.
    const Ref<MutableObject> object(mutables_);
    object->unlink();
    object->clear();
  }
  control_.add(used_, peak_, live_);
}

void Budget::plan_check() {
  // The limit of work is exact, so that a refusal does not depend on where the looks fall.
  const uint64_t left = limits_.max_work - std::min(limits_.max_work, control_.work());
  next_check_ = std::min(used_ + kCheckEvery, left + 1);
}

void Budget::check() {
  if (control_.cancelled()) {
    throw TemplateError(Code::kCancelled, "the rendering of the chat template was cancelled");
  }
  if (control_.work() + used_ > limits_.max_work) {
    throw TemplateError(Code::kResourceExhausted,
                        fmt::format("the chat template needs more than {} steps for these messages",
                                    limits_.max_work));
  }
  if (control_.out_of_time()) {
    throw TemplateError(
        Code::kResourceExhausted,
        fmt::format("the chat template took more than {:g} s of CPU time for these messages",
                    to_seconds(control_.cpu_limit())));
  }
  plan_check();
}

void Budget::hold(uint64_t bytes) {
  work(1);
  if (bytes > limits_.max_live_bytes || live_ + bytes > limits_.max_live_bytes) {
    throw TemplateError(
        Code::kResourceExhausted,
        fmt::format("the chat template needs more than {:g} MB of memory for these messages",
                    static_cast<double>(limits_.max_live_bytes) / (1 << 20)));
  }
  live_ += bytes;
  peak_ = std::max(peak_, live_);
}

void Budget::retire(Object* object) noexcept {
  object->next_dead_ = dead_;
  dead_ = object;
  if (freeing_) return;
  freeing_ = true;
  while (dead_ != nullptr) {
    Object* next = dead_;
    dead_ = next->next_dead_;
    const size_t held = next->held_;
    next->~Object();
    ::operator delete(static_cast<void*>(next));
    release(held);
  }
  freeing_ = false;
}

}  // namespace shoal::jinja
