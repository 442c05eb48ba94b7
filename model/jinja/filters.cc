// Filters over lists and dicts, and the table of all.
#include <algorithm>
#include <map>

#include "model/jinja/filters.h"
#include "model/jinja/text.h"

namespace shoal::jinja {
namespace {

// Jinja's own attribute paths: "function.name", "0".
Value path(Budget& budget, const Value& value, std::string_view dotted) {
  Value at = value;
  budget.bytes(dotted.size());
  for (size_t begin = 0; begin <= dotted.size();) {
    const size_t end = std::min(dotted.find('.', begin), dotted.size());
    const std::string_view part = dotted.substr(begin, end - begin);
    begin = end + 1;
    const Value* found = nullptr;
    if (at.is_dict()) found = at.dict().find(part);
    if (at.is_list() && !part.empty() &&
        part.find_first_not_of("0123456789") == std::string_view::npos && part.size() < 9) {
      const size_t index = std::stoul(std::string(part));
      if (index < at.items().size()) found = &at.items()[index];
    }
    at = found ? Value(*found) : Value::undefined("an attribute that is not there");
  }
  return at;
}

// What a filter's `attribute` picks of an item: the item itself if there is none.
class Attribute {
 public:
  Attribute(Budget& budget, const Value& given)
      : budget_(budget), name_(given.is_none() ? Value() : to_text(budget, given)) {}
  Value of(const Value& item) const {
    return name_.is_none() ? item : path(budget_, item, name_.str());
  }

 private:
  Budget& budget_;
  const Value name_;
};

Value default_value(Interpreter& in, const Value& v, const Arguments& args) {
  const bool also_false = args.get(1, "boolean", false).truthy();
  if (!v.is_undefined() && !(also_false && !v.truthy())) return v;
  return args.get(0, "default_value", Value::outside(in.budget(), ""));
}

Value to_json_filter(Interpreter& in, const Value& v, const Arguments& args) {
  JsonFormat format;
  Value item_separator, key_separator;  // what the format's views are of
  const Value indent = args.get(0, "indent", Value());
  for (const auto& [name, value] : args.named) {
    if (name == "ensure_ascii") {
      format.ensure_ascii = value.truthy();
    } else if (name == "sort_keys") {
      format.sort_keys = value.truthy();
    } else if (name == "separators" && value.is_list() && value.items().size() == 2) {
      item_separator = to_text(in.budget(), value.items()[0]);
      key_separator = to_text(in.budget(), value.items()[1]);
      format.item_separator = item_separator.str();
      format.key_separator = key_separator.str();
    } else if (name != "indent" && name != "separators") {
      throw TemplateError("tojson: unknown argument '" + excerpt(name) + "'");
    }
  }
  if (indent.is_number()) {
    if (indent.as_int() > 64) throw TemplateError("tojson: indent is too large");
    format.indent = std::max<int64_t>(0, indent.as_int());
  }
  return to_json(in.budget(), v, format);
}

Value length(Interpreter&, const Value& v, const Arguments&) {
  if (v.is_string()) return v.text().length();
  if (v.is_list()) return static_cast<int64_t>(v.items().size());
  if (v.is_undefined()) return int64_t{0};
  if (v.is_loop()) return *v.loop().attribute("length");
  if (v.is_dict() && !v.dict().is_namespace) return static_cast<int64_t>(v.dict().entries.size());
  throw TemplateError(std::string("'") + v.type_name() + "' cannot be looped over");
}

Value join(Interpreter& in, const Value& v, const Arguments& args) {
  const Value separator = to_text(in.budget(), args.get(0, "d", Value::outside(in.budget(), "")));
  const Attribute attribute(in.budget(), args.get(1, "attribute", Value()));
  const Value all = iterate(in.budget(), v);
  TextBuilder out(in.budget());
  bool first = true;
  for (const Value& item : all.items()) {
    if (!first) out.append(separator.str());
    first = false;
    print(attribute.of(item), &out);
    in.budget().work(1);
  }
  return out.take();
}

Value items(Interpreter& in, const Value& v, const Arguments& args) {
  if (v.is_undefined()) return ListBuilder(in.budget()).take();
  if (!v.is_dict()) throw TemplateError("items: needs a mapping");
  return find_method(v, "items")(in, v, args);
}

// Lower-cased strings, so that sorting ignores case unless asked not to.
Value sort_key(Budget& budget, const Value& v, bool case_sensitive) {
  return !case_sensitive && v.is_string() ? lower(budget, v) : v;
}

// Values in the order of their keys.
class Sorter {
 public:
  Sorter(Budget& budget, size_t n) : budget_(budget), held_(budget, 2 * n * sizeof(Entry)) {
    entries_.reserve(n);
  }
  void add(Value key, Value value) { entries_.push_back({std::move(key), std::move(value)}); }
  Value sorted(bool reverse) {
    std::stable_sort(entries_.begin(), entries_.end(), [&](const Entry& a, const Entry& b) {
      return reverse ? compare(budget_, b.key, a.key) < 0 : compare(budget_, a.key, b.key) < 0;
    });
    ListBuilder out(budget_, entries_.size());
    for (Entry& entry : entries_) out.add(std::move(entry.value));
    return out.take();
  }

