#include "model/jinja/value.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include <nlohmann/json.hpp>

#include "base/utf8.h"

namespace shoal::jinja {
namespace {

constexpr int kMaxValueDepth = 200;  // of nested lists and dicts that are printed or compared

std::string float_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[64];
  const double magnitude = std::fabs(value);
  const bool scientific = magnitude != 0 && (magnitude < 1e-4 || magnitude >= 1e16);
  const auto end =
      std::to_chars(buffer, buffer + sizeof(buffer), value,
                    scientific ? std::chars_format::scientific : std::chars_format::fixed);
  std::string text(buffer, end.ptr);
  if (!scientific && text.find('.') == std::string::npos) text += ".0";
  return text;
}

std::string quoted(const std::string& text) {
  const bool use_double =
      text.find('\'') != std::string::npos && text.find('"') == std::string::npos;
  const char quote = use_double ? '"' : '\'';
  std::string out(1, quote);
  for (const char c : text) {
    switch (c) {
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\\':
        out += "\\\\";
        break;
      default:
        if (c == quote) out += '\\';
        out += c;
    }
  }
  return out + quote;
}

void append_repr(const Value& value, int depth, std::string* out) {
  if (depth > kMaxValueDepth) throw TemplateError("a value is nested too deeply to print");
  if (value.is_string()) {
    *out += quoted(value.str());
  } else if (value.is_list()) {
    const List& list = value.list();
    *out += list.is_tuple ? "(" : "[";
    for (size_t i = 0; i < list.items.size(); ++i) {
      if (i) *out += ", ";
      append_repr(list.items[i], depth + 1, out);
    }
    if (list.is_tuple && list.items.size() == 1) *out += ",";
    *out += list.is_tuple ? ")" : "]";
  } else if (value.is_dict()) {
    *out += "{";
    bool first = true;
    for (const auto& [key, item] : value.dict().items) {
      if (!first) *out += ", ";
      first = false;
      append_repr(key, depth + 1, out);
      *out += ": ";
      append_repr(item, depth + 1, out);
    }
    *out += "}";
  } else {
    *out += value.to_text();
  }
}

void append_json_string(std::string_view text, bool ascii, std::string* out) {
  *out += '"';
  for (size_t pos = 0; pos < text.size();) {
    const size_t begin = pos;
    const uint32_t c = next_code_point(text, &pos);
    char buffer[16];
    switch (c) {
      case '"':
        *out += "\\\"";
        break;
      case '\\':
        *out += "\\\\";
        break;
      case '\n':
        *out += "\\n";
        break;
      case '\r':
        *out += "\\r";
        break;
      case '\t':
        *out += "\\t";
        break;
      case '\b':
        *out += "\\b";
        break;
      case '\f':
        *out += "\\f";
        break;
      default:
        if (c < 0x20 || (ascii && c > 0x7e && c < 0x10000)) {
          std::snprintf(buffer, sizeof(buffer), "\\u%04x", c);
          *out += buffer;
        } else if (ascii && c >= 0x10000) {
          std::snprintf(buffer, sizeof(buffer), "\\u%04x\\u%04x", 0xd7c0 + (c >> 10),
                        0xdc00 + (c & 0x3ff));
          *out += buffer;
        } else {
          out->append(text, begin, pos - begin);
        }
    }
  }
  *out += '"';
}

class JsonPrinter {
 public:
  explicit JsonPrinter(const JsonFormat& format) : format_(format) {}
  std::string out;

  void print(const Value& value, int depth) {
    if (depth > kMaxValueDepth) throw TemplateError("tojson: a value is nested too deeply");
    if (value.is_none()) {
      out += "null";
    } else if (value.is_bool()) {
      out += value.truthy() ? "true" : "false";
    } else if (value.is_number()) {
      out += value.to_text();
    } else if (value.is_string()) {
      append_json_string(value.str(), format_.ensure_ascii, &out);
    } else if (value.is_list()) {
      const Values& items = value.list().items;
      sequence('[', ']', items.size(), depth, [&](size_t i) { print(items[i], depth + 1); });
    } else if (value.is_dict()) {
      auto items = value.dict().items;
      if (format_.sort_keys) {
        std::stable_sort(items.begin(), items.end(), [](const auto& a, const auto& b) {
          return compare(a.first, b.first) < 0;
        });
      }
      sequence('{', '}', items.size(), depth, [&](size_t i) {
        append_json_string(items[i].first.to_text(), format_.ensure_ascii, &out);
        out += format_.key_separator;
        print(items[i].second, depth + 1);
      });
    } else {
      throw TemplateError(std::string("tojson: ") + value.type_name() + " is not JSON");
    }
  }

