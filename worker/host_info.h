// What a worker says about the machine it runs on.
#pragma once

#include <cstdint>
#include <string>

#include "base/host.h"
#include "base/status.h"

namespace shoal {

// Equal on processes that see the same /dev/shm: boot id, device and inode of the mount.
std::string host_identity();
std::string host_name();
uint64_t resident_bytes();       // VmRSS of this process
uint64_t peak_resident_bytes();  // VmHWM

// The local address a TCP connection to `destination` would leave from, without sending anything:
// the first for which there is a route, IPv4 before IPv6, so that hosts that have both agree.
Result<std::string> outgoing_address(const HostPort& destination);

}  // namespace shoal
