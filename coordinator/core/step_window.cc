#include "coordinator/core/step_window.h"

#include <algorithm>

#include <fmt/core.h>

namespace shoal {

void StepWindow::begin(uint32_t world) {
  steps_.clear();
  returned_.assign(world, 0);
  last_sent_ = 0;
  completed_ = 0;
}

void StepWindow::sent(SentStep step) {
  SHOAL_CHECK(step.step == next_step(), "steps are consecutive");
  last_sent_ = step.step;
  steps_.push_back(std::move(step));
}

Result<const SentStep*> StepWindow::acknowledge(uint32_t rank, uint64_t step) {
  SHOAL_CHECK(rank < returned_.size(), "a rank beyond the world");
  if (step != returned_[rank] + 1 || step > last_sent_) {
    return failed_precondition(fmt::format("rank {} returned step {}; {} was expected, {} was sent",
                                           rank, step, returned_[rank] + 1, last_sent_));
  }
  returned_[rank] = step;
  return &steps_[step - completed_ - 1];
}

std::vector<SentStep> StepWindow::retire() {
  std::vector<SentStep> out;
  const uint64_t newest = *std::min_element(returned_.begin(), returned_.end());
  while (completed_ < newest) {
    out.push_back(std::move(steps_.front()));
    steps_.pop_front();
    ++completed_;
  }
  return out;
}

std::vector<uint32_t> StepWindow::ended_in_flight() const {
  std::vector<uint32_t> slots;
  for (const SentStep& step : steps_) {
    slots.insert(slots.end(), step.ended.begin(), step.ended.end());
  }
  return slots;
}

std::vector<uint32_t> StepWindow::late_ranks() const {
  std::vector<uint32_t> late;
  if (steps_.empty()) return late;
  for (uint32_t rank = 0; rank < returned_.size(); ++rank) {
    if (returned_[rank] < steps_.front().step) late.push_back(rank);
  }
  return late;
}

}  // namespace shoal
