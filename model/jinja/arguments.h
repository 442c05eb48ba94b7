// What a function of the language is called with, and what it takes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "model/jinja/value.h"

namespace shoal::jinja {

struct Arguments {
  explicit Arguments(Budget& budget) : held(budget) {}
  Budget& budget() const { return held.budget(); }
  void add(Value value) {
    held.add(sizeof(Value));
    positional.push_back(std::move(value));
  }
  void add(std::string_view name, Value value) {  // `name` stands in the template
    held.add(sizeof(named[0]));
    named.emplace_back(name, std::move(value));
  }
  // f(*items), f(**mapping).
  void unpack_items(const Value& items);
  void unpack_names(const Value& mapping);

  const Value* find(std::string_view name) const;  // by name only
  // Of a function whose Signature was checked. null: left out.
  const Value* find(size_t index, std::string_view name) const {
    return index < positional.size() ? &positional[index] : find(name);
  }
  Value get(size_t index, std::string_view name, Value fallback) const {
    const Value* found = find(index, name);
    return found ? *found : std::move(fallback);
  }
  bool flag(size_t index, std::string_view name, bool fallback = false) const {
    const Value* found = find(index, name);
    return found ? found->truthy() : fallback;
  }
  const Value& need(size_t index, std::string_view name) const { return *find(index, name); }

  Held held;
  std::vector<Value> positional;
  std::vector<std::pair<std::string_view, Value>> named;

 private:
  std::vector<Value> names_;  // of unpacked mappings: what `named` are views of
};

// What a function takes. Written as its names: "old, new, count=". '=' : may be left out; those
// before '/' are given by position only; '*': any number more; '**': any names more.
class Signature {
 public:
  Signature(const char* written);  // a literal
  // Error: `args` do not fit; `function` is the name it shows.
  void check(std::string_view function, const Arguments& args) const;

 private:
  std::vector<std::string_view> names_;
  size_t required_ = 0;
  size_t positional_only_ = 0;
  bool more_ = false;
  bool more_names_ = false;
};

// An integer argument; error: something else. `what` says of what.
int64_t integer(const Value& value, std::string_view what);
// A string argument.
const Value& text(const Value& value, std::string_view what);

}  // namespace shoal::jinja
