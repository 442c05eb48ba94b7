#include "config/placement_file.h"

#include <fmt/core.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <optional>

#include "base/check.h"
#include "base/file.h"
#include "base/quote.h"
#include "config/values.h"
#include "config/yaml_tree.h"

namespace shoal::config {
namespace {

using Kind = YamlNode::Kind;

class PlacementReader {
 public:
  PlacementReader(const std::string& name, const std::vector<int64_t>& experts, int world)
      : name_(name), experts_(experts), world_(world) {
    size_t entry = 0;
    for (const int64_t count : experts_) {
      first_entry_.push_back(entry);
      entry += static_cast<size_t>(count);
    }
    masks_.resize(entry);
    listed_at_.resize(entry);
  }

  Result<std::vector<uint64_t>> read(const YamlNode& root) {
    if (root.kind != Kind::kMap) return error(root.place, "expected a map with `placement`");
    bool refuse_unlisted = false;
    const YamlNode* list = nullptr;
    for (const auto& [key, value] : root.entries) {
      if (key.scalar == "placement") {
        list = &value;
      } else if (key.scalar == "unlisted") {
        if (value.kind != Kind::kScalar || (value.scalar != "auto" && value.scalar != "refuse")) {
          return error(value.place, "unlisted: expected auto or refuse");
        }
        refuse_unlisted = value.scalar == "refuse";
      } else {
        return error(key.place, fmt::format("unknown key {}; known here: unlisted, placement",
                                            in_quotes(key.scalar)));
      }
    }
    if (list == nullptr) return error(root.place, "`placement` is missing");
    if (list->kind != Kind::kList) return error(list->place, "placement: expected a list");
    for (const YamlNode& item : list->items) SHOAL_TRY(read_item(item));
    if (refuse_unlisted) SHOAL_TRY(check_complete(list->place));
    return masks_;
  }

 private:
  struct Number {
    int64_t value = 0;
    Place place;
  };
  using Numbers = std::vector<Number>;
  enum Part { kLayers, kExperts, kRanks, kParts };
  static constexpr const char* kPlural[kParts] = {"layers", "experts", "ranks"};
  static constexpr const char* kSingular[kParts] = {"layer", "expert", "rank"};
  static constexpr const char* kOwner[kParts] = {"model", "layer", "group"};

  Status error(Place place, const std::string& what) const {
    return invalid_argument(fmt::format("{}: {}", at(name_, place), what));
  }

  Status read_item(const YamlNode& item) {
    if (item.kind != Kind::kMap) {
      return error(item.place, "expected a map with layers, experts and ranks");
    }
    const YamlNode* parts[kParts] = {};
    for (const auto& [key, value] : item.entries) {
      int part = 0;
      while (part < kParts && key.scalar != kPlural[part] && key.scalar != kSingular[part]) ++part;
      if (part == kParts) {
        return error(key.place, fmt::format("unknown key {}; known here: layers, experts, ranks",
                                            in_quotes(key.scalar)));
      }
      if (parts[part] != nullptr) {
        return error(key.place, fmt::format("{} are given twice", kPlural[part]));
      }
      parts[part] = &value;
    }
    for (int part = 0; part < kParts; ++part) {
      if (parts[part] == nullptr) {
        return error(item.place, fmt::format("{} are missing", kPlural[part]));
      }
    }
    Numbers ranks, layers;
    SHOAL_TRY(numbers(*parts[kRanks], kRanks, world_, &ranks));
    uint64_t mask = 0;
    for (const Number& rank : ranks) {
      const uint64_t bit = uint64_t{1} << static_cast<unsigned>(rank.value);
      if ((mask & bit) != 0) {
        return error(rank.place, fmt::format("rank {} is listed twice", rank.value));
      }
      mask |= bit;
    }
    const auto blocks = static_cast<int64_t>(experts_.size());
    SHOAL_TRY(numbers(*parts[kLayers], kLayers, blocks, &layers));
    for (const Number& layer : layers) {
      const int64_t count = experts_[static_cast<size_t>(layer.value)];
      if (count == 0) {
        return error(layer.place, fmt::format("layer {} has no experts", layer.value));
      }
      Numbers experts;
      SHOAL_TRY(numbers(*parts[kExperts], kExperts, count, &experts));
      for (const Number& expert : experts) SHOAL_TRY(pin(layer.value, expert, mask));
    }
    return Status::ok();
  }

