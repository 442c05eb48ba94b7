// The syntax tree of a template. One node type: a kind, children, a text, a constant.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "model/jinja/value.h"

namespace shoal::jinja {

enum class Kind : uint8_t {
  // expressions
  kConstant,  // none, a bool or a number
  kString,    // text
  kName,
  kBlockText,  // what a set or filter block has written, where its filters begin
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
  kSetBlock,   // [body, filters around kBlockText or null]; words = {name}
  kMacro,      // [body, defaults…]; words = parameters; text = name
  kCallBlock,  // [call, body, defaults…]; words = the caller's parameters
  kFilterBlock,  // [body, filters around kBlockText]
  kWith,         // [body, values…]; words = names
  kBreak,
  kContinue,
};

struct Node;
using NodePtr = std::unique_ptr<Node>;

struct Node {
  Node() = default;
  ~Node();  // not recursive: a chain like 1+1+1+… is as deep as it is long
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  Kind kind{};
  int line = 0;
  // kTest: negated; kSet: of a namespace; kFor: recursive; kAttribute: perhaps a method
  bool flag = false;
  std::string text;
  Value value;  // of kConstant
  std::vector<std::string> words;
  std::vector<NodePtr> children;
  // Filled in when the whole template is there (resolve.cc).
  std::vector<uint32_t> symbols;  // of `words`; kName: of its text; kMacro: words', then its name's
  uint32_t slot = 0;              // kString: which of the template's strings
};

// Names are numbers while a template runs.
struct Program {
  NodePtr tree;
  std::unordered_map<std::string, uint32_t> symbols;
  uint32_t strings = 0;
};
inline constexpr uint32_t kLoopSymbol = 0, kCallerSymbol = 1;

Program resolve(NodePtr tree);

}  // namespace shoal::jinja
