// Prefix reuse through the whole core. The fake workers check every cell that a row reads, in every
// KV group, so that a token can only be right for the right reason.
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>

#include "tests/coordinator/fake_cluster.h"

namespace shoal::testing {
namespace {

using namespace std::chrono_literals;

std::vector<int32_t> prompt_of(size_t tokens, uint64_t seed) {
  Rng rng(seed);
  std::vector<int32_t> out(tokens);
  for (int32_t& token : out) token = static_cast<int32_t>(10 + rng.below(900));
  return out;
}

struct Model {
  const char* name;
  std::vector<KvRule> rules;
};
const Model kModels[] = {
    {"full", {{}}},
    {"window", {{50, 0}}},
    {"full and window", {{}, {33, 0}}},
    {"full and chunk", {{}, {0, 64}}},
    {"full and an odd chunk", {{0, 75}, {}}},
    {"three", {{}, {20, 0}, {0, 128}}},
};

struct Chat : FakeCluster {
  static CoreOptions chat_options(const std::vector<KvRule>& rules, uint32_t full_blocks) {
    CoreOptions options = small_core_options(1);
    options.context_tokens = 600;
    options.scheduler = {.max_rows = 64,
                         .max_sequences = 8,
                         .max_slots = 16,
                         .prefill_chunk = 32,
                         .depth = 2,
                         .block_tokens = 16,
                         .kv_rules = rules};
    options.membership.terms.kv_blocks.clear();
    for (const KvRule& rule : rules) {
      options.membership.terms.kv_blocks.push_back(
          std::min<uint32_t>(full_blocks, rule.is_full() ? full_blocks : full_blocks / 2));
    }
    return options;
  }
  static FakeModel fake_model(const std::vector<KvRule>& rules) {
    FakeModel fake;
    fake.rules = rules;
    return fake;
  }
  explicit Chat(const std::vector<KvRule>& rules, uint32_t full_blocks = 200)
      : Chat(chat_options(rules, full_blocks)) {}
  explicit Chat(CoreOptions options)
      : FakeCluster(options, fake_model(options.scheduler.kv_rules), 1) {
    add_worker("w0");
    EXPECT_TRUE(run_until_ready());
  }

