#include "base/check.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "base/console.h"
#include "base/log.h"

namespace shoal::internal {

// With what is at hand: the heap may be what is broken.
void check_failed(const char* file, int line, const char* condition, std::string_view context) {
  char text[2048];
  const int length =
      std::snprintf(text, sizeof(text), "%s:%d: check failed: %s: %.*s\n", file, line, condition,
                    static_cast<int>(context.size()), context.data());
  flush_log(std::chrono::milliseconds(300));
  write_within(STDERR_FILENO,
               {text, static_cast<size_t>(std::clamp<int>(length, 0, sizeof(text) - 1))},
               std::chrono::seconds(1));
  std::abort();
}

}  // namespace shoal::internal
