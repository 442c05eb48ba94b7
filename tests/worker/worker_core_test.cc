// The worker's decisions, event by event, in a time of the test's own.
#include "worker/core/worker_core.h"

#include <gtest/gtest.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace shoal::worker {
namespace {

using namespace std::chrono_literals;

class CoreTest : public ::testing::Test {
 public:
  Actions tell(const Event& event) { return core->handle(event, now); }
  Actions hear(const wire::ToWorker& message) { return tell(message); }
  Actions tick_after(Duration duration) {
    Actions all;
    for (const TimePoint end = now + duration; now < end;) {
      now += std::min<Duration>(50ms, end - now);
      for (Action& action : tell(Tick{})) all.push_back(std::move(action));
    }
    return all;
  }
  static wire::Assign plan(uint64_t epoch) {
    wire::Assign out;
    out.epoch = epoch;
    return out;
  }
  static wire::Step step(uint64_t epoch, uint64_t number) {
    wire::Step out;
    out.epoch = epoch;
    out.step = number;
    return out;
  }
  static StepOver result(uint64_t epoch, uint64_t number) {
    wire::StepResult out;
    out.epoch = epoch;
    out.step = number;
    return {epoch, out};
  }
  void serve(uint64_t epoch) {
    hear(plan(epoch));
    wire::Ready ready;
    ready.epoch = epoch;
    ASSERT_EQ(names(tell(LoadOver{epoch, ready})), "Ready");
  }

  template <class A>
  static const A* find(const Actions& actions) {
    for (const Action& action : actions) {
      if (const auto* found = std::get_if<A>(&action)) return found;
    }
    return nullptr;
  }
  template <class M>
  static const M* sent(const Actions& actions) {
    for (const Action& action : actions) {
      const auto* send = std::get_if<Send>(&action);
      if (send == nullptr) continue;
      if (const auto* found = std::get_if<M>(&send->message)) return found;
    }
    return nullptr;
  }
  // "Withdraw Load Failed": in order, what is sent by its own name, log lines left out.
  static std::string names(const Actions& actions) {
    std::string out;
    for (const Action& action : actions) {
      const std::string name = std::visit([](const auto& a) { return name_of(a); }, action);
      if (!name.empty()) out += (out.empty() ? "" : " ") + name;
    }
    return out;
  }

  std::optional<Core> core{Options{}};
  TimePoint now{};

