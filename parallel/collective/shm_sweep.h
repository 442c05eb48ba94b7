// What processes that were killed while their group formed have left in /dev/shm.
#pragma once

#include <cstddef>
#include <string>

namespace shoal {

// Removes segments of groups that nobody forms any more, and says how many. A segment is ours only
// if everything says so: its name ("shoal.", then numbers in hex and dots), this user's, a regular
// file of mode 0600 with one name, empty or with our header; and its creator is gone only if the
// lock that it holds while the group forms can be had (shm_segment.h), in whatever PID namespace.
// Anything else is left alone, links are not followed. Thread-safe.
size_t sweep_segments(const std::string& folder = "/dev/shm");

}  // namespace shoal
