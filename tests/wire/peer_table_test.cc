#include "wire/peer_table.h"

#include <gtest/gtest.h>

namespace shoal::wire {
namespace {

EnvelopeInfo envelope(uint64_t incarnation, uint64_t sequence, uint64_t acknowledged = 0) {
  return {kProtocolVersion, "c", incarnation, sequence, acknowledged};
}

constexpr const char* kA1 = "a#0000000000000001";

TEST(PeerTable, ReconnectingKeepsTheIdAndForgetsWhatWasLost) {
  PeerTable table({1000, 3});
  ASSERT_TRUE(table.arrived("r1", "a", 10, envelope(1, 1)).is_ok());
  PeerTable::Peer* peer = table.find_for_sending(kA1, 10).value();
  table.sent(*peer, 600);
  EXPECT_EQ(table.find_for_sending(kA1, 500).status().code(), Code::kResourceExhausted);
  EXPECT_EQ(table.closed(10), kA1);
  EXPECT_EQ(table.find_for_sending(kA1, 1).status().code(), Code::kUnavailable);
  EXPECT_EQ(table.closed(10), std::nullopt) << "once";
  ASSERT_TRUE(table.arrived("r2", "a", 10, envelope(1, 2)).is_ok());
  EXPECT_TRUE(table.find_for_sending(kA1, 500).is_ok()) << "the lost bytes are not owed";
  EXPECT_EQ(table.find_for_sending(kA1, 0).value()->sent, 1u) << "sequences go on";
}

TEST(PeerTable, ANewConnectionBeforeTheOldOneEnds) {
  PeerTable table({1000, 3});
  ASSERT_TRUE(table.arrived("r1", "a", 10, envelope(1, 1)).is_ok());
  ASSERT_TRUE(table.arrived("r2", "a", 11, envelope(1, 2)).is_ok());
  EXPECT_EQ(table.closed(10), std::nullopt) << "the peer has the newer one";
  EXPECT_EQ(table.find_for_sending(kA1, 0).value()->routing, "r2");
  EXPECT_EQ(table.closed(11), kA1);
}

TEST(PeerTable, LateFramesOfAClosedConnectionCountButDoNotRevive) {
  PeerTable table({1000, 3});
  ASSERT_TRUE(table.arrived("r1", "a", 10, envelope(1, 1)).is_ok());
  EXPECT_EQ(table.closed(10), kA1);
  EXPECT_TRUE(table.arrived("r1", "a", 10, envelope(1, 2)).is_ok());
  EXPECT_EQ(table.find_for_sending(kA1, 0).status().code(), Code::kUnavailable);
  EXPECT_EQ(table.connections(), 0u);
  EXPECT_FALSE(table.misbehaved("r1", "a", 10));
}

TEST(PeerTable, ADescriptorThatIsUsedAgainBelongsToTheNewConnection) {
  PeerTable table({1000, 3});
  ASSERT_TRUE(table.arrived("r1", "a", 10, envelope(1, 1)).is_ok());
  ASSERT_TRUE(table.arrived("r2", "b", 10, envelope(2, 1)).is_ok());
  EXPECT_EQ(table.find_for_sending(kA1, 0).status().code(), Code::kUnavailable);
  EXPECT_EQ(table.closed(10), "b#0000000000000002");
}

TEST(PeerTable, SequencesMustGrow) {
  PeerTable table({1000, 3});
  ASSERT_TRUE(table.arrived("r1", "a", 10, envelope(1, 5)).is_ok());
  EXPECT_EQ(table.arrived("r1", "a", 10, envelope(1, 5)).status().code(), Code::kDataLoss);
  EXPECT_EQ(table.arrived("r1", "a", 10, envelope(1, 4)).status().code(), Code::kDataLoss);
  EXPECT_TRUE(table.arrived("r1", "a", 10, envelope(1, 9)).is_ok());
}

TEST(PeerTable, AcknowledgementsGiveCredit) {
  PeerTable table({1000, 3});
  ASSERT_TRUE(table.arrived("r1", "a", 10, envelope(1, 1)).is_ok());
  for (int i = 0; i < 3; ++i) {
    PeerTable::Peer* peer = table.find_for_sending(kA1, 1).value();
    table.sent(*peer, 1);
  }
  EXPECT_EQ(table.find_for_sending(kA1, 1).status().code(), Code::kResourceExhausted);
  ASSERT_TRUE(table.arrived("r1", "a", 10, envelope(1, 2, 99)).is_ok());
  EXPECT_EQ(table.find_for_sending(kA1, 1).status().code(), Code::kResourceExhausted)
      << "acknowledges what was never sent";
  ASSERT_TRUE(table.arrived("r1", "a", 10, envelope(1, 3, 2)).is_ok());
  PeerTable::Peer* peer = table.find_for_sending(kA1, 1).value();
  EXPECT_EQ(peer->outstanding.size(), 1u);
  EXPECT_EQ(peer->outstanding_bytes, 1u);
  EXPECT_EQ(table.find_for_sending(kA1, 1000).status().code(), Code::kResourceExhausted);
  ASSERT_TRUE(table.arrived("r1", "a", 10, envelope(1, 4, 3)).is_ok());
  EXPECT_TRUE(table.find_for_sending(kA1, 5000).is_ok()) << "one message may exceed the budget";
}

TEST(PeerTable, ASecondProcessOfAKeyTakesNothingFromTheFirst) {
  PeerTable table({1000, 3});
  ASSERT_TRUE(table.arrived("r1", "a", 10, envelope(1, 1)).is_ok());
  table.accept(kA1);
  const auto second = table.arrived("r2", "a", 11, envelope(2, 1));
  ASSERT_TRUE(second.is_ok());
  EXPECT_EQ(second->evicted_routing, "");
  EXPECT_EQ(table.find_for_sending(kA1, 0).value()->routing, "r1");
  EXPECT_EQ(table.find_for_sending("a#0000000000000002", 0).value()->routing, "r2");
  ASSERT_TRUE(table.arrived("r1", "a", 10, envelope(1, 2)).is_ok());
  EXPECT_EQ(table.closed(11), "a#0000000000000002");
  EXPECT_EQ(table.find_for_sending(kA1, 0).value()->routing, "r1");
}

TEST(PeerTable, WhoeverWasQuietTheLongestMakesRoomButNeverTheAcceptedOne) {
  PeerTable table({1000, 3});
  const auto arrive = [&](uint64_t process, uint64_t sequence) {
    auto arrival = table.arrived("r" + std::to_string(process), "a", 10 + static_cast<int>(process),
                                 envelope(process, sequence));
    EXPECT_TRUE(arrival.is_ok());
    return arrival->evicted_routing;
  };
  EXPECT_EQ(arrive(1, 1), "");
  table.accept(kA1);
  for (uint64_t process = 2; process <= 5; ++process) EXPECT_EQ(arrive(process, 1), "");
  EXPECT_EQ(arrive(2, 2), "") << "heard again";
  EXPECT_EQ(arrive(6, 1), "r3") << "the quietest candidate";
  EXPECT_TRUE(table.is_blocked("r3", "a"));
  EXPECT_EQ(table.arrived("r3", "a", 13, envelope(3, 2)).status().code(),
            Code::kFailedPrecondition);
  EXPECT_EQ(table.closed(14), "a#0000000000000004");
  EXPECT_EQ(arrive(7, 1), "") << "one without a connection goes first";
  EXPECT_TRUE(table.find_for_sending("a#0000000000000005", 0).is_ok());
  EXPECT_FALSE(table.find_for_sending("a#0000000000000004", 0).is_ok());
  EXPECT_TRUE(table.find_for_sending(kA1, 0).is_ok());
  // Another is accepted: from now on the first is a candidate like the others.
  table.accept("a#0000000000000007");
  table.accept("a#no such peer");
  for (uint64_t process = 8; process <= 11; ++process) (void)arrive(process, 1);
  EXPECT_FALSE(table.find_for_sending(kA1, 0).is_ok());
  EXPECT_TRUE(table.find_for_sending("a#0000000000000007", 0).is_ok());
  ASSERT_TRUE(table.arrived("b1", "b", 50, envelope(1, 1)).is_ok()) << "another key has its own";
  EXPECT_EQ(table.peers(), 2 + PeerTable::kMaxCandidates);
}

TEST(PeerTable, AConnectionSpeaksForOneProcess) {
  PeerTable table({1000, 3});
  ASSERT_TRUE(table.arrived("r1", "a", 10, envelope(1, 1)).is_ok());
  EXPECT_EQ(table.arrived("r1", "a", 10, envelope(2, 1)).status().code(), Code::kInvalidArgument);
  EXPECT_EQ(table.peers(), 1u);
}

TEST(PeerTable, AForgottenProcessIsSpokenToAboveWhatItHasTaken) {
  PeerTable table({1000, 3});
  ASSERT_TRUE(table.arrived("r1", "a", 10, envelope(1, 1, 500)).is_ok());
  EXPECT_EQ(table.find_for_sending(kA1, 0).value()->sent, 500u);
}

TEST(PeerTable, MisbehaviourIsCountedPerConnection) {
  PeerTable table({1000, 3});
  for (int i = 0; i < 7; ++i) EXPECT_FALSE(table.misbehaved("r1", "a", 10));
  EXPECT_TRUE(table.arrived("r1", "a", 10, envelope(1, 1)).is_ok());
  EXPECT_TRUE(table.misbehaved("r1", "a", 10)) << "the eighth";
  EXPECT_TRUE(table.is_blocked("r1", "a"));
  EXPECT_FALSE(table.misbehaved("r1", "a", 10)) << "reported once";
  EXPECT_FALSE(table.arrived("r1", "a", 10, envelope(1, 2)).is_ok());
  EXPECT_TRUE(table.arrived("r2", "a", 11, envelope(1, 3)).is_ok()) << "a new connection may try";
}

TEST(PeerTable, MemoryIsBoundedByKeysNotByConnections) {
  PeerTable table({1000, 3});
  for (uint64_t i = 1; i <= 5000; ++i) {
    ASSERT_TRUE(table.arrived("r" + std::to_string(i), "a", 10, envelope(i, 1)).is_ok());
  }
  EXPECT_EQ(table.connections(), 1u);
  EXPECT_EQ(table.peers(), PeerTable::kMaxCandidates);
}

}  // namespace
}  // namespace shoal::wire
