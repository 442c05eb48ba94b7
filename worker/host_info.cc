#include "worker/host_info.h"

#include <netdb.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <fstream>
#include <memory>
#include <vector>

#include "base/descriptor.h"
#include "base/quote.h"

namespace shoal {
namespace {

uint64_t status_field_bytes(const char* field) {
  std::ifstream in("/proc/self/status");
  std::string line;
  while (std::getline(in, line)) {
    if (line.rfind(field, 0) == 0)
      return std::strtoull(line.c_str() + std::strlen(field), nullptr, 10) * 1024;
  }
  return 0;
}

std::string numeric_address(const sockaddr* address, socklen_t length) {
  std::array<char, NI_MAXHOST> text{};
  if (::getnameinfo(address, length, text.data(), text.size(), nullptr, 0, NI_NUMERICHOST) != 0)
    return "";
  return text.data();
}

// The local address towards a literal one; empty: there is no route.
std::string outgoing_to(const std::string& address, uint16_t port) {
  addrinfo hints{};
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  hints.ai_socktype = SOCK_DGRAM;
  addrinfo* list = nullptr;
  if (::getaddrinfo(address.c_str(), std::to_string(port).c_str(), &hints, &list) != 0) return "";
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(list, freeaddrinfo);
  // connect() on a datagram socket only picks the route.
  const Descriptor socket(::socket(list->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_storage local{};
  socklen_t length = sizeof(local);
  auto* local_address = reinterpret_cast<sockaddr*>(&local);
  if (!socket.valid() || ::connect(socket.get(), list->ai_addr, list->ai_addrlen) != 0 ||
      ::getsockname(socket.get(), local_address, &length) != 0) {
    return "";
  }
  return numeric_address(local_address, length);
}

}  // namespace

std::string host_identity() {
  std::string boot;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> boot;
  struct stat info {};
  if (::stat("/dev/shm", &info) != 0) return boot + ":no-shm:" + std::to_string(::getpid());
  return boot + ":" + std::to_string(info.st_dev) + ":" + std::to_string(info.st_ino);
}

std::string host_name() {
  std::array<char, 256> name{};
  return ::gethostname(name.data(), name.size() - 1) == 0 ? name.data() : "unknown";
}

uint64_t resident_bytes() { return status_field_bytes("VmRSS:"); }
uint64_t peak_resident_bytes() { return status_field_bytes("VmHWM:"); }

Result<std::string> outgoing_address(const HostPort& destination) {
  SHOAL_ASSIGN(std::vector<std::string> addresses, resolve_host(destination.host));
  std::stable_partition(addresses.begin(), addresses.end(),
                        [](const std::string& address) { return !is_ipv6(address); });
  for (const std::string& address : addresses) {
    if (auto local = outgoing_to(address, destination.port); !local.empty()) return local;
  }
  return unavailable("no route to " + in_quotes(destination.host));
}

}  // namespace shoal
