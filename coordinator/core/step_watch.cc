#include "coordinator/core/step_watch.h"

#include <algorithm>
#include <bit>

#include "base/check.h"

namespace shoal {
namespace {

constexpr Duration kShortest = std::chrono::seconds(1);
constexpr int kOverdueFactor = 8;
constexpr int kGiveUpFactor = 2;  // of what is overdue
constexpr size_t kFew = 8;
constexpr double kFewFactor = 4;

size_t class_of(uint64_t rows, size_t classes) {
  return std::min<size_t>(static_cast<size_t>(std::bit_width(std::max<uint64_t>(rows, 1))) - 1,
                          classes - 1);
}

double ratio(uint64_t value, uint64_t seen) {
  return static_cast<double>(value) / static_cast<double>(std::max<uint64_t>(seen, 1));
}

}  // namespace

StepCost cost_of(const wire::Step& step) {
  StepCost cost;
  for (const wire::RowGroup& group : step.rows) {
    cost.rows += group.count;
    cost.context += uint64_t{group.count} * (uint64_t{group.position} + group.count);
  }
  return cost;
}

void StepWatch::begin(Duration most) {
  *this = StepWatch();
  most_ = most;
}

void StepWatch::look_at_oldest(TimePoint now) {
  if (costs_.empty()) return;
  began_ = now;
  overdue_after_ = overdue_after(costs_.front());
  given_up_after_ = given_up_after(costs_.front());
}

void StepWatch::sent(const StepCost& cost, TimePoint now) {
  costs_.push_back(cost);
  if (costs_.size() == 1) look_at_oldest(now);
}

void StepWatch::returned(uint64_t count, TimePoint now) {
  SHOAL_CHECK(count <= costs_.size(), "more steps came back than were sent");
  if (count == 0) return;
  // Of several that come back together only the first tells how long it took.
  Samples& samples = samples_[class_of(costs_.front().rows, kClasses)];
  samples.push_back({costs_.front(), waited(now)});
  if (samples.size() > kKept) samples.pop_front();
  costs_.erase(costs_.begin(), costs_.begin() + static_cast<ptrdiff_t>(count));
  look_at_oldest(now);
}

const StepWatch::Samples* StepWatch::nearest(uint64_t rows) const {
  const size_t own = class_of(rows, kClasses);
  for (size_t i = own + 1; i > 0; --i) {
    if (!samples_[i - 1].empty()) return &samples_[i - 1];
  }
  for (size_t i = own + 1; i < kClasses; ++i) {
    if (!samples_[i].empty()) return &samples_[i];
  }
  return nullptr;
}

Duration StepWatch::usual(const StepCost& cost) const {
  const Samples* const samples = nearest(cost.rows);
  if (samples == nullptr) return most_;
  StepCost largest;
  std::vector<Duration> took;
  for (const Sample& sample : *samples) {
    largest.rows = std::max(largest.rows, sample.cost.rows);
    largest.context = std::max(largest.context, sample.cost.context);
    took.push_back(sample.took);
  }
  const size_t above = took.size() / 100;  // how many may be slower than the p99
  std::nth_element(took.begin(), took.end() - 1 - static_cast<ptrdiff_t>(above), took.end());
  const Duration p99 = took[took.size() - 1 - above];
  const double larger =
      std::max({1.0, ratio(cost.rows, largest.rows), ratio(cost.context, largest.context)});
  const double seconds = to_seconds(p99) * larger * (took.size() < kFew ? kFewFactor : 1);
  return from_seconds(std::min(seconds, to_seconds(most_)));
}

Duration StepWatch::overdue_after(const StepCost& cost) const {
  return std::min(std::max(kOverdueFactor * usual(cost), kShortest), most_);
}

Duration StepWatch::given_up_after(const StepCost& cost) const {
  return std::min(kGiveUpFactor * overdue_after(cost), most_);
}

}  // namespace shoal
