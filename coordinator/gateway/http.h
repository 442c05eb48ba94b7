// What a handler sees of HTTP. No Boost in here: handlers and their tests compile without it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"

namespace shoal::gateway {

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

struct HttpRequest {
  std::string method;  // as sent; HEAD arrives as "GET" with head = true
  bool head = false;
  std::string path;     // percent-decoded, without the query
  std::string query;    // raw, without '?'
  HttpHeaders headers;  // names in lower case
  std::string body;
  std::string peer;  // IP address

  // The first value, or "". `name` in lower case.
  std::string_view header(std::string_view name) const;
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  HttpHeaders headers;  // others than Content-Type and Content-Length
  std::string body;
};

// The way back to one request's client. All methods are thread-safe and never block; what happens
// after the client has gone is dropped. Destroying the last reference without an answer sends 500.
class Exchange {
 public:
  virtual ~Exchange() = default;

  // Either one respond(), or start_stream(), write()…, finish().
  virtual void respond(HttpResponse response) = 0;
  virtual void start_stream(int status, std::string content_type, HttpHeaders headers) = 0;
  virtual void write(std::string chunk) = 0;
  virtual void finish() = 0;

  // Runs `task` on the connection's thread, in order, never beside another task of this connection.
  // Runs also when the client has gone.
  virtual void post(std::function<void()> task) = 0;
  // Calls `task` once as posted tasks are, if the client leaves, stalls or is cut off before the
  // answer is complete. At most one.
  virtual void on_gone(std::function<void()> task) = 0;
  // Calls `task` as posted tasks are after `delay`, unless the exchange is over by then. A new call
  // replaces the previous one.
  virtual void after(Duration delay, std::function<void()> task) = 0;
};

// Called on a pool thread, where it may compute (parse, tokenize); for GET on the connection's own
// thread, where it must not.
using HttpHandler =
    std::function<void(std::shared_ptr<const HttpRequest>, std::shared_ptr<Exchange>)>;

std::string_view status_text(int status);
// "%41+b" → "A+b"; an invalid escape stays as it is.
std::string percent_decode(std::string_view text);

}  // namespace shoal::gateway
