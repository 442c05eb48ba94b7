// The rendezvous store over a link, with the coordinator's part played by the test.
#include "worker/store_client.h"

#include <gtest/gtest.h>

#include <future>

#include "wire/memory_link.h"

namespace shoal {
namespace {

using namespace std::chrono_literals;

class StoreClientTest : public ::testing::Test {
 protected:
  TimePoint soon(Duration limit = 20s) { return clock.now() + limit; }
  template <class M>
  M next() {
    for (const TimePoint end = soon(); clock.now() < end;) {
      const auto incoming = network.coordinator().receive(10ms);
      if (!incoming) continue;
      if (const auto* message = std::get_if<M>(&incoming->message)) return *message;
    }
    ADD_FAILURE() << "no message";
    return {};
  }
  std::future<Result<std::string>> get(const std::string& key, TimePoint deadline) {
    return std::async(std::launch::async, [=, this] { return store.get(key, deadline); });
  }

  SteadyClock clock;
  wire::MemoryNetwork network{clock, {.blocking = true}};
  std::unique_ptr<wire::WorkerLink> link = network.connect("w0");
  StoreClient store{*link};
};

TEST_F(StoreClientTest, SetTellsTheCoordinator) {
  store.begin_epoch(5);
  ASSERT_TRUE(store.set("rank0", "10.0.0.1:1").is_ok());
  const auto set = next<wire::StoreSet>();
  EXPECT_EQ(set.epoch, 5u);
  EXPECT_EQ(set.key, "rank0");
  EXPECT_EQ(set.value, "10.0.0.1:1");
}

TEST_F(StoreClientTest, GetAsksAndWaits) {
  store.begin_epoch(5);
  auto value = get("rank1", soon());
  EXPECT_EQ(next<wire::StoreGet>().key, "rank1");
  store.deliver({4, "rank1", "of an old epoch"});
  store.deliver({5, "rank2", "another key"});
  EXPECT_EQ(value.wait_for(50ms), std::future_status::timeout);
  store.deliver({5, "rank1", "10.0.0.2:1"});
  EXPECT_EQ(value.get().value(), "10.0.0.2:1");
  EXPECT_EQ(store.get("rank1", clock.now()).value(), "10.0.0.2:1") << "known: nobody is asked";
}

TEST_F(StoreClientTest, GetEndsAtItsDeadline) {
  store.begin_epoch(5);
  const auto value = store.get("rank1", soon(20ms));
  EXPECT_EQ(value.status().code(), Code::kDeadlineExceeded);
  EXPECT_NE(value.status().message().find("no peer published 'rank1'"), std::string::npos)
      << value.status().message();
}

TEST_F(StoreClientTest, GetEndsWhenItsPlanDoes) {
  for (const bool cancels : {true, false}) {
    store.begin_epoch(cancels ? 1 : 3);
    auto value = get("rank1", soon());
    next<wire::StoreGet>();
    store.cancel(99);  // of another: nothing
    EXPECT_EQ(value.wait_for(20ms), std::future_status::timeout);
    if (cancels) store.cancel(1);
    if (!cancels) store.begin_epoch(4);
    EXPECT_EQ(value.get().status().code(), Code::kCancelled) << cancels;
  }
}

}  // namespace
}  // namespace shoal
