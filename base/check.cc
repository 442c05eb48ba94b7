#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace shoal::internal {

void check_failed(const char* file, int line, const char* condition, std::string_view context) {
  std::fprintf(stderr, "%s:%d: check failed: %s: %.*s\n", file, line, condition,
               static_cast<int>(context.size()), context.data());
  std::fflush(stderr);
  std::abort();
}

}  // namespace shoal::internal
