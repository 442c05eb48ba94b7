// Which of a coordinator's addresses a worker tries: one after the other, each for as long as one
// attempt takes, with pauses that grow from round to round; after a round that reached nobody the
// name is looked up again. Pure: time comes with the calls. Not thread-safe.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "base/clock.h"

namespace shoal::wire {

class AddressRotation {
 public:
  // Between two attempts: of the first round, and at most.
  static constexpr Duration kFirstPause = std::chrono::milliseconds(100);
  static constexpr Duration kLongestPause = std::chrono::seconds(5);

  // Empty if there is no address yet.
  const std::string& current() const;
  bool connected() const { return connected_; }

  // What a look-up found. Where the address in use is among them it stays in use; else the first is
  // the current one. True: current() has changed.
  bool replace(std::vector<std::string> addresses);
  void succeeded();
  // An attempt at current(), or the connection that it was, has come to nothing.
  void failed();
  // After a failure, once its pause is over: the next address is current. True: it has changed.
  bool advance(TimePoint now);
  // A round has reached nobody since the last call, or there is no address; at most once a pause.
  bool wants_lookup(TimePoint now);

 private:
  std::vector<std::string> addresses_;
  size_t index_ = 0;
  bool connected_ = false;
  bool failed_ = false;
  bool kept_ = false;  // the next failure is a connection's end: the same address comes first again
  bool round_over_ = false;
  TimePoint next_{}, next_lookup_{};  // no other address, no look-up before
  Duration pause_ = kFirstPause, lookup_pause_ = kFirstPause;
};

}  // namespace shoal::wire
