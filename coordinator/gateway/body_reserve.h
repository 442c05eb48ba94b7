// Room for large request bodies: bounded in bytes and in number, for all clients together and for
// each of them, so that one client's uploads leave room for the others'.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>

namespace shoal::gateway {

class BodyReserve;

// What one body has of the reserve; given back when this is destroyed, or before. Thread-safe.
class BodyHold {
 public:
  BodyHold(std::shared_ptr<BodyReserve> reserve, uint64_t client, uint64_t bytes)
      : reserve_(std::move(reserve)), client_(client), bytes_(bytes) {}
  ~BodyHold() { release(); }
  BodyHold(const BodyHold&) = delete;
  BodyHold& operator=(const BodyHold&) = delete;

  uint64_t bytes() const { return bytes_.load(); }
  bool grow(uint64_t bytes);  // to so many; false: there is no room. Not beside release().
  void release();

 private:
  const std::shared_ptr<BodyReserve> reserve_;
  const uint64_t client_;
  std::atomic<uint64_t> bytes_;
  std::atomic<bool> released_{false};
};

// Thread-safe.
class BodyReserve : public std::enable_shared_from_this<BodyReserve> {
 public:
  struct Limits {
    uint64_t bytes = 0, client_bytes = 0;
    size_t bodies = 0, client_bodies = 0;
  };
  explicit BodyReserve(const Limits& limits) : limits_(limits) {}

  // Null: there is no room, for anybody or for this client.
  std::shared_ptr<BodyHold> take(uint64_t client, uint64_t bytes);
  uint64_t bytes() const;

 private:
  friend class BodyHold;
  struct Use {
    uint64_t bytes = 0;
    size_t bodies = 0;
  };
  bool add(uint64_t client, uint64_t bytes, size_t bodies);
  void subtract(uint64_t client, uint64_t bytes);

  const Limits limits_;
  mutable std::mutex mutex_;  // guards the following
  Use all_;
  std::unordered_map<uint64_t, Use> clients_;  // those that hold something
};

}  // namespace shoal::gateway
