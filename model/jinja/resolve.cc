// The last step of parsing: names become numbers.
#include "model/jinja/ast.h"
#include "model/jinja/interpreter.h"

namespace shoal::jinja {

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
  out.symbols = {{"loop", kLoopSymbol}, {"caller", kCallerSymbol}};
  const auto number = [&](const std::string& name) {
    return out.symbols.emplace(name, static_cast<uint32_t>(out.symbols.size())).first->second;
  };
  std::vector<Node*> pending = {tree.get()};
  while (!pending.empty()) {
    Node& node = *pending.back();
    pending.pop_back();
    if (node.kind != Kind::kCompare) {
      for (const std::string& word : node.words) node.symbols.push_back(number(word));
    }
    if (node.kind == Kind::kName || node.kind == Kind::kMacro)
      node.symbols.push_back(number(node.text));
    if (node.kind == Kind::kString) node.slot = out.strings++;
    if (node.kind == Kind::kAttribute) node.flag = may_be_method(node.text);
    for (const NodePtr& child : node.children) {
      if (child) pending.push_back(child.get());
    }
  }
  out.tree = std::move(tree);
  return out;
}

}  // namespace shoal::jinja
