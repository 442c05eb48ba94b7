#include "config/yaml_tree.h"

#include <yaml-cpp/anchor.h>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <map>
#include <sstream>

#include <fmt/core.h>

#include "base/quote.h"
#include "base/utf8.h"

namespace shoal::config {
namespace {

constexpr size_t kMaxKeys = 256;  // of one map; the schema has 14 at most

Place place_of(const YAML::Mark& mark) {
  return mark.is_null() ? Place{1, 1} : Place{mark.line + 1, mark.column + 1};
}

struct Failure {  // thrown out of yaml-cpp's parser, caught in read_yaml
  Place place;
  std::string what;
};

// Builds the tree from the parser's events. A map's keys and values alternate in `open`.
class TreeBuilder final : public YAML::EventHandler {
 public:
  YamlNode take() { return std::move(root_); }
  // The innermost list or map that has begun and not ended; null outside of one.
  const YamlNode* unfinished() const { return open_.empty() ? nullptr : &open_.back().node; }

  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    YamlNode node;
    node.place = place_of(mark);
    finish(std::move(node), anchor);
  }
  void OnScalar(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    YamlNode node;
    node.kind = YamlNode::Kind::kScalar;
    node.place = place_of(mark);
    node.quoted = tag == "!";
    check_tag(node.place, tag);
    if (value.size() > kMaxScalarBytes) {
      throw Failure{node.place,
                    fmt::format("a value of {} bytes; at most {}", value.size(), kMaxScalarBytes)};
    }
    node.scalar = value;
    finish(std::move(node), anchor);
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t anchor) override {
    const auto found = anchors_.find(anchor);
    if (found == anchors_.end()) {
      throw Failure{place_of(mark), "an alias inside the value it stands for"};
    }
    YamlNode copy = found->second.first;
    const size_t nodes = found->second.second;
    count(place_of(mark), nodes);
    copy.place = place_of(mark);
    add(std::move(copy));
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value) override {
    start(YamlNode::Kind::kList, mark, tag, anchor);
  }
  void OnMapStart(const YAML::Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value) override {
    start(YamlNode::Kind::kMap, mark, tag, anchor);
  }
  void OnSequenceEnd() override { end(); }
  void OnMapEnd() override { end(); }

 private:
  struct Open {
    YamlNode node;
    YAML::anchor_t anchor;
    size_t nodes_before;
    bool has_key = false;
    YamlNode key;
  };

  static void check_tag(Place place, const std::string& tag) {
    if (tag.empty() || tag == "?" || tag == "!") return;
    throw Failure{place, fmt::format("tags ({}) are not supported", excerpt(tag))};
  }

  void count(Place place, size_t nodes) {
    nodes_ += nodes;
    if (nodes_ > kMaxNodes) {
      throw Failure{place, fmt::format("more than {} values (aliases count expanded)", kMaxNodes)};
    }
  }

  void start(YamlNode::Kind kind, const YAML::Mark& mark, const std::string& tag,
             YAML::anchor_t anchor) {
    Open open{{}, anchor, nodes_, false, {}};
    open.node.kind = kind;
    open.node.place = place_of(mark);
    check_tag(open.node.place, tag);
    if (static_cast<int>(open_.size()) >= kMaxDepth) {
      throw Failure{open.node.place, fmt::format("nested deeper than {} levels", kMaxDepth)};
    }
    count(open.node.place, 1);
    open_.push_back(std::move(open));
  }

  void end() {
    Open open = std::move(open_.back());
    open_.pop_back();
    if (open.anchor != YAML::NullAnchor) {
      anchors_[open.anchor] = {open.node, nodes_ - open.nodes_before};
    }
    add(std::move(open.node));
  }

  void finish(YamlNode node, YAML::anchor_t anchor) {
    count(node.place, 1);
    if (anchor != YAML::NullAnchor) anchors_[anchor] = {node, 1};
    add(std::move(node));
  }

