// Values of the template language: Python's, as far as templates see them.
//
// A Value is 16 bytes and cheap to copy. Strings and lists are views of shared storage: slicing
// copies nothing, and appending to the last result (`s = s + x` in a loop) copies only what is
// appended. Not thread-safe: values of one rendering belong to its thread.
#pragma once

#include <compare>
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
struct Cycler;
struct Callable;
struct Node;
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
    kCycler,
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
  static Value string(Budget& budget, Ref<Bytes> bytes, std::string_view text,  // inside `bytes`
                      bool markup = false);
  // A part of `whole`, a string; copies nothing.
  static Value part(const Value& whole, std::string_view text);
  static Value list(Ref<List> list);
  static Value dict(Ref<Dict> dict);
  static Value loop(Ref<Loop> loop);
  static Value cycler(Ref<Cycler> cycler);
  // `name`: as undefined's. `macro`: the node of the macro it is.
  static Value callable(Budget& budget, std::string_view name, Call call,
                        const Node* macro = nullptr);
  // Strings are views of `json`, which outlives the rendering.
  static Value from_json(Budget& budget, const nlohmann::ordered_json& json, int depth = 0);

  bool is_undefined() const { return type_ == Type::kUndefined || type_ == Type::kUndefinedText; }
  bool is_none() const { return type_ == Type::kNone; }
  bool is_bool() const { return type_ == Type::kBool; }
  bool is_int() const { return type_ == Type::kInt; }
  bool is_float() const { return type_ == Type::kFloat; }
  bool is_number() const { return is_bool() || is_int() || is_float(); }
  bool is_string() const { return type_ == Type::kString; }
  // A list or tuple; is_series(): whatever has items, see Series.
  bool is_list() const;
  bool is_series() const { return type_ == Type::kList; }
  bool is_dict() const;  // not a namespace
  bool is_namespace() const;
  bool is_markup() const;
  bool is_loop() const { return type_ == Type::kLoop; }
  bool is_cycler() const { return type_ == Type::kCycler; }
  bool is_callable() const { return type_ == Type::kCallable; }
  Type type() const { return type_; }

  // REQUIRE the type. They stay valid while a Value refers to the object.
  std::string_view str() const;
  Text& text() const;
  List& list() const;
  Dict& dict() const;
  Loop& loop() const;
  Cycler& cycler() const;
  const Callable& callable() const;
  std::span<const Value> items() const;  // of a series
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
  Text(Budget& b, Ref<Bytes> storage, std::string_view text, bool is_markup)
      : Object(b), bytes(std::move(storage)), view(text), markup(is_markup) {}
  int64_t length();        // characters
  bool one_byte_each();    // every character is one byte
  const Ref<Bytes> bytes;  // null: the characters are outside
  const std::string_view view;
  const bool markup;        // Jinja's Markup: what joins it is escaped
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

// What Python has of things with items. All are made at once; a generator only remembers how much
// of it has been taken.
enum class Series : uint8_t {
  kList,
  kTuple,
  kGroup,  // of groupby: a tuple whose parts have names
  // From here on is_list() is false.
  kRange,
  kKeys,
  kValues,
  kPairs,      // of dict.items()
  kGenerator,  // of map, select …: is gone through once
};

struct List : Object {
  List(Budget& b, Ref<Items> storage, std::span<const Value> values, Series what)
      : Object(b), items(std::move(storage)), view(values), kind(what) {}
  bool tuple() const { return kind == Series::kTuple || kind == Series::kGroup; }
  const Ref<Items> items;
  const std::span<const Value> view;
  const Series kind;
  size_t taken = 0;  // of a generator
};

// Its items are made at once; what went wrong meanwhile is an error where Python would meet it.
struct Generator : List {
  Generator(Budget& b, Ref<Items> storage, std::span<const Value> values, Value why, int where)
      : List(b, std::move(storage), values, Series::kGenerator),
        failure(std::move(why)),
        line(where) {}
  const Value failure;  // a text; none: nothing
  const int line;
};

struct Range : List {
  Range(Budget& b, Ref<Items> storage, std::span<const Value> values, int64_t from, int64_t to,
        int64_t by)
      : List(b, std::move(storage), values, Series::kRange), start(from), stop(to), step(by) {}
  const int64_t start, stop, step;
};

struct Dict : MutableObject {
  explicit Dict(Budget& b, bool names = false) : MutableObject(b), held(b), is_namespace(names) {}
  void clear() override { entries.clear(); }
  const Value* find(const Value& key) const;
  const Value* find(std::string_view key) const;
  void set(const Value& key, Value value);
  void set(std::string_view key, Value value);  // copies `key`
  void add(Value key, Value value);             // a key that is not there yet

