#include "model/jinja/lexer.h"

#include <charconv>

#include "base/utf8.h"

namespace shoal::jinja {
namespace {

bool is_name_start(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_blank(char c) {
  return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v';
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : source_(source) {
    if (source_.ends_with('\n')) source_.remove_suffix(1);  // one trailing newline never counts
    if (source_.ends_with('\r')) source_.remove_suffix(1);
  }

  std::vector<Token> run() {
    while (pos_ < source_.size()) text_until_tag();
    push(TokenType::kEnd, "");
    return std::move(tokens_);
  }

 private:
  void push(TokenType type, std::string text, Value value = {}) {
    tokens_.push_back({type, line_, std::move(text), std::move(value)});
  }
  [[noreturn]] void fail(const std::string& message) const { throw TemplateError(message, line_); }

  void advance(size_t n) {
    for (size_t i = 0; i < n; ++i) line_ += source_[pos_ + i] == '\n';
    pos_ += n;
  }

  // Plain text up to the next {{, {% or {#, then that tag.
  void text_until_tag() {
    size_t begin = pos_;
    while (begin < source_.size()) {
      begin = source_.find('{', begin);
      if (begin == std::string_view::npos || begin + 1 >= source_.size()) {
        begin = source_.size();
        break;
      }
      const char next = source_[begin + 1];
      if (next == '{' || next == '%' || next == '#') break;
      ++begin;
    }
    std::string text(source_.substr(pos_, begin - pos_));
    const int text_line = line_;
    if (trim_next_) {
      const size_t kept = text.find_first_not_of(" \t\n\r\f\v");
      text.erase(0, kept == std::string::npos ? text.size() : kept);
    } else if (newline_next_) {
      if (text.starts_with("\r\n")) {
        text.erase(0, 2);
      } else if (text.starts_with("\n")) {
        text.erase(0, 1);
      }
    }
    const bool trimmed = trim_next_;
    trim_next_ = newline_next_ = false;
    if (begin < source_.size()) {
      const char kind = source_[begin + 1];
      const char mark = begin + 2 < source_.size() ? source_[begin + 2] : ' ';
      if (mark == '-') {
        text.erase(text.find_last_not_of(" \t\n\r\f\v") + 1);
      } else if (kind != '{' && mark != '+') {
        strip_line_start(begin, text, trimmed);
      }
    }
    if (!text.empty()) tokens_.push_back({TokenType::kText, text_line, std::move(text), {}});
    advance(begin - pos_);
    if (pos_ < source_.size()) tag();
  }

  // lstrip_blocks: blanks between the line's start and a tag go.
  void strip_line_start(size_t tag_at, std::string& text, bool trimmed) const {
    size_t start = tag_at;
    while (start > 0 && (source_[start - 1] == ' ' || source_[start - 1] == '\t')) --start;
    if (start > 0 && source_[start - 1] != '\n') return;
    const size_t blanks = tag_at - start;
    if (!trimmed || text.size() >= blanks) text.erase(text.size() - std::min(text.size(), blanks));
  }

  void tag() {
    const char kind = source_[pos_ + 1];
    if (kind == '#') return comment();
    advance(2);
    if (pos_ < source_.size() && (source_[pos_] == '-' || source_[pos_] == '+')) advance(1);
    if (kind == '%' && raw_block()) return;
    push(kind == '{' ? TokenType::kOutputBegin : TokenType::kTagBegin, "");
    inside(kind);
  }

  void comment() {
    const size_t end = source_.find("#}", pos_ + 2);
    if (end == std::string_view::npos) fail("a comment is not closed");
    const char before = end > pos_ + 2 ? source_[end - 1] : ' ';
    trim_next_ = before == '-';
    newline_next_ = before != '+';
    advance(end + 2 - pos_);
  }

  static size_t skip_blanks(std::string_view text, size_t at) {
    while (at < text.size() && is_blank(text[at])) ++at;
    return at;
  }

  // At "raw %}"? Then everything to {% endraw %} is text.
  bool raw_block() {
    size_t at = skip_blanks(source_, pos_);
    if (source_.substr(at, 3) != "raw") return false;
    at = skip_blanks(source_, at + 3);
    const bool trim_start = at < source_.size() && source_[at] == '-';
    if (trim_start || (at < source_.size() && source_[at] == '+')) ++at;
    if (source_.substr(at, 2) != "%}") return false;
    size_t body = at + 2;
    for (size_t open = source_.find("{%", body); open != std::string_view::npos;
         open = source_.find("{%", open + 2)) {
      size_t word = open + 2;
      const bool trim_end = word < source_.size() && source_[word] == '-';
      if (trim_end || (word < source_.size() && source_[word] == '+')) ++word;
      word = skip_blanks(source_, word);
      if (source_.substr(word, 6) != "endraw") continue;
      size_t close = skip_blanks(source_, word + 6);
      const bool trim_after = close < source_.size() && source_[close] == '-';
      if (trim_after || (close < source_.size() && source_[close] == '+')) ++close;
      if (source_.substr(close, 2) != "%}") continue;
      std::string text(source_.substr(body, open - body));
      if (trim_start) text.erase(0, std::min(text.size(), text.find_first_not_of(" \t\n\r\f\v")));
      if (!trim_start && text.starts_with('\n')) text.erase(0, 1);
      if (trim_end) text.erase(text.find_last_not_of(" \t\n\r\f\v") + 1);
      if (!text.empty()) push(TokenType::kText, text);
      advance(close + 2 - pos_);
      trim_next_ = trim_after;
      newline_next_ = !trim_after;
      return true;
    }
    fail("{% raw %} is not closed");
  }

  // Tokens up to the closing }} or %}.
  void inside(char kind) {
    const std::string_view close = kind == '{' ? "}}" : "%}";
    int depth = 0;  // of brackets: '}}' inside a dict literal does not close
    for (;;) {
      while (pos_ < source_.size() && is_blank(source_[pos_])) advance(1);
      if (pos_ >= source_.size()) fail(kind == '{' ? "'{{' is not closed" : "'{%' is not closed");
      const char c = source_[pos_];
      const bool marked = (c == '-' || c == '+') && source_.substr(pos_ + 1, 2) == close;
      if (depth == 0 && (marked || source_.substr(pos_, 2) == close)) {
        push(kind == '{' ? TokenType::kOutputEnd : TokenType::kTagEnd, "");
        trim_next_ = marked && c == '-';
        newline_next_ = kind == '%' && !(marked && c == '+');
        advance(marked ? 3 : 2);
        return;
      }
      if (c == '(' || c == '[' || c == '{') ++depth;
      if (c == ')' || c == ']' || c == '}') --depth;
      token(c);
    }
  }

  void token(char c) {
    if (is_name_start(c)) {
      size_t end = pos_;
      while (end < source_.size() && (is_name_start(source_[end]) || is_digit(source_[end]))) ++end;
      push(TokenType::kName, std::string(source_.substr(pos_, end - pos_)));
      return advance(end - pos_);
    }
    if (is_digit(c)) return number();
    if (c == '"' || c == '\'') return string(c);
    for (const std::string_view op : {"**", "//", "==", "!=", "<=", ">="}) {
      if (source_.substr(pos_, 2) == op) {
        push(TokenType::kOperator, std::string(op));
        return advance(2);
      }
    }
    if (std::string_view("+-*/%~()[]{}.,:|<>=").find(c) == std::string_view::npos) {
      fail(std::string("unexpected character '") + c + "'");
    }
    push(TokenType::kOperator, std::string(1, c));
    advance(1);
  }

  void number() {
    std::string digits;
    size_t end = pos_;
    bool real = false;
    while (end < source_.size()) {
      const char c = source_[end];
      if (is_digit(c)) {
        digits += c;
      } else if (c == '_' && end + 1 < source_.size() && is_digit(source_[end + 1])) {
        // a separator
      } else if (c == '.' && !real && end + 1 < source_.size() && is_digit(source_[end + 1])) {
        real = true;
        digits += c;
      } else if ((c == 'e' || c == 'E') && end + 1 < source_.size() &&
                 (is_digit(source_[end + 1]) ||
                  ((source_[end + 1] == '-' || source_[end + 1] == '+') &&
                   end + 2 < source_.size() && is_digit(source_[end + 2])))) {
        real = true;
        digits += c;
        if (!is_digit(source_[++end]))
          digits += source_[end];
        else
          --end;
      } else {
        break;
      }
      ++end;
    }
    if (real) {
      double value = 0;
      std::from_chars(digits.data(), digits.data() + digits.size(), value);
      push(TokenType::kFloat, digits, value);
    } else {
      int64_t value = 0;
      const auto result = std::from_chars(digits.data(), digits.data() + digits.size(), value);
      if (result.ec != std::errc()) fail("the number " + digits + " is too large");
      push(TokenType::kInteger, digits, value);
    }
    advance(end - pos_);
  }

  void string(char quote) {
    std::string value;
    size_t at = pos_ + 1;
    for (;; ++at) {
      if (at >= source_.size()) fail("a string is not closed");
      const char c = source_[at];
      if (c == quote) break;
      if (c != '\\') {
        value += c;
        continue;
      }
      if (++at >= source_.size()) fail("a string is not closed");
      at = escape(at, &value);
    }
    push(TokenType::kString, std::move(value));
    advance(at + 1 - pos_);
  }

  // Python's escapes; returns the position of the last character used.
  size_t escape(size_t at, std::string* out) const {
    const char c = source_[at];
    switch (c) {
      case 'n':
        *out += '\n';
        return at;
      case 't':
        *out += '\t';
        return at;
      case 'r':
        *out += '\r';
        return at;
      case 'b':
        *out += '\b';
        return at;
      case 'f':
        *out += '\f';
        return at;
      case 'v':
        *out += '\v';
        return at;
      case 'a':
        *out += '\a';
        return at;
      case '0':
        *out += '\0';
        return at;
      case '\\':
      case '\'':
      case '"':
        *out += c;
        return at;
      case '\n':
        return at;
      case 'x':
      case 'u':
      case 'U':
        break;
      default:
        *out += '\\';
        *out += c;
        return at;
    }
    const size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : 8;
    uint32_t value = 0;
    const std::string_view hex = source_.substr(at + 1, digits);
    const auto result = std::from_chars(hex.data(), hex.data() + hex.size(), value, 16);
    if (hex.size() != digits || result.ptr != hex.data() + digits || value > 0x10ffff ||
        (value >= 0xd800 && value <= 0xdfff)) {
      fail("a malformed escape in a string");
    }
    append_utf8(value, out);
    return at + digits;
  }

  std::string_view source_;
  size_t pos_ = 0;
  int line_ = 1;
  bool trim_next_ = false;     // the last tag ended with '-'
  bool newline_next_ = false;  // it was a block or comment: a newline right behind it goes
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source) { return Lexer(source).run(); }

}  // namespace shoal::jinja
