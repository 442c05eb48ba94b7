#include "model/jinja/parser.h"

#include <algorithm>
#include <initializer_list>
#include <set>

#include "model/jinja/expression_parser.h"

namespace shoal::jinja {
namespace {

class StatementParser : public ExpressionParser {
 public:
  using ExpressionParser::ExpressionParser;

  NodePtr parse_template() {
    NodePtr body = block({});
    if (peek().type != TokenType::kEnd) fail("unexpected '" + peek(1).text + "'");
    return body;
  }

 private:
  // Statements until one of the tags in `ends` (not consumed), or the end.
  NodePtr block(std::initializer_list<std::string_view> ends) {
    const DepthGuard guard(*this);
    ++depth_of_blocks_;
    NodePtr node = make(Kind::kBlock);
    while (peek().type != TokenType::kEnd) {
      if (peek().type == TokenType::kText) {
        NodePtr text = make(Kind::kText);
        text->text = next().text;
        node->children.push_back(std::move(text));
      } else if (peek().type == TokenType::kOutputBegin) {
        next();
        NodePtr output = make(Kind::kOutput);
        output->children.push_back(expression_or_tuple());
        expect(TokenType::kOutputEnd, "}}");
        node->children.push_back(std::move(output));
      } else {
        const std::string& word = peek(1).text;
        if (peek(1).type != TokenType::kName) fail("a tag without a name");
        if (std::find(ends.begin(), ends.end(), word) != ends.end()) {
          --depth_of_blocks_;
          return node;
        }
        if (word.rfind("end", 0) == 0 || word == "else" || word == "elif")
          fail("unexpected tag '" + word + "'");
        next();
        if (NodePtr statement = tag()) node->children.push_back(std::move(statement));
      }
    }
    if (ends.size() > 0)
      fail("the template ends inside a block; missing '" + std::string(*ends.begin()) + "'");
    return node;
  }

  void end_tag() { expect(TokenType::kTagEnd, "%}"); }
  void close(std::string_view word) {
    expect(TokenType::kTagBegin, "{%");
    expect_name(word);
    end_tag();
  }
  bool at_tag(std::string_view word) const {
    return peek().type == TokenType::kTagBegin && peek(1).type == TokenType::kName &&
           peek(1).text == word;
  }

  NodePtr tag() {
    const std::string word = next().text;
    if (word == "for") return for_tag();
    if (word == "if") return if_tag();
    if (word == "set") return set_tag();
    if (word == "macro") return macro_tag();
    if (word == "call") return call_tag();
    if (word == "filter") return filter_tag();
    if (word == "with") return with_tag();
    if (word == "print") return print_tag();
    if (word == "block") return block_tag();
    if (word == "generation") return generation_tag();
    if (word == "autoescape") return autoescape_tag();
    if (word == "include" || word == "import" || word == "from" || word == "extends")
      return loader_tag(word);
    if (word == "break" || word == "continue") {
      if (loops_ == 0) fail("'" + word + "' outside a loop");
      NodePtr node = make(word == "break" ? Kind::kBreak : Kind::kContinue);
      end_tag();
      return node;
    }
    fail("unknown tag '" + word + "'");
  }

  // A body that is a function of its own: no loop around it can be left from inside.
  NodePtr function_body(std::string_view end) {
    const int loops = std::exchange(loops_, 0);
    NodePtr body = block({end});
    loops_ = loops;
    return body;
  }

  // {% generation %} marks the assistant's part for training tools.
  NodePtr generation_tag() {
    NodePtr node = make(Kind::kGeneration);
    end_tag();
    node->children.push_back(function_body("endgeneration"));
    close("endgeneration");
    return node;
  }

  NodePtr block_tag() {
    NodePtr node = make(Kind::kNamedBlock);
    node->text = name("a block's name");
    if (!blocks_.insert(node->text).second) fail("the block '" + node->text + "' is defined twice");
    const bool scoped = accept_name("scoped");
    node->flag = accept_name("required");
    if (scoped)
      fail("'scoped' blocks are for templates that others extend; this server loads none");
    end_tag();
    node->children.push_back(function_body("endblock"));
    expect(TokenType::kTagBegin, "{%");
    expect_name("endblock");
    (void)accept_name(node->text);
    end_tag();
    return node;
  }

  NodePtr autoescape_tag() {
    NodePtr node = make(Kind::kWith);
    NodePtr value = expression();
    if (value->kind != Kind::kConstant || value->value.truthy())
      fail("prompts are not HTML: 'autoescape' can only be false");
    end_tag();
    node->children.push_back(block({"endautoescape"}));
    close("endautoescape");
    return node;
  }

  NodePtr loader_tag(const std::string& word) {
    // In an 'if' or a loop it may never be reached; it is an error when it is.
    if (depth_of_blocks_ == 1)
      fail("'" + word +
           "' needs other templates; a model's file has one and this server loads none");
    NodePtr node = make(Kind::kNeedsLoader);
    node->text = word;
    while (peek().type != TokenType::kTagEnd && peek().type != TokenType::kEnd) next();
    end_tag();
    return node;
  }

  NodePtr print_tag() {
    NodePtr node = make(Kind::kBlock);
    while (peek().type != TokenType::kTagEnd) {
      if (!node->children.empty()) expect_operator(",");
      NodePtr output = make(Kind::kOutput);
      output->children.push_back(expression());
      node->children.push_back(std::move(output));
    }
    end_tag();
    return node;
  }

