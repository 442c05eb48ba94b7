// A request's head as RFC 9112 has it, taken strictly: who frames a message otherwise than the
// proxy in front of us did would run a body as a second request. Pure: bytes in, a request or a
// refusal out.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "coordinator/gateway/http.h"

namespace shoal::gateway {

// How the rest of the message is to be read, and the connection kept.
struct HttpFraming {
  bool http_1_0 = false;
  bool keep_alive = true;
  bool chunked = false;
  uint64_t length = 0;           // of the body; meaningless when chunked
  bool expect_continue = false;  // the client waits for 100 before it sends the body

  bool has_body() const { return chunked || length > 0; }
};

// Why a message was not taken: 400, 417, 431, 501 or 505, and what goes into the error.
struct HttpFault {
  int status = 400;
  std::string message;
  const char* code = "bad_http";
};

// Reads one head. Refuses, on the first byte that shows it: line ends other than CRLF, control
// characters, folded lines, space in front of a colon, names that are no tokens, whatever leaves
// the body's length in doubt (RFC 9112, section 6.3), a missing or second Host, targets of proxies'
// CONNECT, versions other than 1.0 and 1.1.
class HttpHeadReader {
 public:
  enum class State { kMore, kDone, kBad };

  // `limit`: bytes of the head, line ends included.
  explicit HttpHeadReader(size_t limit)
      : limit_(limit), request_(std::make_shared<HttpRequest>()) {}

  // Takes bytes until the head is complete or refused; returns how many. Takes none after that.
  size_t put(std::string_view bytes);

  State state() const { return state_; }
  // Has anything but empty lines come? A few of those may precede a request.
  bool started() const { return started_; }
  const HttpFault& fault() const { return fault_; }                            // when kBad
  const HttpFraming& framing() const { return framing_; }                      // when kDone
  std::shared_ptr<HttpRequest> take_request() { return std::move(request_); }  // when kDone

 private:
  bool check_bytes(std::string_view bytes);
  void line(std::string_view text);
  bool request_line(std::string_view text);
  bool version(std::string_view text);
  bool target(std::string_view text);
  bool field(std::string_view text);
  bool end_of_head();
  bool transfer_coding();
  bool content_length();
  bool host();
  void connection();
  bool expectation();
  // The values of a field, joined by ", "; nothing if it does not occur.
  std::optional<std::string> joined(std::string_view name) const;
  size_t count(std::string_view name) const;
  bool refuse(std::string message, int status = 400, const char* code = "bad_http");

  const size_t limit_;
  State state_ = State::kMore;
  bool started_ = false, have_request_line_ = false, after_cr_ = false;
  size_t taken_ = 0, empty_lines_ = 0;
  std::string line_;  // received part of the current line, with its CR
  std::shared_ptr<HttpRequest> request_;
  HttpFraming framing_;
  HttpFault fault_;
};

// token of RFC 9110, section 5.6.2.
bool is_http_token(std::string_view text);

}  // namespace shoal::gateway
