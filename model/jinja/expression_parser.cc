#include "model/jinja/expression_parser.h"

#include <set>

namespace shoal::jinja {
namespace {

NodePtr two(NodePtr node, NodePtr left, NodePtr right) {
  node->children.push_back(std::move(left));
  node->children.push_back(std::move(right));
  return node;
}

}  // namespace

NodePtr ExpressionParser::make(Kind kind) const {
  auto node = std::make_unique<Node>();
  node->kind = kind;
  node->line = peek().line;
  return node;
}

void ExpressionParser::fail(const std::string& message) const {
  throw TemplateError(message, peek().line);
}

void ExpressionParser::expect(TokenType type, std::string_view what) {
  if (peek().type != type) {
    fail("expected '" + std::string(what) + "'" +
         (peek().text.empty() ? "" : ", found '" + peek().text + "'"));
  }
  next();
}

bool ExpressionParser::accept(std::string_view op) {
  if (!at_operator(op)) return false;
  next();
  return true;
}

void ExpressionParser::expect_operator(std::string_view op) {
  if (!accept(op)) {
    fail("expected '" + std::string(op) + "'" +
         (peek().text.empty() ? "" : ", found '" + peek().text + "'"));
  }
}

bool ExpressionParser::accept_name(std::string_view word) {
  if (!at_name(word)) return false;
  next();
  return true;
}

void ExpressionParser::expect_name(std::string_view word) {
  if (!accept_name(word)) fail("expected '" + std::string(word) + "'");
}

std::string ExpressionParser::name(const std::string& what) {
  if (peek().type != TokenType::kName) fail("expected " + what);
  return next().text;
}

bool ExpressionParser::at_end_of_tuple(std::string_view word) const {
  return peek().type == TokenType::kOutputEnd || peek().type == TokenType::kTagEnd ||
         at_operator(")") || (!word.empty() && at_name(word));
}

NodePtr ExpressionParser::expression_or_tuple(bool ternary, std::string_view end) {
  const auto element = [&] { return ternary ? expression() : or_expression(); };
  if (at_end_of_tuple(end)) fail("an expression is missing");
  NodePtr first = element();
  if (!at_operator(",")) return first;
  NodePtr tuple = make(Kind::kTupleLiteral);
  tuple->children.push_back(std::move(first));
  while (accept(",") && !at_end_of_tuple(end)) tuple->children.push_back(element());
  return tuple;
}

NodePtr ExpressionParser::assigned_name() {
  NodePtr node = make(Kind::kTarget);
  const std::string word = name("a variable");
  for (const std::string_view constant : {"true", "false", "none", "True", "False", "None"}) {
    if (word == constant) fail("cannot assign to '" + word + "'");
  }
  if (word == "loop" && loops_around_ > 0) fail("cannot assign to 'loop' in a loop");
  node->text = word;
  return node;
}

NodePtr ExpressionParser::one_target() {
  const DepthGuard guard(*this);
  if (!accept("(")) return assigned_name();
  NodePtr inner = targets("");
  expect_operator(")");
  return inner;
}

NodePtr ExpressionParser::targets(std::string_view end) {
  NodePtr first = one_target();
  if (!at_operator(",")) return first;
  NodePtr all = make(Kind::kTargets);
  all->children.push_back(std::move(first));
  while (accept(",") && !at_end_of_tuple(end)) all->children.push_back(one_target());
  return all;
}

NodePtr ExpressionParser::expression() {
  const DepthGuard guard(*this);
  NodePtr node = or_expression();
  while (at_name("if")) {
    NodePtr ternary = make(Kind::kTernary);
    next();
    NodePtr condition = or_expression();
    NodePtr otherwise = accept_name("else") ? expression() : nullptr;
    ternary->children.push_back(std::move(node));
    ternary->children.push_back(std::move(condition));
    ternary->children.push_back(std::move(otherwise));
    node = std::move(ternary);
  }
  return node;
}

NodePtr ExpressionParser::or_expression() {
  NodePtr node = and_expression();
  while (at_name("or")) {
    NodePtr parent = make(Kind::kOr);
    next();
    node = two(std::move(parent), std::move(node), and_expression());
  }
  return node;
}

NodePtr ExpressionParser::and_expression() {
  NodePtr node = not_expression();
  while (at_name("and")) {
    NodePtr parent = make(Kind::kAnd);
    next();
    node = two(std::move(parent), std::move(node), not_expression());
  }
  return node;
}

NodePtr ExpressionParser::not_expression() {
  const DepthGuard guard(*this);
  if (at_name("not")) {
    NodePtr node = make(Kind::kNot);
    next();
    node->children.push_back(not_expression());
    return node;
  }
  return comparison();
}

NodePtr ExpressionParser::comparison() {
  NodePtr node = binary(0);
  NodePtr compare;
  for (;;) {
    std::string op;
    if (peek().type == TokenType::kOperator &&
        (peek().text == "==" || peek().text == "!=" || peek().text == "<" || peek().text == ">" ||
         peek().text == "<=" || peek().text == ">=")) {
      op = next().text;
    } else if (accept_name("in")) {
      op = "in";
    } else if (at_name("not") && peek(1).type == TokenType::kName && peek(1).text == "in") {
      next(), next();
      op = "not in";
    } else {
      break;
    }
    if (!compare) {
      compare = make(Kind::kCompare);
      compare->children.push_back(std::move(node));
    }
    compare->words.push_back(op);
    compare->children.push_back(binary(0));
  }
  return compare ? std::move(compare) : std::move(node);
}

// Levels, loosest first: + and −, then ~, then * / // %.
NodePtr ExpressionParser::binary(int level) {
  if (level == 3) return power();
  static constexpr std::string_view kOperators[3][4] = {
      {"+", "-", "", ""}, {"~", "", "", ""}, {"*", "/", "//", "%"}};
  NodePtr node = binary(level + 1);
  for (;;) {
    bool found = false;
    for (const std::string_view op : kOperators[level]) {
      if (op.empty() || !at_operator(op)) continue;
      NodePtr parent = make(Kind::kBinary);
      parent->text = next().text;
      node = two(std::move(parent), std::move(node), binary(level + 1));
      found = true;
      break;
    }
    if (!found) return node;
  }
}

NodePtr ExpressionParser::power() {
  NodePtr node = unary();
  while (at_operator("**")) {
    NodePtr parent = make(Kind::kBinary);
    parent->text = next().text;
    node = two(std::move(parent), std::move(node), unary());
  }
  return node;
}

NodePtr ExpressionParser::unary(bool with_filter) {
  const DepthGuard guard(*this);
  NodePtr node;
  if (at_operator("-") || at_operator("+")) {
    node = make(at_operator("-") ? Kind::kNegate : Kind::kPlus);
    next();
    node->children.push_back(unary(false));
  } else {
    node = primary();
  }
  node = postfix(std::move(node));
  if (!with_filter) return node;
  for (;;) {
    if (at_operator("|")) {
      node = filters(std::move(node));
    } else if (at_name("is")) {
      node = test(std::move(node));
    } else if (at_operator("(")) {
      node = call(std::move(node));
    } else {
      return node;
    }
  }
}

NodePtr ExpressionParser::primary() {
  NodePtr node = make(Kind::kConstant);
  const Token& token = peek();
  switch (token.type) {
    case TokenType::kInteger:
    case TokenType::kFloat:
      node->value = next().value;
      return node;
    case TokenType::kString: {
      node->kind = Kind::kString;
      while (peek().type == TokenType::kString) node->text += next().text;  // adjacent ones join
      return node;
    }
    case TokenType::kName: {
      const std::string word = next().text;
      if (word == "true" || word == "True") {
        node->value = Value(true);
      } else if (word == "false" || word == "False") {
        node->value = Value(false);
      } else if (word != "none" && word != "None") {
        node->kind = Kind::kName;
        node->text = word;
        uses_ |= word == "caller"    ? kUsesCaller
                 : word == "varargs" ? kUsesVarargs
                 : word == "kwargs"  ? kUsesKwargs
                                     : 0;
      }
      return node;
    }
    default:
      break;
  }
  if (at_operator("(")) return parenthesis();
  if (at_operator("[")) return list_literal();
  if (at_operator("{")) return dict_literal();
  fail(token.text.empty() ? "an expression is missing" : "unexpected '" + token.text + "'");
}

NodePtr ExpressionParser::parenthesis() {
  NodePtr tuple = make(Kind::kTupleLiteral);
  next();
  if (accept(")")) return tuple;
  NodePtr inner = expression_or_tuple();
  expect_operator(")");
  return inner;
}

NodePtr ExpressionParser::list_literal() {
  NodePtr node = make(Kind::kListLiteral);
  next();
  while (!accept("]")) {
    node->children.push_back(expression());
    if (!accept(",")) {
      expect_operator("]");
      break;
    }
  }
  return node;
}

NodePtr ExpressionParser::dict_literal() {
  NodePtr node = make(Kind::kDictLiteral);
  next();
  while (!accept("}")) {
    node->children.push_back(expression());
    expect_operator(":");
    node->children.push_back(expression());
    if (!accept(",")) {
      expect_operator("}");
      break;
    }
  }
  return node;
}

void ExpressionParser::arguments(Node& call) {
  expect_operator("(");
  bool named = false, items = false, names = false;
  std::set<std::string> known;
  while (!accept(")")) {
    NodePtr argument;
    if (at_operator("*") || at_operator("**")) {
      const bool of_names = at_operator("**");
      if (names || (items && !of_names)) fail("a second unpacked argument");
      argument = make(of_names ? Kind::kUnpackNames : Kind::kUnpackItems);
      next();
      argument->children.push_back(expression());
      (of_names ? names : items) = true;
    } else if (peek().type == TokenType::kName && peek(1).type == TokenType::kOperator &&
               peek(1).text == "=") {
      if (names) fail("a named argument follows '**'");
      argument = make(Kind::kNamed);
      argument->text = next().text;
      if (!known.insert(argument->text).second)
        fail("the argument '" + argument->text + "' is given twice");
      next();
      argument->children.push_back(expression());
      named = true;
    } else {
      if (named || items || names) fail("a positional argument follows a named or unpacked one");
      argument = expression();
    }
    call.children.push_back(std::move(argument));
    if (!accept(",")) {
      expect_operator(")");
      break;
    }
  }
}

NodePtr ExpressionParser::call(NodePtr function) {
  NodePtr node = make(Kind::kCall);
  node->children.push_back(std::move(function));
  arguments(*node);
  return node;
}

std::string ExpressionParser::dotted_name(const std::string& what) {
  std::string out = name(what);
  while (accept(".")) out += "." + name(what);
  return out;
}

NodePtr ExpressionParser::postfix(NodePtr node) {
  for (;;) {
    if (at_operator(".")) {
      NodePtr parent = make(Kind::kAttribute);
      next();
      if (peek().type == TokenType::kInteger) {  // list.0
        parent->kind = Kind::kItem;
        NodePtr index = make(Kind::kConstant);
        index->value = next().value;
        node = two(std::move(parent), std::move(node), std::move(index));
        continue;
      }
      parent->text = name("an attribute's name");
      parent->children.push_back(std::move(node));
      node = std::move(parent);
    } else if (at_operator("[")) {
      node = subscript(std::move(node));
    } else if (at_operator("(")) {
      node = call(std::move(node));
    } else {
      return node;
    }
  }
}

NodePtr ExpressionParser::subscript(NodePtr object) {
  NodePtr node = make(Kind::kItem);
  next();
  node->children.push_back(std::move(object));
  NodePtr first = at_operator(":") ? nullptr : expression_or_tuple();
  if (!at_operator(":")) {
    node->children.push_back(std::move(first));
    expect_operator("]");
    return node;
  }
  node->kind = Kind::kSlice;
  node->children.push_back(std::move(first));
  for (int part = 0; part < 2; ++part) {
    const bool present = accept(":") && !at_operator(":") && !at_operator("]");
    node->children.push_back(present ? expression() : nullptr);
  }
  expect_operator("]");
  return node;
}

NodePtr ExpressionParser::filters(NodePtr input, bool bare_first) {
  while (bare_first || accept("|")) {
    bare_first = false;
    NodePtr node = make(Kind::kFilter);
    node->text = dotted_name("a filter's name");
    node->children.push_back(std::move(input));
    if (at_operator("(")) arguments(*node);
    input = std::move(node);
  }
  return input;
}

NodePtr ExpressionParser::test(NodePtr input) {
  NodePtr node = make(Kind::kTest);
  next();
  node->flag = accept_name("not");
  node->text = dotted_name("a test's name");
  node->children.push_back(std::move(input));
  if (at_operator("(")) {
    arguments(*node);
  } else if (peek().type == TokenType::kInteger || peek().type == TokenType::kFloat ||
             peek().type == TokenType::kString || at_operator("[") || at_operator("{") ||
             (peek().type == TokenType::kName && !at_name("else") && !at_name("or") &&
              !at_name("and"))) {
    if (at_name("is")) fail("tests cannot be chained with 'is'");
    node->children.push_back(postfix(primary()));  // "is divisibleby 3"
  }
  return node;
}

}  // namespace shoal::jinja
