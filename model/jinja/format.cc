// "…%s…" % values and "…{}…".format(values), by Python's rules.
#include <algorithm>
#include <cmath>
#include <string>

#include "base/utf8.h"
#include "model/jinja/arguments.h"
#include "model/jinja/arithmetic.h"
#include "model/jinja/format_spec.h"
#include "model/jinja/interpreter.h"
#include "model/jinja/text.h"

namespace shoal::jinja {
namespace {

bool is_digit_byte(char c) { return c >= '0' && c <= '9'; }

class PercentFormat {
 public:
  PercentFormat(Budget& budget, const Value& format, const Value& values)
      : budget_(budget),
        format_(format.str()),
        markup_(format.is_markup()),
        values_(values),
        out_(budget) {
    // What has items by key or number is a mapping to Python: it may stand unused.
    const bool indexed = values.is_series() && (values.list().kind == Series::kList ||
                                                values.list().kind == Series::kRange);
    mapping_ = values.is_dict() || values.is_undefined() || indexed;
  }

  Value run() {
    while (at_ < format_.size()) {
      const size_t percent = std::min(format_.find('%', at_), format_.size());
      out_.append(format_.substr(at_, percent - at_));
      at_ = percent;
      if (at_ < format_.size()) conversion();
    }
    if (!mapping_ && used_ < (is_tuple() ? values_.items().size() : 1))
      throw TemplateError("not all arguments converted during string formatting");
    return out_.take(markup_);
  }

 private:
  bool is_tuple() const { return values_.is_list() && values_.list().tuple(); }
  char peek() const { return at_ < format_.size() ? format_[at_] : '\0'; }

  char take() {
    if (at_ >= format_.size()) throw TemplateError("incomplete format");
    return format_[at_++];
  }

  const Value& next_value() {
    if (by_name_) return named_;
    if (is_tuple()) {
      if (used_ >= values_.items().size())
        throw TemplateError("not enough arguments for format string");
      return values_.items()[used_++];
    }
    if (used_++ > 0) throw TemplateError("not enough arguments for format string");
    return values_;
  }

  void name() {
    if (peek() != '(') return;
    if (!values_.is_dict()) throw TemplateError("format requires a mapping");
    size_t end = ++at_;
    for (int depth = 1; depth > 0; ++end) {
      if (end >= format_.size()) throw TemplateError("incomplete format key");
      depth += format_[end] == '(' ? 1 : format_[end] == ')' ? -1 : 0;
    }
    const std::string_view key = format_.substr(at_, end - 1 - at_);
    const Value* found = values_.dict().find(key);
    if (found == nullptr) throw TemplateError("the key '" + excerpt(key) + "' is not there");
    named_ = *found;
    by_name_ = true;
    at_ = end;
  }

  int64_t number(const char* what) {
    if (peek() == '*') {
      ++at_;
      const int64_t value = integer(next_value(), "'*' in a format");
      if (value > kWidest || value < -kWidest)
        throw TemplateError(std::string(what) + " is too wide");
      return value;
    }
    int64_t value = 0;
    while (is_digit_byte(peek())) {
      value = value * 10 + (format_[at_++] - '0');
      if (value > kWidest) throw TemplateError(std::string(what) + " is too wide");
    }
    return value;
  }

  void conversion() {
    budget_.work(1);
    ++at_;
    if (peek() == '%') {
      ++at_;
      return out_.push('%');
    }
    by_name_ = false;
    name();
    left_ = zero_ = alternate_ = false;
    sign_ = '\0';
    for (;; ++at_) {
      const char c = peek();
      if (c == '-')
        left_ = true;
      else if (c == '0')
        zero_ = true;
      else if (c == '#')
        alternate_ = true;
      else if (c == '+')
        sign_ = '+';
      else if (c == ' ')
        sign_ = sign_ == '+' ? '+' : ' ';
      else
        break;
    }
    width_ = number("a format's width");
    if (width_ < 0) {
      left_ = true;
      width_ = -width_;
    }
    precision_ = -1;
    if (peek() == '.') {
      ++at_;
      precision_ = std::max<int64_t>(0, number("a format's precision"));
    }
    if (peek() == 'h' || peek() == 'l' || peek() == 'L') ++at_;
    const char type = take();
    const std::string_view texts = "sra", integers = "diuxXo", floats = "eEfFgG";
    const Value value = next_value();
    if (texts.find(type) != std::string_view::npos) return text(type, value);
    if (type == 'c') return character(value);
    if (integers.find(type) != std::string_view::npos) return whole(type, value);
    if (floats.find(type) != std::string_view::npos) return real(type, value);
    throw TemplateError("unsupported format character '" + excerpt(std::string_view(&type, 1)) +
                        "'");
  }

