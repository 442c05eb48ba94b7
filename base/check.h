// SHOAL_CHECK: a broken invariant is a bug; say where and abort. On in every build type.
#pragma once

#include <string>
#include <string_view>

namespace shoal::internal {
[[noreturn]] void check_failed(const char* file, int line, const char* condition,
                               std::string_view context);
}  // namespace shoal::internal

#define SHOAL_CHECK(condition, context)                                               \
  do {                                                                                \
    if (!(condition)) [[unlikely]] {                                                  \
      ::shoal::internal::check_failed(__FILE__, __LINE__, #condition, (context));     \
    }                                                                                 \
  } while (0)
