// The worker's threads around its core: a real device and model, with the coordinator's part played
// by the test.
#include "worker/agent.h"

#include <gtest/gtest.h>

#include <fstream>
#include <future>

#include "base/file.h"
#include "kernels/cpu/cpu_device.h"
#include "model/gguf.h"
#include "tests/support/support.h"
#include "wire/memory_link.h"

namespace shoal::testing {
namespace {

using namespace std::chrono_literals;

class AgentTest : public ::testing::Test {
 protected:
  ~AgentTest() override {
    agent.stop();
    if (ended.valid()) ended.wait();
  }

  void start() {
    ended = std::async(std::launch::async, [this] { return agent.run(); });
    peer = network.peer_of("w0");
    hello = next<wire::Hello>();
  }
  // The next message of this kind; others are skipped.
  template <class M>
  M next() {
    for (const TimePoint end = clock.now() + 60s; clock.now() < end;) {
      const auto incoming = network.coordinator().receive(10ms);
      if (!incoming) continue;
      if (const auto* message = std::get_if<M>(&incoming->message)) return *message;
    }
    ADD_FAILURE() << "no message";
    return {};
  }
  void send(const wire::ToWorker& message) {
    const Status sent = network.coordinator().send(peer, message);
    ASSERT_TRUE(sent.is_ok()) << sent.message();
  }
  static wire::Assign plan_of(const std::string& path, uint64_t epoch) {
    wire::Assign plan;
    plan.epoch = epoch;
    plan.shares = {1.0};
    plan.model_path = path;
    const auto file = GgufFile::open(path);
    plan.model_digest = file ? file->digest() : "unknown";
    plan.kv_blocks = {4};
    plan.block_tokens = 16;
    plan.max_rows = 16;
    plan.max_slots = 2;
    plan.max_sequence_tokens = 64;
    plan.step_timeout_seconds = plan.form_timeout_seconds = 60;
    return plan;
  }
  static wire::Step first_step(uint64_t epoch) {
    wire::Step step;
    step.epoch = epoch;
    step.step = 1;
    wire::NewSequence sequence;
    sequence.tokens = {1, 2, 3};
    sequence.prompt_tokens = 3;
    sequence.sampling.temperature = 0;
    step.started = {sequence};
    step.appended = {{0, 0, {0}}};
    step.rows = {{0, 0, 3, 1}};
    return step;
  }

  SteadyClock clock;
  wire::MemoryNetwork network{clock, {.blocking = true}};
  std::unique_ptr<wire::WorkerLink> link = network.connect("w0");
  std::unique_ptr<Device> device = make_cpu_device({.threads = 1}).value();
  Agent agent{{.name = "w0",
               .build = "test",
               .core = {.heartbeat = 20ms, .coordinator_silence = 300s, .settings_id = 0}},
              *link,
              *device};
  wire::PeerId peer;
  wire::Hello hello;
  std::future<Status> ended;
};

TEST_F(AgentTest, LoadsComputesAndEndsInOrder) {
  start();
  EXPECT_EQ(hello.name, "w0");
  EXPECT_EQ(hello.device_kind, "cpu");
  EXPECT_GT(hello.memory_bytes, 0u);
  const std::string path = model_path("shoal-tiny-dense-q8_0.gguf");
  send(plan_of(path, 1));
  EXPECT_EQ(next<wire::Ready>().epoch, 1u);
  send(first_step(1));
  const auto first = next<wire::StepResult>();
  ASSERT_EQ(first.rows.size(), 1u);
  EXPECT_EQ(next<wire::WorkerHeartbeat>().epoch, 1u);
  // Another plan of the same shard keeps the weights; the same step gives the same token.
  send(wire::Abort{1, "the test says so"});
  send(plan_of(path, 2));
  EXPECT_LT(next<wire::Ready>().load_seconds, 60);
  send(first_step(2));
  EXPECT_EQ(next<wire::StepResult>().rows.at(0).token, first.rows[0].token);
  send(wire::Shutdown{"the test ends"});
  EXPECT_EQ(next<wire::Goodbye>().reason, "stopped");
  EXPECT_TRUE(ended.get().is_ok());
}

TEST_F(AgentTest, AFileThatCannotBeLoadedIsWatched) {
  const TempDir folder;
  const std::string path = folder.path() + "/model.gguf";
  start();
  send(plan_of(path, 1));
  const auto failed = next<wire::Failed>();
  EXPECT_TRUE(failed.permanent);
  EXPECT_EQ(failed.kind, wire::FailureKind::kFile);
  EXPECT_NE(failed.message.find(path), std::string::npos) << failed.message;
  ASSERT_TRUE(write_file_atomically(path, "something", 0600).is_ok());
  EXPECT_EQ(next<wire::ModelChanged>().epoch, 1u);
}

TEST_F(AgentTest, AStepThatMakesNoSenseFailsThePlanAlone) {
  start();
  const std::string path = model_path("shoal-tiny-dense-q8_0.gguf");
  send(plan_of(path, 1));
  next<wire::Ready>();
  wire::Step step = first_step(1);
  step.rows[0].position = 1;
  send(step);
  EXPECT_NE(next<wire::Failed>().message.find("step 1"), std::string::npos);
  send(plan_of(path, 2));
  EXPECT_EQ(next<wire::Ready>().epoch, 2u);
}

TEST_F(AgentTest, WhyItIsRefusedIsItsResult) {
  start();
  send(wire::Refused{"there is one of this name"});
  const Status status = ended.get();
  EXPECT_EQ(status.code(), Code::kFailedPrecondition);
  EXPECT_NE(status.message().find("there is one of this name"), std::string::npos);
}

TEST_F(AgentTest, OtherSettingsAreForAnotherAgent) {
  start();
  wire::Settings settings;
  settings.threads = 2;
  send(settings);
  EXPECT_TRUE(ended.get().is_ok());
  ASSERT_TRUE(agent.new_settings().has_value());
  EXPECT_EQ(agent.new_settings()->threads, 2u);
}

TEST_F(AgentTest, StopSaysGoodbye) {
  start();
  agent.stop();
  EXPECT_EQ(next<wire::Goodbye>().reason, "stopped");
  EXPECT_TRUE(ended.get().is_ok());
}

}  // namespace
}  // namespace shoal::testing
