// The configuration's schema as a table: every key with its type, range, default and explanation.
// The parser, the environment, the flags and the documentation all read this one table; adding a
// key is adding a member to config/config.h and a line here.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "config/config.h"

namespace shoal::config {

enum class Shape : uint8_t { kScalar, kList };  // of scalars without commas

// One key of T (the whole Config, or one Worker).
template <class T>
struct Field {
  std::string_view key;  // "kv.type"; within a worker "share"
  std::string expected;  // "f16, f32", "1 … 4096", "text"
  std::string_view doc;
  Shape shape = Shape::kScalar;
  // From one scalar; lists also accept "1,2,1". The error has no key in front.
  std::function<Status(T&, std::string_view)> set;
  // The canonical text that set() would accept.
  std::function<std::string(const T&)> get;
};

const std::vector<Field<Config>>& config_fields();  // dotted keys, in the samples' order
const std::vector<Field<Worker>>& worker_fields();

inline constexpr size_t kMaxWorkers = 64;  // wire::kMaxWorld

}  // namespace shoal::config
