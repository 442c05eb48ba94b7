// Values of the template language: Python's, as far as templates see them.
//
// A Value is 16 bytes and cheap to copy. Strings and lists are views of shared storage: slicing
// copies nothing, and appending to the last result (`s = s + x` in a loop) copies only what is
// appended. Not thread-safe: values of one rendering belong to its thread.
#pragma once

#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "model/jinja/budget.h"
#include "model/jinja/error.h"

namespace shoal::jinja {

class Value;
struct Arguments;
struct Bytes;
struct Text;
struct List;
struct Dict;
struct Loop;
struct Callable;
using Call = std::function<Value(const Arguments&)>;

// Why there is nothing, for messages.
enum class Missing : uint8_t {
  kVariable,   // name: the variable
  kAttribute,  // name: the attribute
  kParameter,  // name: the parameter
  kOther,      // a text
};

class Value {
 public:
  enum class Type : uint8_t {
    kUndefined,
    kNone,
    kBool,
    kInt,
    kFloat,
    // From here on `object_` is set.
    kUndefinedText,
    kString,
    kList,
    kDict,
    kLoop,
    kCallable,
  };

  Value() {}  // none
  Value(bool b) : type_(Type::kBool) { bool_ = b; }
  Value(int64_t i) : type_(Type::kInt) { int_ = i; }
  Value(double d) : type_(Type::kFloat) { double_ = d; }
  template <class T>
  Value(T*) = delete;  // not a bool
  Value(const Value& other) : Value(other, Copy{}) {
    if (has_object()) new (&object_) Ref<Object>(other.object_);
  }
  Value(Value&& other) noexcept : Value(other, Copy{}) {
    if (has_object()) new (&object_) Ref<Object>(std::move(other.object_));
    other.forget();
  }
  Value& operator=(const Value& other) {
    if (this != &other) *this = Value(other);
    return *this;
  }
  Value& operator=(Value&& other) noexcept {
    if (this != &other) {
      this->~Value();
      new (this) Value(std::move(other));
    }
    return *this;
  }
  ~Value() {
    if (has_object()) object_.~Ref();
  }

  // `name` outlives the rendering: it stands in the template.
  static Value undefined(Missing why, const std::string& name, Type of = Type::kNone);
  static Value undefined(Missing why, std::string&& name, Type of = Type::kNone) = delete;
  static Value undefined(const char* text);                         // a literal
  static Value undefined(Budget& budget, const std::string& text);  // made for the occasion
  static Value string(Budget& budget, std::string_view text);       // copies
  static Value outside(Budget& budget, std::string_view text);      // outlives the rendering
  static Value string(Budget& budget, Ref<Bytes> bytes, std::string_view text);  // inside `bytes`
  // A part of `whole`, a string; copies nothing.
  static Value part(const Value& whole, std::string_view text);
  static Value list(Ref<List> list);
  static Value dict(Ref<Dict> dict);
  static Value loop(Ref<Loop> loop);
  static Value callable(Budget& budget, std::string_view name, Call call);  // name: as undefined's
  // Strings are views of `json`, which outlives the rendering.
  static Value from_json(Budget& budget, const nlohmann::ordered_json& json, int depth = 0);

  bool is_undefined() const { return type_ == Type::kUndefined || type_ == Type::kUndefinedText; }
  bool is_none() const { return type_ == Type::kNone; }
  bool is_bool() const { return type_ == Type::kBool; }
  bool is_int() const { return type_ == Type::kInt; }
  bool is_float() const { return type_ == Type::kFloat; }
  bool is_number() const { return is_bool() || is_int() || is_float(); }
  bool is_string() const { return type_ == Type::kString; }
  bool is_list() const { return type_ == Type::kList; }
  bool is_dict() const { return type_ == Type::kDict; }
  bool is_loop() const { return type_ == Type::kLoop; }
  bool is_callable() const { return type_ == Type::kCallable; }
  Type type() const { return type_; }

  // REQUIRE the type. They stay valid while a Value refers to the object.
  std::string_view str() const;
  Text& text() const;
  List& list() const;
  Dict& dict() const;
  Loop& loop() const;
  const Callable& callable() const;
  std::span<const Value> items() const;  // of a list
  bool same_object(const Value& other) const {
    return has_object() && type_ == other.type_ && object_.get() == other.object_.get();
  }

  // Of a number; error: it is none, or too large.
  int64_t as_int() const;
  double as_double() const;

  bool truthy() const;
  std::string undefined_text() const;  // of an undefined value, for messages
  const char* type_name() const;       // Python's, for messages

 private:
  struct Copy {};
  Value(const Value& other, Copy) : type_(other.type_), why_(other.why_), of_(other.of_) {
    if (!has_object()) std::memcpy(&int_, &other.int_, sizeof(int_));
  }
  Value(Type type, Ref<Object> object) : type_(type) {
    new (&object_) Ref<Object>(std::move(object));
  }
  bool has_object() const { return type_ >= Type::kUndefinedText; }
  void forget() {
    if (has_object()) object_.~Ref();
    type_ = Type::kNone;
    int_ = 0;
  }

