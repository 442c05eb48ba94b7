// Values of the template language: Python's, as far as templates see them.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include <nlohmann/json_fwd.hpp>

namespace shoal::jinja {

// Thrown inside the interpreter only; ChatTemplate turns it into a Status.
struct TemplateError : std::runtime_error {
  explicit TemplateError(const std::string& message, int at_line = 0)
      : std::runtime_error(message), line(at_line) {}
  int line;
  bool raised_by_template = false;  // raise_exception(): the words are the template's own
};

class Value;
struct Arguments;
using Values = std::vector<Value>;

struct List {
  Values items;
  bool is_tuple = false;
};
struct Dict {
  std::vector<std::pair<Value, Value>> items;  // insertion order
  bool is_namespace = false;
  const Value* find(const Value& key) const;
  const Value* find(std::string_view key) const;
  void set(const Value& key, Value value);
};
struct Callable {
  std::string name;
  std::function<Value(const Arguments&)> call;
};
struct Undefined {
  std::string name;  // for messages
};
struct None {};

class Value {
 public:
  Value() : data_(None{}) {}
  Value(bool b) : data_(b) {}
  Value(int64_t i) : data_(i) {}
  Value(double d) : data_(d) {}
  Value(std::string s) : data_(std::make_shared<const std::string>(std::move(s))) {}
  Value(const char* s) : Value(std::string(s)) {}
  static Value undefined(std::string name) { return Value(Undefined{std::move(name)}); }
  static Value list(Values items, bool tuple = false);
  static Value dict(Dict dict);
  static Value callable(std::string name, std::function<Value(const Arguments&)> call);
  static Value from_json(const nlohmann::ordered_json& json);

  bool is_undefined() const { return std::holds_alternative<Undefined>(data_); }
  bool is_none() const { return std::holds_alternative<None>(data_); }
  bool is_bool() const { return std::holds_alternative<bool>(data_); }
  bool is_int() const { return std::holds_alternative<int64_t>(data_); }
  bool is_float() const { return std::holds_alternative<double>(data_); }
  bool is_number() const { return is_bool() || is_int() || is_float(); }
  bool is_string() const { return std::holds_alternative<StringPtr>(data_); }
  bool is_list() const { return std::holds_alternative<std::shared_ptr<List>>(data_); }
  bool is_dict() const { return std::holds_alternative<std::shared_ptr<Dict>>(data_); }
  bool is_callable() const { return std::holds_alternative<std::shared_ptr<Callable>>(data_); }

  const std::string& str() const { return *std::get<StringPtr>(data_); }
  List& list() const { return *std::get<std::shared_ptr<List>>(data_); }
  Dict& dict() const { return *std::get<std::shared_ptr<Dict>>(data_); }
  const Callable& callable() const { return *std::get<std::shared_ptr<Callable>>(data_); }
  const std::string& undefined_name() const { return std::get<Undefined>(data_).name; }
  int64_t as_int() const;    // of a bool, int or float
  double as_double() const;  // of a number

  bool truthy() const;
  std::string to_text() const;    // Python's str(); undefined is ""
  std::string to_repr() const;    // Python's repr()
  const char* type_name() const;  // Python's, for messages

 private:
  using StringPtr = std::shared_ptr<const std::string>;
  explicit Value(Undefined u) : data_(std::move(u)) {}
  std::variant<Undefined, None, bool, int64_t, double, StringPtr, std::shared_ptr<List>,
               std::shared_ptr<Dict>, std::shared_ptr<Callable>>
      data_;
};

struct Arguments {
  Values positional;
  std::vector<std::pair<std::string, Value>> named;

  const Value* find(size_t index, std::string_view name) const;
  Value get(size_t index, std::string_view name, Value fallback) const;
  const Value& need(size_t index, std::string_view name, const std::string& what) const;
};

bool equal(const Value& a, const Value& b);
int compare(const Value& a, const Value& b);  // −1, 0, 1; error if the types have no order
bool contains(const Value& container, const Value& item);
// Items to loop over: a list's, a dict's keys, a string's characters. Undefined: none.
Values iterate(const Value& value);

std::vector<std::string> characters(std::string_view text);  // one string per code point
int64_t character_count(std::string_view text);

struct JsonFormat {
  int64_t indent = -1;  // −1: one line
  bool ensure_ascii = false;
  bool sort_keys = false;
  std::string item_separator = ", ", key_separator = ": ";
};
std::string to_json(const Value& value, const JsonFormat& format);

}  // namespace shoal::jinja
