// The prefix cache in its parts: keys, the pool's cached blocks and their eviction, the longest
// start for each kind of KV group, and the accounting of several groups together.
#include <gtest/gtest.h>

#include <numeric>
#include <set>

#include "base/rng.h"
#include "coordinator/core/kv_groups.h"
#include "tests/support/support.h"

namespace shoal {
namespace {

uint32_t last(std::span<const int32_t> tokens) { return static_cast<uint32_t>(tokens.size()) - 1; }

using Blocks = std::vector<uint32_t>;

std::vector<int32_t> tokens_of(size_t count, int32_t first = 0) {
  std::vector<int32_t> out(count);
  std::iota(out.begin(), out.end(), first);
  return out;
}

std::vector<BlockKey> keys_of(const std::vector<int32_t>& tokens, uint32_t block_tokens = 4,
                              const std::string& scope = "", uint64_t secret = 1) {
  std::vector<BlockKey> keys;
  BlockHasher(secret).extend(scope, tokens, block_tokens, &keys);
  return keys;
}

TEST(BlockHasher, NamesContentWithEverythingBeforeIt) {
  const auto keys = keys_of(tokens_of(11));
  ASSERT_EQ(keys.size(), 2u);  // full blocks only
  EXPECT_EQ(keys_of(tokens_of(8)), keys);
  EXPECT_NE(keys[0], keys[1]);
  // The same four tokens at another place, or behind others, are something else.
  std::vector<int32_t> other = tokens_of(8);
  other[0] = 99;
  EXPECT_NE(keys_of(other)[0], keys[0]);
  EXPECT_NE(keys_of(other)[1], keys[1]);
  EXPECT_EQ(keys_of({other.begin() + 4, other.end()})[0], keys_of(tokens_of(4, 4))[0]);
  EXPECT_NE(keys_of(tokens_of(4, 4))[0], keys[1]);
  // So is the same text of another API key, salt or process.
  EXPECT_NE(keys_of(tokens_of(8), 4, "1:")[0], keys[0]);
  EXPECT_NE(keys_of(tokens_of(8), 4, "1:")[1], keys[1]);
  EXPECT_NE(keys_of(tokens_of(8), 4, "1:"), keys_of(tokens_of(8), 4, "11:"));
  EXPECT_NE(keys_of(tokens_of(8), 4, "", 2)[0], keys[0]);
  // One token per block, and a block larger than a hash's own.
  EXPECT_EQ(keys_of(tokens_of(5), 1).size(), 5u);
  EXPECT_EQ(keys_of(tokens_of(2050), 1024).size(), 2u);
}

TEST(BlockHasher, ExtendsWhereItStopped) {
  std::vector<BlockKey> keys;
  const BlockHasher hasher(7);
  const auto tokens = tokens_of(30);
  for (size_t known = 0; known <= tokens.size(); ++known) {
    hasher.extend("s", std::span(tokens).first(known), 4, &keys);
    ASSERT_EQ(keys.size(), known / 4);
  }
  EXPECT_EQ(keys, keys_of(tokens, 4, "s", 7));
}

TEST(BlockPool, KeepsPublishedContentUntilItNeedsTheBlock) {
  const auto keys = keys_of(tokens_of(16));
  BlockPool pool(4);
  for (uint32_t b = 0; b < 3; ++b) EXPECT_EQ(pool.allocate(), b);
  pool.publish(0, keys[0]);
  pool.publish(1, keys[1]);
  EXPECT_EQ(pool.find(keys[0]), 0u);  // also while it is in use
  // The end of the chain first; block 2 was never full.
  pool.release(2);
  pool.release(1);
  pool.release(0);
  pool.check_invariants(0);
  EXPECT_EQ(pool.cached(), 2u);
  EXPECT_EQ(pool.available(), 4u);
  EXPECT_EQ(pool.used(), 0u);
  // Free blocks first.
  EXPECT_EQ(pool.allocate(), 2u);
  EXPECT_EQ(pool.allocate(), 3u);
  EXPECT_EQ(pool.evicted(), 0u);
  // Then the least recently used: the leaf before its parent.
  EXPECT_EQ(pool.allocate(), 1u);
  EXPECT_EQ(pool.evicted(), 1u);
  EXPECT_EQ(pool.find(keys[1]), std::nullopt);
  EXPECT_EQ(pool.find(keys[0]), 0u);
  EXPECT_EQ(pool.allocate(), 0u);
  EXPECT_EQ(pool.find(keys[0]), std::nullopt);
  EXPECT_EQ(pool.allocate(), std::nullopt);
  pool.check_invariants(4);
}

TEST(BlockPool, SharedBlocksAreCounted) {
  const auto keys = keys_of(tokens_of(8));
  BlockPool pool(2);
  EXPECT_EQ(pool.allocate(), 0u);
  pool.publish(0, keys[0]);
  pool.add_reference(0);
  pool.release(0);
  EXPECT_EQ(pool.references(0), 1u);
  EXPECT_EQ(pool.cached(), 0u);
  pool.release(0);
  EXPECT_EQ(pool.cached(), 1u);
  pool.add_reference(0);  // a hit
  EXPECT_EQ(pool.cached(), 0u);
  EXPECT_EQ(pool.used(), 1u);
  EXPECT_EQ(pool.allocate(), 1u);
  EXPECT_EQ(pool.allocate(), std::nullopt) << "a block in use was given away";
  EXPECT_EQ(pool.find(keys[0]), 0u);
  pool.check_invariants(2);
}

TEST(BlockPool, AHitMakesABlockTheMostRecentlyUsed) {
  const auto keys = keys_of(tokens_of(12));
  BlockPool pool(3);
  for (uint32_t b = 0; b < 3; ++b) {
    EXPECT_EQ(pool.allocate(), b);
    pool.publish(b, keys[b]);
  }
  for (const uint32_t b : {2u, 1u, 0u}) pool.release(b);
  pool.add_reference(2);
  pool.release(2);
  pool.add_reference(1);
  pool.release(1);
  Blocks order;
  while (const auto block = pool.allocate()) order.push_back(*block);
  EXPECT_EQ(order, Blocks({0, 2, 1}));
}

TEST(BlockPool, WhatASequencePassedGoesBeforeWhereOthersEnded) {
  const auto keys = keys_of(tokens_of(20));
  BlockPool pool(5);
  for (uint32_t b = 0; b < 5; ++b) {
    EXPECT_EQ(pool.allocate(), b);
    pool.publish(b, keys[b]);
  }
  pool.release(0);        // an end
  pool.release(1, true);  // passed
  pool.add_reference(1);  // found after all: worth as much as an end
  pool.release(1, true);
  pool.release(2, true);  // passed, in this order
  pool.release(3, true);
  pool.add_reference(4);  // shared while it is in use
  pool.release(4, true);
  pool.release(4, true);
  pool.check_invariants(0);
  Blocks order;
  while (const auto block = pool.allocate()) order.push_back(*block);
  EXPECT_EQ(order, Blocks({2, 3, 0, 1, 4}));
  // What was found once is new when it has new content.
  pool.publish(1, keys[1]);
  pool.publish(0, keys[0]);
  pool.release(0);
  pool.release(1, true);
  EXPECT_EQ(pool.allocate(), 1u);
  pool.check_invariants(4);
}

TEST(BlockPool, TwoThatComputedTheSame) {
  const auto keys = keys_of(tokens_of(16));
  BlockPool pool(4);
  for (uint32_t b = 0; b < 4; ++b) EXPECT_EQ(pool.allocate(), b);
  pool.publish(0, keys[0]);
  pool.publish(1, keys[0]);
  pool.publish(2, keys[1]);
  EXPECT_EQ(pool.find(keys[0]), 0u);
  pool.release(0);
  pool.release(2);
  // The copy's end makes the one that is found the most recently used, and frees the copy.
  pool.release(1);
  EXPECT_EQ(pool.cached(), 2u);
  EXPECT_EQ(pool.allocate(), 1u);
  EXPECT_EQ(pool.allocate(), 2u);
  EXPECT_EQ(pool.find(keys[0]), 0u);
  pool.check_invariants(3);
  // A copy outlives the one that was found and takes its place.
  pool.publish(1, keys[0]);
  EXPECT_EQ(pool.allocate(), 0u);
  EXPECT_EQ(pool.find(keys[0]), std::nullopt);
  pool.check_invariants(4);
  pool.release(1);
  EXPECT_EQ(pool.find(keys[0]), 1u);
  pool.check_invariants(3);
}

TEST(BlockPoolDeathTest, ContentNeverChanges) {
  const auto keys = keys_of(tokens_of(8));
  BlockPool pool(2);
  EXPECT_DEATH(pool.publish(0, keys[0]), "nobody holds");
  const uint32_t block = pool.allocate().value();
  pool.publish(block, keys[0]);
  pool.publish(block, keys[0]);  // once more is nothing new
  EXPECT_DEATH(pool.publish(block, keys[1]), "changed");
  EXPECT_DEATH(pool.add_reference(1), "free KV block");
}

TEST(KvRule, FirstVisible) {
  struct Case {
    KvRule rule;
    uint64_t position, first;
  };
  const Case cases[] = {
      {{0, 0}, 0, 0},   {{0, 0}, 1000, 0},   {{4, 0}, 0, 0},         {{4, 0}, 3, 0},
      {{4, 0}, 4, 1},   {{4, 0}, 1000, 997}, {{1, 0}, 7, 7},         {{0, 8}, 7, 0},
      {{0, 8}, 8, 8},   {{0, 8}, 15, 8},     {{4, 8}, 9, 8},         {{4, 8}, 15, 12},
      {{20, 8}, 15, 8}, {{0, 1}, 5, 5},      {{5, 0}, ~0u, ~0u - 4},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(c.rule.first_visible(c.position), c.first)
        << c.rule.window << " " << c.rule.chunk << " " << c.position;
  }
}

// `there`: one string per group, 'x' for a block that is cached.
uint64_t hit(std::vector<KvRule> rules, std::vector<std::string> there, uint64_t blocks = 100) {
  for (const std::string& each : there) blocks = std::min<uint64_t>(blocks, each.size());
  return longest_hit(rules, blocks, 4,
                     [&](size_t group, uint64_t block) { return there[group][block] == 'x'; });
}

TEST(LongestHit, Table) {
  constexpr KvRule kFull{};
  const auto window = [](uint32_t w) { return KvRule{w, 0}; };
  const auto chunk = [](uint32_t c) { return KvRule{0, c}; };
  EXPECT_EQ(hit({kFull}, {""}), 0u);
  EXPECT_EQ(hit({kFull}, {"xxxx"}), 4u);
  EXPECT_EQ(hit({kFull}, {"xxxx"}, 3), 3u);
  EXPECT_EQ(hit({kFull}, {"xx.x"}), 2u);
  EXPECT_EQ(hit({kFull}, {".xxx"}), 0u);
  // The last W − 1 positions before the start: none of W = 1, one block of W = 2 … 5, two of 6 … 9.
  EXPECT_EQ(hit({window(1)}, {"...."}), 4u);
  EXPECT_EQ(hit({window(2)}, {"...x"}), 4u);
  EXPECT_EQ(hit({window(5)}, {"...x"}), 4u);
  EXPECT_EQ(hit({window(6)}, {"...x"}), 0u);
  EXPECT_EQ(hit({window(6)}, {"..xx"}), 4u);
  EXPECT_EQ(hit({window(9)}, {"..xx"}), 4u);
  EXPECT_EQ(hit({window(10)}, {"..xx"}), 0u);
  // At the beginning there is less to see.
  EXPECT_EQ(hit({window(100)}, {"xxx"}), 3u);
  EXPECT_EQ(hit({window(100)}, {"x.x"}), 1u);
  EXPECT_EQ(hit({window(6)}, {"xx..xx"}), 6u);
  EXPECT_EQ(hit({window(6)}, {"xx..x."}), 2u);
  EXPECT_EQ(hit({window(6)}, {"x.x.x."}), 1u);
  EXPECT_EQ(hit({window(6)}, {".x.x.x"}), 0u);
  // From ⌊P/C⌋ · C: chunks of two blocks, of one and a half, of one, of less.
  EXPECT_EQ(hit({chunk(8)}, {"...."}), 4u);  // a chunk begins here
  EXPECT_EQ(hit({chunk(8)}, {"..x"}), 3u);
  EXPECT_EQ(hit({chunk(8)}, {"xx."}), 2u);
  EXPECT_EQ(hit({chunk(8)}, {"..."}), 2u);
  EXPECT_EQ(hit({chunk(6)}, {"..."}), 3u);  // 12 = 2 · 6
  EXPECT_EQ(hit({chunk(6)}, {".x"}), 2u);   // 8 sees 6, 7
  EXPECT_EQ(hit({chunk(6)}, {".."}), 0u);
  EXPECT_EQ(hit({chunk(6)}, {"..xx"}), 4u);  // 16 sees 12 … 15
  EXPECT_EQ(hit({chunk(6)}, {"..x."}), 3u);
  EXPECT_EQ(hit({chunk(4)}, {"..."}), 3u);
  EXPECT_EQ(hit({chunk(100)}, {"xx.x"}), 2u);
  EXPECT_EQ(hit({KvRule{5, 8}}, {"....x"}), 5u);
  // All groups have to agree.
  EXPECT_EQ(hit({kFull, window(5)}, {"xxxxx", "...xx"}), 5u);
  EXPECT_EQ(hit({kFull, window(5)}, {"xxxx.", "...xx"}), 4u);
  EXPECT_EQ(hit({kFull, window(5)}, {"xxx..", "...xx"}), 0u);
  EXPECT_EQ(hit({window(5), kFull, chunk(12)}, {"xxxxx", "xxxxx", "xx...."}), 3u);
  EXPECT_EQ(hit({window(5), window(9)}, {"x.xxx", "xxx.x"}), 3u);
}

TEST(LongestHit, AgreesWithTheDefinition) {
  Rng rng(shoal::testing::test_seed(5));
  for (int round = 0; round < 20000; ++round) {
    const size_t groups = 1 + rng.below(3);
    const uint64_t blocks = rng.below(12);
    const uint32_t block_tokens = static_cast<uint32_t>(1 + rng.below(6));
    std::vector<KvRule> rules(groups);
    std::vector<std::vector<bool>> there(groups);
    const uint64_t odds = 2 + rng.below(10);
    for (size_t g = 0; g < groups; ++g) {
      if (rng.below(3) > 0) rules[g].window = static_cast<uint32_t>(rng.below(20));
      if (rng.below(3) > 1) rules[g].chunk = static_cast<uint32_t>(rng.below(20));
      for (uint64_t b = 0; b < blocks; ++b) there[g].push_back(rng.below(odds) > 0);
    }
    uint64_t expected = 0;
    for (uint64_t b = 1; b <= blocks; ++b) {
      bool good = true;
      for (size_t g = 0; g < groups; ++g) {
        const uint64_t first = rules[g].first_visible(b * block_tokens);
        for (uint64_t p = first; p < b * block_tokens; ++p) good &= there[g][p / block_tokens];
      }
      if (good) expected = b;
    }
    std::set<std::pair<size_t, uint64_t>> asked;
    const uint64_t found = longest_hit(rules, blocks, block_tokens, [&](size_t g, uint64_t b) {
      EXPECT_TRUE(asked.emplace(g, b).second) << "looked up twice";
      return static_cast<bool>(there[g][b]);
    });
    ASSERT_EQ(found, expected) << "round " << round;
  }
}

// One sequence through KvGroups, as the scheduler drives it.
struct Driver {
  explicit Driver(KvGroupsOptions options, const Blocks& blocks) : kv(std::move(options)) {
    kv.begin(blocks);
  }
  // Computes all but the last of `tokens`, then ends. Returns where it started.
  uint32_t run(const std::vector<int32_t>& tokens, const std::string& scope = "",
               uint32_t rows = 4) {
    KvSequence sequence;
    sequence.scope = scope;
    const uint32_t start = kv.find_start(sequence, tokens, last(tokens));
    EXPECT_TRUE(kv.fits(sequence, tokens.size(), start, Blocks64(kv.groups(), 0)));
    kv.start(sequence, start);
    KvProgress progress{tokens, start, 0, start};
    while (progress.scheduled + 1 < tokens.size()) {
      ++step;
      uint64_t end = std::min<uint64_t>(progress.scheduled + rows, tokens.size() - 1);
      for (size_t g = 0; g < kv.groups(); ++g) {
        EXPECT_GT(kv.room(sequence, g, progress.scheduled), 0u);
        end = std::min(end, progress.scheduled + kv.room(sequence, g, progress.scheduled));
      }
      kv.extend(sequence, end);
      progress.scheduled = progress.covered = static_cast<uint32_t>(end);
      progress.last_step = step;
      kv.settle(sequence, progress);
      const std::pair<const KvSequence*, KvProgress> running[] = {{&sequence, progress}};
      kv.check_invariants(running);
      kv.returned(step);
      kv.check_invariants(running);
    }
    kv.give_back(sequence, progress);
    kv.check_invariants({});
    return start;
  }
  using Blocks64 = std::vector<uint64_t>;
  KvGroups kv;
  uint64_t step = 0;
};

KvGroupsOptions groups_of(std::vector<KvRule> rules) {
  return {.rules = std::move(rules), .block_tokens = 4, .rows_in_flight = 4, .secret = 3};
}

TEST(KvGroups, ASecondTurnStartsWhereTheFirstEnded) {
  struct Case {
    std::vector<KvRule> rules;
    Blocks blocks;
  };
  const Case cases[] = {
      {{{}}, {32}},
      {{{6, 0}}, {8}},
      {{{}, {6, 0}}, {32, 8}},
      {{{}, {0, 12}, {5, 0}}, {32, 8, 8}},
  };
  for (const Case& c : cases) {
    for (const size_t length : {1u, 4u, 5u, 8u, 9u, 30u, 33u, 50u}) {
      Driver driver(groups_of(c.rules), c.blocks);
      EXPECT_EQ(driver.run(tokens_of(length)), 0u);
      const uint32_t computed = static_cast<uint32_t>(length - 1) / 4 * 4;
      EXPECT_EQ(driver.run(tokens_of(length)), computed);
      EXPECT_EQ(driver.run(tokens_of(length + 7)), computed);
      EXPECT_EQ(driver.run(tokens_of(length + 7), "another"), 0u);
    }
  }
}

TEST(KvGroups, WhatNoRowSeesNeedNotBeThere) {
  // Chunks in every layer: what came before the last one changes nothing.
  Driver driver(groups_of({{0, 8}, {0, 12}}), {8, 8});
  EXPECT_EQ(driver.run(tokens_of(24)), 0u);
  EXPECT_EQ(driver.run(tokens_of(30), "another"), 24u);
}

TEST(KvGroups, WithoutTheCacheNothingIsKept) {
  KvGroupsOptions options = groups_of({{}});
  options.prefix_cache = false;
  Driver driver(options, {8});
  EXPECT_EQ(driver.run(tokens_of(20)), 0u);
  EXPECT_EQ(driver.run(tokens_of(20)), 0u);
  EXPECT_EQ(driver.kv.pool(0).cached(), 0u);
}

TEST(KvGroups, ANewEpochStartsEmpty) {
  Driver driver(groups_of({{}}), {8});
  driver.run(tokens_of(20));
  EXPECT_EQ(driver.kv.pool(0).cached(), 4u);
  driver.kv.end();
  driver.kv.begin(Blocks{8});
  driver.step = 0;
  EXPECT_EQ(driver.kv.pool(0).cached(), 0u);
  EXPECT_EQ(driver.run(tokens_of(20)), 0u);
}

TEST(KvGroups, AWindowGroupHoldsOnlyItsWindow) {
  // 100 positions in a pool of three blocks: a window of 6 spans two before the newest.
  Driver driver(groups_of({{6, 0}}), {3});
  EXPECT_EQ(driver.kv.max_positions() > 1000, true);
  EXPECT_EQ(driver.run(tokens_of(100)), 0u);
  EXPECT_EQ(driver.run(tokens_of(100)), 96u);
  // One less would not do.
  Driver small(groups_of({{6, 0}}), {2});
  EXPECT_EQ(small.kv.max_positions(), 8u);
  Driver both(groups_of({{6, 0}, {}}), {3, 5});
  EXPECT_EQ(both.kv.max_positions(), 20u);
}

TEST(KvGroups, TheOldestConversationIsForgottenFirstAndItsEndBeforeItsBeginning) {
  Driver driver(groups_of({{}}), {12});
  const auto a = tokens_of(21, 1000), b = tokens_of(21, 2000);  // five full blocks each
  driver.run(a);
  driver.run(b);
  driver.run(tokens_of(17, 3000));  // four blocks: two were free, two are a's last
  EXPECT_EQ(driver.kv.pool(0).evicted(), 2u);
  KvSequence sequence;
  EXPECT_EQ(driver.kv.find_start(sequence, a, last(a)), 12u);
  sequence = {};
  EXPECT_EQ(driver.kv.find_start(sequence, b, last(b)), 20u);
}

TEST(KvGroups, ALongPromptInAWindowGroupLeavesOtherConversationsAlone) {
  Driver driver(groups_of({{9, 0}}), {12});
  const auto chat = tokens_of(41, 1000);
  driver.run(chat);
  driver.run(tokens_of(400, 5000));
  EXPECT_GT(driver.kv.pool(0).evicted(), 80u);
  KvSequence sequence;
  EXPECT_EQ(driver.kv.find_start(sequence, chat, last(chat)), 40u);
}

TEST(KvGroups, WhatIsSharedCostsNothingMore) {
  Driver driver(groups_of({{}}), {8});
  const auto tokens = tokens_of(22);
  KvSequence first, second;
  driver.kv.start(first, driver.kv.find_start(first, tokens, last(tokens)));
  driver.kv.extend(first, 22);
  KvProgress progress{tokens, 22, 1, 22};
  driver.kv.settle(first, progress);
  EXPECT_EQ(driver.kv.pool(0).used(), 6u);
  const uint32_t start = driver.kv.find_start(second, tokens, last(tokens));
  EXPECT_EQ(start, 20u);
  EXPECT_TRUE(driver.kv.fits(second, 22, start, std::vector<uint64_t>{1}));
  EXPECT_FALSE(driver.kv.fits(second, 22, start, std::vector<uint64_t>{2}));
  driver.kv.start(second, start);
  driver.kv.extend(second, 22);
  EXPECT_EQ(driver.kv.pool(0).used(), 7u);
  std::vector<wire::BlockAppend> appended;
  driver.kv.announce(second, 9, &appended);
  ASSERT_EQ(appended.size(), 1u);
  EXPECT_EQ(appended[0].slot, 9u);
  EXPECT_EQ(appended[0].blocks, Blocks({0, 1, 2, 3, 4, 6}));
  driver.kv.announce(second, 9, &appended);
  EXPECT_EQ(appended.size(), 1u) << "announced twice";
  // The first one's end leaves the other's blocks alone.
  driver.kv.returned(1);
  driver.kv.give_back(first, progress);
  EXPECT_EQ(driver.kv.pool(0).used(), 6u);
  EXPECT_EQ(driver.kv.pool(0).cached(), 0u);
}

TEST(KvGroups, BlocksOfStepsInFlightComeBackWithThem) {
  Driver driver(groups_of({{}, {5, 0}}), {8, 8});
  const auto tokens = tokens_of(30);
  KvSequence sequence;
  driver.kv.start(sequence, 0);
  driver.kv.extend(sequence, 12);
  driver.kv.settle(sequence, {tokens, 12, 1});
  EXPECT_EQ(driver.kv.pool(1).used(), 3u);  // two are out of sight, but step 1 reads them
  EXPECT_TRUE(driver.kv.expects(1));
  EXPECT_FALSE(driver.kv.expects(0));
  driver.kv.extend(sequence, 13);
  driver.kv.settle(sequence, {tokens, 13, 2});
  driver.kv.returned(1);
  EXPECT_EQ(driver.kv.pool(1).used(), 2u);
  EXPECT_EQ(driver.kv.pool(1).cached(), 2u);
  driver.kv.give_back(sequence, {tokens, 13, 2});
  EXPECT_EQ(driver.kv.pool(0).used(), 4u);
  EXPECT_TRUE(driver.kv.expects(0));
  driver.kv.returned(2);
  EXPECT_EQ(driver.kv.pool(0).used(), 0u);
  EXPECT_EQ(driver.kv.pool(0).cached(), 3u);
  driver.kv.check_invariants({});
}

TEST(KvGroups, TokensTheCoordinatorDoesNotKnowYetAreNotPublished) {
  Driver driver(groups_of({{}, {1, 0}}), {8, 8});
  auto tokens = tokens_of(6);
  KvSequence sequence;
  driver.kv.start(sequence, 0);
  driver.kv.extend(sequence, 9);  // rows 6 … 8 are samples on their way
  driver.kv.settle(sequence, {tokens, 9, 1});
  KvSequence other;
  EXPECT_EQ(driver.kv.find_start(other, tokens_of(20), 19), 4u);
  // A window of one would be gone, but then its content would be lost unnamed.
  EXPECT_EQ(driver.kv.pool(1).used(), 3u);
  for (const int32_t token : {6, 7}) tokens.push_back(token);
  driver.kv.settle(sequence, {tokens, 9, 1});
  EXPECT_EQ(driver.kv.find_start(other, tokens_of(20), 19), 8u);
  driver.kv.give_back(sequence, {tokens, 9, 1});
}

TEST(PeakBlocks, Table) {
  // positions, rows, block 4
  EXPECT_EQ(peak_blocks({}, 100, 1, 4), 25u);
  EXPECT_EQ(peak_blocks({}, 101, 64, 4), 26u);
  EXPECT_EQ(peak_blocks({1, 0}, 100, 1, 4), 1u);
  EXPECT_EQ(peak_blocks({2, 0}, 100, 1, 4), 2u);
  EXPECT_EQ(peak_blocks({5, 0}, 100, 1, 4), 2u);
  EXPECT_EQ(peak_blocks({6, 0}, 100, 1, 4), 3u);
  EXPECT_EQ(peak_blocks({6, 0}, 5, 1, 4), 2u);
  EXPECT_EQ(peak_blocks({6, 0}, 100, 2, 4), 4u);
  EXPECT_EQ(peak_blocks({6, 0}, 100, 5, 4), 4u);
  EXPECT_EQ(peak_blocks({0, 8}, 100, 1, 4), 3u);
  EXPECT_EQ(peak_blocks({6, 8}, 100, 1, 4), 3u);
}

}  // namespace
}  // namespace shoal
