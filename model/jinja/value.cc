#include "model/jinja/value.h"

#include <algorithm>
#include <memory>

#include <nlohmann/json.hpp>

#include "base/utf8.h"
#include "model/jinja/text.h"

namespace shoal::jinja {
namespace {

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

Value Value::string(Budget& budget, Ref<Bytes> bytes, std::string_view text) {
  const auto object = make_object<Text>(budget, 0, std::move(bytes), text);
  return Value(Type::kString, Ref<Object>(object.get()));
}

Value Value::part(const Value& whole, std::string_view text) {
  Text& from = whole.text();
  if (text.size() == from.view.size()) return whole;
  const auto object = make_object<Text>(from.budget(), 0, from.bytes, text);
  if (from.characters == static_cast<int64_t>(from.view.size()))
    object->characters = static_cast<int64_t>(text.size());
  return Value(Type::kString, Ref<Object>(object.get()));
}

Value Value::list(Ref<List> list) { return Value(Type::kList, Ref<Object>(list.get())); }
Value Value::dict(Ref<Dict> dict) { return Value(Type::kDict, Ref<Object>(dict.get())); }
Value Value::loop(Ref<Loop> loop) { return Value(Type::kLoop, Ref<Object>(loop.get())); }

Value Value::callable(Budget& budget, std::string_view name, Call call) {
  constexpr size_t kCaptured = 96;  // what the function holds, at most
  const auto object = make_object<Callable>(budget, kCaptured, name, std::move(call));
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
const Callable& Value::callable() const { return static_cast<const Callable&>(*object_); }
std::span<const Value> Value::items() const { return list().view; }

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
      return !items().empty();
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
  return is_list() && list().tuple ? "tuple" : name_of(type_);
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
    add(Value::outside(budget(), key), std::move(value));
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

const Value& Arguments::need(size_t index, std::string_view name, const char* what) const {
  const Value* found = find(index, name);
  if (found == nullptr) {
    throw TemplateError(std::string(what) + ": argument '" + excerpt(name) + "' is missing");
  }
  return *found;
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
  if (count > 0) std::memset(extend(count), c, count);
}

Value TextBuilder::take() {
  const std::string_view text = view();
  return Value::string(*budget_, std::exchange(bytes_, {}), text);
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

Value ListBuilder::take(bool tuple) {
  const std::span<const Value> view = items();
  return Value::list(
      make_object<List>(budget_, 0, std::exchange(items_, Ref<Items>()), view, tuple));
}

Value pair(Budget& budget, Value first, Value second) {
  ListBuilder out(budget, 2);
  out.add(std::move(first));
  out.add(std::move(second));
  return out.take(true);
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
  return Value::list(make_object<List>(budget, 0, std::move(items), view, a.list().tuple));
}

Value sublist(const Value& list, size_t begin, size_t size) {
  const List& from = list.list();
  if (size == from.view.size()) return list;
  return Value::list(make_object<List>(from.budget(), 0, size > 0 ? from.items : Ref<Items>(),
                                       from.view.subspan(begin, size), from.tuple));
}

Value reversed(Budget& budget, const Value& list) {
  const std::span<const Value> items = list.items();
  ListBuilder out(budget, items.size());
  for (size_t i = items.size(); i-- > 0;) out.add(items[i]);
  return out.take();
}

Value iterate(Budget& budget, const Value& value) {
  if (value.is_list()) return value;
  if (value.is_undefined()) return ListBuilder(budget).take();
  if (value.is_string()) {
    const std::string_view text = value.str();
    ListBuilder out(budget, static_cast<size_t>(value.text().length()));
    for (size_t pos = 0; pos < text.size();) {
      const size_t begin = pos;
      (void)next_code_point(text, &pos);
      out.add(Value::part(value, text.substr(begin, pos - begin)));
    }
    return out.take();
  }
  if (value.is_dict() && !value.dict().is_namespace) {
    ListBuilder out(budget, value.dict().entries.size());
    for (const auto& [key, item] : value.dict().entries) out.add(key);
    return out.take();
  }
  throw TemplateError(std::string("'") + value.type_name() + "' cannot be looped over");
}

}  // namespace shoal::jinja
