// A bounded YAML document as a tree that remembers where everything stands: what yaml-cpp's own
// Node does not do is refuse duplicate keys, limit depth and alias expansion, or keep the place of
// a key. Private to config/.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace shoal::config {

inline constexpr size_t kMaxDocumentBytes = 1u << 20;
inline constexpr int kMaxDepth = 16;        // the schema needs 4
inline constexpr size_t kMaxNodes = 20000;  // after expanding aliases: no billion laughs
inline constexpr size_t kMaxScalarBytes = 4096;

struct Place {  // 1-based
  int line = 0;
  int column = 0;
};

struct YamlEntry;

struct YamlNode {
  enum class Kind : uint8_t { kNull, kScalar, kList, kMap };
  Kind kind = Kind::kNull;
  Place place;
  std::string scalar;
  bool quoted = false;
  std::vector<YamlNode> items;     // kList
  std::vector<YamlEntry> entries;  // kMap; keys are scalars, all different
};

struct YamlEntry {
  YamlNode key, value;
};

// The only document of `text`; an empty one is an empty map. Errors start with "NAME:LINE:COLUMN:
// ".
Result<YamlNode> read_yaml(std::string_view text, const std::string& name);

// "cluster.yaml:12:5"
std::string at(const std::string& name, Place place);

}  // namespace shoal::config
