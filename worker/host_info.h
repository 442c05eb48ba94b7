// What a worker says about the machine it runs on.
#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"

namespace shoal {

// Equal on processes that see the same /dev/shm: boot id, device and inode of the mount.
std::string host_identity();
std::string host_name();
uint64_t resident_bytes();       // VmRSS of this process
uint64_t peak_resident_bytes();  // VmHWM

// The first address of a network interface ("eth0"), or an error that lists the interfaces.
Result<std::string> interface_address(const std::string& interface);
// The local address a TCP connection to host:port would leave from, without sending anything.
Result<std::string> outgoing_address(const std::string& host, uint16_t port);

}  // namespace shoal
