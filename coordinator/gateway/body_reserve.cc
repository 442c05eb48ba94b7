#include "coordinator/gateway/body_reserve.h"

namespace shoal::gateway {

bool BodyHold::grow(uint64_t bytes) {
  const uint64_t now = bytes_.load();
  if (bytes <= now) return true;
  if (!reserve_->add(client_, bytes - now, 0)) return false;
  bytes_.store(bytes);
  return true;
}

void BodyHold::release() {
  if (!released_.exchange(true)) reserve_->subtract(client_, bytes_.load());
}

std::shared_ptr<BodyHold> BodyReserve::take(uint64_t client, uint64_t bytes) {
  if (!add(client, bytes, 1)) return nullptr;
  return std::make_shared<BodyHold>(shared_from_this(), client, bytes);
}

uint64_t BodyReserve::bytes() const {
  const std::lock_guard lock(mutex_);
  return all_.bytes;
}

bool BodyReserve::add(uint64_t client, uint64_t bytes, size_t bodies) {
  const std::lock_guard lock(mutex_);
  const auto found = clients_.find(client);
  const Use used = found == clients_.end() ? Use{} : found->second;
  if (bytes > limits_.bytes - all_.bytes || bytes > limits_.client_bytes - used.bytes ||
      bodies > limits_.bodies - all_.bodies || bodies > limits_.client_bodies - used.bodies) {
    return false;
  }
  all_ = {all_.bytes + bytes, all_.bodies + bodies};
  clients_[client] = {used.bytes + bytes, used.bodies + bodies};
  return true;
}

void BodyReserve::subtract(uint64_t client, uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  Use& used = clients_[client];
  used.bytes -= bytes;
  all_.bytes -= bytes;
  --all_.bodies;
  if (--used.bodies == 0) clients_.erase(client);
}

}  // namespace shoal::gateway
