// What a handler sees of HTTP. No Boost in here: handlers and their tests compile without it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"

namespace shoal::gateway {

using HttpHeaders = std::vector<std::pair<std::string, std::string>>;

// What was found out about a request while only its head was there.
struct HttpTicket {
  size_t route = 0;                      // the service's own number
  std::string_view route_name = "none";  // for metrics; lives as long as the program
  std::optional<size_t> key;  // number of the API key; 0 without keys, nothing: none given
  std::string request_id;     // the client's own, or one made for it
  bool clients_id = false;    // the former
};

// The path that is meant: clients join base URLs with slashes of their own. "/v1//models/" is
// "/v1/models".
std::string plain_path(std::string_view path);

struct HttpRequest {
  std::string method;  // as sent; HEAD arrives as "GET" with head = true
  bool head = false;
  std::string path;     // percent-decoded, without the query
  std::string query;    // raw, without '?'
  HttpHeaders headers;  // names in lower case
  std::string body;
  std::string peer;  // IP address
  HttpTicket ticket;
  std::shared_ptr<const void> hold;  // the body's part of what all bodies may take

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
  // For the record of this request: tokens of its prompts, and those generated for it so far.
  virtual void note_tokens(uint64_t prompt, uint64_t generated) = 0;

  // Runs `task` on the connection's thread, in order, never beside another task of this connection.
  // Runs also when the client has gone.
  virtual void post(std::function<void()> task) = 0;
  // Calls `task` once as posted tasks are, if the client leaves, stalls or is cut off before the
  // answer is complete. At most one.
  virtual void on_gone(std::function<void()> task) = 0;
  // Calls `task` as posted tasks are after `delay`, unless the exchange is over by then. A new call
  // replaces the previous one.
  virtual void after(Duration delay, std::function<void()> task) = 0;
  // Has the client gone? Whoever computes for long asks now and then and stops.
  virtual bool gone() const = 0;
};

// Why a request, or a connection, did not get to a handler. Labels of a metric.
enum class HttpRefusal {
  kMalformed,        // 400
  kUnsupported,      // 417, 501, 505
  kHeadersTooLarge,  // 431
  kBodyTooLarge,     // 413
  kTimeout,          // 408
  kUnauthorized,     // 401
  kNoRoute,          // 404, 405
  kDraining,         // 503
  kLargeBodies,      // 503: no room for another large body, of this client or at all
  kBusy,             // 503: too much waits to be parsed
  kConnections,      // 503 or closed: too many connections
  kDescriptors,      // not accepted: no file descriptor is left
  kIdleClosed,       // waited without a request for longest; closed to make room for another
  kClientGone,       // left before its request's turn came
};
inline constexpr size_t kHttpRefusals = 14;
std::string_view refusal_name(HttpRefusal reason);

// What becomes of a request whose head has arrived.
struct HttpVerdict {
  std::optional<HttpResponse> answer;  // sent instead of calling the handler; a body is not read
  std::optional<HttpRefusal> reason;   // why, if `answer` is a refusal
  HttpTicket ticket;
  HttpHeaders headers;           // of whatever answer the request gets, by whomever
  bool takes_body = false;       // no: a small one is read and dropped
  std::optional<size_t> client;  // whose part of the room for bodies; nothing: the peer address's
};

// The status of a request whose client left before anything was sent (nginx's number for it).
inline constexpr int kClientClosedRequest = 499;

// One request, after the fact.
struct HttpRecord {
  std::string method = "-", path = "-", peer;  // as HttpRequest has them; "-": not even that came
  HttpTicket ticket;
  int status = 0;           // what the client was sent, or kClientClosedRequest
  bool complete = false;    // the whole answer was handed to the client's connection
  uint64_t body_bytes = 0;  // of the answer, without its framing
  double seconds = 0;       // from the complete head on
  uint64_t prompt_tokens = 0, generated_tokens = 0;
};

// What answers. All methods are thread-safe.
class HttpService {
 public:
  virtual ~HttpService() = default;
  // On the connection's thread, before any byte of the body is kept; must not block. `draining`:
  // no new work is taken.
  virtual HttpVerdict judge(const HttpRequest& head, bool draining) = 0;
  // On a pool thread, where it may compute (parse, tokenize); for GET on the connection's own
  // thread, where it must not.
  virtual void handle(std::shared_ptr<const HttpRequest> request,
                      std::shared_ptr<Exchange> exchange) = 0;
  // A request or a connection did not get to handle(). Must not block.
  virtual void refused(HttpRefusal reason) = 0;
  // Once for every request of which the head, or something that is none, has come. Must not block;
  // what it counts is counted before the client has the answer.
  virtual void over(const HttpRecord& record) = 0;
};

std::string_view status_text(int status);
// "%41+b" → "A+b"; an invalid escape stays as it is.
std::string percent_decode(std::string_view text);

}  // namespace shoal::gateway
