#include "wire/address_rotation.h"

#include <algorithm>
#include <utility>

namespace shoal::wire {

const std::string& AddressRotation::current() const {
  static const std::string none;
  return addresses_.empty() ? none : addresses_[index_];
}

bool AddressRotation::replace(std::vector<std::string> addresses) {
  const std::string before = current();
  addresses_ = std::move(addresses);
  const auto found = std::find(addresses_.begin(), addresses_.end(), before);
  index_ = found == addresses_.end() ? 0 : static_cast<size_t>(found - addresses_.begin());
  if (current() == before) return false;
  connected_ = false;
  return true;
}

void AddressRotation::succeeded() {
  connected_ = true;
  kept_ = true;
  failed_ = false;
  pause_ = lookup_pause_ = kFirstPause;
}

void AddressRotation::failed() {
  connected_ = false;
  failed_ = !std::exchange(kept_, false);
}

bool AddressRotation::advance(TimePoint now) {
  if (!failed_ || addresses_.empty() || now < next_) return false;
  failed_ = false;
  index_ = (index_ + 1) % addresses_.size();
  if (index_ == 0) {
    round_over_ = true;
    pause_ = std::min(2 * pause_, kLongestPause);
  }
  next_ = now + pause_;
  return addresses_.size() > 1;
}

bool AddressRotation::wants_lookup(TimePoint now) {
  if ((!round_over_ && !addresses_.empty()) || now < next_lookup_) return false;
  round_over_ = false;
  next_lookup_ = now + lookup_pause_;
  lookup_pause_ = std::min(2 * lookup_pause_, kLongestPause);
  return true;
}

}  // namespace shoal::wire
