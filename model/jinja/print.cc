// Values as text: str(), repr() and JSON.
#include <algorithm>
#include <charconv>
#include <cmath>

#include "base/utf8.h"
#include "model/jinja/value.h"

namespace shoal::jinja {
namespace {

constexpr int kMaxValueDepth = 200;  // of nested lists and dicts that are printed

void print_number(const Value& value, TextBuilder* out) {
  char buffer[64];
  char* const last = buffer + sizeof(buffer);
  if (value.is_bool()) return out->append(value.truthy() ? "True" : "False");
  if (value.is_int()) {
    const auto end = std::to_chars(buffer, last, value.as_int());
    return out->append({buffer, end.ptr});
  }
  const double number = value.as_double();
  if (std::isnan(number)) return out->append("nan");
  if (std::isinf(number)) return out->append(number < 0 ? "-inf" : "inf");
  const double magnitude = std::fabs(number);
  const bool scientific = magnitude != 0 && (magnitude < 1e-4 || magnitude >= 1e16);
  const auto end = std::to_chars(
      buffer, last, number, scientific ? std::chars_format::scientific : std::chars_format::fixed);
  const std::string_view text(buffer, end.ptr);
  out->append(text);
  if (!scientific && text.find('.') == std::string_view::npos) out->append(".0");
}

void print_quoted(std::string_view text, TextBuilder* out) {
  const bool use_double =
      text.find('\'') != std::string_view::npos && text.find('"') == std::string_view::npos;
  const char quote = use_double ? '"' : '\'';
  out->push(quote);
  size_t done = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const char letter = c == '\n'   ? 'n'
                        : c == '\r' ? 'r'
                        : c == '\t' ? 't'
                                    : (c == '\\' || c == quote ? c : '\0');
    if (letter == '\0') continue;
    out->append(text.substr(done, i - done));
    out->push('\\');
    out->push(letter);
    done = i + 1;
  }
  out->append(text.substr(done));
  out->push(quote);
}

void print_nested(const Value& value, int depth, TextBuilder* out) {
  if (depth > kMaxValueDepth) throw TemplateError("a value is nested too deeply to print");
  out->budget().work(1);
  if (value.is_string()) {
    print_quoted(value.str(), out);
  } else if (value.is_list()) {
    const bool tuple = value.list().tuple;
    const std::span<const Value> items = value.items();
    out->push(tuple ? '(' : '[');
    for (size_t i = 0; i < items.size(); ++i) {
      if (i) out->append(", ");
      print_nested(items[i], depth + 1, out);
    }
    if (tuple && items.size() == 1) out->push(',');
    out->push(tuple ? ')' : ']');
  } else if (value.is_dict()) {
    out->push('{');
    bool first = true;
    for (const auto& [key, item] : value.dict().entries) {
      if (!first) out->append(", ");
      first = false;
      print_nested(key, depth + 1, out);
      out->append(": ");
      print_nested(item, depth + 1, out);
    }
    out->push('}');
  } else {
    print(value, out);
  }
}

void print_json_string(std::string_view text, bool ascii, TextBuilder* out) {
  out->push('"');
  size_t done = 0;
  for (size_t pos = 0; pos < text.size();) {
    const size_t begin = pos;
    const uint32_t c = next_code_point(text, &pos);
    char buffer[16];
    const char* written = buffer;
    switch (c) {
      case '"':
        written = "\\\"";
        break;
      case '\\':
        written = "\\\\";
        break;
      case '\n':
        written = "\\n";
        break;
      case '\r':
        written = "\\r";
        break;
      case '\t':
        written = "\\t";
        break;
      case '\b':
        written = "\\b";
        break;
      case '\f':
        written = "\\f";
        break;
      default:
        if (c < 0x20 || (ascii && c > 0x7e && c < 0x10000)) {
          std::snprintf(buffer, sizeof(buffer), "\\u%04x", c);
        } else if (ascii && c >= 0x10000) {
          std::snprintf(buffer, sizeof(buffer), "\\u%04x\\u%04x", 0xd7c0 + (c >> 10),
                        0xdc00 + (c & 0x3ff));
        } else {
          continue;
        }
    }
    out->append(text.substr(done, begin - done));
    out->append(written);
    done = pos;
  }
  out->append(text.substr(done));
  out->push('"');
}

class JsonPrinter {
 public:
  JsonPrinter(Budget& budget, const JsonFormat& format)
      : out(budget), budget_(budget), format_(format) {}
  TextBuilder out;

