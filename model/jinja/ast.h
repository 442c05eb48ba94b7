// The syntax tree of a template. One node type: a kind, children, a text, a constant.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "model/jinja/value.h"

namespace shoal::jinja {

enum class Kind : uint8_t {
  // expressions
  kConstant,
  kName,
  kListLiteral,
  kTupleLiteral,
  kDictLiteral,  // dict: key, value, key, value …
  kAttribute,    // [object] text
  kItem,         // [object, index]
  kSlice,        // [object, start, stop, step]; absent parts are null
  kCall,         // [function, arguments…]; kNamed wraps keyword arguments
  kFilter,       // [input, arguments…] text
  kTest,         // [input, arguments…] text; `negated`
  kNamed,        // [value] text
  kNot,
  kNegate,
  kPlus,
  kAnd,
  kOr,
  kBinary,   // [left, right] text: + - * / // % ** ~
  kCompare,  // [first, operand…]; operators in `words`
  kTernary,  // [then, condition, else or null]
  // statements
  kBlock,      // children in order
  kText,       // text
  kOutput,     // [expression]
  kFor,        // [iterable, filter or null, body, else or null]; targets in `words`
  kIf,         // [condition, body, …, else or null]: pairs, then the last
  kSet,        // [value]; targets in `words`, or a namespace attribute: words = {object, attribute}
  kSetBlock,   // [body, filters…]; words = {name}
  kMacro,      // [body, defaults…]; words = parameters; text = name
  kCallBlock,  // [call, body, defaults…]; words = the caller's parameters
  kFilterBlock,  // [body]; filters wrapped around kConstant in `children[1]`
  kWith,         // [body, values…]; words = names
  kBreak,
  kContinue,
};

struct Node;
using NodePtr = std::unique_ptr<Node>;

struct Node {
  Kind kind{};
  int line = 0;
  bool flag =
      false;  // kTest: negated; kSet: of a namespace; kFor: recursive; kConstant: a block's text
  std::string text;
  Value value;
  std::vector<std::string> words;
  std::vector<NodePtr> children;
};

}  // namespace shoal::jinja