  Status pin(int64_t layer, const Number& expert, uint64_t mask) {
    const size_t entry =
        first_entry_[static_cast<size_t>(layer)] + static_cast<size_t>(expert.value);
    if (masks_[entry] != 0) {
      return error(expert.place, fmt::format("expert {} of layer {} is listed already in line {}",
                                             expert.value, layer, listed_at_[entry].line));
    }
    masks_[entry] = mask;
    listed_at_[entry] = expert.place;
    return Status::ok();
  }

  // Numbers below `bound`.
  Status numbers(const YamlNode& node, Part part, int64_t bound, Numbers* out) const {
    if (node.kind == Kind::kList) {
      for (const YamlNode& item : node.items) SHOAL_TRY(scalar(item, part, bound, out));
      if (!node.items.empty()) return Status::ok();
      return error(node.place, fmt::format("{}: expected at least one number", kPlural[part]));
    }
    if (node.kind == Kind::kScalar && node.scalar == "all" && part != kRanks) {
      for (int64_t value = 0; value < bound; ++value) {
        const bool dense = part == kLayers && experts_[static_cast<size_t>(value)] == 0;
        if (!dense) out->push_back({value, node.place});
      }
      return Status::ok();
    }
    return scalar(node, part, bound, out);
  }

  // "3", "1-3,7"
  Status scalar(const YamlNode& node, Part part, int64_t bound, Numbers* out) const {
    const auto bad = [&] {
      return error(node.place,
                   fmt::format("{}: expected numbers and ranges such as 3 or 0-7,12{}, got {}",
                               kPlural[part], part == kRanks ? "" : ", or all",
                               node.kind == Kind::kScalar ? in_quotes(node.scalar) : "no text"));
    };
    if (node.kind != Kind::kScalar || node.scalar.empty()) return bad();
    for (std::string_view rest = node.scalar; !rest.empty();) {
      const size_t comma = std::min(rest.find(','), rest.size());
      const std::string_view range = trimmed(rest.substr(0, comma));
      if (comma + 1 == rest.size()) return bad();  // nothing behind the comma
      rest.remove_prefix(std::min(comma + 1, rest.size()));
      const size_t dash = std::min(range.find('-'), range.size());
      const auto first = parse_integer(trimmed(range.substr(0, dash)));
      const auto last =
          dash == range.size() ? first : parse_integer(trimmed(range.substr(dash + 1)));
      if (!first || !last || *first > *last) return bad();
      if (*last >= static_cast<uint64_t>(bound)) {
        return error(node.place,
                     fmt::format("{} {}: the {} has {} {}, counted from 0", kSingular[part], *last,
                                 kOwner[part], bound, kPlural[part]));
      }
      if (out->size() + (*last - *first + 1) > static_cast<size_t>(bound)) {
        return error(node.place,
                     fmt::format("{}: more are listed than the {} has; one is listed twice",
                                 kPlural[part], kOwner[part]));
      }
      for (uint64_t value = *first; value <= *last; ++value) {
        out->push_back({static_cast<int64_t>(value), node.place});
      }
    }
    return Status::ok();
  }

  static std::string_view trimmed(std::string_view text) {
    while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
    while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
    return text;
  }

  Status check_complete(Place place) const {
    size_t missing = 0;
    std::string first;
    for (size_t layer = 0; layer < experts_.size(); ++layer) {
      for (int64_t e = 0; e < experts_[layer]; ++e) {
        if (masks_[first_entry_[layer] + static_cast<size_t>(e)] != 0) continue;
        if (missing++ == 0) first = fmt::format("expert {} of layer {}", e, layer);
      }
    }
    if (missing == 0) return Status::ok();
    return error(place, fmt::format("{} of {} experts are not listed, the first is {}; list them, "
                                    "or set `unlisted: auto`",
                                    missing, masks_.size(), first));
  }

  const std::string& name_;
  const std::vector<int64_t>& experts_;  // of every layer
  const int world_;
  std::vector<size_t> first_entry_;  // of every layer
  std::vector<uint64_t> masks_;
  std::vector<Place> listed_at_;
};

}  // namespace

Result<std::vector<uint64_t>> parse_placement(std::string_view text, const std::string& name,
                                              const std::vector<int64_t>& experts_of_layer,
                                              int world) {
  SHOAL_CHECK(world >= 1 && world <= 64, "ranks of a placement");
  SHOAL_ASSIGN(const YamlNode root, read_yaml(text, name));
  return PlacementReader(name, experts_of_layer, world).read(root);
}

Result<std::vector<uint64_t>> read_placement(const std::string& path,
                                             const std::vector<int64_t>& experts_of_layer,
                                             int world) {
  SHOAL_ASSIGN(const std::string text, read_text_file(path, kMaxDocumentBytes));
  return parse_placement(text, path, experts_of_layer, world);
}

}  // namespace shoal::config
