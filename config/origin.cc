#include "config/origin.h"

#include <algorithm>
#include <utility>

namespace shoal::config {
namespace {

constexpr size_t kMaxOrigin = 512;

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_alnum(char c) { return is_digit(c) || (c >= 'a' && c <= 'z'); }

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  return out;
}

template <class Allowed>
bool consists_of(std::string_view text, Allowed allowed) {
  return !text.empty() && std::all_of(text.begin(), text.end(), allowed);
}

bool is_host(std::string_view host) {
  if (host.starts_with('[')) {
    return host.ends_with(']') && consists_of(host.substr(1, host.size() - 2), [](char c) {
             return is_digit(c) || (c >= 'a' && c <= 'f') || c == ':' || c == '.';
           });
  }
  return consists_of(host, [](char c) { return is_alnum(c) || c == '-' || c == '.' || c == '_'; });
}

}  // namespace

bool Origin::matches(const Origin& origin) const {
  return (below ? origin.host.ends_with(host) : origin.host == host) && origin.scheme == scheme &&
         (port == "*" || origin.port == port);
}

std::optional<Origin> parse_origin(std::string_view text) {
  const std::string whole = lower(text.substr(0, kMaxOrigin + 1));
  std::string_view rest = whole;
  const size_t scheme = rest.find("://");
  if (whole.size() > kMaxOrigin || scheme == rest.npos) return std::nullopt;
  Origin out;
  out.scheme = rest.substr(0, scheme);
  rest.remove_prefix(scheme + 3);
  out.below = rest.starts_with("*.");
  if (out.below) rest.remove_prefix(1);
  const size_t bracket = rest.starts_with('[') ? rest.find(']') : 0;
  const size_t colon = bracket == rest.npos ? rest.npos : rest.find(':', bracket);
  out.host = rest.substr(0, colon);
  if (colon != rest.npos) {
    out.port = rest.substr(colon + 1);
    if (out.port != "*" && !(out.port.size() <= 5 && consists_of(out.port, is_digit))) {
      return std::nullopt;
    }
  }
  const bool scheme_fits = consists_of(
      out.scheme, [](char c) { return is_alnum(c) || c == '+' || c == '-' || c == '.'; });
  if (!scheme_fits || !is_host(out.host)) return std::nullopt;
  const bool usual =
      (out.scheme == "http" && out.port == "80") || (out.scheme == "https" && out.port == "443");
  if (usual) out.port.clear();  // browsers leave these out
  return out;
}

}  // namespace shoal::config
