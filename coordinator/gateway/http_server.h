// An HTTP/1.1 server for a few thousand connections on a few threads. Every byte and every wait of
// a client is bounded; a client that leaves is noticed while its answer is being made.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "base/clock.h"
#include "base/status.h"
#include "coordinator/gateway/http.h"

namespace shoal::gateway {

struct HttpServerOptions {
  std::string host = "127.0.0.1";  // an address or a name; "" or "0.0.0.0" and "::" are public
  uint16_t port = 8080;            // 0: any free port
  unsigned io_threads = 2;
  unsigned handler_threads = 2;  // parsing and tokenizing, so that a long prompt delays no stream

  size_t header_bytes = 16 << 10;        // more → 431
  size_t body_bytes = 8u << 20;          // more → 413
  size_t total_body_bytes = 256u << 20;  // of all requests being received or answered; more → 503
  size_t outbound_bytes = 1u << 20;      // a stream whose unread part is longer is cut off
  // Lowered to what the limit of open files allows.
  size_t max_connections = 2048;  // more → 503

  Duration header_timeout = from_seconds(10);  // from a request's first byte to its last header
  Duration body_timeout = from_seconds(60);    // for the whole body
  Duration idle_timeout = from_seconds(75);    // between requests
  Duration write_timeout = from_seconds(30);   // without the client taking a byte
};

class HttpServer {
 public:
  // Listens, or says why it cannot. The handler is called from then on.
  static Result<std::unique_ptr<HttpServer>> start(const HttpServerOptions& options,
                                                   HttpHandler handler);
  ~HttpServer();  // drain(0)
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  uint16_t port() const;
  size_t connections() const;  // open ones

  // Stops listening, lets requests in progress end, closes idle connections; what is left after
  // `limit` is cut off. Blocks until done; returns how many requests were cut off.
  size_t drain(Duration limit);

 private:
  class Impl;
  explicit HttpServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Does binding to `host` keep others out? Names other than localhost count as public.
bool is_loopback_host(const std::string& host);

}  // namespace shoal::gateway
