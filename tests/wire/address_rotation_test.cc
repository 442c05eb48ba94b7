#include "wire/address_rotation.h"

#include <gtest/gtest.h>

namespace shoal::wire {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class Rotation : public ::testing::Test {
 protected:
  // One attempt that fails, and whatever pause follows.
  void fail() {
    rotation_.failed();
    now_ += AddressRotation::kLongestPause;
    rotation_.advance(now_);
  }
  TimePoint now_{seconds(1000)};
  AddressRotation rotation_;
};

TEST_F(Rotation, OneAfterTheOtherAndAround) {
  EXPECT_EQ(rotation_.current(), "");
  EXPECT_TRUE(rotation_.replace({"::1", "10.0.0.1", "10.0.0.2"}));
  for (const char* address : {"::1", "10.0.0.1", "10.0.0.2", "::1", "10.0.0.1"}) {
    EXPECT_EQ(rotation_.current(), address);
    fail();
  }
}

TEST_F(Rotation, NoFasterThanItsPauses) {
  rotation_.replace({"a", "b"});
  int moves = 0;
  for (int i = 0; i < 60000; i += 10) {  // a minute of refusals at once
    rotation_.failed();
    moves += rotation_.advance(now_ + milliseconds(i));
  }
  EXPECT_GT(moves, 10);
  EXPECT_LT(moves, 40);
}

TEST_F(Rotation, ABrokenConnectionIsTriedAgainFirst) {
  rotation_.replace({"a", "b"});
  fail();
  ASSERT_EQ(rotation_.current(), "b");
  rotation_.succeeded();
  EXPECT_TRUE(rotation_.connected());
  fail();
  EXPECT_FALSE(rotation_.connected());
  EXPECT_EQ(rotation_.current(), "b");
  fail();
  EXPECT_EQ(rotation_.current(), "a");
}

TEST_F(Rotation, LooksUpAfterEachRoundAndWhileThereIsNothing) {
  EXPECT_TRUE(rotation_.wants_lookup(now_));
  EXPECT_FALSE(rotation_.wants_lookup(now_));  // paced
  EXPECT_TRUE(rotation_.wants_lookup(now_ + seconds(6)));
  now_ += seconds(60);
  rotation_.replace({"a", "b"});
  EXPECT_FALSE(rotation_.wants_lookup(now_));
  fail();
  EXPECT_FALSE(rotation_.wants_lookup(now_));
  fail();
  EXPECT_TRUE(rotation_.wants_lookup(now_));
  EXPECT_FALSE(rotation_.wants_lookup(now_ + seconds(60)));
}

TEST_F(Rotation, AnAddressThatIsStillThereStays) {
  rotation_.replace({"a", "b"});
  fail();
  EXPECT_FALSE(rotation_.replace({"c", "b"}));
  EXPECT_EQ(rotation_.current(), "b");
  EXPECT_TRUE(rotation_.replace({"c", "d"}));
  EXPECT_EQ(rotation_.current(), "c");
}

}  // namespace
}  // namespace shoal::wire
