// Scheduling through the whole core: fake workers whose tokens are hashes of their KV cache.
#include <gtest/gtest.h>

#include <numeric>

#include "tests/coordinator/fake_cluster.h"

namespace shoal::testing {
namespace {

using namespace std::chrono_literals;

std::vector<int32_t> prompt_of(size_t tokens, int32_t first = 10) {
  std::vector<int32_t> out(tokens);
  std::iota(out.begin(), out.end(), first);
  return out;
}

struct OneRank : FakeCluster {
  explicit OneRank(CoreOptions options = small_core_options(1), FakeModel fake = {})
      : FakeCluster(std::move(options), fake, 1) {
    add_worker("w0");
    EXPECT_TRUE(run_until_ready());
  }
  // No request, block, slot or step is left anywhere.
  void expect_clean() {
    EXPECT_TRUE(run_until([&] { return core.idle(); }, 2s));
    run_for(50ms);  // the last step, which only names ended slots
    EXPECT_EQ(worker("w0").slots_used(), 0u);
    EXPECT_EQ(core.state(clock.now()).kv_blocks_used, 0u);
    check_streams();
  }
};

TEST(Scheduling, StreamsWhatTheModelSays) {
  OneRank cluster;
  const RequestId id = cluster.submit(prompt_of(5), 10);
  ASSERT_TRUE(cluster.run_until_finished(id));
  EXPECT_EQ(cluster.streams[id].finish.reason, FinishReason::kLength);
  EXPECT_EQ(cluster.streams[id].tokens, cluster.model.expected(prompt_of(5), 1, 10));
  cluster.expect_clean();
}

TEST(Scheduling, SendsTheNextStepBeforeTheLastReturned) {
  OneRank cluster;
  cluster.worker("w0").set_step_time(10ms, 10ms);
  const RequestId id = cluster.submit(prompt_of(3), 12);
  ASSERT_TRUE(cluster.run_until_finished(id));
  size_t two_deep = 0;
  for (const auto& record : cluster.steps) {
    EXPECT_LE(record.in_flight, 2u);
    two_deep += record.in_flight == 2 ? 1 : 0;
  }
  // All but the first; the last names the ended slot only.
  EXPECT_EQ(two_deep, 11u);
  cluster.expect_clean();
}

TEST(Scheduling, ASpanOfTokensComesBackFromOneStep) {
  for (const uint32_t draw : {2u, 5u, 64u}) {
    CoreOptions options = small_core_options(1);
    options.scheduler.draw = draw;
    OneRank cluster(options);
    cluster.worker("w0").set_step_time(10ms, 10ms);
    const RequestId one = cluster.submit(prompt_of(5), 20, 3);
    const RequestId other = cluster.submit(prompt_of(7, 40), 20, 4);
    ASSERT_TRUE(cluster.run_until_finished(one));
    ASSERT_TRUE(cluster.run_until_finished(other));
    EXPECT_EQ(cluster.streams[one].tokens, cluster.model.expected(prompt_of(5), 3, 20));
    EXPECT_EQ(cluster.streams[other].tokens, cluster.model.expected(prompt_of(7, 40), 4, 20));
    uint64_t asked = 0, times = 0, most = 0;
    for (const auto& record : cluster.steps) {
      for (const auto& group : record.step.rows) {
        asked += group.draw;
        times += group.draw > 0 ? 1 : 0;
        most = std::max<uint64_t>(most, group.draw);
      }
    }
    EXPECT_EQ(most, std::min(draw, 20u)) << "never more than the request wants";
    EXPECT_GT(asked, 40u) << "what it does not get it asks for again";
    EXPECT_LT(times, 40u) << "fewer steps than tokens";
    cluster.expect_clean();
  }
}

TEST(Scheduling, ASpanEndsAtAStop) {
  CoreOptions options = small_core_options(1);
  options.scheduler.draw = 8;
  FakeModel fake;
  fake.end_odds = 6;
  OneRank cluster(options, fake);
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    const RequestId id = cluster.submit(prompt_of(5), 40, seed);
    ASSERT_TRUE(cluster.run_until_finished(id));
    EXPECT_EQ(cluster.streams[id].tokens, cluster.model.expected(prompt_of(5), seed, 40)) << seed;
  }
  cluster.expect_clean();
}

TEST(Scheduling, DepthIsConfigurable) {
  for (const uint32_t depth : {1u, 3u}) {
    CoreOptions options = small_core_options(1);
    options.scheduler.depth = depth;
    OneRank cluster(options);
    cluster.worker("w0").set_step_time(10ms, 10ms);
    const RequestId id = cluster.submit(prompt_of(3), 12);
    ASSERT_TRUE(cluster.run_until_finished(id));
    size_t deepest = 0;
    for (const auto& record : cluster.steps) deepest = std::max(deepest, record.in_flight);
    EXPECT_EQ(deepest, depth);
    cluster.expect_clean();
  }
}

TEST(Scheduling, SchedulesNoSurplusWhenTheLengthIsKnown) {
  OneRank cluster;
  cluster.worker("w0").set_step_time(10ms, 10ms);
  const RequestId id = cluster.submit(prompt_of(3), 5);
  ASSERT_TRUE(cluster.run_until_finished(id));
  cluster.expect_clean();
  EXPECT_EQ(cluster.observer.surplus, 0u);
  uint64_t samples = 0;
  for (const auto& record : cluster.steps) {
    for (const auto& group : record.step.rows) samples += group.draw;
  }
  EXPECT_EQ(samples, 5u);
}

TEST(Scheduling, DropsTheSurplusSampleAfterAnEndToken) {
  FakeModel fake;
  fake.end_odds = 5;
  OneRank cluster(small_core_options(1), fake);
  cluster.worker("w0").set_step_time(10ms, 10ms);
  std::vector<RequestId> ids;
  for (uint64_t seed = 1; seed <= 20; ++seed) ids.push_back(cluster.submit(prompt_of(3), 40, seed));
  size_t stopped = 0;
  for (const RequestId id : ids) {
    ASSERT_TRUE(cluster.run_until_finished(id));
    const Stream& stream = cluster.streams[id];
    if (stream.finish.reason != FinishReason::kStop) continue;
    ++stopped;
    EXPECT_EQ(stream.finish.stop_token, fake.end_token);
    EXPECT_EQ(stream.tokens.back(), fake.end_token);
  }
  EXPECT_GE(stopped, 15u);
  cluster.expect_clean();
  EXPECT_GT(cluster.observer.surplus, 0u);
}

TEST(Scheduling, IgnoresTheEndTokenWhenAskedTo) {
  FakeModel fake;
  fake.end_odds = 3;
  OneRank cluster(small_core_options(1), fake);
  GenerationRequest request;
  request.prompt = prompt_of(3);
  request.max_tokens = 20;
  request.ignore_eos = true;
  const RequestId id = cluster.submit(request);
  ASSERT_TRUE(cluster.run_until_finished(id));
  EXPECT_EQ(cluster.streams[id].finish.reason, FinishReason::kLength);
  EXPECT_EQ(cluster.streams[id].tokens.size(), 20u);
  // A stop token of the request's own still ends it.
  request.stop_tokens = {cluster.streams[id].tokens[4]};
  const RequestId stopped = cluster.submit(request);
  ASSERT_TRUE(cluster.run_until_finished(stopped));
  EXPECT_EQ(cluster.streams[stopped].finish.reason, FinishReason::kStop);
  EXPECT_LE(cluster.streams[stopped].tokens.size(), 5u);
}

TEST(Scheduling, CutsPromptsIntoChunksOfAnySize) {
  for (const uint32_t chunk : {1u, 3u, 7u, 64u}) {
    CoreOptions options = small_core_options(1);
    options.scheduler.prefill_chunk = chunk;
    options.scheduler.max_rows = 64;
    OneRank cluster(options);
    const RequestId id = cluster.submit(prompt_of(30), 4);
    ASSERT_TRUE(cluster.run_until_finished(id));
    uint32_t position = 0;
    for (const auto& record : cluster.steps) {
      for (const auto& group : record.step.rows) {
        EXPECT_EQ(group.position, position);
        if (position < 30) {
          EXPECT_EQ(group.count, std::min(chunk, 30 - position));
          EXPECT_EQ(group.draw == 1, position + group.count == 30);
        } else {
          EXPECT_EQ(group.count, 1u);
        }
        position += group.count;
      }
    }
    EXPECT_EQ(position, 30u + 3u);
    cluster.expect_clean();
  }
}

TEST(Scheduling, MixesDecodeRowsAndPromptChunksWithinTheBudget) {
  OneRank cluster;
  const RequestId first = cluster.submit(prompt_of(4), 30);
  ASSERT_TRUE(cluster.run_until([&] { return cluster.streams[first].tokens.size() >= 3; }));
  const RequestId second = cluster.submit(prompt_of(20, 100), 5, 2);
  ASSERT_TRUE(cluster.run_until_finished(second));
  ASSERT_TRUE(cluster.run_until_finished(first));
  size_t mixed = 0;
  for (const auto& record : cluster.steps) {
    uint32_t rows = 0, decode = 0;
    for (const auto& group : record.step.rows) {
      rows += group.count;
      decode += group.count == 1 ? 1 : 0;
      EXPECT_LE(group.count, 4u);
    }
    EXPECT_LE(rows, 8u);
    mixed += decode > 0 && rows > decode ? 1 : 0;
  }
  EXPECT_GE(mixed, 5u);
  cluster.expect_clean();
}

TEST(Scheduling, AnUnchangedDecodeRowCarriesNoDeltas) {
  OneRank cluster;
  const RequestId id = cluster.submit(prompt_of(4), 20);
  ASSERT_TRUE(cluster.run_until_finished(id));
  uint32_t started = 0, blocks = 0;
  for (const auto& record : cluster.steps) {
    started += record.step.started.size();
    for (const auto& append : record.step.appended) {
      EXPECT_EQ(append.blocks.size(), 1u);
      EXPECT_EQ(record.step.rows[0].position % 4, 0u) << "a block before it is needed";
      ++blocks;
    }
  }
  EXPECT_EQ(started, 1u);
  EXPECT_EQ(blocks, 6u);  // positions 0 … 22
}

TEST(Scheduling, PreemptsTheLatestAndResumesTheSameStream) {
  CoreOptions options = small_core_options(1);
  options.membership.terms.kv_blocks = {16};  // 64 tokens; four sequences want 4 · 40
  OneRank cluster(options);
  std::vector<RequestId> ids;
  for (uint64_t i = 0; i < 4; ++i) {
    ids.push_back(cluster.submit(prompt_of(6, static_cast<int32_t>(10 * i + 1)), 35, i));
  }
  std::vector<TimePoint> ends;
  for (const RequestId id : ids) ASSERT_TRUE(cluster.run_until_finished(id));
  EXPECT_GT(cluster.observer.preemptions, 0u);
  for (size_t i = 1; i < ids.size(); ++i) {
    EXPECT_LE(cluster.streams[ids[i - 1]].finished_at, cluster.streams[ids[i]].finished_at)
        << "first come, first served";
  }
  // A resumed sequence brings what was emitted, marked as not prompt.
  bool resumed = false;
  for (const auto& record : cluster.steps) {
    for (const auto& start : record.step.started) {
      EXPECT_EQ(start.prompt_tokens, 6u);
      resumed |= start.tokens.size() > 6;
    }
  }
  EXPECT_TRUE(resumed);
  cluster.expect_clean();
}

TEST(Scheduling, APreemptedSequenceWaitsForTheSamplesItIsOwed) {
  // Three steps deep. The third request is preempted while two of its samples are on their way, and
  // the first one's end frees plenty of blocks after only one of them has come.
  CoreOptions options = small_core_options(1);
  options.scheduler = {.max_rows = 32,
                       .max_sequences = 4,
                       .max_slots = 8,
                       .prefill_chunk = 32,
                       .depth = 3,
                       .block_tokens = 4};
  options.membership.terms.kv_blocks = {9};
  OneRank cluster(options);
  cluster.worker("w0").set_step_time(10ms, 10ms);
  const auto request = [](size_t prompt, uint32_t max_tokens, uint64_t seed) {
    GenerationRequest out;
    out.prompt = prompt_of(prompt);
    out.max_tokens = max_tokens;
    out.seed = seed;
    return out;
  };
  const auto ids =
      cluster.submit_together({request(17, 4, 1), request(4, 20, 2), request(4, 20, 3)});
  ASSERT_TRUE(cluster.run_until_finished(ids[0]));
  EXPECT_EQ(cluster.observer.preemptions, 1u);
  EXPECT_EQ(cluster.steps.back().step.started.size(), 0u) << "a sample is still on its way";
  for (const RequestId id : ids) ASSERT_TRUE(cluster.run_until_finished(id));
  cluster.expect_clean();
}

TEST(Scheduling, ALongPromptIsNotStarvedByShortOnes) {
  CoreOptions options = small_core_options(1);
  options.membership.terms.kv_blocks = {16};
  OneRank cluster(options);
  std::vector<RequestId> before;
  for (uint64_t i = 0; i < 3; ++i) before.push_back(cluster.submit(prompt_of(4), 12, i));
  const RequestId big = cluster.submit(prompt_of(50), 14, 77);  // all 16 blocks
  std::vector<RequestId> after;
  for (uint64_t i = 0; i < 30; ++i) after.push_back(cluster.submit(prompt_of(4), 12, 100 + i));
  ASSERT_TRUE(cluster.run_until_finished(big));
  for (const RequestId id : before) EXPECT_EQ(cluster.streams[id].finishes, 1);
  // Beside it there is room for one or two; the rest waits behind it.
  int overtook = 0;
  for (const RequestId id : after) overtook += cluster.streams[id].finishes;
  EXPECT_LE(overtook, 3);
  for (const RequestId id : after) ASSERT_TRUE(cluster.run_until_finished(id));
  cluster.expect_clean();
}

TEST(Scheduling, CancelFreesBlocksOnlyAfterTheStepsHaveReturned) {
  OneRank cluster;
  cluster.worker("w0").set_step_time(20ms, 20ms);
  const RequestId id = cluster.submit(prompt_of(8), 40);
  ASSERT_TRUE(cluster.run_until([&] { return cluster.streams[id].tokens.size() >= 2; }));
  const uint64_t used = cluster.core.state(cluster.clock.now()).kv_blocks_used;
  EXPECT_GE(used, 3u);
  cluster.cancel(id);
  EXPECT_EQ(cluster.streams[id].finishes, 1);  // the client knows at once
  EXPECT_EQ(cluster.streams[id].finish.reason, FinishReason::kCancelled);
  EXPECT_EQ(cluster.core.state(cluster.clock.now()).kv_blocks_used, used);
  cluster.cancel(id);  // idempotent
  cluster.expect_clean();
}

TEST(Scheduling, CancelsWhatWaitsAndWhatIsPreempted) {
  CoreOptions options = small_core_options(1);
  options.membership.terms.kv_blocks = {16};
  OneRank cluster(options);
  std::vector<RequestId> ids;
  for (uint64_t i = 0; i < 12; ++i) ids.push_back(cluster.submit(prompt_of(6), 35, i));
  ASSERT_TRUE(cluster.run_until([&] { return cluster.observer.preemptions > 0; }));
  for (size_t i = 1; i < ids.size(); ++i) cluster.cancel(ids[i]);
  ASSERT_TRUE(cluster.run_until_finished(ids[0]));
  EXPECT_EQ(cluster.streams[ids[0]].finish.reason, FinishReason::kLength);
  cluster.expect_clean();
}

TEST(Scheduling, RefusesWhatCanNeverRun) {
  CoreOptions options = small_core_options(1);
  options.membership.terms.kv_blocks = {8};  // 32 tokens; the context is 64
  OneRank cluster(options);
  const auto refusal = [&](std::vector<int32_t> prompt, uint32_t max_tokens) {
    GenerationRequest request;
    request.prompt = std::move(prompt);
    request.max_tokens = max_tokens;
    return check_admission(cluster.core.admission(), request);
  };
  EXPECT_TRUE(refusal(prompt_of(30), 3).is_ok());  // positions 0 … 31
  EXPECT_EQ(refusal(prompt_of(30), 4).code(), Code::kInvalidArgument);
  EXPECT_EQ(refusal(prompt_of(60), 5).code(), Code::kInvalidArgument);
  EXPECT_EQ(refusal({}, 5).code(), Code::kInvalidArgument);
  EXPECT_EQ(refusal(prompt_of(3), 0).code(), Code::kInvalidArgument);
  EXPECT_EQ(refusal({1, 1000}, 5).code(), Code::kInvalidArgument);
  EXPECT_EQ(refusal({1, -1}, 5).code(), Code::kInvalidArgument);
  // The largest that is admitted also runs.
  const RequestId id = cluster.submit(prompt_of(30), 3);
  ASSERT_TRUE(cluster.run_until_finished(id));
  cluster.expect_clean();
}

TEST(Scheduling, TheQueueIsBoundedInRequestsAndInTokens) {
  CoreOptions options = small_core_options(1);
  options.queue = {3, 100};
  OneRank cluster(options);
  cluster.worker("w0").set_step_time(50ms, 50ms);
  GenerationRequest request;
  request.prompt = prompt_of(20);
  request.max_tokens = 5;
  // The first step takes 8 rows: one sequence starts, the others wait.
  std::vector<RequestId> ids;
  const auto try_submit = [&] {
    const Status status = check_admission(cluster.core.admission(), request);
    if (status) ids.push_back(cluster.submit(request));
    return status.code();
  };
  while (cluster.core.admission().waiting < 3) ASSERT_EQ(try_submit(), Code::kOk);
  EXPECT_EQ(try_submit(), Code::kResourceExhausted);
  // One that gets past the first check anyway ends with the same error.
  const RequestId late = cluster.submit(request);
  EXPECT_EQ(cluster.streams[late].finish.error.code(), Code::kResourceExhausted);
  for (const RequestId id : ids) ASSERT_TRUE(cluster.run_until_finished(id));
  request.prompt = prompt_of(45);
  ids.clear();
  while (cluster.core.admission().waiting < 2) ASSERT_EQ(try_submit(), Code::kOk);
  EXPECT_EQ(try_submit(), Code::kResourceExhausted);  // 135 tokens
  for (const RequestId id : ids) ASSERT_TRUE(cluster.run_until_finished(id));
  cluster.expect_clean();
}

TEST(Scheduling, ManyRequestsShareSmallLimits) {
  for (const uint32_t rows : {1u, 2u, 8u}) {
    CoreOptions options = small_core_options(1);
    options.scheduler.max_rows = rows;
    OneRank cluster(options);
    std::vector<RequestId> ids;
    for (uint64_t i = 0; i < 30; ++i) ids.push_back(cluster.submit(prompt_of(1 + i % 9), 6, i));
    for (const RequestId id : ids) ASSERT_TRUE(cluster.run_until_finished(id)) << rows;
    cluster.expect_clean();
  }
}

TEST(Scheduling, DrainRefusesNewAndFinishesOld) {
  OneRank cluster;
  const RequestId id = cluster.submit(prompt_of(3), 20);
  cluster.handle(DrainEvent{});
  GenerationRequest request;
  request.prompt = prompt_of(3);
  request.max_tokens = 5;
  EXPECT_EQ(check_admission(cluster.core.admission(), request).code(), Code::kUnavailable);
  ASSERT_TRUE(cluster.run_until_finished(id));
  EXPECT_EQ(cluster.streams[id].finish.reason, FinishReason::kLength);
  cluster.expect_clean();
}

}  // namespace
}  // namespace shoal::testing
