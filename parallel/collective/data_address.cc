#include "parallel/collective/data_address.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netinet/in.h>

#include <algorithm>
#include <memory>
#include <vector>

#include <fmt/core.h>

#include "base/host.h"
#include "base/quote.h"

namespace shoal {
namespace {

struct HostAddress {
  std::string interface;
  std::string address;
  int family = 0;
};

std::vector<HostAddress> host_addresses() {
  std::vector<HostAddress> out;
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) return out;
  const std::unique_ptr<ifaddrs, decltype(&freeifaddrs)> owner(list, freeifaddrs);
  for (const ifaddrs* at = list; at != nullptr; at = at->ifa_next) {
    if (at->ifa_addr == nullptr) continue;
    const int family = at->ifa_addr->sa_family;
    const void* raw = nullptr;
    if (family == AF_INET) raw = &reinterpret_cast<const sockaddr_in*>(at->ifa_addr)->sin_addr;
    if (family == AF_INET6) raw = &reinterpret_cast<const sockaddr_in6*>(at->ifa_addr)->sin6_addr;
    char text[INET6_ADDRSTRLEN];
    if (raw == nullptr || inet_ntop(family, raw, text, sizeof(text)) == nullptr) continue;
    // A link-local IPv6 address means nothing without a scope, which Gloo does not pass on.
    if (family == AF_INET6 && IN6_IS_ADDR_LINKLOCAL(static_cast<const in6_addr*>(raw))) continue;
    out.push_back({at->ifa_name, text, family});
  }
  return out;
}

std::string listed(const std::vector<HostAddress>& addresses) {
  std::string text;
  for (const HostAddress& a : addresses) {
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", a.interface, a.address);
  }
  return text.empty() ? "none" : text;
}

// One that this host has: of a name the first, IPv4 before IPv6.
Result<std::string> find_address(const std::string& text, const std::vector<HostAddress>& all) {
  SHOAL_ASSIGN(const std::string host, parse_host(text));
  if (host.find('%') != std::string::npos) {
    return invalid_argument(fmt::format(
        "{} is a link-local address, which means nothing on other hosts; this host has: {}",
        in_quotes(text), listed(all)));
  }
  SHOAL_ASSIGN(std::vector<std::string> wanted, resolve_host(host));
  std::stable_partition(wanted.begin(), wanted.end(),
                        [](const std::string& a) { return !is_ipv6(a); });
  for (const std::string& address : wanted) {
    const bool loopback_v4 = is_loopback(address) && !is_ipv6(address);
    if (loopback_v4) return address;  // all of 127/8 is this host
    if (std::ranges::find(all, address, &HostAddress::address) != all.end()) return address;
  }
  return invalid_argument(
      fmt::format("this host does not have address {}; it has: {}", excerpt(text), listed(all)));
}

Result<std::string> find(const std::string& interface, const std::string& address) {
  const std::vector<HostAddress> all = host_addresses();
  if (!address.empty()) return find_address(address, all);
  for (const int family : {AF_INET, AF_INET6}) {
    for (const HostAddress& a : all) {
      if (a.interface == interface && a.family == family) return a.address;
    }
  }
  return invalid_argument(fmt::format("this host has no interface {} with an address; it has: {}",
                                      in_quotes(interface), listed(all)));
}

}  // namespace

bool is_public_address(const std::string& address) {
  in_addr v4;
  if (inet_pton(AF_INET, address.c_str(), &v4) == 1) {
    const uint32_t a = ntohl(v4.s_addr);
    const auto in = [a](uint32_t network, int bits) {
      return a >> (32 - bits) == network >> (32 - bits);
    };
    return !(in(0x7f000000, 8) || in(0x0a000000, 8) || in(0xac100000, 12) || in(0xc0a80000, 16) ||
             in(0x64400000, 10) || in(0xa9fe0000, 16));
  }
  in6_addr v6;
  if (inet_pton(AF_INET6, address.c_str(), &v6) != 1) return true;
  const bool unique_local = (v6.s6_addr[0] & 0xfe) == 0xfc;
  return !(IN6_IS_ADDR_LOOPBACK(&v6) || IN6_IS_ADDR_LINKLOCAL(&v6) || unique_local);
}

Result<std::string> resolve_data_address(const std::string& interface, const std::string& address,
                                         bool allow_public) {
  if (interface.empty() == address.empty()) {
    return invalid_argument(
        "the data plane needs an interface or an address to bind, and not both");
  }
  SHOAL_ASSIGN(std::string found, find(interface, address));
  if (!allow_public && is_public_address(found)) {
    return failed_precondition(fmt::format(
        "{} is a public address, and the data plane between workers is neither encrypted nor "
        "authenticated; bind a private one, or allow it explicitly",
        found));
  }
  return found;
}

}  // namespace shoal