 private:
  static std::string name_of(const Introduce&) { return "Introduce"; }
  static std::string name_of(const Beat&) { return "Beat"; }
  static std::string name_of(const Load&) { return "Load"; }
  static std::string name_of(const Compute&) { return "Compute"; }
  static std::string name_of(const Withdraw&) { return "Withdraw"; }
  static std::string name_of(const OpenStore&) { return "OpenStore"; }
  static std::string name_of(const Deliver&) { return "Deliver"; }
  static std::string name_of(const WatchFiles&) { return "WatchFiles"; }
  static std::string name_of(const Log&) { return ""; }
  static std::string name_of(const End&) { return "End"; }
  static std::string name_of(const Send& send) {
    if (std::holds_alternative<wire::Ready>(send.message)) return "Ready";
    if (std::holds_alternative<wire::Failed>(send.message)) return "Failed";
    if (std::holds_alternative<wire::StepResult>(send.message)) return "StepResult";
    if (std::holds_alternative<wire::LoadProgress>(send.message)) return "LoadProgress";
    if (std::holds_alternative<wire::Goodbye>(send.message)) return "Goodbye";
    return "something else";
  }
};

TEST_F(CoreTest, ItIntroducesItselfUntilItIsAnswered) {
  EXPECT_EQ(names(tell(Tick{})), "Introduce");
  EXPECT_EQ(names(tick_after(500ms)), "Introduce Introduce");
  EXPECT_EQ(names(hear(wire::CoordinatorHeartbeat{0})), "");
  EXPECT_EQ(names(tick_after(500ms)), "Beat Beat");
}

TEST_F(CoreTest, APlanIsLoadedThenStepsAreComputedInOrder) {
  EXPECT_EQ(names(hear(plan(3))), "Withdraw OpenStore Load");
  EXPECT_TRUE(core->in_force(3));
  EXPECT_TRUE(core->busy());
  wire::Ready ready;
  ready.epoch = 3;
  EXPECT_EQ(names(tell(LoadOver{3, ready})), "Ready");
  EXPECT_FALSE(core->busy());
  EXPECT_EQ(names(hear(step(3, 1))), "Compute");
  EXPECT_EQ(names(hear(step(3, 2))), "Compute");
  EXPECT_EQ(names(tell(result(3, 1))), "StepResult");
  EXPECT_TRUE(core->busy()) << "one more is to come";
  EXPECT_EQ(names(tell(result(3, 2))), "StepResult");
  EXPECT_FALSE(core->busy());
  now += 1s;
  const Actions beat = tell(Tick{});
  ASSERT_NE(find<Beat>(beat), nullptr);
  EXPECT_EQ(find<Beat>(beat)->heartbeat.last_step, 2u);
  EXPECT_EQ(find<Beat>(beat)->heartbeat.epoch, 3u);
}

TEST_F(CoreTest, AnOlderPlanIsDroppedAndTheCoordinatorToldAtOnce) {
  serve(7);
  tell(Tick{});
  for (const uint64_t epoch : {7, 6, 1}) {
    EXPECT_EQ(names(hear(plan(epoch))), "") << epoch;
    EXPECT_EQ(names(tell(Tick{})), "Beat") << "out of turn";
  }
  EXPECT_TRUE(core->in_force(7));
}

TEST_F(CoreTest, ANewerPlanWithdrawsTheOneInForce) {
  serve(1);
  hear(step(1, 1));
  const Actions actions = hear(plan(2));
  EXPECT_EQ(names(actions), "Withdraw OpenStore Load");
  EXPECT_EQ(find<Withdraw>(actions)->epoch, 1u);
  EXPECT_FALSE(core->in_force(1));
  EXPECT_EQ(names(tell(StepOver{1, cancelled("withdrawn")})), "") << "nobody waits for it";
  EXPECT_EQ(names(hear(step(1, 2))), "");
  EXPECT_TRUE(core->in_force(2));
}

TEST_F(CoreTest, AnAbortEndsThePlanAndItsJobs) {
  serve(1);
  hear(step(1, 1));
  hear(step(1, 2));
  EXPECT_EQ(names(hear(wire::Abort{2, "of another"})), "");
  EXPECT_EQ(names(hear(wire::Abort{1, "a peer is gone"})), "Withdraw");
  EXPECT_FALSE(core->in_force(1));
  EXPECT_TRUE(core->busy()) << "until the jobs are over";
  EXPECT_EQ(names(tell(StepOver{1, cancelled("a peer is gone")})), "");
  EXPECT_EQ(names(tell(Dropped{})), "");
  EXPECT_FALSE(core->busy());
  EXPECT_EQ(names(hear(step(1, 3))), "");
}

TEST_F(CoreTest, WhatFailsIsSaidOnce) {
  struct Case {
    Status status;
    bool at_loading;
    bool permanent;
    wire::FailureKind kind;
    std::string actions;
  };
  const Case cases[] = {
      {data_loss("cut short"), true, true, wire::FailureKind::kFile, "WatchFiles Failed Withdraw"},
      {resource_exhausted("3 GiB"), true, true, wire::FailureKind::kMemory, "Failed Withdraw"},
      {deadline_exceeded("no peer"), false, false, wire::FailureKind::kOther, "Failed Withdraw"},
      {unavailable("a socket"), true, false, wire::FailureKind::kOther, "Failed Withdraw"},
      {internal_error("a bug"), false, true, wire::FailureKind::kOther, "Failed Withdraw"},
  };
  uint64_t epoch = 0;
  for (const Case& c : cases) {
    hear(plan(++epoch));
    const Actions actions = tell(LoadOver{epoch, c.status, c.at_loading});
    EXPECT_EQ(names(actions), c.actions) << c.status.message();
    const auto* failed = sent<wire::Failed>(actions);
    ASSERT_NE(failed, nullptr);
    EXPECT_EQ(failed->permanent, c.permanent) << c.status.message();
    EXPECT_EQ(failed->kind, c.kind) << c.status.message();
    EXPECT_EQ(failed->epoch, epoch);
    EXPECT_EQ(names(hear(step(epoch, 1))), "") << "its plan is over";
    EXPECT_FALSE(core->busy());
  }
  serve(++epoch);
  hear(step(epoch, 1));
  hear(step(epoch, 2));
  EXPECT_EQ(names(tell(StepOver{epoch, unavailable("a peer is gone")})), "Failed Withdraw");
  EXPECT_EQ(names(tell(StepOver{epoch, unavailable("again")})), "");
  EXPECT_FALSE(core->busy());
}

TEST_F(CoreTest, ASilentCoordinatorIsGivenUpAndWeightsStay) {
  serve(1);
  const Actions actions = tick_after(6s);
  ASSERT_NE(find<Withdraw>(actions), nullptr);
  EXPECT_EQ(find<Withdraw>(actions)->reason, "the coordinator is silent");
  EXPECT_NE(find<Introduce>(actions), nullptr);
  EXPECT_FALSE(core->in_force(1));
  // It was another network's fault: who still counts on the plan is told, once.
  const Actions late = hear(step(1, 1));
  EXPECT_EQ(names(late), "Failed");
  EXPECT_FALSE(sent<wire::Failed>(late)->permanent);
  EXPECT_EQ(names(hear(step(1, 2))), "");
  EXPECT_EQ(names(hear(plan(2))), "Withdraw OpenStore Load");
}

TEST_F(CoreTest, TimeInWhichItStoodStillIsNoSilence) {
  serve(1);
  tell(Tick{});
  now += 1h;
  EXPECT_EQ(names(tell(Tick{})), "Beat");
  EXPECT_TRUE(core->in_force(1));
}

TEST_F(CoreTest, AFullQueueFailsThePlanAndNothingElse) {
  serve(1);
  for (size_t i = 0; i < Options{}.most_jobs; ++i) {
    ASSERT_EQ(names(hear(step(1, i + 1))), "Compute");
  }
  EXPECT_EQ(names(hear(step(1, 1000))), "Failed Withdraw");
  EXPECT_EQ(names(hear(plan(2))), "Withdraw OpenStore Failed Withdraw") << "jobs that hang";
  for (size_t i = 0; i < Options{}.most_jobs; ++i) tell(Dropped{});
  EXPECT_FALSE(core->busy());
  EXPECT_EQ(names(hear(plan(3))), "Withdraw OpenStore Load");
}

TEST_F(CoreTest, ProgressIsToldNowAndThen) {
  hear(plan(1));
  uint64_t reports = 0;
  for (int i = 0; i < 20; ++i) {
    now += 50ms;
    const Actions actions = tell(Tick{true, 10, 100});
    const auto* progress = sent<wire::LoadProgress>(actions);
    if (progress == nullptr) continue;
    ++reports;
    EXPECT_EQ(progress->bytes_done, 10u);
    EXPECT_EQ(progress->bytes_total, 100u);
  }
  EXPECT_EQ(reports, 5u) << "in a second";
}

TEST_F(CoreTest, EveryWayToEnd) {
  wire::Settings settings;
  settings.threads = 3;
  struct Case {
    std::string what;
    std::function<Actions(CoreTest&)> happens;
    std::string actions;
    Code code;
  };
  const Case cases[] = {
      {"stop", [](CoreTest& t) { return t.tell(Stop{}); }, "Goodbye Withdraw End", Code::kOk},
      {"shutdown", [](CoreTest& t) { return t.hear(wire::Shutdown{"bye"}); },
       "Goodbye Withdraw End", Code::kOk},
      {"refused", [](CoreTest& t) { return t.hear(wire::Refused{"a second one"}); },
       "Goodbye Withdraw End", Code::kFailedPrecondition},
      {"settings", [&](CoreTest& t) { return t.hear(settings); }, "Withdraw End", Code::kOk},
      {"a lost device",
       [](CoreTest& t) {
         t.hear(step(1, 1));
         return t.tell(StepOver{1, internal_error("illegal access"), true});
       },
       "Failed Withdraw Goodbye Withdraw End", Code::kUnavailable},
  };
  for (const Case& c : cases) {
    core.emplace(Options{});
    serve(1);
    const Actions actions = c.happens(*this);
    EXPECT_EQ(names(actions), c.actions) << c.what;
    const auto* end = find<End>(actions);
    ASSERT_NE(end, nullptr) << c.what;
    EXPECT_EQ(end->status.code(), c.code) << c.what;
    EXPECT_EQ(end->settings.has_value(), c.what == "settings");
    EXPECT_TRUE(core->ended());
    EXPECT_EQ(names(hear(plan(9))), "") << "after the end";
  }
}

TEST_F(CoreTest, SettingsItGoesByChangeNothing) {
  wire::Settings settings;
  settings.threads = 3;
  core.emplace(Options{.settings_id = wire::settings_id(settings)});
  EXPECT_EQ(names(hear(settings)), "");
  EXPECT_FALSE(core->ended());
}

TEST_F(CoreTest, AResultThatCannotBeSentFailsItsPlan) {
  serve(1);
  hear(step(1, 1));
  tell(result(1, 1));
  const Actions actions = tell(Unsendable{1, invalid_argument("step 1: 5000 rows")});
  EXPECT_EQ(names(actions), "Failed Withdraw");
  EXPECT_FALSE(sent<wire::Failed>(actions)->permanent) << "other requests go on";
}

}  // namespace
}  // namespace shoal::worker
