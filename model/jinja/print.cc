// Values as text: str(), repr() and JSON.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>

#include "base/utf8.h"
#include "model/jinja/arithmetic.h"
#include "model/jinja/ast.h"
#include "model/jinja/unicode.h"
#include "model/jinja/value.h"

namespace shoal::jinja {
namespace {

constexpr int kMaxValueDepth = 200;  // of nested lists and dicts that are printed

void print_number(const Value& value, TextBuilder* out) {
  if (value.is_bool()) return out->append(value.truthy() ? "True" : "False");
  if (value.is_float()) return out->append(float_digits(value.as_double(), 'r', 0, false, false));
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof(buffer), value.as_int());
  out->append({buffer, end.ptr});
}

// How a string literal shows `c`; "": as it is.
std::string_view escaped(uint32_t c, char quote, bool ascii, char (&buffer)[16]) {
  if (c == '\n') return "\\n";
  if (c == '\r') return "\\r";
  if (c == '\t') return "\\t";
  if (c == '\\') return "\\\\";
  if (c == static_cast<unsigned char>(quote)) return quote == '"' ? "\\\"" : "\\'";
  if (is_printable(c) && !(ascii && c >= 0x80)) return {};
  const char* form = c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x";
  return {buffer, static_cast<size_t>(std::snprintf(buffer, sizeof(buffer), form, c))};
}

void print_quoted(std::string_view text, bool ascii, TextBuilder* out) {
  const bool use_double =
      text.find('\'') != std::string_view::npos && text.find('"') == std::string_view::npos;
  const char quote = use_double ? '"' : '\'';
  out->push(quote);
  out->budget().bytes(4 * text.size());
  size_t done = 0;
  for (size_t pos = 0; pos < text.size();) {
    const size_t begin = pos;
    char buffer[16];
    const std::string_view shown = escaped(next_code_point(text, &pos), quote, ascii, buffer);
    if (shown.empty()) continue;
    out->append(text.substr(done, begin - done));
    out->append(shown);
    done = pos;
  }
  out->append(text.substr(done));
  out->push(quote);
}

class ReprPrinter {
 public:
  ReprPrinter(bool ascii, TextBuilder* out) : ascii_(ascii), out_(out) {}

  void print_value(const Value& value, int depth) {
    if (depth > kMaxValueDepth) throw TemplateError("a value is nested too deeply to print");
    out_->budget().work(1);
    if (value.is_string()) {
      if (value.is_markup()) out_->append("Markup(");
      print_quoted(value.str(), ascii_, out_);
      if (value.is_markup()) out_->push(')');
    } else if (value.is_undefined()) {
      out_->append("Undefined");
    } else if (value.is_series()) {
      print_series(value.list(), depth);
    } else if (value.is_dict() || value.is_namespace()) {
      if (value.is_namespace()) out_->append("<Namespace ");
      print_dict(value.dict(), depth);
      if (value.is_namespace()) out_->push('>');
    } else {
      print(value, out_);
    }
  }

 private:
  void print_series(const List& list, int depth) {
    switch (list.kind) {
      case Series::kList:
        return print_items(list.view, "[", "]", depth);
      case Series::kTuple:
      case Series::kGroup:
        return print_items(list.view, "(", list.view.size() == 1 ? ",)" : ")", depth);
      case Series::kRange:
        return print_range(static_cast<const Range&>(list));
      case Series::kKeys:
        return print_items(list.view, "dict_keys([", "])", depth);
      case Series::kValues:
        return print_items(list.view, "dict_values([", "])", depth);
      case Series::kPairs:
        return print_items(list.view, "dict_items([", "])", depth);
      case Series::kGenerator:
        throw TemplateError("a generator has no text; '|list' behind the filter makes it a list");
    }
  }
  void print_items(std::span<const Value> items, std::string_view open, std::string_view close,
                   int depth) {
    out_->append(open);
    for (size_t i = 0; i < items.size(); ++i) {
      if (i) out_->append(", ");
      print_value(items[i], depth + 1);
    }
    out_->append(close);
  }
  void print_range(const Range& range) {
    out_->append("range(");
    print_number(range.start, out_);
    out_->append(", ");
    print_number(range.stop, out_);
    if (range.step != 1) {
      out_->append(", ");
      print_number(range.step, out_);
    }
    out_->push(')');
  }
  void print_dict(const Dict& dict, int depth) {
    out_->push('{');
    bool first = true;
    for (const auto& [key, item] : dict.entries) {
      if (!first) out_->append(", ");
      first = false;
      print_value(key, depth + 1);
      out_->append(": ");
      print_value(item, depth + 1);
    }
    out_->push('}');
  }

  const bool ascii_;
  TextBuilder* const out_;
};

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
      number(value);
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
  void number(const Value& value) {
    const double real = value.is_float() ? value.as_double() : 0;
    if (std::isnan(real)) return out.append("NaN");
    if (std::isinf(real)) return out.append(real < 0 ? "-Infinity" : "Infinity");
    print_number(value, &out);
  }
  // What a key that is no string becomes.
  void key(const Value& value) {
    if (value.is_string()) return print_json_string(value.str(), format_.ensure_ascii, &out);
    if (!value.is_none() && !value.is_number())
      throw TemplateError(std::string("tojson: a ") + value.type_name() + " cannot be a key");
    out.push('"');
    print(value, 0);
    out.push('"');
  }
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
      const auto& [name, value] = entries[format_.sort_keys ? order[i] : i];
      key(name);
      out.append(format_.key_separator);
      print(value, depth + 1);
    });
  }
  template <class F>
  void sequence(char open, char close, size_t n, int depth, const F& item) {
    out.push(open);
    for (size_t i = 0; i < n; ++i) {
      if (i) out.append(format_.item_separator);
      new_line(depth + 1);
      item(i);
    }
    if (n > 0) new_line(depth);
    out.push(close);
  }
  void new_line(int depth) {
    if (!format_.indent) return;
    out.push('\n');
    out.append_times(static_cast<uint64_t>(depth), *format_.indent);
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
      return print_repr(value, out);
    case Value::Type::kLoop:
      out->append("<LoopContext ");
      print_number(static_cast<int64_t>(value.loop().index + 1), out);
      out->push('/');
      print_number(static_cast<int64_t>(value.loop().length()), out);
      return out->push('>');
    case Value::Type::kCycler:
      throw TemplateError("a cycler has no text");
    case Value::Type::kCallable:
      if (value.callable().macro != nullptr) {
        if (value.callable().macro->kind == Kind::kCallBlock)
          return out->append("<Macro anonymous>");
        out->append("<Macro ");
        print_quoted(value.callable().name, false, out);
        return out->push('>');
      }
      throw TemplateError("a function has no text; is it to be called?");
  }
}

void print_repr(const Value& value, TextBuilder* out) {
  ReprPrinter(false, out).print_value(value, 0);
}
void print_ascii(const Value& value, TextBuilder* out) {
  ReprPrinter(true, out).print_value(value, 0);
}

Value to_text(Budget& budget, const Value& value) {
  if (value.is_string()) return as_markup(value, false);
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
