#include "kernels/cpu/free_memory.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <sstream>
#include <string_view>

namespace shoal {
namespace {

constexpr uint64_t kNoLimit = std::numeric_limits<uint64_t>::max();

// The number in a file of one; "max", or no such file, gives `fallback`.
uint64_t read_number(const std::string& path, uint64_t fallback) {
  std::ifstream in(path);
  uint64_t value = 0;
  return in >> value ? value : fallback;
}

// The number after `key` in a file of "key number" lines.
uint64_t read_field(const std::string& path, std::string_view key) {
  std::ifstream in(path);
  std::string name;
  for (uint64_t value = 0; in >> name >> value;) {
    if (name == key) return value;
    in.ignore(std::numeric_limits<std::streamsize>::max(), '\n');
  }
  return 0;
}

struct GroupFiles {
  const char *mount, *limit, *usage, *cache_field;
};
constexpr GroupFiles kVersion1 = {"/sys/fs/cgroup/memory", "/memory.limit_in_bytes",
                                  "/memory.usage_in_bytes", "total_inactive_file"};
constexpr GroupFiles kVersion2 = {"/sys/fs/cgroup", "/memory.max", "/memory.current",
                                  "inactive_file"};

// The tightest of a group and the groups around it. A container may see its own group as the root,
// whatever `path` says: missing folders are no limits.
uint64_t room(const std::string& root, const GroupFiles& files, std::string path) {
  uint64_t least = kNoLimit;
  for (;;) {
    const std::string folder = root + files.mount + path;
    const uint64_t limit = read_number(folder + files.limit, kNoLimit);
    if (limit != kNoLimit) {
      const uint64_t usage = read_number(folder + files.usage, 0);
      const uint64_t cache = read_field(folder + "/memory.stat", files.cache_field);
      const uint64_t held = usage - std::min(usage, cache);
      least = std::min(least, limit - std::min(limit, held));
    }
    if (path.empty()) return least;
    path.resize(path.rfind('/'));
  }
}

}  // namespace

uint64_t free_memory_bytes(const std::string& root) {
  uint64_t least = read_field(root + "/proc/meminfo", "MemAvailable:") * 1024;
  std::ifstream in(root + "/proc/self/cgroup");
  for (std::string line; std::getline(in, line);) {  // number:controllers:path
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    std::string path = line.substr(second + 1);
    if (path.empty() || path[0] != '/' || path == "/") path.clear();
    if (controllers == ",,") {
      least = std::min(least, room(root, kVersion2, path));
    } else if (controllers.find(",memory,") != std::string::npos) {
      least = std::min(least, room(root, kVersion1, path));
    }
  }
  return least;
}

}  // namespace shoal