  NodePtr for_tag() {
    NodePtr node = make(Kind::kFor);
    ++loops_around_;
    NodePtr target = targets("in");
    expect_name("in");
    node->children.push_back(expression_or_tuple(false, "recursive"));
    node->children.push_back(accept_name("if") ? expression() : nullptr);
    node->flag = accept_name("recursive");
    end_tag();
    ++loops_;
    node->children.push_back(block({"endfor", "else"}));
    --loops_;
    if (at_tag("else")) {
      next(), next();
      end_tag();
      node->children.push_back(block({"endfor"}));
    } else {
      node->children.push_back(nullptr);
    }
    close("endfor");
    --loops_around_;
    node->children.push_back(std::move(target));
    return node;
  }

  NodePtr if_tag() {
    NodePtr node = make(Kind::kIf);
    node->children.push_back(expression_or_tuple(false));
    end_tag();
    node->children.push_back(block({"endif", "elif", "else"}));
    while (at_tag("elif")) {
      next(), next();
      node->children.push_back(expression_or_tuple(false));
      end_tag();
      node->children.push_back(block({"endif", "elif", "else"}));
    }
    if (at_tag("else")) {
      next(), next();
      end_tag();
      node->children.push_back(block({"endif"}));
    } else {
      node->children.push_back(nullptr);
    }
    close("endif");
    return node;
  }

  NodePtr set_target() {
    if (peek().type != TokenType::kName || peek(1).type != TokenType::kOperator ||
        peek(1).text != ".")
      return targets("");
    NodePtr node = make(Kind::kNamespaceTarget);
    node->words.push_back(next().text);
    next();
    node->words.push_back(name("an attribute"));
    return node;
  }

  NodePtr set_tag() {
    NodePtr node = make(Kind::kSet);
    NodePtr target = set_target();
    if (accept("=")) {
      node->children.push_back(expression_or_tuple());
      node->children.push_back(std::move(target));
      end_tag();
      return node;
    }
    node->kind = Kind::kSetBlock;
    NodePtr filters = filter_chain();
    end_tag();
    node->children.push_back(block({"endset"}));
    node->children.push_back(std::move(filters));
    node->children.push_back(std::move(target));
    close("endset");
    return node;
  }

  // Stands for the text of the block that filters are applied to.
  NodePtr block_text() const { return make(Kind::kBlockText); }

  // "| upper | trim" applied to kBlockText; null if none.
  NodePtr filter_chain() {
    if (!(peek().type == TokenType::kOperator && peek().text == "|")) return nullptr;
    return filters(block_text());
  }

  // Parameters with defaults for the last of them: names into `words`, defaults as children behind
  // `before` others.
  void parameters(Node& node, size_t before) {
    expect_operator("(");
    std::set<std::string> known;
    while (!accept(")")) {
      if (!node.words.empty()) expect_operator(",");
      node.words.push_back(assigned_name()->text);
      if (!known.insert(node.words.back()).second)
        fail("the parameter '" + node.words.back() + "' stands twice");
      if (accept("=")) {
        node.children.push_back(expression());
      } else if (node.children.size() > before) {
        fail("a parameter without a default follows one with a default");
      }
    }
  }

  // The body of a macro or call block, and what it makes use of.
  NodePtr macro_body(Node& node, size_t before, std::string_view end) {
    const uint8_t outside = std::exchange(uses_, 0);
    NodePtr body = function_body(end);
    node.uses = uses_;
    uses_ |= outside;
    const auto caller = std::find(node.words.begin(), node.words.end(), "caller");
    const auto behind = static_cast<size_t>(node.words.end() - caller);
    if ((node.uses & kUsesCaller) && behind > node.children.size() - before)
      fail("a parameter 'caller' needs a default");
    return body;
  }

  NodePtr macro_tag() {
    NodePtr node = make(Kind::kMacro);
    node->text = assigned_name()->text;
    node->children.push_back(nullptr);
    parameters(*node, 1);
    end_tag();
    node->children[0] = macro_body(*node, 1, "endmacro");
    close("endmacro");
    return node;
  }

  NodePtr call_tag() {
    NodePtr node = make(Kind::kCallBlock);
    node->children.resize(2);
    if (peek().type == TokenType::kOperator && peek().text == "(") parameters(*node, 2);
    node->children[0] = expression();
    if (node->children[0]->kind != Kind::kCall) fail("'call' needs a macro call");
    end_tag();
    node->children[1] = macro_body(*node, 2, "endcall");
    close("endcall");
    return node;
  }

  NodePtr filter_tag() {
    NodePtr node = make(Kind::kFilterBlock);
    NodePtr chain = filters(block_text(), true);
    end_tag();
    node->children.push_back(block({"endfilter"}));
    node->children.push_back(std::move(chain));
    close("endfilter");
    return node;
  }

  NodePtr with_tag() {
    NodePtr node = make(Kind::kWith);
    node->children.push_back(nullptr);
    while (peek().type != TokenType::kTagEnd) {
      if (node->children.size() > 1) expect_operator(",");
      node->children.push_back(targets(""));
      expect_operator("=");
      node->children.push_back(expression());
    }
    end_tag();
    node->children[0] = block({"endwith"});
    close("endwith");
    return node;
  }

  int loops_ = 0;            // that 'break' could leave
  int depth_of_blocks_ = 0;  // 1: the template's top level
  std::set<std::string> blocks_;
};

}  // namespace

Program parse(const std::vector<Token>& tokens, uint64_t max_depth) {
  return resolve(StatementParser(tokens, max_depth).parse_template());
}

}  // namespace shoal::jinja
