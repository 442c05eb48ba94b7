#include "coordinator/gateway/http_head.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace shoal::gateway {
namespace {

// Old clients send an empty line after a body (RFC 9112, section 2.2).
constexpr size_t kMaxEmptyLines = 4;
constexpr size_t kMaxMethod = 32;
constexpr size_t kMaxFields = 256;  // each costs more memory than it has bytes
constexpr size_t kMaxLengthDigits = 18;

bool is_alpha(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_one_of(char c, std::string_view set) { return set.find(c) != set.npos; }

bool is_token_char(char c) { return is_alpha(c) || is_digit(c) || is_one_of(c, "!#$%&'*+-.^_`|~"); }

// host [":" port] (RFC 3986, section 3.2), without user information; "" is allowed.
bool is_host(std::string_view text) {
  size_t end = 0;
  if (text.starts_with('[')) {
    end = text.find(']');
    if (end == text.npos || end == 1) return false;
    for (size_t i = 1; i < end; ++i) {
      if (!is_alpha(text[i]) && !is_digit(text[i]) && !is_one_of(text[i], ":.-_~!$&'()*+,;=")) {
        return false;
      }
    }
    ++end;
  } else {
    while (end < text.size() && (is_alpha(text[end]) || is_digit(text[end]) ||
                                 is_one_of(text[end], "-._~%!$&'()*+;="))) {
      ++end;
    }
  }
  if (end == text.size()) return true;
  const std::string_view port = text.substr(end + 1);
  return text[end] == ':' && port.size() <= 5 && std::all_of(port.begin(), port.end(), is_digit);
}

std::string_view without_spaces(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t");
  if (first == text.npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  return out;
}

}  // namespace

bool is_http_token(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), is_token_char);
}

bool HttpHeadReader::refuse(std::string message, int status, const char* code) {
  fault_ = {status, std::move(message), code};
  state_ = State::kBad;
  return false;
}

size_t HttpHeadReader::put(std::string_view bytes) {
  size_t used = 0;
  while (state_ == State::kMore && used < bytes.size()) {
    const std::string_view rest = bytes.substr(used);
    const size_t newline = rest.find('\n');
    const std::string_view part = rest.substr(0, newline == rest.npos ? newline : newline + 1);
    used += part.size();
    taken_ += part.size();
    if (taken_ > limit_) {
      refuse(fmt::format("the headers exceed {} bytes", limit_), 431, "headers_too_large");
    } else if (check_bytes(part)) {
      line_ += part;
      if (newline == rest.npos) break;
      const std::string complete = std::exchange(line_, {});
      line(std::string_view(complete).substr(0, complete.size() - 2));
    }
  }
  return used;
}

// No byte that a line may not hold; CR only in front of LF and LF only behind CR.
bool HttpHeadReader::check_bytes(std::string_view bytes) {
  for (const char c : bytes) {
    if (after_cr_ != (c == '\n')) {
      return refuse("malformed HTTP request: lines end with CR LF, and only there is either");
    }
    after_cr_ = c == '\r';
    const auto byte = static_cast<unsigned char>(c);
    if ((byte < 0x20 && c != '\t' && c != '\r' && c != '\n') || byte == 0x7f) {
      return refuse("malformed HTTP request: a control character in the head");
    }
    started_ = started_ || (c != '\r' && c != '\n');
  }
  return true;
}

void HttpHeadReader::line(std::string_view text) {
  if (!have_request_line_) {
    if (!text.empty()) {
      have_request_line_ = request_line(text);
    } else if (++empty_lines_ > kMaxEmptyLines) {
      refuse("malformed HTTP request: empty lines instead of a request");
    }
  } else if (!text.empty()) {
    field(text);
  } else if (end_of_head()) {
    state_ = State::kDone;
  }
}

bool HttpHeadReader::request_line(std::string_view text) {
  const size_t first = text.find(' '), last = text.rfind(' ');
  const std::string_view method = text.substr(0, first);
  if (first == text.npos || first == last || !is_http_token(method)) {
    return refuse("malformed HTTP request: the request line is not METHOD TARGET HTTP/1.1");
  }
  if (method.size() > kMaxMethod) return refuse("no such method", 501, "method_not_allowed");
  request_->head = method == "HEAD";
  request_->method = request_->head ? "GET" : std::string(method);
  return version(text.substr(last + 1)) && target(text.substr(first + 1, last - first - 1));
}

bool HttpHeadReader::version(std::string_view text) {
  if (text.size() != 8 || !text.starts_with("HTTP/") || !is_digit(text[5]) || text[6] != '.' ||
      !is_digit(text[7])) {
    return refuse("malformed HTTP request: no HTTP version at the end of the request line");
  }
  if (text[5] != '1' || text[7] > '1') {
    return refuse("only HTTP/1.1 and HTTP/1.0 are spoken here", 505);
  }
  framing_.http_1_0 = text[7] == '0';
  return true;
}

