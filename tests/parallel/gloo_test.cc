// What only Gloo can get wrong: options, the rendezvous, formation.
#include <gtest/gtest.h>

#include <thread>

#include "parallel/collective/collective.h"
#include "parallel/collective/data_address.h"
#include "parallel/collective/directory_store.h"
#include "tests/parallel/group.h"
#include "tests/support/support.h"

namespace shoal {
namespace {

using std::chrono::steady_clock;
using testing::in_seconds;
using testing::MemoryStore;

GlooOptions options_for(RendezvousStore& store, int rank, int world, double seconds) {
  GlooOptions options;
  options.address = "127.0.0.1";
  options.rank = rank;
  options.world = world;
  options.epoch = 1;
  options.store = &store;
  options.deadline = in_seconds(seconds);
  return options;
}

TEST(Gloo, BadOptionsAreRefused) {
  MemoryStore store;
  const auto refused = [&](auto change, const std::string& text) {
    GlooOptions options = options_for(store, 0, 2, 0.5);
    change(options);
    const Status status = make_gloo_collective(options).status();
    EXPECT_FALSE(status.is_ok()) << text;
    EXPECT_NE(status.message().find(text), std::string::npos) << status.to_string();
  };
  refused([](GlooOptions& o) { o.rank = 2; }, "rank 2 of 2");
  refused([](GlooOptions& o) { o.world = 0; }, "rank 0 of 0");
  refused([](GlooOptions& o) { o.address.clear(); }, "an interface or an address");
  refused([](GlooOptions& o) { o.interface = "lo"; }, "not both");
  refused([](GlooOptions& o) { o.address = "localhost:80"; }, "not a host");
  refused([](GlooOptions& o) { o.address = "198.51.100.7"; },
          "does not have address 198.51.100.7; it has: ");
  refused([](GlooOptions& o) { o.address.clear(), o.interface = "nosuch0"; },
          "no interface 'nosuch0'");
  refused([](GlooOptions& o) { o.store = nullptr; }, "store");
  refused([](GlooOptions& o) { o.deadline = in_seconds(-1); }, "deadline");
}

TEST(Gloo, BindsAnInterface) {
  MemoryStore store;
  // Members of both live until both have met: who leaves cuts the other off in its last operation.
  std::unique_ptr<Collective> members[2];
  testing::run_ranks(2, [&](int rank) {
    GlooOptions options = options_for(store, rank, 2, 10);
    options.address.clear();
    options.interface = "lo";
    auto made = make_gloo_collective(options);
    ASSERT_TRUE(made.is_ok()) << made.status().to_string();
    std::unique_ptr<Collective>& member = members[rank];
    member = std::move(made).value();
    EXPECT_EQ(member->engine(), "gloo");
    const Status met = member->barrier({1, in_seconds(10)});
    EXPECT_TRUE(met.is_ok()) << met.to_string();
  });
}

// A peer's values come from outside: sizes are checked before Gloo slices them.
class LyingStore final : public RendezvousStore {
 public:
  LyingStore(std::string key, std::string value) : key_(std::move(key)), value_(std::move(value)) {}
  Status set(const std::string&, const std::string&) override { return Status::ok(); }
  Result<std::string> get(const std::string& key, TimePoint) override {
    return key == key_ ? value_ : std::string("host");
  }

