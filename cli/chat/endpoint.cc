#include "cli/chat/endpoint.h"

#include <arpa/inet.h>
#include <curl/curl.h>

#include <cctype>
#include <cstring>
#include <memory>
#include <vector>

#include <fmt/core.h>

#include "base/quote.h"

namespace shoal::chat {
namespace {

using CurlUrl = std::unique_ptr<CURLU, decltype(&curl_url_cleanup)>;

std::string part(CURLU* url, CURLUPart which) {
  char* text = nullptr;
  if (curl_url_get(url, which, &text, 0) != CURLUE_OK) return "";
  std::string out(text);
  curl_free(text);
  return out;
}

std::vector<std::string> segments_of(std::string_view path) {
  std::vector<std::string> out;
  for (size_t at = 0; at < path.size();) {
    size_t end = path.find('/', at);
    if (end == std::string_view::npos) end = path.size();
    if (end > at) out.emplace_back(path.substr(at, end - at));
    at = end + 1;
  }
  return out;
}

// "v1", "v4", "v1beta".
bool is_version(std::string_view segment) {
  if (segment.size() < 2 || (segment[0] != 'v' && segment[0] != 'V')) return false;
  size_t at = 1;
  while (at < segment.size() && std::isdigit(static_cast<unsigned char>(segment[at])) != 0) ++at;
  if (at == 1) return false;
  const std::string_view rest = segment.substr(at);
  return rest.empty() || rest.starts_with("alpha") || rest.starts_with("beta");
}

// The path of the API that `path` lies in.
std::string api_path(std::string_view path) {
  std::vector<std::string> segments = segments_of(path);
  const size_t n = segments.size();
  if (n >= 2 && segments[n - 2] == "chat" && segments[n - 1] == "completions") {
    segments.resize(n - 2);
  } else if (n >= 2 && is_version(segments[n - 2]) &&
             (segments[n - 1] == "models" || segments[n - 1] == "completions")) {
    segments.resize(n - 1);
  }
  bool versioned = false;
  std::string out;
  for (const std::string& segment : segments) {
    versioned = versioned || is_version(segment);
    out += "/" + segment;
  }
  return versioned ? out : out + "/v1";
}

// 0.0.0.0 and :: are what servers listen on; to connect there is to connect to oneself.
bool is_loopback(std::string host) {
  if (host.size() > 2 && host.front() == '[') host = host.substr(1, host.size() - 2);
  if (const size_t zone = host.find('%'); zone != std::string::npos) host.resize(zone);
  in_addr v4{};
  if (::inet_pton(AF_INET, host.c_str(), &v4) == 1) {
    const uint32_t address = ntohl(v4.s_addr);
    return address >> 24 == 127 || address == 0;
  }
  in6_addr v6{};
  if (::inet_pton(AF_INET6, host.c_str(), &v6) == 1) {
    if (IN6_IS_ADDR_V4MAPPED(&v6)) return v6.s6_addr[12] == 127;
    return IN6_IS_ADDR_LOOPBACK(&v6) || IN6_IS_ADDR_UNSPECIFIED(&v6);
  }
  for (char& c : host) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  if (!host.empty() && host.back() == '.') host.pop_back();
  return host == "localhost" || host.ends_with(".localhost");
}

}  // namespace

Result<Endpoint> parse_endpoint(std::string_view url) {
  const auto wrong = [&](std::string_view why) {
    return invalid_argument(
        fmt::format("--url {}: {}; it looks like http://HOST:PORT", in_quotes(url), why));
  };
  std::string text(url);
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back())) != 0)
    text.pop_back();
  text.erase(0, std::min(text.find_first_not_of(" \t\r\n"), text.size()));
  if (text.empty()) return wrong("nothing is there");
  if (text.find("://") == std::string::npos) text = "http://" + text;
  const CurlUrl parsed(curl_url(), curl_url_cleanup);
  if (parsed == nullptr) return resource_exhausted("no memory");
  const CURLUcode code =
      curl_url_set(parsed.get(), CURLUPART_URL, text.c_str(), CURLU_NON_SUPPORT_SCHEME);
  if (code != CURLUE_OK) return wrong(curl_url_strerror(code));
  const std::string scheme = part(parsed.get(), CURLUPART_SCHEME);
  if (scheme != "http" && scheme != "https") return wrong("only http and https are spoken");

  Endpoint out;
  out.secure = scheme == "https";
  out.loopback = is_loopback(part(parsed.get(), CURLUPART_HOST));
  if (const std::string query = part(parsed.get(), CURLUPART_QUERY); !query.empty())
    out.query = "?" + query;
  const std::string path = api_path(part(parsed.get(), CURLUPART_PATH));
  curl_url_set(parsed.get(), CURLUPART_QUERY, nullptr, 0);
  curl_url_set(parsed.get(), CURLUPART_FRAGMENT, nullptr, 0);
  curl_url_set(parsed.get(), CURLUPART_PATH, path.c_str(), 0);
  out.base = part(parsed.get(), CURLUPART_URL);
  curl_url_set(parsed.get(), CURLUPART_USER, nullptr, 0);
  curl_url_set(parsed.get(), CURLUPART_PASSWORD, nullptr, 0);
  out.shown = part(parsed.get(), CURLUPART_URL);
  if (out.base.empty() || out.shown.empty()) return wrong("it has no host");
  return out;
}

}  // namespace shoal::chat