bool HttpHeadReader::target(std::string_view text) {
  for (const char c : text) {
    if (c <= ' ' || c == '#' || static_cast<unsigned char>(c) > 0x7e) {
      return refuse(
          "malformed HTTP request: the target holds a space, '#' or other bytes that "
          "must be percent-encoded");
    }
  }
  if (const std::string scheme = lower(text.substr(0, 8));
      scheme.starts_with("http://") || scheme == "https://") {  // the form sent to proxies
    const size_t authority = scheme == "https://" ? 8 : 7;
    const size_t path = std::min(text.find_first_of("/?", authority), text.size());
    if (path == authority || !is_host(text.substr(authority, path - authority))) {
      return refuse("malformed HTTP request: the target's host is not one");
    }
    text.remove_prefix(path);
    if (!text.starts_with('/')) request_->path = "/";
  } else if (!text.starts_with('/') && !(text == "*" && request_->method == "OPTIONS")) {
    return refuse("malformed HTTP request: the target must be a path that begins with '/'");
  }
  const size_t question = text.find('?');
  request_->path += percent_decode(text.substr(0, question));
  if (question != text.npos) request_->query = text.substr(question + 1);
  return true;
}

bool HttpHeadReader::field(std::string_view text) {
  if (text.front() == ' ' || text.front() == '\t') {
    return refuse(
        "malformed HTTP request: a header line begins with a space (folded lines are "
        "not allowed)");
  }
  const size_t colon = text.find(':');
  if (colon == text.npos || !is_http_token(text.substr(0, colon))) {
    return refuse("malformed HTTP request: a header line is not NAME: VALUE");
  }
  if (request_->headers.size() >= kMaxFields) {
    return refuse(fmt::format("more than {} header lines", kMaxFields), 431, "headers_too_large");
  }
  request_->headers.emplace_back(lower(text.substr(0, colon)),
                                 without_spaces(text.substr(colon + 1)));
  return true;
}

size_t HttpHeadReader::count(std::string_view name) const {
  return static_cast<size_t>(
      std::count_if(request_->headers.begin(), request_->headers.end(),
                    [&](const auto& header) { return header.first == name; }));
}

std::optional<std::string> HttpHeadReader::joined(std::string_view name) const {
  std::optional<std::string> out;
  for (const auto& [key, value] : request_->headers) {
    if (key != name) continue;
    out = out ? *out + ", " + value : value;
  }
  return out;
}

bool HttpHeadReader::end_of_head() {
  if (!host() || !transfer_coding() || !content_length() || !expectation()) return false;
  connection();
  return true;
}

bool HttpHeadReader::host() {
  const size_t hosts = count("host");
  if (hosts > 1 || (hosts == 0 && !framing_.http_1_0)) {
    return refuse("malformed HTTP request: exactly one Host header is required");
  }
  if (is_host(request_->header("host"))) return true;
  return refuse("malformed HTTP request: the Host header is not HOST or HOST:PORT");
}

bool HttpHeadReader::transfer_coding() {
  const auto codings = joined("transfer-encoding");
  if (!codings) return true;
  if (framing_.http_1_0) {
    return refuse("malformed HTTP request: Transfer-Encoding in HTTP/1.0");
  }
  if (count("content-length") > 0) {
    return refuse("malformed HTTP request: both Transfer-Encoding and Content-Length");
  }
  if (lower(*codings) != "chunked") {
    return refuse("the only Transfer-Encoding taken is \"chunked\", once", 501);
  }
  framing_.chunked = true;
  return true;
}

bool HttpHeadReader::content_length() {
  const size_t lengths = count("content-length");
  if (lengths == 0) return true;
  const std::string_view text = request_->header("content-length");
  if (lengths > 1 || text.empty() || text.size() > kMaxLengthDigits ||
      !std::all_of(text.begin(), text.end(), is_digit)) {
    return refuse("malformed HTTP request: Content-Length must occur once and be a number");
  }
  for (const char c : text) framing_.length = framing_.length * 10 + static_cast<uint64_t>(c - '0');
  return true;
}

bool HttpHeadReader::expectation() {
  const auto expected = joined("expect");
  if (!expected || framing_.http_1_0) return true;
  if (lower(*expected) != "100-continue") {
    return refuse("only \"Expect: 100-continue\" is known", 417);
  }
  framing_.expect_continue = framing_.has_body();
  return true;
}

void HttpHeadReader::connection() {
  const std::string options = "," + lower(joined("connection").value_or("")) + ",";
  bool close = false, keep = false;
  for (size_t at = 1; at < options.size();) {
    const size_t comma = options.find(',', at);
    const std::string_view option =
        without_spaces(std::string_view(options).substr(at, comma - at));
    close = close || option == "close";
    keep = keep || option == "keep-alive";
    at = comma + 1;
  }
  framing_.keep_alive = !close && (keep || !framing_.http_1_0);
}

}  // namespace shoal::gateway