 private:
  template <class F>
  void sequence(char open, char close, size_t n, int depth, const F& item) {
    out += open;
    for (size_t i = 0; i < n; ++i) {
      if (i) out += format_.indent >= 0 ? "," : format_.item_separator;
      new_line(depth + 1);
      item(i);
    }
    if (n > 0) new_line(depth);
    out += close;
  }
  void new_line(int depth) {
    if (format_.indent < 0) return;
    out += '\n';
    out.append(static_cast<size_t>(format_.indent * depth), ' ');
  }
  const JsonFormat& format_;
};

}  // namespace

const Value* Dict::find(const Value& key) const {
  for (const auto& [k, v] : items) {
    if (equal(k, key)) return &v;
  }
  return nullptr;
}

const Value* Dict::find(std::string_view key) const {
  for (const auto& [k, v] : items) {
    if (k.is_string() && k.str() == key) return &v;
  }
  return nullptr;
}

void Dict::set(const Value& key, Value value) {
  for (auto& [k, v] : items) {
    if (equal(k, key)) {
      v = std::move(value);
      return;
    }
  }
  items.emplace_back(key, std::move(value));
}

Value Value::list(Values items, bool tuple) {
  Value v;
  v.data_ = std::make_shared<List>(List{std::move(items), tuple});
  return v;
}

Value Value::dict(Dict dict) {
  Value v;
  v.data_ = std::make_shared<Dict>(std::move(dict));
  return v;
}

Value Value::callable(std::string name, std::function<Value(const Arguments&)> call) {
  Value v;
  v.data_ = std::make_shared<Callable>(Callable{std::move(name), std::move(call)});
  return v;
}

Value Value::from_json(const nlohmann::ordered_json& json) {
  switch (json.type()) {
    case nlohmann::ordered_json::value_t::boolean:
      return json.get<bool>();
    case nlohmann::ordered_json::value_t::number_integer:
      return json.get<int64_t>();
    case nlohmann::ordered_json::value_t::number_unsigned: {
      const auto value = json.get<uint64_t>();
      return value > static_cast<uint64_t>(INT64_MAX) ? Value(static_cast<double>(value))
                                                      : Value(static_cast<int64_t>(value));
    }
    case nlohmann::ordered_json::value_t::number_float:
      return json.get<double>();
    case nlohmann::ordered_json::value_t::string:
      return json.get<std::string>();
    case nlohmann::ordered_json::value_t::array: {
      Values items;
      items.reserve(json.size());
      for (const auto& item : json) items.push_back(from_json(item));
      return list(std::move(items));
    }
    case nlohmann::ordered_json::value_t::object: {
      Dict out;
      for (const auto& [key, item] : json.items())
        out.items.emplace_back(Value(key), from_json(item));
      return dict(std::move(out));
    }
    default:
      return Value();
  }
}

int64_t Value::as_int() const {
  if (is_bool()) return std::get<bool>(data_) ? 1 : 0;
  if (is_int()) return std::get<int64_t>(data_);
  const double d = std::get<double>(data_);
  if (!(d > -9.2e18 && d < 9.2e18)) throw TemplateError("a number is too large for an integer");
  return static_cast<int64_t>(d);
}

double Value::as_double() const {
  return is_float() ? std::get<double>(data_) : static_cast<double>(as_int());
}

bool Value::truthy() const {
  if (is_undefined() || is_none()) return false;
  if (is_float()) return as_double() != 0;
  if (is_number()) return as_int() != 0;
  if (is_string()) return !str().empty();
  if (is_list()) return !list().items.empty();
  if (is_dict()) return dict().is_namespace || !dict().items.empty();
  return true;
}

std::string Value::to_text() const {
  if (is_undefined()) return "";
  if (is_none()) return "None";
  if (is_bool()) return truthy() ? "True" : "False";
  if (is_int()) return std::to_string(as_int());
  if (is_float()) return float_text(as_double());
  if (is_string()) return str();
  if (is_callable()) return "<" + callable().name + ">";
  return to_repr();
}

std::string Value::to_repr() const {
  std::string out;
  append_repr(*this, 0, &out);
  return out;
}

