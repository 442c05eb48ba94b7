#include "coordinator/gateway/cors.h"

#include <algorithm>

#include "base/host.h"
#include "coordinator/gateway/http_head.h"

namespace shoal::gateway {
namespace {

constexpr size_t kMaxRequestedHeaders = 2048;
constexpr const char* kMethods = "GET, HEAD, POST, OPTIONS";
constexpr const char* kUsualHeaders = "Authorization, Content-Type, X-API-Key, X-Request-Id";

// A list of header names, as the browser sends it.
bool is_header_list(std::string_view text) {
  return text.size() <= kMaxRequestedHeaders && std::all_of(text.begin(), text.end(), [](char c) {
           return c == ',' || c == ' ' || is_http_token(std::string_view(&c, 1));
         });
}

}  // namespace

CorsPolicy::CorsPolicy(const std::vector<std::string>& origins, bool keys) {
  for (const std::string& text : origins) {
    if (text == "*") {
      any_ = true;
    } else if (text == "auto") {
      (keys ? any_ : loopback_) = true;
    } else if (text == "null") {
      null_ = true;
    } else if (auto origin = config::parse_origin(text)) {
      patterns_.push_back(std::move(*origin));
    }
  }
}

bool CorsPolicy::allows(std::string_view text) const {
  if (text.empty()) return false;
  if (any_) return true;
  if (text == "null") return null_;
  const auto origin = config::parse_origin(text);
  if (!origin || origin->is_pattern()) return false;
  std::string host = origin->host;
  if (host.starts_with('[')) host = host.substr(1, host.size() - 2);
  const bool web = origin->scheme == "http" || origin->scheme == "https";
  if (loopback_ && web && is_loopback(host)) return true;
  return std::any_of(patterns_.begin(), patterns_.end(),
                     [&](const auto& pattern) { return pattern.matches(*origin); });
}

HttpHeaders CorsPolicy::headers(const HttpRequest& request) const {
  HttpHeaders out;
  const bool known = any_ || null_ || loopback_ || !patterns_.empty();
  // Caches must not give one origin what was allowed to another.
  if (known && !any_) out.emplace_back("Vary", "Origin");
  const std::string_view origin = request.header("origin");
  if (!allows(origin)) return out;
  out.emplace_back("Access-Control-Allow-Origin", any_ ? "*" : std::string(origin));
  out.emplace_back("Access-Control-Expose-Headers", "X-Request-Id, Retry-After");
  return out;
}

bool CorsPolicy::is_preflight(const HttpRequest& request) {
  return request.method == "OPTIONS" && !request.header("origin").empty() &&
         !request.header("access-control-request-method").empty();
}

HttpResponse CorsPolicy::preflight(const HttpRequest& request) const {
  HttpResponse out;
  out.status = 204;
  if (!allows(request.header("origin"))) return out;  // what is missing says no
  const std::string_view wanted = request.header("access-control-request-headers");
  out.headers.emplace_back("Access-Control-Allow-Methods", kMethods);
  out.headers.emplace_back("Access-Control-Allow-Headers", wanted.empty() || !is_header_list(wanted)
                                                               ? kUsualHeaders
                                                               : std::string(wanted));
  out.headers.emplace_back("Access-Control-Max-Age", "7200");
  if (request.header("access-control-request-private-network") == "true") {
    out.headers.emplace_back("Access-Control-Allow-Private-Network", "true");
  }
  return out;
}

}  // namespace shoal::gateway
