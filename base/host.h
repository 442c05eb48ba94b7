// Hosts and addresses as people write them, the one parser for flags, environment, configuration
// and what workers say; and which addresses a host has. All errors say what was found and what was
// expected, and leave it to the caller to name the key.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace shoal {

struct HostPort {
  std::string host;   // as parse_host() leaves it; "0.0.0.0" and "::" mean every interface
  uint16_t port = 0;  // 0: any free port
  friend bool operator==(const HostPort&, const HostPort&) = default;
};

// "10.0.0.1", "::1", "[::1]", "fe80::1%eth0", "gpu-1.example" → an address in canonical form, IPv6
// without brackets and an IPv4-mapped one as IPv4, or the name as it is. Pure.
Result<std::string> parse_host(std::string_view text);
// "10.0.0.1:80", "[::1]:80", "gpu-1:80". Pure.
Result<HostPort> parse_host_port(std::string_view text);
std::string format_host_port(const HostPort& address);

// What follows take a host as parse_host() leaves it, and never ask a resolver.
bool is_ip_address(const std::string& host);
bool is_ipv6(const std::string& host);
// 127/8, ::1, and the names that mean them everywhere (RFC 6761): localhost and *.localhost.
bool is_loopback(const std::string& host);
bool is_any_address(const std::string& host);  // 0.0.0.0, ::
// As it stands in a URL before ":PORT": IPv6 in brackets.
std::string url_host(const std::string& host);
// Where to reach from this machine what listens on `host`: a loopback address for every interface.
std::string local_host(const std::string& host);

// The addresses of `host` in the order to try them, each once, of both families: itself if it is
// one; both loopback addresses for localhost, whatever resolver or file this system has; else what
// the resolver says, which may take as long as its time-outs. kNotFound: there is no such name;
// kUnavailable: nobody could say. Thread-safe.
Result<std::vector<std::string>> resolve_host(const std::string& host);

}  // namespace shoal
