// ==, < and in. Charged by what is looked at: values that share structure take as long to compare
// as if they did not.
#include <algorithm>

#include "model/jinja/text.h"
#include "model/jinja/value.h"

namespace shoal::jinja {
namespace {

constexpr int kMaxValueDepth = 200;  // of nested lists and dicts that are compared

class Comparison {
 public:
  explicit Comparison(Budget& budget) : budget_(budget) {}

  bool equal(const Value& a, const Value& b, int depth) {
    budget_.work(1);
    if (a.is_number() && b.is_number()) return same_number(a, b);
    if (a.same_object(b)) return true;
    if (a.is_string() && b.is_string()) return same_text(a.str(), b.str());
    if (a.is_list() && b.is_list()) return same_list(a, b, depth);
    if (a.is_dict() && b.is_dict()) return same_dict(a.dict(), b.dict(), depth);
    return (a.is_none() && b.is_none()) || (a.is_undefined() && b.is_undefined());
  }

  int compare(const Value& a, const Value& b, int depth) {
    check(depth);
    budget_.work(1);
    if (a.is_number() && b.is_number()) return number_order(a, b);
    if (a.is_string() && b.is_string()) {
      budget_.bytes(std::min(a.str().size(), b.str().size()));
      return std::clamp(a.str().compare(b.str()), -1, 1);
    }
    if (a.is_list() && b.is_list()) {
      const std::span<const Value> x = a.items(), y = b.items();
      for (size_t i = 0; i < std::min(x.size(), y.size()); ++i) {
        if (!equal(x[i], y[i], depth + 1)) return compare(x[i], y[i], depth + 1);
      }
      return x.size() < y.size() ? -1 : x.size() > y.size();
    }
    throw TemplateError(std::string("'") + a.type_name() + "' and '" + b.type_name() +
                        "' have no order");
  }

 private:
  static void check(int depth) {
    if (depth > kMaxValueDepth) throw TemplateError("a value is nested too deeply to compare");
  }
  static bool same_number(const Value& a, const Value& b) {
    return a.is_float() || b.is_float() ? a.as_double() == b.as_double() : a.as_int() == b.as_int();
  }
  static int number_order(const Value& a, const Value& b) {
    if (a.is_float() || b.is_float())
      return a.as_double() < b.as_double() ? -1 : a.as_double() > b.as_double();
    return a.as_int() < b.as_int() ? -1 : a.as_int() > b.as_int();
  }
  bool same_text(std::string_view a, std::string_view b) {
    if (a.size() != b.size()) return false;
    budget_.bytes(a.size());
    return a == b;
  }
  bool same_list(const Value& a, const Value& b, int depth) {
    check(depth);
    const std::span<const Value> x = a.items(), y = b.items();
    if (a.list().tuple != b.list().tuple || x.size() != y.size()) return false;
    for (size_t i = 0; i < x.size(); ++i) {
      if (!equal(x[i], y[i], depth + 1)) return false;
    }
    return true;
  }
  bool same_dict(const Dict& a, const Dict& b, int depth) {
    check(depth);
    if (a.entries.size() != b.entries.size()) return false;
    return std::all_of(a.entries.begin(), a.entries.end(), [&](const auto& entry) {
      const Value* other = b.find(entry.first);
      return other != nullptr && equal(entry.second, *other, depth + 1);
    });
  }

  Budget& budget_;
};

}  // namespace

bool equal(Budget& budget, const Value& a, const Value& b) {
  return Comparison(budget).equal(a, b, 0);
}

int compare(Budget& budget, const Value& a, const Value& b) {
  return Comparison(budget).compare(a, b, 0);
}

bool contains(Budget& budget, const Value& container, const Value& item) {
  if (container.is_string()) {
    if (!item.is_string()) throw TemplateError("'in <string>' needs a string on its left");
    return find_text(budget, container.str(), item.str()) != std::string_view::npos;
  }
  if (container.is_dict()) return container.dict().find(item) != nullptr;
  if (container.is_list()) {
    const std::span<const Value> items = container.items();
    return std::any_of(items.begin(), items.end(),
                       [&](const Value& v) { return equal(budget, v, item); });
  }
  if (container.is_undefined()) return false;
  throw TemplateError(std::string("'in' does not work on ") + container.type_name());
}

}  // namespace shoal::jinja
