// Owners for libzmq's handles and the few calls the links make; private to wire/ (includes zmq.h).
// Errors of libzmq become Status with the call's name; nothing throws.
#pragma once

#include <zmq.h>

#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/clock.h"
#include "base/status.h"

namespace shoal::wire {

Status zmq_status(std::string_view what);  // from errno

class ZmqContext {
 public:
  ZmqContext();
  ~ZmqContext();  // waits for its sockets' linger
  ZmqContext(const ZmqContext&) = delete;
  ZmqContext& operator=(const ZmqContext&) = delete;
  void* handle() const { return handle_; }

 private:
  void* handle_;
};

class ZmqSocket {
 public:
  ZmqSocket() = default;
  static Result<ZmqSocket> open(const ZmqContext& context, int type);
  ZmqSocket(ZmqSocket&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  ZmqSocket& operator=(ZmqSocket&& other) noexcept;
  ~ZmqSocket() { close(); }

  void close();
  void* handle() const { return handle_; }
  Status set(int option, int value, std::string_view name);
  Status set(int option, std::string_view value, std::string_view name);
  Result<int> get_int(int option, std::string_view name) const;
  std::string last_endpoint() const;
  // Whether a message can be received now; processes pending commands, as libzmq asks for after
  // its file descriptor was readable.
  bool readable() const;

 private:
  explicit ZmqSocket(void* handle) : handle_(handle) {}
  void* handle_ = nullptr;
};

// One frame. zmq_msg_t by value with a destructor.
class ZmqFrame {
 public:
  ZmqFrame() { zmq_msg_init(&msg_); }
  explicit ZmqFrame(std::string_view bytes);
  ~ZmqFrame() { zmq_msg_close(&msg_); }
  ZmqFrame(const ZmqFrame&) = delete;
  ZmqFrame& operator=(const ZmqFrame&) = delete;

  // False with errno EAGAIN: nothing there.
  bool receive(ZmqSocket& socket) {
    return zmq_msg_recv(&msg_, socket.handle(), ZMQ_DONTWAIT) >= 0;
  }
  std::string_view bytes() const {
    auto* msg = const_cast<zmq_msg_t*>(&msg_);
    return {static_cast<const char*>(zmq_msg_data(msg)), zmq_msg_size(msg)};
  }
  bool more() const { return zmq_msg_more(&msg_) != 0; }
  std::string property(const char* name) const;  // empty if absent
  int source_fd() const { return zmq_msg_get(&msg_, ZMQ_SRCFD); }
  zmq_msg_t* raw() { return &msg_; }

 private:
  zmq_msg_t msg_;
};

// Wakes a poll from any thread (an eventfd). set() is also safe in a signal handler.
class WakeUp {
 public:
  WakeUp();
  ~WakeUp();
  WakeUp(const WakeUp&) = delete;
  WakeUp& operator=(const WakeUp&) = delete;
  int fd() const { return fd_; }
  void set();
  bool clear();  // whether it was set

 private:
  int fd_;
};

// Connection events of a socket, read by the thread that owns the monitor.
class ZmqMonitor {
 public:
  struct Event {
    int what = 0;   // ZMQ_EVENT_…
    int value = 0;  // a file descriptor or an error code, by kind
  };
  ZmqMonitor() = default;
  ZmqMonitor(ZmqMonitor&& other) noexcept
      : watched_(std::exchange(other.watched_, nullptr)), pair_(std::move(other.pair_)) {}
  ZmqMonitor& operator=(ZmqMonitor&& other) noexcept;
  ~ZmqMonitor() { stop(); }
  // Watches `socket` for `events`; made before it binds or connects. `socket` must outlive the
  // monitor and stay where it is.
  static Result<ZmqMonitor> watch(const ZmqContext& context, ZmqSocket& socket, int events);
  std::optional<Event> next();  // never waits
  ZmqSocket& socket() { return pair_; }

 private:
  void stop();
  void* watched_ = nullptr;
  ZmqSocket pair_;
};

// Lets one line through per interval and counts what it kept back. Not thread-safe.
class LogLimiter {
 public:
  explicit LogLimiter(Duration interval) : interval_(interval) {}
  void warn(std::string_view message);

 private:
  const Duration interval_;
  TimePoint next_{};
  uint64_t kept_back_ = 0;
};

// Milliseconds for a poll: rounded up, so that a short wait does not become a busy loop.
int poll_milliseconds(Duration timeout);

// Options every CURVE socket of ours has: sizes, handshake and heartbeat intervals, linger.
Status set_common_options(ZmqSocket& socket);

}  // namespace shoal::wire
