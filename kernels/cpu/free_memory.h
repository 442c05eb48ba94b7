// Memory this process may still take: the machine's, within the limits of its control groups.
#pragma once

#include <cstdint>
#include <string>

namespace shoal {

// MemAvailable of /proc/meminfo, bounded by limit − usage + reclaimable page cache of every memory
// control group (version 1 or 2) around this process. Estimated; 0 if /proc cannot be read.
// `root` stands in front of all paths: tests bring their own tree.
uint64_t free_memory_bytes(const std::string& root = "");

}  // namespace shoal
