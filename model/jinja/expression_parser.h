// The expression half of the parser.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "model/jinja/ast.h"
#include "model/jinja/lexer.h"

namespace shoal::jinja {

class ExpressionParser {
 public:
  ExpressionParser(const std::vector<Token>& tokens, uint64_t max_depth)
      : tokens_(tokens), max_depth_(max_depth) {}

 protected:
  class DepthGuard {
   public:
    explicit DepthGuard(ExpressionParser& parser) : parser_(parser) {
      if (++parser_.depth_ > parser_.max_depth_) parser_.fail("nested too deeply");
    }
    ~DepthGuard() { --parser_.depth_; }
    DepthGuard(const DepthGuard&) = delete;
    DepthGuard& operator=(const DepthGuard&) = delete;

   private:
    ExpressionParser& parser_;
  };

  NodePtr expression();  // with "a if b else c"
  // Commas make a tuple. `ternary` false: stops before 'if' (a loop's filter); a comma before the
  // word `end` is the tuple's last.
  NodePtr expression_or_tuple(bool ternary = true, std::string_view end = "");
  // What is assigned to: a name, or names in (nested) tuples.
  NodePtr targets(std::string_view end);
  NodePtr assigned_name();
  // "| name(args) …" behind `input`; `bare_first`: the first name stands without a bar.
  NodePtr filters(NodePtr input, bool bare_first = false);

  const Token& peek(size_t ahead = 0) const {
    return tokens_[at_ + ahead < tokens_.size() ? at_ + ahead : tokens_.size() - 1];
  }
  const Token& next() {
    const Token& token = peek();
    if (at_ + 1 < tokens_.size()) ++at_;
    return token;
  }
  NodePtr make(Kind kind) const;
  [[noreturn]] void fail(const std::string& message) const;
  void expect(TokenType type, std::string_view what);
  bool accept(std::string_view op);
  void expect_operator(std::string_view op);
  bool accept_name(std::string_view word);
  void expect_name(std::string_view word);
  std::string name(const std::string& what);

  uint8_t uses_ = 0;      // kUses… seen since it was cleared
  int loops_around_ = 0;  // whatever stands between

 private:
  NodePtr or_expression();
  NodePtr and_expression();
  NodePtr not_expression();
  NodePtr comparison();
  NodePtr binary(int level);
  NodePtr power();
  NodePtr unary(bool with_filter = true);
  NodePtr primary();
  NodePtr postfix(NodePtr node);
  NodePtr subscript(NodePtr object);
  NodePtr test(NodePtr input);
  NodePtr call(NodePtr function);
  NodePtr one_target();
  std::string dotted_name(const std::string& what);
  void arguments(Node& call);
  NodePtr list_literal();
  NodePtr dict_literal();
  NodePtr parenthesis();
  bool at_operator(std::string_view op) const {
    return peek().type == TokenType::kOperator && peek().text == op;
  }
  bool at_name(std::string_view word) const {
    return peek().type == TokenType::kName && peek().text == word;
  }
  bool at_end_of_tuple(std::string_view word) const;

  const std::vector<Token>& tokens_;
  const uint64_t max_depth_;
  size_t at_ = 0;
  uint64_t depth_ = 0;
};

}  // namespace shoal::jinja
