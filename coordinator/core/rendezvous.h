// The key/value store through which ranks of one plan epoch find each other (Gloo). Pure and
// bounded; a new epoch starts empty.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "base/status.h"
#include "coordinator/core/actions.h"
#include "wire/messages.h"

namespace shoal {

class Rendezvous {
 public:
  static constexpr uint64_t kMaxKeys = uint64_t{wire::kMaxWorld} * wire::kMaxWorld * 4;
  static constexpr uint64_t kMaxBytes = 64u << 20;
  static constexpr uint64_t kMaxWaiting = kMaxKeys;

  void begin(uint64_t epoch);
  uint64_t epoch() const { return epoch_; }
  // Stores a value (the first one wins: a second set of the same key with another value is an
  // error) and answers whoever waits for it. Other epochs are ignored.
  Status set(const wire::StoreSet& message, Actions& actions);
  Status get(const wire::PeerId& peer, const wire::StoreGet& message, Actions& actions);

 private:
  uint64_t epoch_ = 0;
  uint64_t bytes_ = 0;
  uint64_t waiting_count_ = 0;
  std::map<std::string, std::string> values_;
  std::map<std::string, std::vector<wire::PeerId>> waiting_;
};

}  // namespace shoal
