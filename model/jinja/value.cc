#include "model/jinja/value.h"

#include <algorithm>
#include <memory>

#include <nlohmann/json.hpp>

#include "base/utf8.h"
#include "model/jinja/text.h"

namespace shoal::jinja {
namespace {

constexpr int kMaxKeyDepth = 200;
constexpr int kMaxInputDepth = 500;  // of the context; far above what the gateway lets in

// Room for what is appended later. A string or list that grew before will grow again: then by half,
// so that n appends copy O(n) in all.
size_t room(size_t needed, bool grows) { return needed + (grows ? needed / 2 : 0) + 8; }

const char* name_of(Value::Type type) {
  switch (type) {
    case Value::Type::kUndefined:
    case Value::Type::kUndefinedText:
      return "undefined";
    case Value::Type::kNone:
      return "None";
    case Value::Type::kBool:
      return "bool";
    case Value::Type::kInt:
      return "int";
    case Value::Type::kFloat:
      return "float";
    case Value::Type::kString:
      return "str";
    case Value::Type::kList:
      return "list";
    case Value::Type::kDict:
      return "dict";
    case Value::Type::kLoop:
      return "loop";
    case Value::Type::kCycler:
      return "cycler";
    default:
      return "function";
  }
}

}  // namespace

Value Value::undefined(Missing why, const std::string& name, Type of) {
  Value v;
  v.type_ = Type::kUndefined;
  v.why_ = why;
  v.of_ = of;
  v.name_ = &name;
  return v;
}

Value Value::undefined(const char* text) {
  Value v;
  v.type_ = Type::kUndefined;
  v.literal_ = text;
  return v;
}

Value Value::undefined(Budget& budget, const std::string& text) {
  Value v = string(budget, text);
  v.type_ = Type::kUndefinedText;
  return v;
}

Value Value::string(Budget& budget, std::string_view text) {
  TextBuilder out(budget);
  out.append(text);
  return out.take();
}

Value Value::outside(Budget& budget, std::string_view text) { return string(budget, {}, text); }

Value Value::string(Budget& budget, Ref<Bytes> bytes, std::string_view text, bool markup) {
  const auto object = make_object<Text>(budget, 0, std::move(bytes), text, markup);
  return Value(Type::kString, Ref<Object>(object.get()));
}

Value Value::part(const Value& whole, std::string_view text) {
  Text& from = whole.text();
  if (text.size() == from.view.size()) return whole;
  const auto object = make_object<Text>(from.budget(), 0, from.bytes, text, from.markup);
  if (from.characters == static_cast<int64_t>(from.view.size()))
    object->characters = static_cast<int64_t>(text.size());
  return Value(Type::kString, Ref<Object>(object.get()));
}

Value Value::list(Ref<List> list) { return Value(Type::kList, Ref<Object>(list.get())); }
Value Value::dict(Ref<Dict> dict) { return Value(Type::kDict, Ref<Object>(dict.get())); }
Value Value::loop(Ref<Loop> loop) { return Value(Type::kLoop, Ref<Object>(loop.get())); }
Value Value::cycler(Ref<Cycler> cycler) { return Value(Type::kCycler, Ref<Object>(cycler.get())); }

Value Value::callable(Budget& budget, std::string_view name, Call call, const Node* macro) {
  constexpr size_t kCaptured = 96;  // what the function holds, at most
  const auto object = make_object<Callable>(budget, kCaptured, name, std::move(call), macro);
  return Value(Type::kCallable, Ref<Object>(object.get()));
}

Value Value::from_json(Budget& budget, const nlohmann::ordered_json& json, int depth) {
  using Kind = nlohmann::ordered_json::value_t;
  if (depth > kMaxInputDepth) throw TemplateError("the template's input is nested too deeply");
  budget.work(1);
  switch (json.type()) {
    case Kind::boolean:
      return json.get<bool>();
    case Kind::number_integer:
      return json.get<int64_t>();
    case Kind::number_unsigned: {
      const auto value = json.get<uint64_t>();
      return value > static_cast<uint64_t>(INT64_MAX) ? Value(static_cast<double>(value))
                                                      : Value(static_cast<int64_t>(value));
    }
    case Kind::number_float:
      return json.get<double>();
    case Kind::string:
      return outside(budget, json.get_ref<const std::string&>());
    case Kind::array: {
      ListBuilder items(budget, json.size());
      for (const auto& item : json) items.add(from_json(budget, item, depth + 1));
      return items.take();
    }
    case Kind::object: {
      auto out = make_object<Dict>(budget, 0);
      for (auto it = json.begin(); it != json.end(); ++it)
        out->add(outside(budget, it.key()), from_json(budget, it.value(), depth + 1));
      return dict(std::move(out));
    }
    default:
      return Value();
  }
}

std::string_view Value::str() const { return text().view; }
Text& Value::text() const { return static_cast<Text&>(*object_); }
List& Value::list() const { return static_cast<List&>(*object_); }
Dict& Value::dict() const { return static_cast<Dict&>(*object_); }
Loop& Value::loop() const { return static_cast<Loop&>(*object_); }
Cycler& Value::cycler() const { return static_cast<Cycler&>(*object_); }
const Callable& Value::callable() const { return static_cast<const Callable&>(*object_); }
std::span<const Value> Value::items() const { return list().view; }
bool Value::is_list() const { return is_series() && list().kind <= Series::kGroup; }
bool Value::is_dict() const { return type_ == Type::kDict && !dict().is_namespace; }
bool Value::is_namespace() const { return type_ == Type::kDict && dict().is_namespace; }
bool Value::is_markup() const { return is_string() && text().markup; }

int64_t Value::as_int() const {
  if (is_bool()) return bool_ ? 1 : 0;
  if (is_int()) return int_;
  if (!is_float()) throw TemplateError(std::string("a number is needed, not ") + type_name());
  if (!(double_ > -9.2e18 && double_ < 9.2e18))
    throw TemplateError("a number is too large for an integer");
  return static_cast<int64_t>(double_);
}

double Value::as_double() const { return is_float() ? double_ : static_cast<double>(as_int()); }

bool Value::truthy() const {
  switch (type_) {
    case Type::kUndefined:
    case Type::kUndefinedText:
    case Type::kNone:
      return false;
    case Type::kBool:
      return bool_;
    case Type::kInt:
      return int_ != 0;
    case Type::kFloat:
      return double_ != 0;
    case Type::kString:
      return !str().empty();
    case Type::kList:
      return !items().empty() || list().kind == Series::kGenerator;
    case Type::kDict:
      return dict().is_namespace || !dict().entries.empty();
    default:
      return true;
  }
}

std::string Value::undefined_text() const {
  if (type_ == Type::kUndefinedText) return std::string(text().view);
  switch (why_) {
    case Missing::kVariable:
      return "'" + *name_ + "' is undefined";
    case Missing::kParameter:
      return "parameter '" + *name_ + "' was not provided";
    case Missing::kAttribute:
      return "'" + std::string(name_of(of_)) + " object' has no attribute '" + *name_ + "'";
    default:
      return literal_;
  }
}

const char* Value::type_name() const {
  if (is_namespace()) return "Namespace";
  if (is_markup()) return "Markup";
  if (!is_series()) return name_of(type_);
  constexpr const char* kNames[] = {"list",      "tuple",       "tuple",      "range",
                                    "dict_keys", "dict_values", "dict_items", "generator"};
  return kNames[static_cast<size_t>(list().kind)];
}

Ref<Bytes> make_bytes(Budget& budget, size_t capacity) {
  return make_object<Bytes>(budget, capacity, capacity);
}

int64_t Text::length() {
  if (characters < 0) characters = character_count(budget(), view);
  return characters;
}

bool Text::one_byte_each() { return length() == static_cast<int64_t>(view.size()); }

const Value* Dict::find(const Value& key) const {
  if (key.is_string()) return find(key.str());
  for (const auto& [k, v] : entries) {
    if (equal(budget(), k, key)) return &v;
  }
  return nullptr;
}

const Value* Dict::find(std::string_view key) const {
  budget().work(entries.size() / 4);
  for (const auto& [k, v] : entries) {
    if (!k.is_string() || k.str().size() != key.size()) continue;
    if (key.size() >= 64) budget().bytes(key.size());
    if (k.str() == key) return &v;
  }
  return nullptr;
}

void Dict::set(const Value& key, Value value) {
  if (const Value* found = find(key)) {
    *const_cast<Value*>(found) = std::move(value);
  } else {
    add(key, std::move(value));
  }
}

void Dict::set(std::string_view key, Value value) {
  if (const Value* found = find(key)) {
    *const_cast<Value*>(found) = std::move(value);
  } else {
    add(Value::string(budget(), key), std::move(value));
  }
}

void Dict::add(Value key, Value value) {
  if (entries.size() == entries.capacity()) {
    const size_t capacity = entries.size() < 4 ? 4 : entries.size() * 2;
    held.set(capacity * sizeof(entries[0]));
    entries.reserve(capacity);
  }
  entries.emplace_back(std::move(key), std::move(value));
}

char* TextBuilder::extend(size_t more) {
  budget_->bytes(more);
  const size_t used = bytes_ ? bytes_->used : 0;
  if (!bytes_ || bytes_->capacity - used < more) {
    Ref<Bytes> larger = make_bytes(*budget_, room(used + more, used > 0));
    budget_->bytes(used);
    if (used > 0) std::memcpy(larger->data(), bytes_->data(), used);
    larger->used = used;
    bytes_ = std::move(larger);
  }
  bytes_->used += more;
  return bytes_->data() + used;
}

void TextBuilder::append(std::string_view text) {
  if (!text.empty()) std::memcpy(extend(text.size()), text.data(), text.size());
}

void TextBuilder::append(size_t count, char c) {
  constexpr size_t kPiece = size_t{1} << 16;  // what is refused is refused early
  for (; count > 0; count -= std::min(count, kPiece))
    std::memset(extend(std::min(count, kPiece)), c, std::min(count, kPiece));
}

void TextBuilder::append_times(uint64_t count, std::string_view unit) {
  for (uint64_t i = 0; i < count; ++i) append(unit);
}

void TextBuilder::push_character(uint32_t code_point) {
  if (code_point < 0x80) return push(static_cast<char>(code_point));
  std::string bytes;  // short: no allocation
  append_utf8(code_point, &bytes);
  append(bytes);
}

Value TextBuilder::take(bool markup) {
  const std::string_view text = view();
  return Value::string(*budget_, std::exchange(bytes_, {}), text, markup);
}

ListBuilder::ListBuilder(Budget& budget, size_t expected) : budget_(budget) {
  if (expected > 0) items_ = make_object<Items>(budget_, expected * sizeof(Value), expected);
}

void ListBuilder::reserve(size_t more) {
  budget_.work(more);
  const size_t used = size();
  if (items_ && items_->capacity - used >= more) return;
  const size_t capacity = used + more + (used > 0 ? (used + more) / 2 : 0) + 1;
  budget_.work(used);
  Ref<Items> larger = make_object<Items>(budget_, capacity * sizeof(Value), capacity);
  if (used > 0) std::uninitialized_move_n(items_->data(), used, larger->data());
  larger->used = used;
  items_ = std::move(larger);
}

void ListBuilder::add(Value value) {
  reserve(1);
  new (items_->data() + items_->used++) Value(std::move(value));
}

void ListBuilder::add(std::span<const Value> values) {
  if (values.empty()) return;
  reserve(values.size());
  std::uninitialized_copy(values.begin(), values.end(), items_->data() + items_->used);
  items_->used += values.size();
}

Value ListBuilder::take(Series kind) {
  const std::span<const Value> view = items();
  return Value::list(
      make_object<List>(budget_, 0, std::exchange(items_, Ref<Items>()), view, kind));
}

Value ListBuilder::take_range(int64_t start, int64_t stop, int64_t step) {
  const std::span<const Value> view = items();
  const auto range =
      make_object<Range>(budget_, 0, std::exchange(items_, Ref<Items>()), view, start, stop, step);
  return Value::list(Ref<List>(range.get()));
}

Value ListBuilder::take_generator(Value failure, int line) {
  const std::span<const Value> view = items();
  const auto made = make_object<Generator>(budget_, 0, std::exchange(items_, Ref<Items>()), view,
                                           std::move(failure), line);
  return Value::list(Ref<List>(made.get()));
}

Value pair(Budget& budget, Value first, Value second) {
  ListBuilder out(budget, 2);
  out.add(std::move(first));
  out.add(std::move(second));
  return out.take(Series::kTuple);
}

Value concatenate_text(Budget& budget, const Value& a, const Value& b) {
  const std::string_view left = a.str(), right = b.str();
  if (right.empty()) return a;
  if (left.empty()) return b;
  Ref<Bytes> bytes = a.text().bytes;
  // Nothing has been appended to these bytes yet, so `right` may be, without disturbing anybody.
  const bool last = bytes && left.data() + left.size() == bytes->data() + bytes->used;
  budget.bytes(right.size());
  if (!last || bytes->capacity - bytes->used < right.size()) {
    const bool grows = last && left.data() == bytes->data();
    Ref<Bytes> larger = make_bytes(budget, room(left.size() + right.size(), grows));
    budget.bytes(left.size());
    std::memcpy(larger->data(), left.data(), left.size());
    larger->used = left.size();
    bytes = std::move(larger);
  }
  const size_t begin = bytes->used - left.size();
  std::memcpy(bytes->data() + bytes->used, right.data(), right.size());
  bytes->used += right.size();
  const std::string_view text(bytes->data() + begin, left.size() + right.size());
  return Value::string(budget, std::move(bytes), text);
}

Value concatenate_lists(Budget& budget, const Value& a, const Value& b) {
  const std::span<const Value> left = a.items(), right = b.items();
  if (right.empty()) return a;
  if (left.empty()) return b;
  Ref<Items> items = a.list().items;
  const bool last = left.data() + left.size() == items->data() + items->used;
  budget.work(right.size());
  if (!last || items->capacity - items->used < right.size()) {
    const bool grows = last && left.data() == items->data();
    const size_t capacity = room(left.size() + right.size(), grows);
    budget.work(left.size());
    Ref<Items> larger = make_object<Items>(budget, capacity * sizeof(Value), capacity);
    std::uninitialized_copy(left.begin(), left.end(), larger->data());
    larger->used = left.size();
    items = std::move(larger);
  }
  const size_t begin = items->used - left.size();
  std::uninitialized_copy(right.begin(), right.end(), items->data() + items->used);
  items->used += right.size();
  const std::span<const Value> view(items->data() + begin, left.size() + right.size());
  return Value::list(make_object<List>(budget, 0, std::move(items), view, a.list().kind));
}

Value sublist(const Value& list, size_t begin, size_t size) {
  const List& from = list.list();
  if (size == from.view.size()) return list;
  const Series kind = from.kind == Series::kGroup ? Series::kTuple : from.kind;
  return Value::list(make_object<List>(from.budget(), 0, size > 0 ? from.items : Ref<Items>(),
                                       from.view.subspan(begin, size), kind));
}

Value reversed(Budget& budget, const Value& list, Series kind) {
  const std::span<const Value> items = list.items();
  ListBuilder out(budget, items.size());
  for (size_t i = items.size(); i-- > 0;) out.add(items[i]);
  return kind == Series::kGenerator ? out.take_generator(Value(), 0) : out.take(kind);
}

bool iterable(const Value& value) {
  return value.is_series() || value.is_undefined() || value.is_string() || value.is_dict();
}

Value iterate(Budget& budget, const Value& value) {
  if (value.is_series()) {
    List& list = value.list();
    if (list.kind != Series::kGenerator) return value;
    const size_t taken = std::exchange(list.taken, list.view.size());
    const auto& generator = static_cast<const Generator&>(list);
    if (generator.failure.is_string())
      throw TemplateError(std::string(generator.failure.str()), generator.line);
    return Value::list(
        make_object<List>(budget, 0, list.items, list.view.subspan(taken), Series::kList));
  }
  if (value.is_undefined()) return ListBuilder(budget).take();
  if (value.is_string()) {
    const Value plain = as_markup(value, false);  // the characters of Markup are none
    const std::string_view text = value.str();
    ListBuilder out(budget, static_cast<size_t>(value.text().length()));
    for (size_t pos = 0; pos < text.size();) {
      const size_t begin = pos;
      (void)next_code_point(text, &pos);
      out.add(Value::part(plain, text.substr(begin, pos - begin)));
    }
    return out.take();
  }
  if (value.is_dict()) {
    ListBuilder out(budget, value.dict().entries.size());
    for (const auto& [key, item] : value.dict().entries) out.add(key);
    return out.take();
  }
  throw TemplateError(std::string("'") + value.type_name() + "' cannot be looped over");
}

Value as_markup(const Value& text, bool markup) {
  Text& from = text.text();
  if (from.markup == markup) return text;
  return Value::string(from.budget(), from.bytes, from.view, markup);
}

int64_t length_of(const Value& value) {
  if (value.is_string()) return value.text().length();
  if (value.is_undefined()) return 0;
  if (value.is_series() && value.list().kind != Series::kGenerator)
    return static_cast<int64_t>(value.items().size());
  if (value.is_dict()) return static_cast<int64_t>(value.dict().entries.size());
  if (value.is_loop()) return static_cast<int64_t>(value.loop().length());
  return -1;
}

bool hashable(const Value& value, int depth) {
  if (value.is_dict()) return false;
  if (!value.is_series()) return true;
  const Series kind = value.list().kind;
  if (kind != Series::kTuple && kind != Series::kGroup)
    return kind == Series::kRange || kind == Series::kValues || kind == Series::kGenerator;
  if (depth > kMaxKeyDepth) throw TemplateError("a key is nested too deeply");
  const std::span<const Value> items = value.items();
  value.list().budget().work(items.size());
  return std::all_of(items.begin(), items.end(),
                     [depth](const Value& item) { return hashable(item, depth + 1); });
}

}  // namespace shoal::jinja
