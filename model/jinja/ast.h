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
  kCall,         // [function, arguments…], which may be kNamed, kUnpackItems, kUnpackNames
  kFilter,       // [input, arguments…] text
  kTest,         // [input, arguments…] text; `negated`
  kNamed,        // [value] text
  kUnpackItems,  // [value]: *value
  kUnpackNames,  // [value]: **value
  kNot,
  kNegate,
  kPlus,
  kAnd,
  kOr,
  kBinary,   // [left, right] text: + - * / // % ** ~
  kCompare,  // [first, operand…]; operators in `words`
  kTernary,  // [then, condition, else or null]
  // what is assigned to
  kTarget,           // text
  kTargets,          // targets…
  kNamespaceTarget,  // words = {object, attribute}
  // statements
  kBlock,        // children in order
  kText,         // text
  kOutput,       // [expression]
  kFor,          // [iterable, filter or null, body, else or null, target]
  kIf,           // [condition, body, …, else or null]: pairs, then the last
  kSet,          // [value, target]
  kSetBlock,     // [body, filters around kBlockText or null, target]
  kMacro,        // [body, defaults…]; words = parameters; text = name; uses
  kCallBlock,    // [call, body, defaults…]; words = the caller's parameters; uses
  kFilterBlock,  // [body, filters around kBlockText]
  kWith,         // [body, target, value, …]
  kNamedBlock,   // [body] text; flag: required
  kGeneration,   // [body]
  kNeedsLoader,  // text: include, import …
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
  // kTest: negated; kFor: recursive; kAttribute: perhaps a method or the like
  bool flag = false;
  uint8_t uses = 0;  // of a macro's body: kUses…
  std::string text;
  Value value;  // of kConstant
  std::vector<std::string> words;
  std::vector<NodePtr> children;
  // Filled in when the whole template is there (resolve.cc).
  std::vector<uint32_t>
      symbols;        // of `words`; kName, kTarget: of its text; kMacro: words', its name's
  uint32_t slot = 0;  // kString: which of the template's strings
};

// Names are numbers while a template runs.
struct Program {
  NodePtr tree;
  std::unordered_map<std::string, uint32_t> symbols;
  uint32_t strings = 0;
};
inline constexpr uint32_t kLoopSymbol = 0, kCallerSymbol = 1, kVarargsSymbol = 2, kKwargsSymbol = 3;
inline constexpr uint8_t kUsesCaller = 1, kUsesVarargs = 2, kUsesKwargs = 4;

// Error: a filter or test that does not exist, unless an `if` stands before it: then it is one when
// it is reached, as in Jinja2.
Program resolve(NodePtr tree);

}  // namespace shoal::jinja
