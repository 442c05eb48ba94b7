// When a step is overdue, and whose time it is.
#include "coordinator/core/step_watch.h"

#include <gtest/gtest.h>

#include "base/observed_time.h"

namespace shoal {
namespace {

using namespace std::chrono_literals;

struct Watch : StepWatch {
  Watch() { begin(22s); }
  // Steps of this cost that took so long each.
  void ran(int count, StepCost cost, Duration took) {
    for (int i = 0; i < count; ++i) {
      sent(cost, now);
      now += took;
      returned(1, now);
    }
  }
  TimePoint now{1h};
};

TEST(StepWatch, WithoutExperienceTheConfiguredLimitApplies) {
  Watch watch;
  EXPECT_EQ(watch.overdue_after({1, 10}), 22s);
  EXPECT_EQ(watch.given_up_after({1, 10}), 22s);
  EXPECT_FALSE(watch.overdue(watch.now + 1h)) << "nothing is on its way";
}

TEST(StepWatch, QuickStepsAreOverdueAfterASecondAndGivenUpAfterTwo) {
  Watch watch;
  watch.ran(50, {4, 400}, 3ms);
  watch.sent({4, 404}, watch.now);
  EXPECT_FALSE(watch.overdue(watch.now + 1s));
  EXPECT_TRUE(watch.overdue(watch.now + 1001ms));
  EXPECT_FALSE(watch.given_up(watch.now + 2s));
  EXPECT_TRUE(watch.given_up(watch.now + 2001ms));
  watch.returned(1, watch.now + 1500ms);
  EXPECT_FALSE(watch.overdue(watch.now + 1h));
}

TEST(StepWatch, SlowStepsHaveTimeInProportionUpToTheLimit) {
  Watch watch;
  watch.ran(50, {4, 400}, 300ms);
  EXPECT_EQ(watch.overdue_after({4, 400}), 2400ms);
  EXPECT_EQ(watch.given_up_after({4, 400}), 4800ms);
  watch.ran(200, {4, 400}, 5s);
  EXPECT_EQ(watch.overdue_after({4, 400}), 22s);
}

TEST(StepWatch, TheFirstFewAreNotTrusted) {
  Watch watch;
  watch.ran(7, {1, 1}, 100ms);
  EXPECT_EQ(watch.overdue_after({1, 1}), 3200ms);
  watch.ran(1, {1, 1}, 100ms);
  EXPECT_EQ(watch.overdue_after({1, 1}), 1s) << "8 times 100 ms is less";
}

TEST(StepWatch, LargerStepsThanSeenGetMoreTime) {
  Watch watch;
  watch.ran(20, {1, 100}, 200ms);
  EXPECT_EQ(watch.overdue_after({1, 100}), 1600ms);
  EXPECT_EQ(watch.overdue_after({8, 100}), 8 * 1600ms) << "rows";
  EXPECT_EQ(watch.overdue_after({1, 400}), 4 * 1600ms) << "context";
  EXPECT_EQ(watch.overdue_after({512, 1u << 30}), 22s);
  // Once there are some of that size, they speak for it; smaller ones are never given less.
  watch.ran(20, {512, 51200}, 400ms);
  EXPECT_EQ(watch.overdue_after({512, 51200}), 3200ms);
  EXPECT_EQ(watch.overdue_after({1, 100}), 1600ms);
}

TEST(StepWatch, AStepSmallerThanAllSeenHasTheirTime) {
  Watch watch;
  watch.ran(20, {256, 256}, 500ms);
  EXPECT_EQ(watch.overdue_after({1, 1}), 4s);
}

TEST(StepWatch, OneOutlierInAHundredIsForgotten) {
  Watch watch;
  watch.ran(60, {1, 1}, 200ms);
  watch.ran(1, {1, 1}, 2s);
  watch.ran(60, {1, 1}, 200ms);
  EXPECT_EQ(watch.overdue_after({1, 1}), 1600ms);
}

TEST(StepWatch, AStepCountsFromWhenItCouldBegin) {
  Watch watch;
  watch.ran(200, {1, 1}, 10ms);
  watch.sent({1, 1}, watch.now);
  watch.sent({1, 1}, watch.now);
  watch.sent({1, 1}, watch.now);
  watch.returned(1, watch.now + 900ms);
  EXPECT_FALSE(watch.overdue(watch.now + 1800ms));
  EXPECT_TRUE(watch.overdue(watch.now + 2s));
  watch.returned(2, watch.now + 2s);
  watch.begin(5s);
  EXPECT_EQ(watch.overdue_after({1, 1}), 5s) << "a new group starts anew";
}

TEST(StepWatch, TheCostOfAStepIsItsRowsAndWhatTheySee) {
  wire::Step step;
  step.rows = {{0, 100, 1, 1}, {1, 0, 8, 0}};
  const StepCost cost = cost_of(step);
  EXPECT_EQ(cost.rows, 9u);
  EXPECT_EQ(cost.context, 101u + 8 * 8);
}

TEST(ObservedTime, APauseCountsOnlySoMuch) {
  ObservedTime observed(250ms);
  TimePoint now{1h};
  EXPECT_EQ(observed.advance(now), now);
  now += 200ms;
  EXPECT_EQ(observed.advance(now), now);
  now += 3s;
  EXPECT_EQ(observed.at(now), now - 2750ms) << "looking changes nothing";
  EXPECT_EQ(observed.missed(), 0s);
  EXPECT_EQ(observed.advance(now), now - 2750ms);
  EXPECT_EQ(observed.missed(), 2750ms);
  now += 100ms;
  EXPECT_EQ(observed.advance(now), now - 2750ms) << "and goes on at the clock's pace";
  now += 1s;
  EXPECT_EQ(observed.advance(now), now - 3500ms);
}

}  // namespace
}  // namespace shoal
