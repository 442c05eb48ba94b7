// ==, < and in. Charged by what is looked at: values that share structure take as long to compare
// as if they did not.
#include <algorithm>
#include <cmath>

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
    if (a.is_series() && b.is_series()) return same_series(a, b, depth);
    if (a.is_dict() && b.is_dict()) return same_dict(a.dict(), b.dict(), depth);
    return (a.is_none() && b.is_none()) || (a.is_undefined() && b.is_undefined());
  }

  std::partial_ordering compare(const Value& a, const Value& b, int depth) {
    check(depth);
    budget_.work(1);
    if (a.is_number() && b.is_number()) return number_order(a, b);
    if (a.is_string() && b.is_string()) {
      budget_.bytes(std::min(a.str().size(), b.str().size()));
      return a.str() <=> b.str();  // UTF-8 sorts as code points do
    }
    if (a.is_list() && b.is_list() && a.list().tuple() == b.list().tuple()) {
      const std::span<const Value> x = a.items(), y = b.items();
      for (size_t i = 0; i < std::min(x.size(), y.size()); ++i) {
        if (!equal(x[i], y[i], depth + 1)) return compare(x[i], y[i], depth + 1);
      }
      return x.size() <=> y.size();
    }
    throw TemplateError(std::string("'") + a.type_name() + "' and '" + b.type_name() +
                        "' have no order");
  }

 private:
  static void check(int depth) {
    if (depth > kMaxValueDepth) throw TemplateError("a value is nested too deeply to compare");
  }
  static bool same_number(const Value& a, const Value& b) {
    if (a.is_float() || b.is_float())
      return number_order(a, b) == std::partial_ordering::equivalent;
    return a.as_int() == b.as_int();
  }
  // Exact: an integer is not rounded to compare it with a float.
  static std::partial_ordering number_order(const Value& a, const Value& b) {
    if (!a.is_float() && !b.is_float()) return a.as_int() <=> b.as_int();
    if (!a.is_float()) return 0 <=> number_order(b, a);
    const double x = a.as_double();
    if (b.is_float()) return x <=> b.as_double();
    if (std::isnan(x)) return std::partial_ordering::unordered;
    if (x >= 9223372036854775808.0) return std::partial_ordering::greater;
    if (x < -9223372036854775808.0) return std::partial_ordering::less;
    const double down = std::floor(x);
    if (const auto order = static_cast<int64_t>(down) <=> b.as_int(); order != 0) return order;
    return x > down ? std::partial_ordering::greater : std::partial_ordering::equivalent;
  }
  bool same_text(std::string_view a, std::string_view b) {
    if (a.size() != b.size()) return false;
    budget_.bytes(a.size());
    return a == b;
  }
  bool same_series(const Value& a, const Value& b, int depth) {
    check(depth);
    const Series kind = a.list().kind, other = b.list().kind;
    const bool comparable =
        a.is_list() ? b.is_list() && a.list().tuple() == b.list().tuple()
                    : kind == other && kind != Series::kGenerator && kind != Series::kValues;
    const std::span<const Value> x = a.items(), y = b.items();
    if (!comparable || x.size() != y.size()) return false;
    if (kind == Series::kKeys || kind == Series::kPairs) return same_set(x, y, depth);
    for (size_t i = 0; i < x.size(); ++i) {
      if (!equal(x[i], y[i], depth + 1)) return false;
    }
    return true;
  }
  // Of the same size, no item twice in one.
  bool same_set(std::span<const Value> x, std::span<const Value> y, int depth) {
    return std::all_of(x.begin(), x.end(), [&](const Value& item) {
      return std::any_of(y.begin(), y.end(),
                         [&](const Value& other) { return equal(item, other, depth + 1); });
    });
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

std::partial_ordering compare(Budget& budget, const Value& a, const Value& b) {
  return Comparison(budget).compare(a, b, 0);
}

bool contains(Budget& budget, const Value& container, const Value& item) {
  if (container.is_string()) {
    if (!item.is_string()) throw TemplateError("'in <string>' needs a string on its left");
    return find_text(budget, container.str(), item.str()) != std::string_view::npos;
  }
  const bool keys = container.is_series() && container.list().kind == Series::kKeys;
  if ((container.is_dict() || keys) && !hashable(item))
    throw TemplateError(std::string("a ") + item.type_name() + " cannot be a key");
  if (container.is_dict()) {
    return container.dict().find(item) != nullptr;
  }
  if (container.is_series()) {
    const Value all = iterate(budget, container);
    const std::span<const Value> items = all.items();
    return std::any_of(items.begin(), items.end(),
                       [&](const Value& v) { return equal(budget, v, item); });
  }
  if (container.is_undefined()) return false;
  throw TemplateError(std::string("'in' does not work on ") + container.type_name());
}

}  // namespace shoal::jinja
