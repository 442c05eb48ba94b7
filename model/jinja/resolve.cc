// The last step of parsing: names become numbers.
#include <utility>
#include <vector>

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

namespace {

// Are unknown filters of child `i` forgiven until they are reached?
bool is_conditional(const Node& node, size_t i, bool inherited) {
  switch (node.kind) {
    case Kind::kIf:
    case Kind::kTernary:
      return true;
    case Kind::kFor:
      return i == 0 && inherited;
    case Kind::kWith:
      return i > 0 && inherited;
    case Kind::kMacro:
    case Kind::kSetBlock:
    case Kind::kFilterBlock:
    case Kind::kNamedBlock:
    case Kind::kGeneration:
      return false;
    case Kind::kCallBlock:
      return i == 0 && inherited;
    default:
      return inherited;
  }
}

void check_names(const Node& node) {
  try {
    if (node.kind == Kind::kFilter) (void)find_filter(node.text);
    if (node.kind == Kind::kTest) (void)find_test(node.text);
  } catch (TemplateError& error) {
    error.line = node.line;
    throw;
  }
}

}  // namespace

Program resolve(NodePtr tree) {
  Program out;
  out.symbols = {{"loop", kLoopSymbol},
                 {"caller", kCallerSymbol},
                 {"varargs", kVarargsSymbol},
                 {"kwargs", kKwargsSymbol}};
  const auto number = [&](const std::string& name) {
    return out.symbols.emplace(name, static_cast<uint32_t>(out.symbols.size())).first->second;
  };
  std::vector<std::pair<Node*, bool>> pending = {{tree.get(), false}};
  while (!pending.empty()) {
    const auto [at, conditional] = pending.back();
    Node& node = *at;
    pending.pop_back();
    if (!conditional) check_names(node);
    if (node.kind != Kind::kCompare) {
      for (const std::string& word : node.words) node.symbols.push_back(number(word));
    }
    if (node.kind == Kind::kName || node.kind == Kind::kTarget || node.kind == Kind::kMacro)
      node.symbols.push_back(number(node.text));
    if (node.kind == Kind::kString) node.slot = out.strings++;
    if (node.kind == Kind::kAttribute) node.flag = may_be_attribute(node.text);
    for (size_t i = 0; i < node.children.size(); ++i) {
      if (node.children[i])
        pending.emplace_back(node.children[i].get(), is_conditional(node, i, conditional));
    }
  }
  out.tree = std::move(tree);
  return out;
}

}  // namespace shoal::jinja
