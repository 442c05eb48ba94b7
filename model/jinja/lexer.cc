#include "model/jinja/lexer.h"

#include <charconv>
#include <cstdio>
#include <cstdlib>

#include <uniname.h>

#include "base/utf8.h"
#include "model/jinja/unicode.h"

namespace shoal::jinja {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

// "\r\n" and "\r" are "\n"; one at the end does not count.
std::string normalized(std::string_view source) {
  std::string out;
  out.reserve(source.size());
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] != '\r') {
      out += source[i];
    } else if (i + 1 >= source.size() || source[i + 1] != '\n') {
      out += '\n';
    }
  }
  if (out.ends_with('\n')) out.pop_back();
  return out;
}

size_t skip_blanks(std::string_view text, size_t at) {
  while (at < text.size()) {
    size_t after = at;
    if (!is_blank(next_code_point(text, &after))) break;
    at = after;
  }
  return at;
}

void trim_end(std::string* text) {
  size_t end = text->size();
  while (end > 0) {
    // The character that ends here begins at most three bytes before.
    size_t begin = end - 1;
    while (begin > 0 && end - begin < 4 &&
           (static_cast<unsigned char>((*text)[begin]) & 0xc0) == 0x80)
      --begin;
    size_t after = begin;
    if (!is_blank(next_code_point(*text, &after)) || after != end) break;
    end = begin;
  }
  text->resize(end);
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : text_(normalized(source)), source_(text_) {}

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
    if (begin < source_.size()) {
      const char mark = begin + 2 < source_.size() ? source_[begin + 2] : ' ';
      strip_end(&text, mark, source_[begin + 1] != '{');
    }
    if (!text.empty()) tokens_.push_back({TokenType::kText, text_line, std::move(text), {}});
    advance(begin - pos_);
    if (pos_ < source_.size()) tag();
  }

  // Blanks before a tag: '-' takes them all, lstrip_blocks those between the line's start and a tag
  // that is no output.
  void strip_end(std::string* text, char mark, bool block) const {
    if (mark == '-') return trim_end(text);
    if (mark == '+' || !block) return;
    const size_t newline = text->rfind('\n');
    if (newline == std::string::npos && !line_starting_) return;
    const size_t start = newline == std::string::npos ? 0 : newline + 1;
    if (skip_blanks(*text, start) == text->size()) text->resize(start);
  }

  // Behind a tag that ended at `end` with `mark`: '-' takes all blanks that follow, else a newline
  // goes if `trims`.
  void end_tag(size_t end, char mark, bool trims) {
    const size_t begin = end;
    if (mark == '-') {
      end = skip_blanks(source_, end);
    } else if (trims && mark != '+' && end < source_.size() && source_[end] == '\n') {
      ++end;
    }
    line_starting_ = end > begin && source_[end - 1] == '\n';
    advance(end - pos_);
  }

  void tag() {
    const char kind = source_[pos_ + 1];
    if (kind == '%' && raw_block()) return;
    advance(2);
    if (pos_ < source_.size() && (source_[pos_] == '-' || source_[pos_] == '+')) advance(1);
    if (kind == '#') return comment();
    push(kind == '{' ? TokenType::kOutputBegin : TokenType::kTagBegin, "");
    inside(kind);
  }

  void comment() {
    if (pos_ >= source_.size()) return;
    const size_t end = source_.find("#}", pos_);
    if (end == std::string_view::npos) fail("a comment is not closed");
    end_tag(end + 2, end > pos_ ? source_[end - 1] : ' ', true);
  }

  // A tag of one word at `at`, "{% raw -%}": where it ends; npos: it is not there. `marks`: the two
  // whitespace marks, ' ' for none.
  size_t word_tag(size_t at, std::string_view word, bool plus_at_end, char (&marks)[2]) const {
    at += 2;
    const auto mark = [&](char* out, bool plus) {
      const char c = at < source_.size() ? source_[at] : ' ';
      *out = c == '-' || (c == '+' && plus) ? c : ' ';
      if (*out != ' ') ++at;
    };
    mark(&marks[0], true);
    at = skip_blanks(source_, at);
    if (source_.substr(at, word.size()) != word) return std::string_view::npos;
    at = skip_blanks(source_, at + word.size());
    mark(&marks[1], plus_at_end);
    return source_.substr(at, 2) == "%}" ? at + 2 : std::string_view::npos;
  }

  // At {% raw %}? Then everything to {% endraw %} is text.
  bool raw_block() {
    char begin_marks[2], end_marks[2];
    const size_t body = word_tag(pos_, "raw", false, begin_marks);
    if (body == std::string_view::npos) return false;
    end_tag(body, begin_marks[1], false);
    if (pos_ >= source_.size()) return true;  // as in Jinja: nothing is missing yet
    for (size_t open = source_.find("{%", pos_); open != std::string_view::npos;
         open = source_.find("{%", open + 2)) {
      const size_t end = word_tag(open, "endraw", true, end_marks);
      if (end == std::string_view::npos) continue;
      std::string text(source_.substr(pos_, open - pos_));
      strip_end(&text, end_marks[0], true);
      if (!text.empty()) push(TokenType::kText, text);
      end_tag(end, end_marks[1], true);
      return true;
    }
    fail("{% raw %} is not closed");
  }

  // Tokens up to the closing }} or %}.
  void inside(char kind) {
    const std::string_view close = kind == '{' ? "}}" : "%}";
    std::string open;  // brackets that wait for theirs: '}}' inside a dict literal does not close
    for (;;) {
      advance(skip_blanks(source_, pos_) - pos_);
      if (pos_ >= source_.size()) fail(kind == '{' ? "'{{' is not closed" : "'{%' is not closed");
      const char c = source_[pos_];
      const bool marked =
          (c == '-' || (c == '+' && kind == '%')) && source_.substr(pos_ + 1, 2) == close;
      if (open.empty() && (marked || source_.substr(pos_, 2) == close)) {
        push(kind == '{' ? TokenType::kOutputEnd : TokenType::kTagEnd, "");
        return end_tag(pos_ + (marked ? 3 : 2), marked ? c : ' ', kind == '%');
      }
      if (c == '(' || c == '[' || c == '{') open += c == '(' ? ')' : c == '[' ? ']' : '}';
      if (c == ')' || c == ']' || c == '}') {
        if (open.empty() || open.back() != c) fail(std::string("unexpected '") + c + "'");
        open.pop_back();
      }
      token(c);
    }
  }

  void token(char c) {
    if (is_digit(c)) return number();
    if (is_letter(c) || c == '_' || (c & 0x80)) return name();
    if (c == '"' || c == '\'') return string(c);
    for (const std::string_view op : {"**", "//", "==", "!=", "<=", ">="}) {
      if (source_.substr(pos_, 2) == op) {
        push(TokenType::kOperator, std::string(op));
        return advance(2);
      }
    }
    if (std::string_view("+-*/%~()[]{}.,:|<>=;").find(c) == std::string_view::npos) {
      fail(std::string("unexpected character '") + c + "'");
    }
    push(TokenType::kOperator, std::string(1, c));
    advance(1);
  }

  void name() {
    size_t end = pos_;
    while (end < source_.size()) {
      size_t after = end;
      const uint32_t c = next_code_point(source_, &after);
      if (!(end == pos_ ? is_name_start(c) : is_name_part(c))) break;
      end = after;
    }
    if (end == pos_) fail("an unexpected character");
    push(TokenType::kName, std::string(source_.substr(pos_, end - pos_)));
    advance(end - pos_);
  }

  // Digits of a base from `at` on, '_' between them, to `digits`.
  size_t digits_of(int base, size_t at, std::string* digits) const {
    const auto is_one = [&](size_t i) {
      const char c = i < source_.size() ? source_[i] : ' ';
      const char small = is_letter(c) ? static_cast<char>(c | 0x20) : c;
      return base == 16 ? is_digit(c) || (small >= 'a' && small <= 'f')
                        : is_digit(c) && c < '0' + base;
    };
    for (;; ++at) {
      if (at < source_.size() && source_[at] == '_' && is_one(at + 1)) ++at;
      if (!is_one(at)) return at;
      *digits += source_[at];
    }
  }

  void number() {
    std::string digits;
    for (const auto& [letter, base] : {std::pair('x', 16), std::pair('o', 8), std::pair('b', 2)}) {
      if (source_[pos_] != '0' || pos_ + 1 >= source_.size() ||
          (source_[pos_ + 1] | 0x20) != letter)
        continue;
      const size_t end = digits_of(base, pos_ + 2, &digits);
      if (!digits.empty()) return integer(digits, base, end);
    }
    size_t end = digits_of(10, pos_, &digits);
    bool real = false;
    const bool behind_point = pos_ > 0 && source_[pos_ - 1] == '.';  // x.1.2 are two indices
    if (!behind_point && end + 1 < source_.size() && source_[end] == '.' &&
        is_digit(source_[end + 1])) {
      real = true;
      digits += '.';
      end = digits_of(10, end + 1, &digits);
    }
    if (!behind_point && end < source_.size() && (source_[end] | 0x20) == 'e') {
      size_t at = end + 1;
      if (at < source_.size() && (source_[at] == '-' || source_[at] == '+')) ++at;
      if (at < source_.size() && is_digit(source_[at])) {
        real = true;
        digits += source_.substr(end, at - end);
        end = digits_of(10, at, &digits);
      }
    }
    if (!real) {
      // Only zeros may begin with one: what follows them is another number.
      if (digits.front() == '0') {
        digits.clear();
        for (end = pos_; end < source_.size() && (source_[end] == '0' || source_[end] == '_');
             ++end) {
          if (source_[end] == '_' && (end + 1 >= source_.size() || source_[end + 1] != '0')) break;
        }
        digits = "0";
      }
      return integer(digits, 10, end);
    }
    double value = 0;
    const auto result = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (result.ec == std::errc::result_out_of_range) value = std::strtod(digits.c_str(), nullptr);
    push(TokenType::kFloat, digits, value);
    advance(end - pos_);
  }

  void integer(const std::string& digits, int base, size_t end) {
    int64_t value = 0;
    const auto result = std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
    if (result.ec != std::errc())
      fail("the integer " + std::string(source_.substr(pos_, end - pos_)) + " is beyond 64 bits");
    push(TokenType::kInteger, digits, value);
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
    constexpr std::string_view kLetters = "ntrbfva\\'\"", kMeanings = "\n\t\r\b\f\v\a\\'\"";
    if (const size_t letter = kLetters.find(c); letter != std::string_view::npos) {
      *out += kMeanings[letter];
      return at;
    }
    if (c == '\n') return at;
    if (c >= '0' && c <= '7') return octal_escape(at, out);
    if (c == 'N') return named_escape(at, out);
    if (c & 0x80) return foreign_escape(at, out);
    if (c != 'x' && c != 'u' && c != 'U') {
      *out += '\\';
      *out += c;
      return at;
    }
    const size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : 8;
    uint32_t value = 0;
    const std::string_view hex = source_.substr(at + 1, digits);
    const auto result = std::from_chars(hex.data(), hex.data() + hex.size(), value, 16);
    if (hex.size() != digits || result.ptr != hex.data() + digits || value > 0x10ffff)
      fail("a malformed escape in a string");
    if (value >= 0xd800 && value <= 0xdfff) fail("a lone surrogate in a string is no text");
    append_utf8(value, out);
    return at + digits;
  }

  size_t octal_escape(size_t at, std::string* out) const {
    uint32_t value = 0;
    size_t end = at;
    for (; end < at + 3 && end < source_.size() && source_[end] >= '0' && source_[end] <= '7';
         ++end)
      value = value * 8 + static_cast<uint32_t>(source_[end] - '0');
    append_utf8(value, out);
    return end - 1;
  }

  size_t named_escape(size_t at, std::string* out) const {
    const size_t end = source_.find('}', at);
    if (at + 1 >= source_.size() || source_[at + 1] != '{' || end == std::string_view::npos)
      fail("a malformed escape in a string");
    const std::string name(source_.substr(at + 2, end - at - 2));
    const uint32_t c = unicode_name_character(name.c_str());
    if (c == UNINAME_INVALID) fail("no character has the name '" + excerpt(name) + "'");
    append_utf8(c, out);
    return end;
  }

  // Jinja writes characters beyond ASCII as escapes before it reads them; a backslash before one
  // then stands for itself.
  size_t foreign_escape(size_t at, std::string* out) const {
    size_t after = at;
    const uint32_t c = next_code_point(source_, &after);
    char buffer[16];
    const char* form = c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x";
    out->append(buffer, static_cast<size_t>(std::snprintf(buffer, sizeof(buffer), form, c)));
    return after - 1;
  }

  const std::string text_;
  const std::string_view source_;
  size_t pos_ = 0;
  int line_ = 1;
  bool line_starting_ = true;  // only a newline stands between here and the last tag
  std::vector<Token> tokens_;
};

}  // namespace

std::vector<Token> tokenize(std::string_view source) { return Lexer(source).run(); }

}  // namespace shoal::jinja
