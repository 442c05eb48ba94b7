#include "base/descriptor.h"

#include <sys/resource.h>

#include <algorithm>

namespace shoal {

uint64_t raise_descriptor_limit() {
  constexpr rlim_t kEnough = 131072;  // some programs visit every number below the limit
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
  const rlim_t wanted = std::min(limit.rlim_max, kEnough);
  if (limit.rlim_cur >= wanted) return limit.rlim_cur;
  const rlimit raised{wanted, limit.rlim_max};
  return ::setrlimit(RLIMIT_NOFILE, &raised) == 0 ? wanted : limit.rlim_cur;
}

}  // namespace shoal
