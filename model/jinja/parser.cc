#include "model/jinja/parser.h"

#include <algorithm>
#include <initializer_list>

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
        if (std::find(ends.begin(), ends.end(), word) != ends.end()) return node;
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
    if (word == "generation" || word == "block") return transparent_tag(word);
    if (word == "break" || word == "continue") {
      if (loops_ == 0) fail("'" + word + "' outside a loop");
      NodePtr node = make(word == "break" ? Kind::kBreak : Kind::kContinue);
      end_tag();
      return node;
    }
    fail("unknown tag '" + word + "'");
  }

  // {% generation %} marks the assistant's part for training tools; {% block %} names a part.
  NodePtr transparent_tag(const std::string& word) {
    if (peek().type == TokenType::kName) next();
    end_tag();
    NodePtr body = word == "block" ? block({"endblock"}) : block({"endgeneration"});
    expect(TokenType::kTagBegin, "{%");
    next();
    if (peek().type == TokenType::kName) next();
    end_tag();
    return body;
  }

  std::vector<std::string> targets() {
    std::vector<std::string> names;
    const bool parenthesis = accept("(");
    do {
      if (!names.empty() && peek().type != TokenType::kName) break;  // trailing comma
      names.push_back(name("a variable"));
    } while (accept(","));
    if (parenthesis) expect_operator(")");
    return names;
  }

  NodePtr for_tag() {
    NodePtr node = make(Kind::kFor);
    node->words = targets();
    expect_name("in");
    node->children.push_back(expression_or_tuple(false));
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
    return node;
  }

  NodePtr if_tag() {
    NodePtr node = make(Kind::kIf);
    node->children.push_back(expression_or_tuple());
    end_tag();
    node->children.push_back(block({"endif", "elif", "else"}));
    while (at_tag("elif")) {
      next(), next();
      node->children.push_back(expression_or_tuple());
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

  NodePtr set_tag() {
    NodePtr node = make(Kind::kSet);
    node->words = targets();
    if (node->words.size() == 1 && accept(".")) {
      node->words.push_back(name("an attribute"));
      node->flag = true;
    }
    if (accept("=")) {
      node->children.push_back(expression_or_tuple());
      end_tag();
      return node;
    }
    if (node->flag || node->words.size() != 1) fail("'set' needs '='");
    node->kind = Kind::kSetBlock;
    NodePtr filters = filter_chain();
    end_tag();
    node->children.push_back(block({"endset"}));
    node->children.push_back(std::move(filters));
    close("endset");
    return node;
  }

  // Stands for the block's text at the start of a filter chain.
  // Stands for the text of the block that filters are applied to.
  NodePtr block_text() const { return make(Kind::kBlockText); }

  // "| upper | trim" applied to kBlockText; null if none.
  NodePtr filter_chain() {
    if (!(peek().type == TokenType::kOperator && peek().text == "|")) return nullptr;
    return filters(block_text());
  }

  // Parameters with defaults for the last of them: names into `words`, defaults as children.
  void parameters(Node& node) {
    expect_operator("(");
    while (!accept(")")) {
      node.words.push_back(name("a parameter"));
      if (accept("=")) {
        node.children.push_back(expression());
      } else if (node.children.size() > 1) {
        fail("a parameter without a default follows one with a default");
      }
      if (!accept(",")) {
        expect_operator(")");
        break;
      }
    }
  }

  NodePtr macro_tag() {
    NodePtr node = make(Kind::kMacro);
    node->text = name("a macro's name");
    node->children.push_back(nullptr);
    parameters(*node);
    end_tag();
    const int loops = std::exchange(loops_, 0);
    node->children[0] = block({"endmacro"});
    loops_ = loops;
    expect(TokenType::kTagBegin, "{%");
    expect_name("endmacro");
    if (peek().type == TokenType::kName) next();
    end_tag();
    return node;
  }

  NodePtr call_tag() {
    NodePtr node = make(Kind::kCallBlock);
    node->children.push_back(nullptr);
    node->children.push_back(nullptr);
    if (peek().type == TokenType::kOperator && peek().text == "(") {
      NodePtr caller = make(Kind::kMacro);
      caller->children.push_back(nullptr);
      parameters(*caller);
      node->words = std::move(caller->words);
      for (size_t i = 1; i < caller->children.size(); ++i)
        node->children.push_back(std::move(caller->children[i]));
    }
    node->children[0] = expression();
    if (node->children[0]->kind != Kind::kCall) fail("'call' needs a macro call");
    end_tag();
    node->children[1] = block({"endcall"});
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
    while (peek().type == TokenType::kName) {
      node->words.push_back(next().text);
      expect_operator("=");
      node->children.push_back(expression());
      if (!accept(",")) break;
    }
    end_tag();
    node->children[0] = block({"endwith"});
    close("endwith");
    return node;
  }

  int loops_ = 0;
};

}  // namespace

Program parse(const std::vector<Token>& tokens, uint64_t max_depth) {
  return resolve(StatementParser(tokens, max_depth).parse_template());
}

}  // namespace shoal::jinja
