// Filters that sort, group, map and select.
#include <algorithm>
#include <functional>

#include "model/jinja/filters.h"
#include "model/jinja/text.h"

namespace shoal::jinja {
namespace {

// Values in the order of their keys.
class Sorter {
 public:
  struct Entry {
    Value key, value;
  };
  Sorter(Budget& budget, size_t n) : budget_(budget), held_(budget, 2 * n * sizeof(Entry)) {
    entries_.reserve(n);
  }
  void add(Value key, Value value) { entries_.push_back({std::move(key), std::move(value)}); }
  const std::vector<Entry>& sorted(bool reverse) {
    std::stable_sort(entries_.begin(), entries_.end(), [&](const Entry& a, const Entry& b) {
      return reverse ? compare(budget_, b.key, a.key) < 0 : compare(budget_, a.key, b.key) < 0;
    });
    return entries_;
  }
  Value take(bool reverse) {
    sorted(reverse);
    ListBuilder out(budget_, entries_.size());
    for (Entry& entry : entries_) out.add(std::move(entry.value));
    return out.take();
  }

 private:
  Budget& budget_;
  const Held held_;  // of the entries, and as much while they are sorted
  std::vector<Entry> entries_;
};

Value dictsort(Interpreter& in, const Value& v, const Arguments& args) {
  if (!v.is_dict()) throw TemplateError("dictsort: needs a mapping");
  const bool case_sensitive = args.flag(0, "case_sensitive");
  const Value by = args.get(1, "by", Value::outside(in.budget(), "key"));
  const bool by_value = by.is_string() && by.str() == "value";
  if (!by_value && !(by.is_string() && by.str() == "key"))
    throw TemplateError("dictsort: sorts by either 'key' or 'value'");
  const auto& entries = v.dict().entries;
  Sorter sorter(in.budget(), entries.size());
  for (const auto& [key, value] : entries) {
    sorter.add(without_case(in.budget(), by_value ? value : key, case_sensitive),
               pair(in.budget(), key, value));
  }
  return sorter.take(args.flag(2, "reverse"));
}

Value sort(Interpreter& in, const Value& v, const Arguments& args) {
  const bool case_sensitive = args.flag(1, "case_sensitive");
  const Value given = args.get(2, "attribute", Value());
  std::vector<Attribute> attributes;
  if (given.is_string()) {
    const Value names = split_on(in.budget(), given, ",", -1, false);
    const Held held(in.budget(), names.items().size() * sizeof(Attribute));
    for (const Value& name : names.items()) attributes.emplace_back(in, name);
  } else {
    attributes.emplace_back(in, given);
  }
  const Value all = iterate(in.budget(), v);
  Sorter sorter(in.budget(), all.items().size());
  for (const Value& item : all.items()) {
    ListBuilder keys(in.budget(), attributes.size());
    for (const Attribute& attribute : attributes)
      keys.add(without_case(in.budget(), attribute.of(item), case_sensitive));
    sorter.add(keys.take(), item);
  }
  return sorter.take(args.flag(0, "reverse"));
}

Value groupby(Interpreter& in, const Value& v, const Arguments& args) {
  const Value otherwise = args.get(1, "default", Value());
  const Attribute attribute(in, args.need(0, "attribute"),
                            otherwise.is_none() ? nullptr : &otherwise);
  const bool case_sensitive = args.flag(2, "case_sensitive");
  const Value all = iterate(in.budget(), v);
  Sorter sorter(in.budget(), all.items().size());
  for (const Value& item : all.items())
    sorter.add(without_case(in.budget(), attribute.of(item), case_sensitive), item);
  const auto& entries = sorter.sorted(false);
  ListBuilder groups(in.budget());
  for (size_t i = 0; i < entries.size();) {
    const size_t begin = i;
    ListBuilder members(in.budget());
    do {
      members.add(entries[i++].value);
    } while (i < entries.size() && equal(in.budget(), entries[i].key, entries[begin].key));
    ListBuilder group(in.budget(), 2);
    group.add(attribute.of(entries[begin].value));
    group.add(members.take());
    groups.add(group.take(Series::kGroup));
  }
  return groups.take();
}

Value unique(Interpreter& in, const Value& v, const Arguments& args) {
  const bool case_sensitive = args.flag(0, "case_sensitive");
  return generate(in.budget(), [&](ListBuilder& out) {
    const Attribute attribute(in, args.get(1, "attribute", Value()));
    const Value all = iterate(in.budget(), v);
    ListBuilder keys(in.budget());
    for (const Value& item : all.items()) {
      const Value key = without_case(in.budget(), attribute.of(item), case_sensitive);
      if (!hashable(key))
        throw TemplateError(std::string("unique: a ") + key.type_name() + " cannot be looked up");
      const std::span<const Value> seen = keys.items();
      if (std::any_of(seen.begin(), seen.end(),
                      [&](const Value& x) { return equal(in.budget(), x, key); }))
        continue;
      keys.add(key);
      out.add(item);
    }
  });
}

template <bool kLargest>
Value extreme(Interpreter& in, const Value& v, const Arguments& args) {
  const bool case_sensitive = args.flag(0, "case_sensitive");
  const Attribute attribute(in, args.get(1, "attribute", Value()));
  const Value list = iterate(in.budget(), v);
  const std::span<const Value> all = list.items();
  if (all.empty()) return Value::undefined("no aggregated item, sequence was empty");
  const auto key_of = [&](const Value& item) {
    return without_case(in.budget(), attribute.of(item), case_sensitive);
  };
  size_t best = 0;
  Value best_key = key_of(all[0]);
  for (size_t i = 1; i < all.size(); ++i) {
    Value key = key_of(all[i]);
    const auto order = compare(in.budget(), key, best_key);
    if (kLargest ? order > 0 : order < 0) {
      best = i;
      best_key = std::move(key);
    }
  }
  return all[best];
}

// Arguments from `first` on, for the filter or test that is applied to each item.
void rest_of(const Arguments& args, size_t first, Arguments* rest) {
  for (size_t i = first; i < args.positional.size(); ++i) rest->add(args.positional[i]);
  for (const auto& [name, value] : args.named) rest->add(name, value);
}

void map_attribute(Interpreter& in, const Value& v, const Arguments& args, ListBuilder& out) {
  const Value otherwise = args.get(SIZE_MAX, "default", Value());
  for (const auto& [name, value] : args.named) {
    if (name != "attribute" && name != "default")
      throw TemplateError("map: there is no argument '" + excerpt(name) + "'");
  }
  const Attribute attribute(in, *args.find("attribute"),
                            otherwise.is_none() ? nullptr : &otherwise);
  const Value all = iterate(in.budget(), v);
  for (const Value& item : all.items()) out.add(attribute.of(item));
}

Value map(Interpreter& in, const Value& v, const Arguments& args) {
  return generate(in.budget(), [&](ListBuilder& out) {
    if (!v.truthy()) return;
    if (args.positional.empty() && args.find("attribute") != nullptr)
      return map_attribute(in, v, args, out);
    if (args.positional.empty()) throw TemplateError("map: needs a filter's name or an attribute");
    const Value name = text(args.positional[0], "map");
    Arguments rest(in.budget());
    rest_of(args, 1, &rest);
    const Value all = iterate(in.budget(), v);
    for (const Value& item : all.items()) out.add(apply_filter(in, name.str(), item, rest));
  });
}

// select, reject, selectattr, rejectattr.
template <bool kByAttribute, bool kKeep>
Value select(Interpreter& in, const Value& v, const Arguments& args) {
  return generate(in.budget(), [&](ListBuilder& out) {
    if (!v.truthy()) return;
    if (kByAttribute && args.positional.empty())
      throw TemplateError("selectattr: the attribute is missing");
    const Attribute attribute(in, kByAttribute ? args.positional[0] : Value());
    const size_t test_at = kByAttribute ? 1 : 0;
    const bool plain = args.positional.size() <= test_at;
    const Value test = plain ? Value() : text(args.positional[test_at], "select");
    Arguments rest(in.budget());
    if (!plain) rest_of(args, test_at + 1, &rest);
    const Value all = iterate(in.budget(), v);
    for (const Value& item : all.items()) {
      in.budget().work(1);
      const Value subject = attribute.of(item);
      const bool holds = plain ? subject.truthy() : apply_test(in, test.str(), subject, rest);
      if (holds == kKeep) out.add(item);
    }
  });
}

}  // namespace

std::span<const FilterRow> choice_filters() {
  static const FilterRow table[] = {
      {"dictsort", {dictsort, "case_sensitive=, by=, reverse="}},
      {"sort", {sort, "reverse=, case_sensitive=, attribute="}},
      {"groupby", {groupby, "attribute, default=, case_sensitive="}},
      {"unique", {unique, "case_sensitive=, attribute="}},
      {"min", {extreme<false>, "case_sensitive=, attribute="}},
      {"max", {extreme<true>, "case_sensitive=, attribute="}},
      {"map", {map, "*, **"}},
      {"select", {select<false, true>, "*, **"}},
      {"reject", {select<false, false>, "*, **"}},
      {"selectattr", {select<true, true>, "*, **"}},
      {"rejectattr", {select<true, false>, "*, **"}},
  };
  return table;
}

}  // namespace shoal::jinja