 private:
  std::string key_, value_;
};

TEST(Gloo, ValuesOfPeersAreBounded) {
  const struct {
    std::string key, value;
  } cases[] = {{"rank_0", std::string(100'000, 'x')},
               {"0", ""},
               {"0", "short"},
               {"0", std::string(1 << 20, 'x')}};
  for (const auto& c : cases) {
    LyingStore store(c.key, c.value);
    const Status status = make_gloo_collective(options_for(store, 1, 2, 5)).status();
    EXPECT_EQ(status.code(), Code::kDataLoss) << status.to_string();
    EXPECT_NE(status.message().find("'" + c.key + "'"), std::string::npos) << status.message();
  }
  // The right size, but no address in it.
  LyingStore store("0", std::string(136, '\0'));
  const Status status = make_gloo_collective(options_for(store, 1, 2, 1)).status();
  EXPECT_FALSE(status.is_ok());
}

class FailingStore final : public RendezvousStore {
 public:
  Status set(const std::string&, const std::string&) override {
    return unavailable("the control link is down");
  }
  Result<std::string> get(const std::string&, TimePoint) override { return cancelled("withdrawn"); }
};

TEST(Gloo, ErrorsOfTheStoreComeThrough) {
  FailingStore store;
  const Status status = make_gloo_collective(options_for(store, 0, 2, 5)).status();
  EXPECT_EQ(status.code(), Code::kUnavailable);
  EXPECT_NE(status.message().find("the control link is down"), std::string::npos);
}

TEST(Gloo, AbsentPeersCostTheDeadlineOnly) {
  MemoryStore store;
  const TimePoint start = steady_clock::now();
  const Status status = make_gloo_collective(options_for(store, 0, 3, 0.5)).status();
  EXPECT_EQ(status.code(), Code::kDeadlineExceeded) << status.to_string();
  EXPECT_LT(to_seconds(steady_clock::now() - start), 1.5);
}

// A plan that is withdrawn while its group forms must not hold the worker until the deadline.
TEST(Gloo, AWithdrawnGroupStopsWaiting) {
  std::atomic<bool> stop{false};
  struct Store final : RendezvousStore {  // a worker cancels its store along with the group
    explicit Store(const std::atomic<bool>& s) : stopped(s) {}
    Status set(const std::string&, const std::string&) override { return Status::ok(); }
    Result<std::string> get(const std::string&, TimePoint deadline) override {
      while (!stopped.load() && steady_clock::now() < deadline) {
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
      }
      return cancelled("the store was cancelled");
    }
    const std::atomic<bool>& stopped;
  } store(stop);
  GlooOptions options = options_for(store, 0, 3, 20);
  options.stop = &stop;
  std::thread later([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    stop.store(true);
  });
  const TimePoint start = steady_clock::now();
  EXPECT_EQ(make_gloo_collective(options).status().code(), Code::kCancelled);
  EXPECT_LT(to_seconds(steady_clock::now() - start), 2);
  later.join();
}

TEST(Shm, AWithdrawnGroupStopsWaiting) {
  for (const int rank : {0, 1}) {
    std::atomic<bool> stop{false};
    ShmOptions options;
    options.name = "/shoal.test.withdrawn";
    options.rank = rank;
    options.world = 2;
    options.epoch = 1;
    options.deadline = steady_clock::now() + std::chrono::seconds(20);
    options.stop = &stop;
    std::thread later([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(200));
      stop.store(true);
    });
    const TimePoint start = steady_clock::now();
    EXPECT_EQ(make_shm_collective(options).status().code(), Code::kCancelled);
    EXPECT_LT(to_seconds(steady_clock::now() - start), 2);
    later.join();
  }
}

// A peer that published its address and went away before connecting.
TEST(Gloo, VanishedPeerCostsTheDeadlineOnly) {
  MemoryStore store;
  EXPECT_FALSE(make_gloo_collective(options_for(store, 1, 3, 0.3)).is_ok());
  const TimePoint start = steady_clock::now();
  EXPECT_FALSE(make_gloo_collective(options_for(store, 0, 3, 0.8)).is_ok());
  EXPECT_LT(to_seconds(steady_clock::now() - start), 2);
}

TEST(Gloo, GroupsOneAfterTheOther) {
  for (int round = 0; round < 8; ++round) {
    auto members = testing::make_group({testing::Engine::kGloo, 3, 7, 0});
    ASSERT_EQ(members.size(), 3u);
    testing::run_ranks(3, [&](int rank) {
      float x = 1;
      EXPECT_TRUE(
          members[static_cast<size_t>(rank)]->all_reduce_sum(&x, 1, {7, in_seconds(10)}).is_ok());
      EXPECT_EQ(x, 3.0f);
      // Leaves at once: what it sent last must still arrive.
      members[static_cast<size_t>(rank)].reset();
    });
  }
}

TEST(DataAddress, PublicOnesNeedConsent) {
  for (const char* address :
       {"127.0.0.1", "127.9.9.9", "10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255",
        "192.168.1.1", "100.64.0.1", "169.254.1.1", "::1", "fd00::1", "fe80::1"}) {
    EXPECT_FALSE(is_public_address(address)) << address;
  }
  for (const char* address : {"8.8.8.8", "172.15.0.1", "172.32.0.1", "192.169.0.1", "100.128.0.1",
                              "11.0.0.0", "0.0.0.0", "2001:db8::1", "::", "not an address"}) {
    EXPECT_TRUE(is_public_address(address)) << address;
  }
  EXPECT_EQ(*resolve_data_address("", "127.0.0.1", false), "127.0.0.1");
  EXPECT_EQ(*resolve_data_address("lo", "", false), "127.0.0.1");
  EXPECT_EQ(*resolve_data_address("", "localhost", false), "127.0.0.1");
  EXPECT_EQ(*resolve_data_address("", "::ffff:127.0.0.2", false), "127.0.0.2");
  for (const char* bad : {"0.0.0.0", "::", "203.0.113.7", "fe80::1%lo", "10.0.0.1:80", "a b"}) {
    EXPECT_FALSE(resolve_data_address("", bad, true).is_ok()) << bad;
  }
}

TEST(DirectoryStore, KeysAndDeadline) {
  testing::TempDir directory;
  DirectoryStore store(directory.path());
  const std::string value("a\0b", 3);
  EXPECT_TRUE(store.set("rank_0", value).is_ok());
  EXPECT_EQ(*store.get("rank_0", in_seconds(1)), value);
  EXPECT_TRUE(store.set("rank_0", "new").is_ok());
  EXPECT_EQ(*store.get("rank_0", in_seconds(1)), "new");
  EXPECT_EQ(store.get("1", in_seconds(0.05)).status().code(), Code::kDeadlineExceeded);
  for (const char* bad : {"", "../x", "a/b", ".hidden"}) {
    EXPECT_EQ(store.set(bad, "").code(), Code::kInvalidArgument) << bad;
    EXPECT_EQ(store.get(bad, in_seconds(1)).status().code(), Code::kInvalidArgument) << bad;
  }
}

}  // namespace
}  // namespace shoal