  void text(char type, const Value& value) {
    TextBuilder written(budget_);
    if (type == 's') print(value, &written);
    if (type == 'r') print_repr(value, &written);
    if (type == 'a') print_ascii(value, &written);
    Value all = written.take();
    if (precision_ >= 0 && precision_ < all.text().length())
      all = characters(budget_, all, 0, precision_);
    if (markup_ && !value.is_markup()) all = escape(budget_, all);
    pad("", all.str(), false);
  }

  void character(const Value& value) {
    if (value.is_string()) {
      if (value.text().length() != 1) throw TemplateError("%c requires int or char");
      return pad("", value.str(), false);
    }
    const int64_t code = integer(value, "%c");
    if (code < 0 || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
      throw TemplateError("%c: not the number of a character, or a lone surrogate");
    std::string one;
    append_utf8(static_cast<uint32_t>(code), &one);
    pad("", one, false);
  }

  void whole(char type, const Value& value) {
    const bool decimal = type == 'd' || type == 'i' || type == 'u';
    if (!value.is_number() || (value.is_float() && !decimal))
      throw TemplateError(std::string("%") + type + " format: a number is required, not " +
                          value.type_name());
    const int64_t number = value.is_float() ? truncated(value.as_double()) : value.as_int();
    const uint64_t magnitude =
        number < 0 ? 0 - static_cast<uint64_t>(number) : static_cast<uint64_t>(number);
    char buffer[32];
    const char* form = type == 'o' ? "%lo" : type == 'x' ? "%lx" : type == 'X' ? "%lX" : "%lu";
    std::string digits(buffer,
                       static_cast<size_t>(std::snprintf(buffer, sizeof(buffer), form, magnitude)));
    if (precision_ > static_cast<int64_t>(digits.size()))
      digits.insert(0, static_cast<size_t>(precision_) - digits.size(), '0');
    std::string head = number < 0 ? "-" : sign_ ? std::string(1, sign_) : "";
    if (alternate_ && !decimal) head += std::string("0") + type;
    pad(head, digits, true);
  }

  void real(char type, const Value& value) {
    if (!value.is_number())
      throw TemplateError(std::string("must be real number, not ") + value.type_name());
    const double number = value.as_double();
    const std::string digits =
        float_digits(std::fabs(number), type, precision_ < 0 ? 6 : precision_, alternate_, false);
    const bool negative = std::signbit(number) && !std::isnan(number);
    pad(negative ? "-" : sign_ ? std::string(1, sign_) : "", digits, true);
  }

  void pad(const std::string& head, std::string_view body, bool number) {
    const int64_t length = static_cast<int64_t>(head.size()) + character_count(budget_, body);
    const auto missing = static_cast<size_t>(std::max<int64_t>(0, width_ - length));
    const bool zeros = zero_ && number && !left_;
    if (!left_ && !zeros) out_.append(missing, ' ');
    out_.append(head);
    if (zeros) out_.append(missing, '0');
    out_.append(body);
    if (left_) out_.append(missing, ' ');
  }

  Budget& budget_;
  const std::string_view format_;
  const bool markup_;
  const Value& values_;
  bool mapping_ = false;
  TextBuilder out_;
  size_t at_ = 0;
  size_t used_ = 0;
  Value named_;
  bool by_name_ = false;
  bool left_ = false, zero_ = false, alternate_ = false;
  char sign_ = '\0';
  int64_t width_ = 0, precision_ = -1;
};

class BraceFormat {
 public:
  BraceFormat(Interpreter& in, const Arguments& args, bool markup)
      : in_(in), args_(args), markup_(markup) {}

  void run(std::string_view text, int depth, TextBuilder* out) {
    if (depth > 2) throw TemplateError("format: fields are nested too deeply");
    for (size_t i = 0; i < text.size();) {
      const size_t brace = std::min(text.find_first_of("{}", i), text.size());
      out->append(text.substr(i, brace - i));
      i = brace;
      if (i == text.size()) return;
      if (i + 1 < text.size() && text[i + 1] == text[i]) {
        out->push(text[i]);
        i += 2;
        continue;
      }
      if (text[i] == '}') throw TemplateError("Single '}' encountered in format string");
      size_t end = i + 1;
      for (int open = 1; open > 0; ++end) {
        if (end >= text.size()) throw TemplateError("expected '}' before end of string");
        open += text[end] == '{' ? 1 : text[end] == '}' ? -1 : 0;
        // Braces in an index are characters of it.
        if (text[end] == '[' && open == 1) end = std::min(text.find(']', end), text.size() - 1);
      }
      field(text.substr(i + 1, end - i - 2), depth, out);
      i = end;
    }
  }