  RequestId ask(const std::vector<int32_t>& prompt, uint32_t max_tokens, uint64_t seed,
                const std::string& scope = "") {
    GenerationRequest request;
    request.prompt = prompt;
    request.max_tokens = max_tokens;
    request.seed = seed;
    request.ignore_eos = true;
    request.cache_scope = scope;
    return submit(std::move(request));
  }
  const Stream& answer(RequestId id) {
    EXPECT_TRUE(run_until_finished(id));
    return streams.at(id);
  }
  uint64_t used() { return core.state(clock.now()).kv_blocks_used; }
  void expect_clean() {
    EXPECT_TRUE(run_until([&] { return core.idle(); }, 2s));
    EXPECT_EQ(used(), 0u);
    check_streams();
  }
};

TEST(PrefixReuse, TheSecondTurnComputesAtMostOneBlockAndWhatIsNew) {
  for (const Model& model : kModels) {
    SCOPED_TRACE(model.name);
    for (const uint32_t answer_tokens : {1u, 16u, 40u, 41u}) {
      Chat chat(model.rules);
      std::vector<int32_t> history = prompt_of(203, 1);
      const RequestId first = chat.ask(history, answer_tokens, 1);
      const std::vector<int32_t> answer = chat.answer(first).tokens;
      EXPECT_EQ(chat.streams[first].finish.cached_prompt_tokens, 0u);
      history.insert(history.end(), answer.begin(), answer.end());
      // The last token of an answer is never computed: it was not needed.
      const uint64_t computed = history.size() - 1;
      const auto question = prompt_of(11, 2);
      history.insert(history.end(), question.begin(), question.end());
      ASSERT_TRUE(chat.run_until([&] { return chat.core.idle(); }));
      const uint64_t rows = chat.worker("w0").rows_run();
      const RequestId second = chat.ask(history, 1, 2);
      chat.answer(second);
      EXPECT_EQ(chat.streams[second].finish.cached_prompt_tokens, computed / 16 * 16);
      EXPECT_EQ(chat.worker("w0").rows_run() - rows, history.size() - computed / 16 * 16);
      EXPECT_LE(chat.worker("w0").rows_run() - rows, 16 + question.size());
      chat.expect_clean();
    }
  }
}

TEST(PrefixReuse, AScoredPromptIsComputedWholeAndSharedAfterwards) {
  for (const Model& model : kModels) {
    SCOPED_TRACE(model.name);
    for (const size_t tokens : {1u, 2u, 16u, 17u, 203u}) {
      Chat chat(model.rules);
      GenerationRequest request;
      request.prompt = prompt_of(tokens, 1);
      request.max_tokens = 2;
      const RequestId plain = chat.submit(request);
      chat.answer(plain);
      request.score_prompt = true;
      request.sampling.top_logprobs = 0;
      const RequestId scored = chat.submit(request);
      EXPECT_EQ(chat.answer(scored).scores.size(), tokens - 1);
      EXPECT_EQ(chat.streams[scored].finish.cached_prompt_tokens, 0u);
      request.score_prompt = false;
      const RequestId again = chat.submit(request);
      EXPECT_TRUE(chat.answer(again).scores.empty());
      EXPECT_EQ(chat.streams[again].finish.cached_prompt_tokens, (tokens - 1) / 16 * 16);
      chat.expect_clean();
    }
  }
}

// The latest is preempted in the middle of its prompt; its scores go on where they were.
TEST(PrefixReuse, APreemptedPromptIsScoredOnce) {
  for (const Model& model : kModels) {
    SCOPED_TRACE(model.name);
    CoreOptions options = Chat::chat_options(model.rules, 200);
    options.scheduler.prefill_chunk = 2;
    for (uint32_t& blocks : options.membership.terms.kv_blocks) blocks = 38;
    Chat chat(options);
    std::vector<RequestId> ids;
    for (uint64_t seed = 1; seed <= 4; ++seed) {
      GenerationRequest request;
      request.prompt = prompt_of(seed < 4 ? 16 : 200, seed);
      request.max_tokens = seed < 4 ? 580 : 20;
      request.seed = seed;
      request.ignore_eos = true;
      request.score_prompt = true;
      request.sampling.top_logprobs = 0;
      ids.push_back(chat.submit(std::move(request)));
      if (seed == 3) {
        ASSERT_TRUE(chat.run_until([&] { return chat.streams[1].tokens.size() > 60; }));
      }
    }
    for (const RequestId id : ids) {
      const Stream& stream = chat.answer(id);
      EXPECT_EQ(stream.scores.size(), stream.request.prompt.size() - 1);
    }
    uint32_t without_token = 0;  // sequences started before their request had one
    for (const SentStepRecord& record : chat.steps) {
      for (const auto& start : record.step.started) {
        without_token += start.tokens.size() == start.prompt_tokens ? 1 : 0;
      }
    }
    if (model.rules[0].is_full()) {
      EXPECT_GT(without_token, ids.size());
    }
    chat.expect_clean();
  }
}

TEST(PrefixReuse, AScoreThatIsNoNumberEndsItsRequest) {
  Chat chat(kModels[0].rules);
  GenerationRequest request;
  request.prompt = prompt_of(50, 1);
  request.max_tokens = 3;
  request.score_prompt = true;
  request.sampling.top_logprobs = 0;
  request.prompt[49] = 950;
  chat.worker("w0").poison(950);
  const RequestId good = chat.submit(request);  // only what follows its last token is none
  request.prompt[40] = 950;
  const RequestId bad = chat.submit(request);
  EXPECT_EQ(chat.answer(good).scores.size(), 49u);
  EXPECT_EQ(chat.streams[good].finish.reason, FinishReason::kError);
  EXPECT_LT(chat.answer(bad).scores.size(), 49u);
  EXPECT_EQ(chat.streams[bad].finish.reason, FinishReason::kError);
  chat.expect_clean();
}

TEST(PrefixReuse, SixtyFourConversationsOverASmallCache) {
  for (const Model& model : kModels) {
    SCOPED_TRACE(model.name);
    Chat chat(model.rules, 150);
    Rng rng(7);
    // Two users say the same things; they must not meet.
    std::vector<std::vector<int32_t>> histories;
    for (uint64_t c = 0; c < 64; ++c) histories.push_back(prompt_of(60 + c % 7, 100 + c % 32));
    std::map<uint64_t, uint64_t> conversation;  // by seed
    std::deque<std::pair<uint64_t, RequestId>> running;
    const auto take_answer = [&] {
      const auto [c, id] = running.front();
      running.pop_front();
      const std::vector<int32_t> answer = chat.answer(id).tokens;
      EXPECT_EQ(answer.size(), 12u);
      histories[c].insert(histories[c].end(), answer.begin(), answer.end());
      for (const int32_t token : prompt_of(9, 1000 + id)) histories[c].push_back(token);
    };
    for (uint64_t turn = 1; turn <= 400; ++turn) {
      const uint64_t c = rng.below(1 + rng.below(64));  // some talk more than others
      const auto talks = [&](const auto& entry) { return entry.first == c; };
      while (running.size() >= 8 || std::any_of(running.begin(), running.end(), talks)) {
        take_answer();
      }
      if (histories[c].size() > 500) histories[c].resize(60);
      conversation[turn] = c;
      running.emplace_back(c, chat.ask(histories[c], 12, turn, c < 32 ? "a" : "b"));
    }
    while (!running.empty()) take_answer();
    EXPECT_GT(chat.observer.evicted, 300u);
    EXPECT_GT(chat.observer.hit_tokens, chat.observer.lookup_tokens / 10);
    for (const auto& [writer, reader] : chat.worker("w0").shared()) {
      EXPECT_EQ(conversation[writer] < 32, conversation[reader] < 32) << "two users share a block";
    }
    chat.expect_clean();
  }
}

TEST(PrefixReuse, ConversationsThatFitAreAllRemembered) {
  for (const Model& model : kModels) {
    SCOPED_TRACE(model.name);
    Chat chat(model.rules, 2000);
    std::vector<std::vector<int32_t>> histories;
    uint64_t seed = 0;
    for (uint64_t c = 0; c < 32; ++c) histories.push_back(prompt_of(80 + c, c));
    for (int turn = 0; turn < 3; ++turn) {
      for (auto& history : histories) {
        const RequestId id = chat.ask(history, 8, ++seed);
        const Stream& stream = chat.answer(id);
        const uint64_t before = turn == 0 ? 0 : (history.size() - 5 - 1) / 16 * 16;
        EXPECT_EQ(stream.finish.cached_prompt_tokens, before);
        history.insert(history.end(), stream.tokens.begin(), stream.tokens.end());
        for (const int32_t token : prompt_of(5, 1000 + seed)) history.push_back(token);
      }
    }
    EXPECT_EQ(chat.observer.evicted, 0u);
    chat.expect_clean();
  }
}

TEST(PrefixReuse, NothingIsSharedBetweenScopes) {
  Chat chat(kModels[2].rules);
  const auto prompt = prompt_of(100, 1);
  EXPECT_EQ(chat.answer(chat.ask(prompt, 4, 1, "0:")).finish.cached_prompt_tokens, 0u);
  EXPECT_EQ(chat.answer(chat.ask(prompt, 4, 2, "1:")).finish.cached_prompt_tokens, 0u);
  EXPECT_EQ(chat.answer(chat.ask(prompt, 4, 3, "0:salt")).finish.cached_prompt_tokens, 0u);
  EXPECT_TRUE(chat.worker("w0").shared().empty());
  EXPECT_EQ(chat.answer(chat.ask(prompt, 4, 4, "0:")).finish.cached_prompt_tokens, 96u);
  EXPECT_EQ(chat.answer(chat.ask(prompt, 4, 5, "1:")).finish.cached_prompt_tokens, 96u);
  const std::set<std::pair<uint64_t, uint64_t>> expected = {{1, 4}, {2, 5}};
  EXPECT_EQ(chat.worker("w0").shared(), expected);
  chat.expect_clean();
}

TEST(PrefixReuse, SequencesShareWhileTheyRun) {
  for (const Model& model : kModels) {
    SCOPED_TRACE(model.name);
    Chat chat(model.rules);
    chat.worker("w0").set_step_time(5ms, 5ms);
    const auto prompt = prompt_of(163, 1);
    const RequestId first = chat.ask(prompt, 60, 1);
    ASSERT_TRUE(chat.run_until([&] { return chat.streams[first].tokens.size() >= 3; }));
    const uint64_t alone = chat.used();
    std::vector<RequestId> choices;
    for (uint64_t seed = 2; seed <= 5; ++seed) choices.push_back(chat.ask(prompt, 20, seed));
    ASSERT_TRUE(chat.run_until([&] { return chat.streams[choices[3]].tokens.size() >= 1; }));
    EXPECT_EQ(chat.streams[first].finishes, 0);
    // What is in sight of all is held once, what each writes is its own: two blocks at most a
    // group.
    EXPECT_LE(chat.used(), alone + 4 * 2 * model.rules.size() + 8);
    for (const RequestId id : choices) {
      EXPECT_EQ(chat.answer(id).finish.cached_prompt_tokens, 160u);
    }
    chat.answer(first);
    chat.expect_clean();
  }
}

TEST(PrefixReuse, WhatIsBeingComputedIsSharedByTheNextStep) {
  // The second request arrives while the first one's prompt is half way through.
  Chat chat(kModels[0].rules);
  chat.worker("w0").set_step_time(10ms, 10ms);
  const auto prompt = prompt_of(300, 1);
  const RequestId first = chat.ask(prompt, 2, 1);
  chat.run_for(35ms);
  EXPECT_TRUE(chat.streams[first].tokens.empty());
  const RequestId second = chat.ask(prompt, 2, 2);
  const uint32_t cached = chat.answer(second).finish.cached_prompt_tokens;
  EXPECT_GE(cached, 64u);
  EXPECT_LT(cached, 288u);
  chat.answer(first);
  chat.expect_clean();
}

TEST(PrefixReuse, APreemptedRequestComesBackThroughTheCache) {
  for (const Model& model : kModels) {
    SCOPED_TRACE(model.name);
    Chat chat(Chat::chat_options(model.rules, 40));
    std::vector<RequestId> ids;
    for (uint64_t i = 0; i < 6; ++i) ids.push_back(chat.ask(prompt_of(100, i), 150, 1 + i));
    for (const RequestId id : ids) {
      EXPECT_EQ(chat.answer(id).finish.cached_prompt_tokens, 0u)
          << "only what was found at the first start counts";
    }
    chat.expect_clean();
    if (&model != &kModels[0]) continue;
    EXPECT_GT(chat.observer.preemptions, 0u);
    // Not all was overwritten while it waited. (Of a window group its end is left, which is of no
    // use where a group that sees everything has lost its own.)
    uint64_t resumed = 0, reused = 0;
    for (const auto& record : chat.steps) {
      for (const auto& start : record.step.started) {
        if (start.tokens.size() <= start.prompt_tokens) continue;
        ++resumed;
        for (const auto& rows : record.step.rows) {
          reused += rows.slot == start.slot && rows.position > 0 ? 1 : 0;
        }
      }
    }
    EXPECT_GT(resumed, 0u);
    EXPECT_GT(reused, 0u);
  }
}

TEST(PrefixReuse, ACancelledPromptIsNotLost) {
  Chat chat(kModels[3].rules);
  chat.worker("w0").set_step_time(10ms, 10ms);
  const auto prompt = prompt_of(300, 1);
  const RequestId first = chat.ask(prompt, 20, 1);
  chat.run_for(45ms);
  chat.cancel(first);
  const RequestId second = chat.ask(prompt, 4, 2);
  EXPECT_GE(chat.answer(second).finish.cached_prompt_tokens, 64u);
  EXPECT_EQ(chat.streams[second].finish.reason, FinishReason::kLength);
  chat.expect_clean();
}

TEST(PrefixReuse, ANewGroupOfWorkersStartsEmpty) {
  Chat chat(kModels[0].rules);
  const auto prompt = prompt_of(100, 1);
  chat.answer(chat.ask(prompt, 4, 1));
  EXPECT_GT(chat.core.state(chat.clock.now()).kv_blocks_cached, 0u);
  chat.kill("w0");
  chat.add_worker("w0");
  ASSERT_TRUE(chat.run_until([&] { return !chat.core.admission().ready; }));
  ASSERT_TRUE(chat.run_until_ready());
  EXPECT_EQ(chat.core.state(chat.clock.now()).kv_blocks_cached, 0u);
  EXPECT_EQ(chat.answer(chat.ask(prompt, 4, 2)).finish.cached_prompt_tokens, 0u);
  EXPECT_EQ(chat.answer(chat.ask(prompt, 4, 3)).finish.cached_prompt_tokens, 96u);
  chat.expect_clean();
}

TEST(PrefixReuse, CanBeSwitchedOff) {
  CoreOptions options = Chat::chat_options(kModels[2].rules, 200);
  options.scheduler.prefix_cache = false;
  Chat chat(options);
  const auto prompt = prompt_of(100, 1);
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    EXPECT_EQ(chat.answer(chat.ask(prompt, 20, seed)).finish.cached_prompt_tokens, 0u);
  }
  EXPECT_EQ(chat.core.state(chat.clock.now()).kv_blocks_cached, 0u);
  EXPECT_EQ(chat.observer.lookup_tokens, 0u);
  chat.expect_clean();
}

TEST(PrefixReuse, ALongSequenceInAWindowTakesNoMoreThanTheWindow) {
  const std::vector<KvRule> rules = {{50, 0}, {0, 64}};
  CoreOptions options = Chat::chat_options(rules, 200);
  const uint32_t rows = options.scheduler.depth * options.scheduler.prefill_chunk;
  uint64_t most = 0;
  for (const KvRule& rule : rules) most += peak_blocks(rule, 10000, rows, 16);
  Chat chat(options);
  const RequestId id = chat.ask(prompt_of(400, 1), 190, 1);
  while (chat.streams[id].finishes == 0) {
    chat.run_for(200us);
    ASSERT_LE(chat.used(), most);
  }
  EXPECT_LT(most, 590u / 16);
  chat.expect_clean();
}

TEST(PrefixReuse, ASequenceLargerThanItsPoolsRunsWhereWindowsAllow) {
  // The least pools that admission accepts, several sequences in them at once.
  const std::vector<KvRule> rules = {{50, 0}, {0, 64}, {1, 0}};
  CoreOptions options = Chat::chat_options(rules, 200);
  options.membership.terms.kv_blocks.clear();
  for (const KvRule& rule : rules) {
    options.membership.terms.kv_blocks.push_back(peak_blocks(rule, 10000, 1, 16));
  }
  Chat chat(options);
  std::vector<RequestId> ids;
  for (uint64_t i = 0; i < 5; ++i) ids.push_back(chat.ask(prompt_of(300, i), 100, i));
  for (const RequestId id : ids) EXPECT_EQ(chat.answer(id).tokens.size(), 100u);
  chat.expect_clean();
}

TEST(Core, ExpertLoadOfThisEpochFromRankZeroIsReported) {
  CoreOptions options = small_core_options(2);
  FakeCluster cluster(options, {}, 1);
  cluster.add_worker("w0");
  cluster.add_worker("w1");
  ASSERT_TRUE(cluster.run_until_ready());
  const uint64_t epoch = cluster.core.state(cluster.clock.now()).epoch;
  const auto say = [&](const std::string& peer, uint64_t of_epoch) {
    cluster.handle(wire::Incoming{peer, wire::ExpertLoad{of_epoch, 2, {3, 1}}, ""});
    return cluster.observer.expert_loads.size();
  };
  const std::string zero = cluster.network.peer_of("w0"), one = cluster.network.peer_of("w1");
  EXPECT_EQ(say(one, epoch), 0u);
  EXPECT_EQ(say(zero, epoch - 1), 0u);
  EXPECT_EQ(say(zero, epoch + 1), 0u);
  EXPECT_EQ(say("nobody", epoch), 0u);
  EXPECT_EQ(say(zero, epoch), 1u);
  EXPECT_EQ(cluster.observer.expert_loads[0].tokens, (std::vector<uint64_t>{3, 1}));
  cluster.kill("w1");
  ASSERT_TRUE(cluster.run_until([&] { return !cluster.core.admission().ready; }));
  EXPECT_EQ(say(zero, epoch), 1u);
}

constexpr int32_t kPoison = 3;

// A sequence without a finite logit ends with an error; who shares its steps and its prefix gets
// what the model says, and nobody finds a block of it afterwards.
TEST(BrokenRows, EndTheirRequestAndNobodyElse) {
  for (const Model& model : kModels) {
    SCOPED_TRACE(model.name);
    Chat chat(model.rules);
    chat.worker("w0").poison(kPoison);
    const std::vector<int32_t> shared = prompt_of(100, 1);
    std::vector<int32_t> bad = shared;
    bad.insert(bad.end(), {kPoison, 20, 21, 22});
    for (uint64_t round = 0; round < 3; ++round) {
      const RequestId before = chat.ask(shared, 30, 10 + round), broken = chat.ask(bad, 30, 1),
                      after = chat.ask(shared, 30, 20 + round);
      const Stream& ended = chat.answer(broken);
      EXPECT_EQ(ended.finish.reason, FinishReason::kError);
      EXPECT_EQ(ended.finish.error.code(), Code::kInternal);
      EXPECT_NE(ended.finish.error.message().find("no finite logits"), std::string::npos);
      EXPECT_TRUE(ended.tokens.empty());
      for (const RequestId good : {before, after}) {
        EXPECT_EQ(chat.answer(good).finish.reason, FinishReason::kLength);
        EXPECT_EQ(chat.answer(good).tokens.size(), 30u);
      }
      ASSERT_TRUE(chat.run_until([&] { return chat.core.idle(); }));
    }
    // Alone it leaves nothing behind, not even the part of it that was good.
    std::vector<int32_t> other = prompt_of(100, 2);
    std::vector<int32_t> other_bad = other;
    other_bad.insert(other_bad.end(), {kPoison, 20, 21, 22});
    chat.answer(chat.ask(other, 1, 1));
    EXPECT_GT(chat.answer(chat.ask(other, 1, 1)).finish.cached_prompt_tokens, 0u);
    EXPECT_GT(chat.answer(chat.ask(other_bad, 1, 1)).finish.cached_prompt_tokens, 0u);
    ASSERT_TRUE(chat.run_until([&] { return chat.core.idle(); }));
    EXPECT_EQ(chat.answer(chat.ask(other, 1, 1)).finish.cached_prompt_tokens, 0u);
    EXPECT_GT(chat.answer(chat.ask(other, 1, 1)).finish.cached_prompt_tokens, 0u);
    EXPECT_EQ(chat.observer.failures, 0u) << "the group stays";
    chat.expect_clean();
  }
}

// In the middle of an answer: what came before was right and has been sent.
TEST(BrokenRows, TheAnswerSoFarStands) {
  Chat chat(kModels[0].rules);
  const std::vector<int32_t> prompt = prompt_of(40, 3);
  const auto whole = chat.model.expected(prompt, 6, 20, true);
  chat.worker("w0").poison(whole[7]);
  const Stream& ended = chat.answer(chat.ask(prompt, 20, 6));
  EXPECT_EQ(ended.finish.reason, FinishReason::kError);
  EXPECT_EQ(ended.tokens, std::vector<int32_t>(whole.begin(), whole.begin() + 8));
  chat.expect_clean();
}

}  // namespace
}  // namespace shoal::testing
