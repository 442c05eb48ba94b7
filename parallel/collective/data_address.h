// The address the data plane binds. It is neither encrypted nor authenticated, so it is a named
// interface or address of this host, and a public one only if that is asked for.
#pragma once

#include <string>

#include "base/status.h"

namespace shoal {

// A literal IPv4 or IPv6 address this host has: `address` itself (or, of a name, the first it has),
// or the first address of `interface`, IPv4 before IPv6; one of both is given. Refuses what the
// host does not have, naming what it has, and public addresses unless allow_public.
Result<std::string> resolve_data_address(const std::string& interface, const std::string& address,
                                         bool allow_public);

// Not loopback, private (RFC 1918, 6598, 4193) or link-local. REQUIRES: a literal address.
bool is_public_address(const std::string& address);

}  // namespace shoal