 private:
  void field(std::string_view all, int depth, TextBuilder* out) {
    in_.budget().work(1);
    size_t end = 0;
    while (end < all.size() && all[end] != ':' && all[end] != '!') {
      if (all[end] == '{') throw TemplateError("unexpected '{' in field name");
      if (all[end] == '[') end = std::min(all.find(']', end), all.size() - 1);
      ++end;
    }
    const std::string_view name = all.substr(0, end);
    char conversion = '\0';
    if (end < all.size() && all[end] == '!') {
      if (end + 1 >= all.size())
        throw TemplateError("format: the conversion behind '!' is missing");
      conversion = all[end + 1];
      end += 2;
      if (end < all.size() && all[end] != ':')
        throw TemplateError("expected ':' after conversion specifier");
    }
    const std::string_view spec_text = end < all.size() ? all.substr(end + 1) : "";
    Value value = lookup(name);
    TextBuilder converted(in_.budget());
    if (conversion == 's')
      print(value, &converted);
    else if (conversion == 'r')
      print_repr(value, &converted);
    else if (conversion == 'a')
      print_ascii(value, &converted);
    else if (conversion != '\0')
      throw TemplateError("format: an unknown conversion behind '!'");
    if (conversion != '\0') value = converted.take();
    TextBuilder spec(in_.budget());
    run(spec_text, depth + 1, &spec);
    if (!markup_) return format_value(value, spec.view(), out);
    if (value.is_markup()) return out->append(value.str());
    TextBuilder formatted(in_.budget());
    format_value(value, spec.view(), &formatted);
    out->append(escape(in_.budget(), formatted.take()).str());
  }

  // `whole`: nothing follows it. Only then it counts as a manual number, as in Python's Formatter.
  Value first(std::string_view name, bool whole) {
    if (!name.empty() && std::all_of(name.begin(), name.end(), is_digit_byte)) {
      if (whole && numbering_ == Numbering::kAutomatic)
        throw TemplateError(
            "cannot switch from automatic field numbering to manual field specification");
      if (whole) numbering_ = Numbering::kManual;
      return positional(name.size() < 9 ? std::stoul(std::string(name)) : SIZE_MAX);
    }
    const Value* found = args_.find(name);
    if (found == nullptr)
      throw TemplateError("format: there is no argument '" + excerpt(name) + "'");
    return *found;
  }

  Value positional(size_t index) {
    if (index >= args_.positional.size())
      throw TemplateError("Replacement index " + std::to_string(index) +
                          " out of range for positional args tuple");
    return args_.positional[index];
  }

  // "0.name[index]"
  Value lookup(std::string_view name) {
    if (name.empty()) {
      if (numbering_ == Numbering::kManual)
        throw TemplateError(
            "cannot switch from manual field specification to automatic field numbering");
      numbering_ = Numbering::kAutomatic;
      return positional(next_++);
    }
    size_t at = std::min(name.find_first_of(".["), name.size());
    Value value = first(name.substr(0, at), at == name.size());
    while (at < name.size()) {
      if (name[at] == '.') {
        const size_t end = std::min(name.find_first_of(".[", at + 1), name.size());
        const std::string_view part = name.substr(at + 1, end - at - 1);
        if (part.empty()) throw TemplateError("Empty attribute in format string");
        value = in_.attribute(value, part);
        at = end;
        continue;
      }
      if (name[at] != '[')
        throw TemplateError("Only '.' or '[' may follow ']' in format field specifier");
      const size_t end = name.find(']', at);
      if (end == std::string_view::npos) throw TemplateError("Missing ']' in format string");
      const std::string_view part = name.substr(at + 1, end - at - 1);
      if (part.empty()) throw TemplateError("Empty attribute in format string");
      const bool number = part.size() < 9 && std::all_of(part.begin(), part.end(), is_digit_byte);
      const Value index = number ? Value(static_cast<int64_t>(std::stoll(std::string(part))))
                                 : Value::string(in_.budget(), part);
      value = in_.item(value, index);
      at = end + 1;
    }
    return value;
  }

  enum class Numbering : uint8_t { kUndecided, kAutomatic, kManual };
  Interpreter& in_;
  const Arguments& args_;
  const bool markup_;
  Numbering numbering_ = Numbering::kUndecided;
  size_t next_ = 0;
};

}  // namespace

Value percent_format(Budget& budget, const Value& format, const Value& values) {
  return PercentFormat(budget, format, values).run();
}

Value brace_format(Interpreter& in, const Value& format, const Arguments& args) {
  TextBuilder out(in.budget());
  BraceFormat(in, args, format.is_markup()).run(format.str(), 0, &out);
  return out.take(format.is_markup());
}

}  // namespace shoal::jinja