  void add(YamlNode node) {
    if (open_.empty()) {
      root_ = std::move(node);
      return;
    }
    Open& parent = open_.back();
    if (parent.node.kind == YamlNode::Kind::kList) {
      parent.node.items.push_back(std::move(node));
    } else if (!parent.has_key) {
      check_key(parent.node, node);
      parent.key = std::move(node);
      parent.has_key = true;
    } else {
      parent.node.entries.push_back({std::move(parent.key), std::move(node)});
      parent.has_key = false;
    }
  }

  static void check_key(const YamlNode& map, const YamlNode& key) {
    if (key.kind != YamlNode::Kind::kScalar) throw Failure{key.place, "a key must be a plain word"};
    if (map.entries.size() >= kMaxKeys) {
      throw Failure{key.place, fmt::format("more than {} keys in one place", kMaxKeys)};
    }
    for (const auto& [other, value] : map.entries) {
      if (other.scalar == key.scalar) {
        throw Failure{key.place, fmt::format("duplicate key {}; the first is in line {}",
                                             in_quotes(key.scalar), other.place.line)};
      }
    }
  }

  YamlNode root_;
  std::vector<Open> open_;
  std::map<YAML::anchor_t, std::pair<YamlNode, size_t>> anchors_;  // and how many nodes they hold
  size_t nodes_ = 0;
};

// Stops at the first event of a second document.
class NoMore final : public YAML::EventHandler {
 public:
  void OnDocumentStart(const YAML::Mark& mark) override {
    throw Failure{place_of(mark), "a second document; the configuration is one"};
  }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
  void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t,
                const std::string&) override {}
  void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {}
  void OnMapEnd() override {}
};

Status check_bytes(std::string_view text, const std::string& name) {
  if (text.size() > kMaxDocumentBytes) {
    return invalid_argument(fmt::format("{}: {} bytes; a configuration has at most {}",
                                        excerpt(name), text.size(), kMaxDocumentBytes));
  }
  Place place{1, 1};
  bool indentation = true;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c == '\t' && indentation) {  // yaml-cpp's own message is about maps, some columns later
      return invalid_argument(at(name, place) + ": a tab in the indentation; YAML wants spaces");
    }
    indentation = c == '\n' || (indentation && c == ' ');
    if (c == 0 || (c < 0x20 && c != '\t' && c != '\n' && c != '\r')) {
      return invalid_argument(
          fmt::format("{}: control character {:#04x}", at(name, place), static_cast<unsigned>(c)));
    }
    if (c == '\n') {
      ++place.line;
      place.column = 1;
    } else {
      ++place.column;
    }
  }
  if (!is_valid_utf8(text)) return invalid_argument(name + ": not valid UTF-8");
  return Status::ok();
}

}  // namespace

std::string at(const std::string& name, Place place) {
  return fmt::format("{}:{}:{}", excerpt(name), place.line, place.column);
}

Result<YamlNode> read_yaml(std::string_view text, const std::string& name) {
  SHOAL_TRY(check_bytes(text, name));
  TreeBuilder builder;
  try {
    std::istringstream stream{std::string(text)};
    YAML::Parser parser(stream);
    YamlNode root;
    if (parser.HandleNextDocument(builder)) {
      root = builder.take();
      NoMore no_more;
      parser.HandleNextDocument(no_more);
    }
    if (root.kind == YamlNode::Kind::kNull) root.kind = YamlNode::Kind::kMap;
    if (root.place.line == 0) root.place = {1, 1};
    return root;
  } catch (const Failure& failure) {
    return invalid_argument(at(name, failure.place) + ": " + failure.what);
  } catch (const YAML::Exception& error) {
    // At the end of the text yaml-cpp names a wrong place; where the trouble began is better
    // anyway.
    const YamlNode* open = builder.unfinished();
    const bool at_end = error.mark.pos < 0 || static_cast<size_t>(error.mark.pos) >= text.size();
    if (at_end && open != nullptr) {
      return invalid_argument(fmt::format("{}: the {} that begins here does not end",
                                          at(name, open->place),
                                          open->kind == YamlNode::Kind::kMap ? "map" : "list"));
    }
    return invalid_argument(at(name, place_of(error.mark)) + ": " + excerpt(error.msg));
  }
}

}  // namespace shoal::config