  Type type_ = Type::kNone;
  Missing why_ = Missing::kOther;
  Type of_ = Type::kNone;  // whose attribute is missing
  union {
    bool bool_;
    int64_t int_ = 0;
    double double_;
    const std::string* name_;
    const char* literal_;
    Ref<Object> object_;
  };
};
static_assert(sizeof(Value) == 16);

// Characters that strings are views of: written at the end only, never moved.
struct Bytes : Object {
  Bytes(Budget& b, size_t bytes) : Object(b), capacity(bytes) {}
  char* data() { return reinterpret_cast<char*>(this + 1); }
  const size_t capacity;
  size_t used = 0;
};
Ref<Bytes> make_bytes(Budget& budget, size_t capacity);

struct Text : Object {
  Text(Budget& b, Ref<Bytes> storage, std::string_view text)
      : Object(b), bytes(std::move(storage)), view(text) {}
  int64_t length();        // characters
  bool one_byte_each();    // every character is one byte
  const Ref<Bytes> bytes;  // null: the characters are outside
  const std::string_view view;
  int64_t characters = -1;  // −1: not counted yet
};

// Values that lists are views of; likewise. Appended to, they may come to hold a list that is a
// view of them.
struct Items : MutableObject {
  Items(Budget& b, size_t values) : MutableObject(b), capacity(values) {}
  ~Items() override { clear(); }
  void clear() override { std::destroy_n(data(), std::exchange(used, 0)); }
  Value* data() { return reinterpret_cast<Value*>(this + 1); }
  const size_t capacity;
  size_t used = 0;
};
static_assert(sizeof(Items) % alignof(Value) == 0);

struct List : Object {
  List(Budget& b, Ref<Items> storage, std::span<const Value> values, bool is_tuple)
      : Object(b), items(std::move(storage)), view(values), tuple(is_tuple) {}
  const Ref<Items> items;
  const std::span<const Value> view;
  const bool tuple;
};

struct Dict : MutableObject {
  explicit Dict(Budget& b) : MutableObject(b), held(b) {}
  void clear() override { entries.clear(); }
  const Value* find(const Value& key) const;
  const Value* find(std::string_view key) const;
  void set(const Value& key, Value value);
  void set(std::string_view key, Value value);  // `key` outlives the rendering
  void add(Value key, Value value);             // a key that is not there yet

  std::vector<std::pair<Value, Value>> entries;  // insertion order
  Held held;
  bool is_namespace = false;
};

// What `loop` is inside a loop; its attributes are made when they are asked for.
struct Loop : MutableObject {
  Loop(Budget& b, Value over) : MutableObject(b), items(std::move(over)) {}
  void clear() override { items = changed = Value(); }
  std::optional<Value> attribute(std::string_view name) const;
  Value items;  // a list
  size_t index = 0;
  Value changed;  // the last arguments of loop.changed(), a tuple; none at first
};

struct Callable : Object {
  Callable(Budget& b, std::string_view n, Call c) : Object(b), name(n), call(std::move(c)) {}
  const std::string_view name;
  const Call call;
};

struct Arguments {
  explicit Arguments(Budget& budget) : held(budget) {}
  void add(Value value) {
    held.add(sizeof(Value));
    positional.push_back(std::move(value));
  }
  void add(std::string_view name, Value value) {  // `name` stands in the template
    held.add(sizeof(named[0]));
    named.emplace_back(name, std::move(value));
  }
  const Value* find(size_t index, std::string_view name) const;
  Value get(size_t index, std::string_view name, Value fallback) const;
  const Value& need(size_t index, std::string_view name, const char* what) const;

  Held held;
  std::vector<Value> positional;
  std::vector<std::pair<std::string_view, Value>> named;
};

// Makes a string; everything it holds is charged as it grows.
class TextBuilder {
 public:
  explicit TextBuilder(Budget& budget, size_t expected = 0) : budget_(&budget) {
    if (expected > 0) bytes_ = make_bytes(budget, expected);
  }
  TextBuilder(TextBuilder&&) = default;
  TextBuilder& operator=(TextBuilder&&) = default;
  void append(std::string_view text);
  void append(size_t count, char c);
  void push(char c) { append(std::string_view(&c, 1)); }
  std::string_view view() const {
    return bytes_ ? std::string_view(bytes_->data(), bytes_->used) : std::string_view();
  }
  Value take();
  Budget& budget() const { return *budget_; }

 private:
  char* extend(size_t more);
  Budget* budget_;
  Ref<Bytes> bytes_;
};

class ListBuilder {
 public:
  explicit ListBuilder(Budget& budget, size_t expected = 0);
  void add(Value value);
  void add(std::span<const Value> values);
  size_t size() const { return items_ ? items_->used : 0; }
  std::span<const Value> items() const {  // until the next add()
    return items_ ? std::span<const Value>(items_->data(), items_->used) : std::span<const Value>();
  }
  Value take(bool tuple = false);

 private:
  void reserve(size_t more);
  Budget& budget_;
  Ref<Items> items_;
};

Value pair(Budget& budget, Value first, Value second);  // a tuple
// a + b of strings, or of lists of the same kind.
Value concatenate_text(Budget& budget, const Value& a, const Value& b);
Value concatenate_lists(Budget& budget, const Value& a, const Value& b);
// A run of a list's items; copies nothing.
Value sublist(const Value& list, size_t begin, size_t size);
Value reversed(Budget& budget, const Value& list);
// The items to loop over as a list: a list's, a dict's keys, a string's characters. Undefined:
// none.
Value iterate(Budget& budget, const Value& value);

// print.cc. Python's str(), undefined is ""; a string is returned as it is.
Value to_text(Budget& budget, const Value& value);
void print(const Value& value, TextBuilder* out);       // str()
void print_repr(const Value& value, TextBuilder* out);  // repr()

struct JsonFormat {
  int64_t indent = -1;  // −1: one line
  bool ensure_ascii = false;
  bool sort_keys = false;
  std::string_view item_separator = ", ", key_separator = ": ";
};
Value to_json(Budget& budget, const Value& value, const JsonFormat& format);

// compare.cc.
bool equal(Budget& budget, const Value& a, const Value& b);
int compare(Budget& budget, const Value& a, const Value& b);  // −1, 0, 1; error: no order
bool contains(Budget& budget, const Value& container, const Value& item);

}  // namespace shoal::jinja