  void print(const Value& value, int depth) {
    if (depth > kMaxValueDepth) throw TemplateError("tojson: a value is nested too deeply");
    budget_.work(1);
    if (value.is_none()) {
      out.append("null");
    } else if (value.is_bool()) {
      out.append(value.truthy() ? "true" : "false");
    } else if (value.is_number()) {
      print_number(value, &out);
    } else if (value.is_string()) {
      print_json_string(value.str(), format_.ensure_ascii, &out);
    } else if (value.is_list()) {
      const std::span<const Value> items = value.items();
      sequence('[', ']', items.size(), depth, [&](size_t i) { print(items[i], depth + 1); });
    } else if (value.is_dict()) {
      print_dict(value.dict(), depth);
    } else {
      throw TemplateError(std::string("tojson: ") + value.type_name() + " is not JSON");
    }
  }

 private:
  void print_dict(const Dict& dict, int depth) {
    const auto& entries = dict.entries;
    const Held held(budget_, 2 * sizeof(size_t) * (format_.sort_keys ? entries.size() : 0));
    std::vector<size_t> order;
    if (format_.sort_keys) {
      for (size_t i = 0; i < entries.size(); ++i) order.push_back(i);
      std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
        return compare(budget_, entries[a].first, entries[b].first) < 0;
      });
    }
    sequence('{', '}', entries.size(), depth, [&](size_t i) {
      const auto& [key, value] = entries[format_.sort_keys ? order[i] : i];
      print_json_string(to_text(budget_, key).str(), format_.ensure_ascii, &out);
      out.append(format_.key_separator);
      print(value, depth + 1);
    });
  }
  template <class F>
  void sequence(char open, char close, size_t n, int depth, const F& item) {
    out.push(open);
    for (size_t i = 0; i < n; ++i) {
      if (i) out.append(format_.indent >= 0 ? "," : format_.item_separator);
      new_line(depth + 1);
      item(i);
    }
    if (n > 0) new_line(depth);
    out.push(close);
  }
  void new_line(int depth) {
    if (format_.indent < 0) return;
    out.push('\n');
    out.append(static_cast<size_t>(format_.indent * depth), ' ');
  }
  Budget& budget_;
  const JsonFormat& format_;
};

}  // namespace

void print(const Value& value, TextBuilder* out) {
  switch (value.type()) {
    case Value::Type::kUndefined:
    case Value::Type::kUndefinedText:
      return;
    case Value::Type::kNone:
      return out->append("None");
    case Value::Type::kBool:
    case Value::Type::kInt:
    case Value::Type::kFloat:
      return print_number(value, out);
    case Value::Type::kString:
      return out->append(value.str());
    case Value::Type::kList:
    case Value::Type::kDict:
      return print_nested(value, 0, out);
    case Value::Type::kLoop:
      return out->append("<loop>");
    case Value::Type::kCallable:
      out->push('<');
      out->append(value.callable().name);
      return out->push('>');
  }
}

void print_repr(const Value& value, TextBuilder* out) { print_nested(value, 0, out); }

Value to_text(Budget& budget, const Value& value) {
  if (value.is_string()) return value;
  TextBuilder out(budget);
  print(value, &out);
  return out.take();
}

Value to_json(Budget& budget, const Value& value, const JsonFormat& format) {
  JsonPrinter printer(budget, format);
  printer.print(value, 0);
  return printer.out.take();
}

}  // namespace shoal::jinja