const char* Value::type_name() const {
  if (is_undefined()) return "undefined";
  if (is_none()) return "None";
  if (is_bool()) return "bool";
  if (is_int()) return "int";
  if (is_float()) return "float";
  if (is_string()) return "str";
  if (is_list()) return list().is_tuple ? "tuple" : "list";
  if (is_dict()) return "dict";
  return "function";
}

const Value* Arguments::find(size_t index, std::string_view name) const {
  if (index < positional.size()) return &positional[index];
  for (const auto& [key, value] : named) {
    if (key == name) return &value;
  }
  return nullptr;
}

Value Arguments::get(size_t index, std::string_view name, Value fallback) const {
  const Value* found = find(index, name);
  return found ? *found : std::move(fallback);
}

const Value& Arguments::need(size_t index, std::string_view name, const std::string& what) const {
  const Value* found = find(index, name);
  if (found == nullptr)
    throw TemplateError(what + ": argument '" + std::string(name) + "' is missing");
  return *found;
}

bool equal(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) {
    return a.is_float() || b.is_float() ? a.as_double() == b.as_double() : a.as_int() == b.as_int();
  }
  if (a.is_string() && b.is_string()) return a.str() == b.str();
  if (a.is_list() && b.is_list()) {
    const Values &x = a.list().items, &y = b.list().items;
    return a.list().is_tuple == b.list().is_tuple &&
           std::equal(x.begin(), x.end(), y.begin(), y.end(), equal);
  }
  if (a.is_dict() && b.is_dict()) {
    if (a.dict().items.size() != b.dict().items.size()) return false;
    return std::all_of(a.dict().items.begin(), a.dict().items.end(), [&](const auto& item) {
      const Value* other = b.dict().find(item.first);
      return other != nullptr && equal(item.second, *other);
    });
  }
  if (a.is_callable() && b.is_callable()) return &a.callable() == &b.callable();
  return (a.is_none() && b.is_none()) || (a.is_undefined() && b.is_undefined());
}

int compare(const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) {
    if (a.is_float() || b.is_float())
      return a.as_double() < b.as_double() ? -1 : a.as_double() > b.as_double();
    return a.as_int() < b.as_int() ? -1 : a.as_int() > b.as_int();
  }
  if (a.is_string() && b.is_string()) return std::clamp(a.str().compare(b.str()), -1, 1);
  if (a.is_list() && b.is_list()) {
    const Values &x = a.list().items, &y = b.list().items;
    for (size_t i = 0; i < std::min(x.size(), y.size()); ++i) {
      if (!equal(x[i], y[i])) return compare(x[i], y[i]);
    }
    return x.size() < y.size() ? -1 : x.size() > y.size();
  }
  throw TemplateError(std::string("'") + a.type_name() + "' and '" + b.type_name() +
                      "' have no order");
}

bool contains(const Value& container, const Value& item) {
  if (container.is_string()) {
    if (!item.is_string()) throw TemplateError("'in <string>' needs a string on its left");
    return container.str().find(item.str()) != std::string::npos;
  }
  if (container.is_dict()) return container.dict().find(item) != nullptr;
  if (container.is_list()) {
    const Values& items = container.list().items;
    return std::any_of(items.begin(), items.end(), [&](const Value& v) { return equal(v, item); });
  }
  if (container.is_undefined()) return false;
  throw TemplateError(std::string("'in' does not work on ") + container.type_name());
}

Values iterate(const Value& value) {
  if (value.is_undefined()) return {};
  if (value.is_list()) return value.list().items;
  Values out;
  if (value.is_string()) {
    for (std::string& c : characters(value.str())) out.emplace_back(std::move(c));
    return out;
  }
  if (value.is_dict() && !value.dict().is_namespace) {
    for (const auto& [key, item] : value.dict().items) out.push_back(key);
    return out;
  }
  throw TemplateError(std::string("'") + value.type_name() + "' cannot be looped over");
}

std::vector<std::string> characters(std::string_view text) {
  std::vector<std::string> out;
  for (size_t pos = 0; pos < text.size();) {
    const size_t begin = pos;
    (void)next_code_point(text, &pos);
    out.emplace_back(text.substr(begin, pos - begin));
  }
  return out;
}

int64_t character_count(std::string_view text) {
  int64_t count = 0;
  for (size_t pos = 0; pos < text.size(); ++count) (void)next_code_point(text, &pos);
  return count;
}

std::string to_json(const Value& value, const JsonFormat& format) {
  JsonPrinter printer(format);
  printer.print(value, 0);
  return std::move(printer.out);
}

}  // namespace shoal::jinja