 private:
  struct Entry {
    Value key, value;
  };
  Budget& budget_;
  const Held held_;  // of the entries, and as much while they are sorted
  std::vector<Entry> entries_;
};

Value dictsort(Interpreter& in, const Value& v, const Arguments& args) {
  if (!v.is_dict()) throw TemplateError("dictsort: needs a mapping");
  const bool case_sensitive = args.get(0, "case_sensitive", false).truthy();
  const Value by = args.get(1, "by", Value());
  const bool by_value = by.is_string() && by.str() == "value";
  const bool reverse = args.get(2, "reverse", false).truthy();
  const auto& entries = v.dict().entries;
  Sorter sorter(in.budget(), entries.size());
  for (const auto& [key, value] : entries) {
    sorter.add(sort_key(in.budget(), by_value ? value : key, case_sensitive),
               pair(in.budget(), key, value));
  }
  return sorter.sorted(reverse);
}

Value sort(Interpreter& in, const Value& v, const Arguments& args) {
  const bool reverse = args.get(0, "reverse", false).truthy();
  const bool case_sensitive = args.get(1, "case_sensitive", false).truthy();
  const Attribute attribute(in.budget(), args.get(2, "attribute", Value()));
  const Value all = iterate(in.budget(), v);
  Sorter sorter(in.budget(), all.items().size());
  for (const Value& item : all.items())
    sorter.add(sort_key(in.budget(), attribute.of(item), case_sensitive), item);
  return sorter.sorted(reverse);
}

Value unique(Interpreter& in, const Value& v, const Arguments&) {
  const Value all = iterate(in.budget(), v);
  ListBuilder keys(in.budget()), out(in.budget());
  for (const Value& item : all.items()) {
    const Value key = sort_key(in.budget(), item, false);
    const std::span<const Value> seen = keys.items();
    if (std::any_of(seen.begin(), seen.end(),
                    [&](const Value& x) { return equal(in.budget(), x, key); }))
      continue;
    keys.add(key);
    out.add(item);
  }
  return out.take();
}

template <bool kLargest>
Value extreme(Interpreter& in, const Value& v, const Arguments&) {
  const Value list = iterate(in.budget(), v);
  const std::span<const Value> all = list.items();
  if (all.empty()) return Value::undefined("no aggregated item, sequence was empty");
  const auto less = [&](const Value& a, const Value& b) { return compare(in.budget(), a, b) < 0; };
  return kLargest ? *std::max_element(all.begin(), all.end(), less)
                  : *std::min_element(all.begin(), all.end(), less);
}

Value sum(Interpreter& in, const Value& v, const Arguments& args) {
  const Attribute attribute(in.budget(), args.get(0, "attribute", Value()));
  const Value start = args.get(1, "start", int64_t{0});
  double total = start.as_double();
  bool real = start.is_float();
  const Value all = iterate(in.budget(), v);
  for (const Value& item : all.items()) {
    const Value x = attribute.of(item);
    if (!x.is_number()) throw TemplateError(std::string("sum: cannot add ") + x.type_name());
    real = real || x.is_float();
    total += x.as_double();
    in.budget().work(1);
  }
  return real ? Value(total) : Value(Value(total).as_int());
}

Value map(Interpreter& in, const Value& v, const Arguments& args) {
  const Value all = iterate(in.budget(), v);
  ListBuilder out(in.budget(), all.items().size());
  for (const auto& [name, value] : args.named) {
    if (name != "attribute") continue;
    const Attribute attribute(in.budget(), value);
    for (const Value& item : all.items()) {
      Value found = attribute.of(item);
      if (found.is_undefined()) found = args.get(SIZE_MAX, "default", std::move(found));
      out.add(std::move(found));
    }
    return out.take();
  }
  const Filter filter = find_filter(to_text(in.budget(), args.need(0, "filter", "map")).str());
  Arguments rest(in.budget());
  for (size_t i = 1; i < args.positional.size(); ++i) rest.add(args.positional[i]);
  for (const auto& [name, value] : args.named) rest.add(name, value);
  for (const Value& item : all.items()) out.add(filter(in, item, rest));
  return out.take();
}

// select, reject, selectattr, rejectattr.
template <bool kByAttribute, bool kKeep>
Value select(Interpreter& in, const Value& v, const Arguments& args) {
  const Attribute attribute(in.budget(),
                            kByAttribute ? args.need(0, "attribute", "selectattr") : Value());
  const size_t test_at = kByAttribute ? 1 : 0;
  const bool plain = args.positional.size() <= test_at;
  const Test test =
      plain ? nullptr : find_test(to_text(in.budget(), args.positional[test_at]).str());
  Arguments rest(in.budget());
  for (size_t i = test_at + 1; i < args.positional.size(); ++i) rest.add(args.positional[i]);
  const Value all = iterate(in.budget(), v);
  ListBuilder out(in.budget());
  for (const Value& item : all.items()) {
    in.budget().work(1);
    const Value subject = attribute.of(item);
    if ((plain ? subject.truthy() : test(in, subject, rest)) == kKeep) out.add(item);
  }
  return out.take();
}

// The first or last item or character.
template <bool kFirst>
Value end_item(Interpreter& in, const Value& v, const Arguments&) {
  if (v.is_string() && !v.str().empty()) {
    std::string_view text = v.str();
    size_t at = kFirst ? 1 : text.size() - 1;
    const auto inside = [&] { return (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80; };
    while (kFirst ? at < text.size() && inside() : at > 0 && inside()) kFirst ? ++at : --at;
    return Value::part(v, kFirst ? text.substr(0, at) : text.substr(at));
  }
  const Value list = iterate(in.budget(), v);
  const std::span<const Value> all = list.items();
  if (all.empty())
    return Value::undefined(kFirst ? "no first item, sequence was empty"
                                   : "no last item, sequence was empty");
  return kFirst ? all.front() : all.back();
}

Value reverse(Interpreter& in, const Value& v, const Arguments&) {
  const Value list = reversed(in.budget(), iterate(in.budget(), v));
  if (!v.is_string()) return list;
  TextBuilder text(in.budget());
  for (const Value& c : list.items()) text.append(c.str());
  return text.take();
}

Value batch(Interpreter& in, const Value& v, const Arguments& args) {
  const int64_t size = args.need(0, "linecount", "batch").as_int();
  if (size < 1) throw TemplateError("batch: the size must be positive");
  const Value all = iterate(in.budget(), v);
  const size_t n = all.items().size();
  ListBuilder out(in.budget());
  for (size_t i = 0; i < n;) {
    const size_t row = std::min<size_t>(static_cast<size_t>(size), n - i);
    // A row of a tuple is a list.
    ListBuilder values(in.budget(), row);
    values.add(all.items().subspan(i, row));
    out.add(values.take());
    i += row;
  }
  return out.take();
}

Value list_filter(Interpreter& in, const Value& v, const Arguments&) {
  const Value all = iterate(in.budget(), v);
  if (!all.list().tuple) return all;
  ListBuilder out(in.budget(), all.items().size());
  out.add(all.items());
  return out.take();
}

Value same(Interpreter&, const Value& v, const Arguments&) { return v; }

Value attr(Interpreter& in, const Value& v, const Arguments& args) {
  return bound_method(in, v, to_text(in.budget(), args.need(0, "name", "attr")).str());
}

using Filters = std::map<std::string_view, Filter>;

const Filters& filters() {
  static const Filters table = [] {
    Filters all = {
        {"default", default_value},
        {"d", default_value},
        {"tojson", to_json_filter},
        {"length", length},
        {"count", length},
        {"join", join},
        {"items", items},
        {"dictsort", dictsort},
        {"sort", sort},
        {"unique", unique},
        {"sum", sum},
        {"map", map},
        {"first", end_item<true>},
        {"last", end_item<false>},
        {"reverse", reverse},
        {"batch", batch},
        {"safe", same},
        {"list", list_filter},
        {"min", extreme<false>},
        {"max", extreme<true>},
        {"select", select<false, true>},
        {"reject", select<false, false>},
        {"selectattr", select<true, true>},
        {"rejectattr", select<true, false>},
        {"attr", attr},
    };
    for (const auto& [name, filter] : scalar_filters()) all.emplace(name, filter);
    return all;
  }();
  return table;
}

}  // namespace

Filter find_filter(std::string_view name) {
  const auto it = filters().find(name);
  if (it == filters().end()) throw TemplateError("No filter named '" + excerpt(name) + "'.");
  return it->second;
}

}  // namespace shoal::jinja