  std::vector<std::pair<Value, Value>> entries;  // insertion order
  Held held;
  const bool is_namespace;
};

// What `loop` is inside a loop; its attributes are made when they are asked for. Items behind the
// current one are looked at (through the loop's `if`) only when somebody asks.
struct Loop : MutableObject {
  using More = std::function<bool(const Value& candidate)>;  // does it pass the loop's `if`?
  Loop(Budget& b, Value over, int64_t depth)
      : MutableObject(b), given(std::move(over)), held(b), depth0(depth) {}
  void clear() override;
  std::optional<Value> attribute(std::string_view name);
  bool reach(size_t n);  // is there an item n?
  const Value& item(size_t n) const { return passes ? kept[n] : given.items()[n]; }
  size_t length();

  Value given;              // a list
  More passes;              // null: all do
  Call again;               // loop(items) of a recursive loop, or null
  std::vector<Value> kept;  // of `given`, what passed
  Held held;
  size_t looked = 0;  // at how many of `given`
  size_t index = 0;
  const int64_t depth0;
  Value changed;  // the last arguments of loop.changed(), a tuple; none at first
};

struct Cycler : MutableObject {
  Cycler(Budget& b, Value over) : MutableObject(b), items(std::move(over)) {}
  void clear() override { items = Value(); }
  Value items;  // a tuple
  size_t index = 0;
};

struct Callable : Object {
  Callable(Budget& b, std::string_view n, Call c, const Node* m)
      : Object(b), name(n), call(std::move(c)), macro(m) {}
  const std::string_view name;
  const Call call;
  const Node* const macro;
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
  void append_times(uint64_t count, std::string_view unit);
  void push(char c) { append(std::string_view(&c, 1)); }
  void push_character(uint32_t code_point);
  std::string_view view() const {
    return bytes_ ? std::string_view(bytes_->data(), bytes_->used) : std::string_view();
  }
  Value take(bool markup = false);
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
  Value take(Series kind = Series::kList);
  Value take_range(int64_t start, int64_t stop, int64_t step);
  Value take_generator(Value failure, int line);

 private:
  void reserve(size_t more);
  Budget& budget_;
  Ref<Items> items_;
};

Value pair(Budget& budget, Value first, Value second);  // a tuple
// A generator of what `make(ListBuilder&)` adds until it fails.
template <class F>
Value generate(Budget& budget, F make) {
  ListBuilder out(budget);
  try {
    make(out);
  } catch (const TemplateError& error) {
    if (error.limit || error.raised_by_template) throw;
    return out.take_generator(Value::string(budget, error.what()), error.line);
  }
  return out.take_generator(Value(), 0);
}
// a + b of strings, or of lists of the same kind.
Value concatenate_text(Budget& budget, const Value& a, const Value& b);
Value concatenate_lists(Budget& budget, const Value& a, const Value& b);
// A run of a list's or tuple's items; copies nothing.
Value sublist(const Value& list, size_t begin, size_t size);
Value reversed(Budget& budget, const Value& list, Series kind = Series::kList);
// The items to loop over, as a series: a list's, a dict's keys, a string's characters; what is left
// of a generator, which is empty then. Undefined: none.
Value iterate(Budget& budget, const Value& value);
bool iterable(const Value& value);
// `text`, a string, with the mark of Markup or without.
Value as_markup(const Value& text, bool markup);
// Python's len(); −1: it has none.
int64_t length_of(const Value& value);
// May it be a key?
bool hashable(const Value& value, int depth = 0);

// print.cc. Python's str(), undefined is ""; a string is returned as it is.
Value to_text(Budget& budget, const Value& value);
void print(const Value& value, TextBuilder* out);        // str()
void print_repr(const Value& value, TextBuilder* out);   // repr()
void print_ascii(const Value& value, TextBuilder* out);  // ascii()

struct JsonFormat {
  std::optional<std::string_view> indent;  // of one level; none: one line
  bool ensure_ascii = false;
  bool sort_keys = false;
  std::string_view item_separator = ", ", key_separator = ": ";
};
Value to_json(Budget& budget, const Value& value, const JsonFormat& format);

// compare.cc.
bool equal(Budget& budget, const Value& a, const Value& b);
// Error: they have no order. Unordered: a NaN.
std::partial_ordering compare(Budget& budget, const Value& a, const Value& b);
bool contains(Budget& budget, const Value& container, const Value& item);

}  // namespace shoal::jinja
