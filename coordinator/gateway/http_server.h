// An HTTP/1.1 server for a few thousand connections on a few threads. Every byte and every wait of
// a client is bounded; a client that leaves is noticed while its answer is being made.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/clock.h"
#include "base/status.h"
#include "coordinator/gateway/handler_pool.h"
#include "coordinator/gateway/http.h"

namespace shoal::gateway {

struct HttpServerOptions {
  std::string host = "127.0.0.1";  // an address or a name; "" or "0.0.0.0" and "::" are public
  uint16_t port = 8080;            // 0: any free port
  unsigned io_threads = 2;

  // Parsing and tokenizing. Large bodies have threads of their own that give way to all others, so
  // that they delay neither streams nor small requests.
  unsigned handler_threads = 2;
  unsigned large_handler_threads = 2;
  int large_handler_nice = 15;  // a thirtieth of a core where others want all of it

  size_t header_bytes = 16 << 10;  // more → 431
  size_t body_bytes = 8u << 20;    // more → 413
  size_t small_body_bytes = 64 << 10;
  // Of all larger bodies that are being received, wait or are being read; more → 503. One client
  // (a key, or an address where there are no keys) gets 1 / body_shares of it, one body at least.
  size_t total_body_bytes = 256u << 20;
  size_t large_bodies = 1024;
  size_t body_shares = 4;
  size_t outbound_bytes = 1u << 20;  // a stream whose unread part is longer is cut off

  // A new connection beyond this takes the place of the one that has waited for a request for
  // longest; where none waits it gets 503. Lowered to what the limit of open files allows …
  size_t max_connections = 2048;
  // … less these, which others need: workers, the control plane, model files, logs.
  size_t reserved_descriptors = 96;

  Duration header_timeout = from_seconds(10);  // from a request's first byte to its last header
  Duration body_timeout = from_seconds(60);    // for the whole body
  Duration idle_timeout = from_seconds(75);    // between requests
  Duration write_timeout = from_seconds(30);   // without the client taking a byte

  // An exception in the server's own code ended a connection. Any thread; may be empty.
  std::function<void()> on_fault;
};

struct HttpServerState {
  bool draining = false;
  size_t connections = 0, max_connections = 0;
  uint64_t large_body_bytes = 0;
  PoolState small_pool, large_pool;  // requests by the size of their bodies
};

// Thread-safe once it serves.
class HttpServer {
 public:
  // Listens, or says why it cannot; connections wait until serve().
  static Result<std::unique_ptr<HttpServer>> listen(const HttpServerOptions& options);
  // Once. `service` outlives the server.
  void serve(HttpService& service);
  // Both.
  static Result<std::unique_ptr<HttpServer>> start(const HttpServerOptions& options,
                                                   HttpService& service);
  ~HttpServer();  // drain({})
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  uint16_t port() const;
  HttpServerState state() const;

  struct Drain {
    Duration limit = Duration::zero();
    // Set by anybody: the limit is now. May be null.
    const std::atomic<bool>* hurry = nullptr;
    // Ends what still runs at the limit: streams are to get their last event. May be empty.
    std::function<void()> at_limit;
  };
  // Takes no new work but goes on listening and answering, on connections new and old (the
  // service's judge() decides what), and lets requests in progress end; after `limit` those get a
  // second to say why they do not. Then closes everything. Blocks until done; returns how many
  // requests had not ended at the limit.
  size_t drain(const Drain& how);

 private:
  class Impl;
  explicit HttpServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace shoal::gateway
