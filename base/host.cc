#include "base/host.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <memory>
#include <optional>

#include <fmt/core.h>

#include "base/quote.h"

namespace shoal {
namespace {

constexpr size_t kMaxName = 253, kMaxLabel = 63;  // RFC 1035

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

Status no_host(std::string_view text, std::string_view why) {
  return invalid_argument(
      fmt::format("not a host: {} {}; expected an address such as 127.0.0.1 or ::1, or a name",
                  in_quotes(text), why));
}

Status no_host_port(std::string_view text, std::string_view why) {
  return invalid_argument(
      fmt::format("{} is not an address such as 127.0.0.1:8080, [::1]:8080 or host:8080: {}",
                  in_quotes(text), why));
}

std::optional<in_addr> ipv4(const std::string& text) {
  in_addr address{};
  if (inet_pton(AF_INET, text.c_str(), &address) != 1) return {};
  return address;
}

// Without brackets and zone.
std::optional<in6_addr> ipv6(const std::string& text) {
  in6_addr address{};
  if (inet_pton(AF_INET6, text.c_str(), &address) != 1) return {};
  return address;
}

std::string text_of(int family, const void* address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  return inet_ntop(family, address, text.data(), text.size());
}

std::string text_of(const in6_addr& address) {
  if (IN6_IS_ADDR_V4MAPPED(&address)) return text_of(AF_INET, &address.s6_addr[12]);
  return text_of(AF_INET6, &address);
}

// An IPv6 address with or without a zone; nothing where it is none.
std::optional<Result<std::string>> parse_ipv6(std::string_view whole, std::string_view text) {
  const size_t percent = text.find('%');
  const auto address = ipv6(std::string(text.substr(0, percent)));
  if (!address) return {};
  if (percent == std::string_view::npos) return text_of(*address);
  const std::string_view zone = text.substr(percent + 1);
  if (!IN6_IS_ADDR_LINKLOCAL(&*address) && !IN6_IS_ADDR_MC_LINKLOCAL(&*address)) {
    return no_host(whole, "names an interface, which only link-local addresses (fe80::) have");
  }
  const bool fits = !zone.empty() && zone.size() < IF_NAMESIZE &&
                    std::ranges::all_of(zone, [](char c) { return c > ' ' && c < 127; }) &&
                    zone.find_first_of("/%[]") == std::string_view::npos;
  if (!fits) return no_host(whole, "has no name of an interface behind its '%'");
  return fmt::format("{}%{}", text_of(*address), zone);
}

// What programs take for an IPv4 address in one of its old forms: 127.1, 2130706433, 0x7f.1.
bool looks_like_ipv4(std::string_view text) {
  if (text.ends_with('.')) text.remove_suffix(1);
  std::string_view last = text.substr(text.rfind('.') + 1);  // npos + 1 is 0
  if (last.starts_with("0x") || last.starts_with("0X")) return true;
  return !last.empty() && std::ranges::all_of(last, is_digit);
}

bool is_name(std::string_view text) {
  if (text.ends_with('.')) text.remove_suffix(1);
  if (text.empty() || text.size() > kMaxName) return false;
  for (std::string_view rest = text;;) {
    const size_t dot = std::min(rest.find('.'), rest.size());
    const std::string_view label = rest.substr(0, dot);
    const bool fits = !label.empty() && label.size() <= kMaxLabel && label.front() != '-' &&
                      label.back() != '-' && std::ranges::all_of(label, [](char c) {
                        return is_digit(c) || is_letter(c) || c == '-' || c == '_';
                      });
    if (!fits) return false;
    if (dot == rest.size()) return true;
    rest.remove_prefix(dot + 1);
  }
}

bool is_port(std::string_view text) { return !text.empty() && std::ranges::all_of(text, is_digit); }

// What is wrong with a text that is neither an address nor a name.
Status explain(std::string_view text) {
  if (text.empty()) return no_host(text, "is empty");
  if (std::ranges::any_of(text, [](unsigned char c) { return c <= ' ' || c == 127; })) {
    return no_host(text, "has spaces or control characters in it");
  }
  if (text == "*") {
    return no_host(text, "is no address; every interface is 0.0.0.0 (IPv4) or :: (and IPv6)");
  }
  if (text.find("://") != std::string_view::npos) {
    return no_host(text, "is a URL; its host alone is wanted");
  }
  const size_t colon = text.rfind(':');
  const bool one_colon = colon != std::string_view::npos && text.find(':') == colon;
  const bool behind_bracket =
      colon != std::string_view::npos && colon > 0 && text[colon - 1] == ']';
  if ((one_colon || behind_bracket) && is_port(text.substr(colon + 1))) {
    return no_host(text, "has a port behind it; the host alone is wanted here");
  }
  if (text.find('/') != std::string_view::npos) return no_host(text, "has a '/' in it");
  if (text.front() == '[' && text.back() != ']') return no_host(text, "lacks its closing bracket");
  if (text.front() == '[') return no_host(text, "has no IPv6 address in its brackets");
  if (colon != std::string_view::npos) return no_host(text, "is no IPv6 address");
  if (looks_like_ipv4(text)) return no_host(text, "is no IPv4 address of four numbers");
  return no_host(text, "is no name of letters, digits, '-' and dots");
}

bool equal_without_case(std::string_view a, std::string_view b) {
  return std::ranges::equal(a, b, [](char x, char y) {
    const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
    return lower(x) == lower(y);
  });
}

bool is_localhost_name(std::string_view host) {
  constexpr std::string_view kName = "localhost";
  if (host.ends_with('.')) host.remove_suffix(1);
  if (host.size() < kName.size()) return false;
  const size_t front = host.size() - kName.size();
  return equal_without_case(host.substr(front), kName) && (front == 0 || host[front - 1] == '.');
}

// With the name of the interface of a link-local address.
std::string numeric(const sockaddr* address) {
  if (address->sa_family == AF_INET) {
    return text_of(AF_INET, &reinterpret_cast<const sockaddr_in*>(address)->sin_addr);
  }
  const auto* v6 = reinterpret_cast<const sockaddr_in6*>(address);
  std::array<char, IF_NAMESIZE> zone{};
  const bool scoped = v6->sin6_scope_id != 0 && IN6_IS_ADDR_LINKLOCAL(&v6->sin6_addr) &&
                      if_indextoname(v6->sin6_scope_id, zone.data()) != nullptr;
  return text_of(v6->sin6_addr) + (scoped ? "%" + std::string(zone.data()) : "");
}

}  // namespace

Result<std::string> parse_host(std::string_view text) {
  const bool bracketed = text.size() > 2 && text.front() == '[' && text.back() == ']';
  const std::string_view inner = bracketed ? text.substr(1, text.size() - 2) : text;
  if (inner.size() <= kMaxName && inner.find('\0') == std::string_view::npos) {
    if (auto address = parse_ipv6(text, inner)) return *address;
    if (!bracketed) {
      if (const auto address = ipv4(std::string(text))) return text_of(AF_INET, &*address);
      if (is_name(text) && !looks_like_ipv4(text)) return std::string(text);
    }
  }
  return explain(text);
}

Result<HostPort> parse_host_port(std::string_view text) {
  if (const size_t scheme = text.find("://"); scheme != std::string_view::npos) {
    return no_host_port(text, fmt::format("leave {} out", in_quotes(text.substr(0, scheme + 3))));
  }
  const bool bracketed = text.starts_with('[');
  const size_t end = bracketed ? text.find(']') : std::string_view::npos;
  if (bracketed && end == std::string_view::npos) {
    return no_host_port(text, "it lacks the closing bracket");
  }
  const size_t colon = text.rfind(':');
  if (!bracketed && colon != text.find(':')) {
    return no_host_port(text, "an IPv6 address stands in brackets before its port");
  }
  if (colon == std::string_view::npos || (bracketed && colon < end)) {
    return no_host_port(text, "it has no port");
  }
  if (colon == 0) {
    return no_host_port(text,
                        "it has no host; every interface is 0.0.0.0 (IPv4) or [::] (and IPv6)");
  }
  HostPort address;
  const std::string_view digits = text.substr(colon + 1);
  const auto [last, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), address.port);
  if (!is_port(digits) || error != std::errc() || last != digits.data() + digits.size()) {
    return no_host_port(text, fmt::format("{} is no port in 0 … 65535", in_quotes(digits)));
  }
  SHOAL_ASSIGN(address.host, parse_host(text.substr(0, colon)));
  return address;
}

