#include "worker/host_info.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <fstream>

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

Result<std::string> interface_address(const std::string& interface) {
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return unavailable("cannot list network interfaces");
  std::string found, known;
  for (const ifaddrs* entry = list; entry != nullptr; entry = entry->ifa_next) {
    if (entry->ifa_addr == nullptr || entry->ifa_addr->sa_family != AF_INET) continue;
    known += (known.empty() ? "" : ", ") + std::string(entry->ifa_name);
    if (found.empty() && interface == entry->ifa_name) {
      found = numeric_address(entry->ifa_addr, sizeof(sockaddr_in));
    }
  }
  ::freeifaddrs(list);
  if (found.empty()) {
    return not_found("no IPv4 address on network interface " + in_quotes(interface) +
                     "; there are: " + known);
  }
  return found;
}

Result<std::string> outgoing_address(const std::string& host, uint16_t port) {
  addrinfo hints{};
  hints.ai_family = AF_INET;
  hints.ai_socktype = SOCK_DGRAM;
  addrinfo* list = nullptr;
  const int error = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &list);
  if (error != 0)
    return not_found("cannot resolve " + in_quotes(host) + ": " + ::gai_strerror(error));
  // connect() on a datagram socket only picks the route.
  const int fd = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  sockaddr_in local{};
  socklen_t length = sizeof(local);
  const bool ok = fd >= 0 && ::connect(fd, list->ai_addr, list->ai_addrlen) == 0 &&
                  ::getsockname(fd, reinterpret_cast<sockaddr*>(&local), &length) == 0;
  if (fd >= 0) ::close(fd);
  ::freeaddrinfo(list);
  if (!ok) return unavailable("no route to " + host);
  return numeric_address(reinterpret_cast<sockaddr*>(&local), length);
}

}  // namespace shoal
