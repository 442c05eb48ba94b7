// The ZAP handler (ZeroMQ RFC 27): decides who may connect to a CURVE socket of its context.
// Without one, libzmq admits every client that knows the server's public key.
//
// Answers on a thread of its own, before any socket binds. Admits exactly the public keys of its
// list; the worker's name becomes the connection's "User-Id", which no peer can choose.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/status.h"

namespace shoal::wire {

class WakeUp;
class ZmqContext;
class ZmqSocket;

inline constexpr const char* kZapDomain = "shoal";

class ZapServer {
 public:
  // `allowed`: public key (Z85) → worker name; checked with check_public_key and
  // check_worker_name. `context` outlives the server and must have no other ZAP handler.
  static Result<std::unique_ptr<ZapServer>> start(
      const ZmqContext& context, const std::map<std::string, std::string>& allowed);
  ~ZapServer();  // stop()

  // Replaces the list; connections already admitted stay. Thread-safe.
  Status set_allowed(const std::map<std::string, std::string>& allowed);
  // From now on nobody new is admitted. Idempotent.
  void stop();
  // Connections refused so far. Thread-safe.
  uint64_t denied() const { return denied_.load(); }

 private:
  ZapServer();
  void serve();
  // The reply to one request: status code and text, user id.
  struct Verdict {
    std::string code, text, user;
  };
  Verdict judge(const std::vector<std::string>& request);

  std::unique_ptr<ZmqSocket> socket_;  // the thread's, while it runs
  std::unique_ptr<WakeUp> stop_;
  std::atomic<uint64_t> denied_{0};
  std::mutex mutex_;
  std::map<std::string, std::string> allowed_;  // guarded by mutex_
  std::thread thread_;
};

}  // namespace shoal::wire