std::string format_host_port(const HostPort& address) {
  return is_ipv6(address.host) ? fmt::format("[{}]:{}", address.host, address.port)
                               : fmt::format("{}:{}", address.host, address.port);
}

bool is_ipv6(const std::string& host) { return host.find(':') != std::string::npos; }

bool is_ip_address(const std::string& host) { return is_ipv6(host) || ipv4(host).has_value(); }

bool is_loopback(const std::string& host) {
  if (const auto v4 = ipv4(host)) return ntohl(v4->s_addr) >> 24 == 127;
  if (const auto v6 = ipv6(host)) return IN6_IS_ADDR_LOOPBACK(&*v6);
  return is_localhost_name(host);
}

bool is_any_address(const std::string& host) { return host == "0.0.0.0" || host == "::"; }

std::string url_host(const std::string& host) {
  if (!is_ipv6(host)) return host;
  const size_t percent = host.find('%');  // stands as %25 in a URL (RFC 6874)
  if (percent == std::string::npos) return "[" + host + "]";
  return "[" + host.substr(0, percent) + "%25" + host.substr(percent + 1) + "]";
}

std::string local_host(const std::string& host) {
  if (host == "0.0.0.0") return "127.0.0.1";
  return host == "::" ? "::1" : host;
}

Result<std::vector<std::string>> resolve_host(const std::string& host) {
  if (is_localhost_name(host)) return std::vector<std::string>{"127.0.0.1", "::1"};
  if (ipv4(host)) return std::vector<std::string>{host};
  if (is_ipv6(host)) {
    const size_t percent = host.find('%');
    if (percent != std::string::npos && if_nametoindex(host.c_str() + percent + 1) == 0) {
      return not_found(
          fmt::format("this host has no interface {}", in_quotes(host.substr(percent + 1))));
    }
    return std::vector<std::string>{host};
  }
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* list = nullptr;
  const int error = ::getaddrinfo(host.c_str(), nullptr, &hints, &list);
  if (error != 0) {
    const std::string message =
        fmt::format("cannot resolve {}: {}", in_quotes(host), ::gai_strerror(error));
    const bool none = error == EAI_NONAME || error == EAI_NODATA || error == EAI_FAIL;
    return none ? not_found(message) : unavailable(message);
  }
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(list, freeaddrinfo);
  std::vector<std::string> addresses;
  for (const addrinfo* at = list; at != nullptr; at = at->ai_next) {
    if (at->ai_family != AF_INET && at->ai_family != AF_INET6) continue;
    const std::string text = numeric(at->ai_addr);
    if (std::ranges::find(addresses, text) == addresses.end()) addresses.push_back(text);
  }
  if (addresses.empty()) return not_found(fmt::format("{} has no address", in_quotes(host)));
  return addresses;
}

}  // namespace shoal
