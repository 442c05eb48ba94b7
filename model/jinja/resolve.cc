// The last step of parsing: names become numbers.
#include <unordered_map>

#include "model/jinja/ast.h"
#include "model/jinja/interpreter.h"

namespace shoal::jinja {
namespace {

class Symbols {
 public:
  uint32_t number(const std::string& name) {
    const auto [it, added] = numbers_.emplace(name, static_cast<uint32_t>(names_.size()));
    if (added) names_.push_back(name);
    return it->second;
  }
  std::vector<std::string> take() { return std::move(names_); }

 private:
  std::unordered_map<std::string, uint32_t> numbers_;
  std::vector<std::string> names_;
};

}  // namespace

Node::~Node() {
  std::vector<NodePtr> pending = std::move(children);
  while (!pending.empty()) {
    const NodePtr node = std::move(pending.back());
    pending.pop_back();
    if (!node) continue;
    for (NodePtr& child : node->children) pending.push_back(std::move(child));
    node->children.clear();
  }
}

Program resolve(NodePtr tree) {
  Program out;
  Symbols symbols;
  (void)symbols.number("loop");    // kLoopSymbol
  (void)symbols.number("caller");  // kCallerSymbol
  std::vector<Node*> pending = {tree.get()};
  while (!pending.empty()) {
    Node& node = *pending.back();
    pending.pop_back();
    if (node.kind != Kind::kCompare) {
      for (const std::string& word : node.words) node.symbols.push_back(symbols.number(word));
    }
    if (node.kind == Kind::kName || node.kind == Kind::kMacro)
      node.symbols.push_back(symbols.number(node.text));
    if (node.kind == Kind::kString) node.slot = out.strings++;
    if (node.kind == Kind::kAttribute) node.flag = may_be_method(node.text);
    for (const NodePtr& child : node.children) {
      if (child) pending.push_back(child.get());
    }
  }
  out.symbols = symbols.take();
  out.tree = std::move(tree);
  return out;
}

}  // namespace shoal::jinja
