// The table of filters, and those over lists and dicts that take them as they are.
#include "model/jinja/filters.h"

#include <algorithm>
#include <map>

#include "model/jinja/arithmetic.h"
#include "model/jinja/text.h"
#include "model/jinja/unicode.h"

namespace shoal::jinja {

Attribute::Attribute(Interpreter& in, const Value& given, const Value* otherwise)
    : in_(in), parts_(in.budget()), otherwise_(otherwise) {
  if (given.is_none()) return;
  if (!given.is_string()) {
    parts_.add(given);
    return;
  }
  const Value parts = split_on(in.budget(), given, ".", -1, false);
  for (const Value& part : parts.items()) {
    if (every_character(in.budget(), part.str(), is_digit, false)) {
      const auto index = read_integer(in.budget(), part.str(), 10);
      if (!index) throw TemplateError("an attribute's number is malformed");
      parts_.add(*index);
    } else {
      parts_.add(part);
    }
  }
}

Value Attribute::of(const Value& item) const {
  Value at = item;
  for (const Value& part : parts_.items()) {
    in_.budget().work(1);
    at = in_.item(at, part);
    if (otherwise_ != nullptr && at.is_undefined()) at = *otherwise_;
  }
  return at;
}

Value without_case(Budget& budget, const Value& v, bool case_sensitive) {
  return !case_sensitive && v.is_string() ? lower(budget, v) : v;
}

namespace {

Value default_value(Interpreter& in, const Value& v, const Arguments& args) {
  if (!v.is_undefined() && !(args.flag(1, "boolean") && !v.truthy())) return v;
  return args.get(0, "default_value", Value::outside(in.budget(), ""));
}

Value to_json_filter(Interpreter& in, const Value& v, const Arguments& args) {
  JsonFormat format;
  format.ensure_ascii = args.flag(0, "ensure_ascii");
  format.sort_keys = args.flag(3, "sort_keys");
  Value indent = args.get(1, "indent", Value());
  if (!indent.is_none() && !indent.is_string()) {
    const int64_t width = integer(indent, "tojson: indent");
    constexpr int64_t kMost = 1024;
    if (width > kMost) throw TemplateError("tojson: the indent is too wide");
    TextBuilder blanks(in.budget());
    blanks.append(static_cast<size_t>(std::max<int64_t>(0, width)), ' ');
    indent = blanks.take();
  }
  if (!indent.is_none()) {
    format.indent = indent.str();
    format.item_separator = ",";
  }
  const Value separators = args.get(2, "separators", Value());
  if (!separators.is_none()) {
    if (!separators.is_list() || separators.items().size() != 2)
      throw TemplateError("tojson: separators must be two strings");
    format.item_separator = text(separators.items()[0], "tojson: separators").str();
    format.key_separator = text(separators.items()[1], "tojson: separators").str();
  }
  return to_json(in.budget(), v, format);
}

Value length(Interpreter&, const Value& v, const Arguments&) {
  const int64_t n = length_of(v);
  if (n < 0) throw TemplateError(std::string("a '") + v.type_name() + "' has no length");
  return n;
}

Value join(Interpreter& in, const Value& v, const Arguments& args) {
  const Value separator = to_text(in.budget(), args.get(0, "d", Value::outside(in.budget(), "")));
  const Attribute attribute(in, args.get(1, "attribute", Value()));
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

Value items(Interpreter& in, const Value& v, const Arguments&) {
  return generate(in.budget(), [&](ListBuilder& out) {
    if (v.is_undefined()) return;
    if (!v.is_dict()) throw TemplateError("items: needs a mapping");
    for (const auto& [key, value] : v.dict().entries) out.add(pair(in.budget(), key, value));
  });
}

Value first(Interpreter& in, const Value& v, const Arguments&) {
  const bool generator = v.is_series() && v.list().kind == Series::kGenerator;
  if (v.is_string() && !v.str().empty()) return characters(in.budget(), as_markup(v, false), 0, 1);
  if (generator) {  // takes one
    List& list = v.list();
    if (list.taken < list.view.size()) return list.view[list.taken++];
  }
  const Value all = iterate(in.budget(), v);
  if (!all.items().empty()) return all.items().front();
  return Value::undefined("no first item, sequence was empty");
}

// Python's reversed(): not of generators.
bool reversible(const Value& v) {
  return iterable(v) && !v.is_undefined() &&
         !(v.is_series() && v.list().kind == Series::kGenerator);
}

Value last(Interpreter& in, const Value& v, const Arguments&) {
  if (v.is_string() && !v.str().empty()) {
    size_t begin = 0;
    (void)character_before(v.str(), v.str().size(), &begin);
    return Value::part(v, v.str().substr(begin));
  }
  if (!reversible(v) && !v.is_undefined())
    throw TemplateError(std::string("last: a '") + v.type_name() +
                        "' cannot be gone through backwards");
  const Value all = iterate(in.budget(), v);
  return all.items().empty() ? Value::undefined("no last item, sequence was empty")
                             : all.items().back();
}

Value reverse(Interpreter& in, const Value& v, const Arguments&) {
  if (!iterable(v)) throw TemplateError("reverse: needs something with items");
  const Value all = iterate(in.budget(), v);
  if (!v.is_string())
    return reversed(in.budget(), all,
                    reversible(v) || v.is_undefined() ? Series::kGenerator : Series::kList);
  TextBuilder text(in.budget());
  const Value backwards = reversed(in.budget(), all);
  for (const Value& c : backwards.items()) text.append(c.str());
  return text.take(v.is_markup());
}

Value batch(Interpreter& in, const Value& v, const Arguments& args) {
  const Value& count = args.need(0, "linecount");
  const Value fill = args.get(1, "fill_with", Value());
  return generate(in.budget(), [&](ListBuilder& out) {
    const Value all = iterate(in.budget(), v);
    const size_t n = all.items().size();
    // A row whose size no count of items equals is never full, as in Jinja.
    const bool bounded = count.is_number() && count.as_double() >= 1;
    if (n > 0 && count.is_number() && count.as_double() == 0)
      out.add(ListBuilder(in.budget()).take());  // but the empty one before the first item is
    const size_t size = bounded ? static_cast<size_t>(integer(count, "batch")) : n;
    for (size_t i = 0; i < n;) {
      const size_t row = std::min(size, n - i);
      ListBuilder values(in.budget(), row);
      values.add(all.items().subspan(i, row));
      for (size_t k = row; bounded && !fill.is_none() && k < size; ++k) values.add(fill);
      out.add(values.take());
      i += row;
    }
  });
}

Value slice(Interpreter& in, const Value& v, const Arguments& args) {
  const Value fill = args.get(1, "fill_with", Value());
  return generate(in.budget(), [&](ListBuilder& out) {
    const int64_t slices = integer(args.need(0, "slices"), "slice");
    const Value all = iterate(in.budget(), v);
    if (slices == 0) throw TemplateError("division by zero");
    const auto n = static_cast<int64_t>(all.items().size());
    int64_t begin = 0;
    for (int64_t i = 0; i < slices; ++i) {
      const bool longer = i < n % slices;
      const int64_t size = n / slices + (longer ? 1 : 0);
      ListBuilder part(in.budget(), static_cast<size_t>(size + 1));
      part.add(all.items().subspan(static_cast<size_t>(begin), static_cast<size_t>(size)));
      if (!fill.is_none() && !longer) part.add(fill);
      out.add(part.take());
      begin += size;
    }
  });
}

Value list_filter(Interpreter& in, const Value& v, const Arguments&) {
  const Value all = iterate(in.budget(), v);
  if (all.list().kind == Series::kList) return all;
  ListBuilder out(in.budget(), all.items().size());
  out.add(all.items());
  return out.take();
}

Value sum(Interpreter& in, const Value& v, const Arguments& args) {
  const Attribute attribute(in, args.get(0, "attribute", Value()));
  Value total = args.get(1, "start", int64_t{0});
  if (total.is_string()) throw TemplateError("sum: strings are joined, not summed");
  const Value all = iterate(in.budget(), v);
  for (const Value& item : all.items()) {
    const Value x = attribute.of(item);
    if (x.is_undefined()) throw TemplateError(x.undefined_text());
    total = binary(in.budget(), "+", total, x);
    in.budget().work(1);
  }
  return total;
}

Value attr(Interpreter& in, const Value& v, const Arguments& args) {
  const Value& name = text(args.need(0, "name"), "attr");
  if (auto found = python_attribute(in, v, name.str())) return *found;
  if (v.is_undefined()) throw TemplateError(v.undefined_text());
  return Value::undefined(
      in.budget(),
      std::string("'") + v.type_name() + " object' has no attribute '" + excerpt(name.str()) + "'");
}

Value refused_random(Interpreter&, const Value&, const Arguments&) {
  throw TemplateError("random: the same messages must give the same prompt");
}

Value refused_urlize(Interpreter&, const Value&, const Arguments&) {
  throw TemplateError("urlize: a prompt is not HTML");
}

std::span<const FilterRow> rows() {
  static const FilterRow table[] = {
      {"default", {default_value, "default_value=, boolean="}},
      {"d", {default_value, "default_value=, boolean="}},
      {"tojson", {to_json_filter, "ensure_ascii=, indent=, separators=, sort_keys="}},
      {"length", {length, ""}},
      {"count", {length, ""}},
      {"join", {join, "d=, attribute="}},
      {"items", {items, ""}},
      {"first", {first, ""}},
      {"last", {last, ""}},
      {"reverse", {reverse, ""}},
      {"batch", {batch, "linecount, fill_with="}},
      {"slice", {slice, "slices, fill_with="}},
      {"list", {list_filter, ""}},
      {"sum", {sum, "attribute=, start="}},
      {"attr", {attr, "name"}},
      {"random", {refused_random, ""}},
      {"urlize", {refused_urlize, "*, **"}},
  };
  return table;
}

const std::map<std::string_view, Function<Filter>>& filters() {
  static const std::map<std::string_view, Function<Filter>> table = [] {
    std::map<std::string_view, Function<Filter>> all;
    for (const auto& part : {rows(), choice_filters(), scalar_filters(), layout_filters()})
      all.insert(part.begin(), part.end());
    return all;
  }();
  return table;
}

}  // namespace

const Function<Filter>& find_filter(std::string_view name) {
  const auto it = filters().find(name);
  if (it == filters().end()) throw TemplateError("No filter named '" + excerpt(name) + "'.");
  return it->second;
}

bool is_filter(std::string_view name) { return filters().contains(name); }

Value apply_filter(Interpreter& in, std::string_view name, const Value& v, const Arguments& args) {
  const Function<Filter>& filter = find_filter(name);
  filter.takes.check(name, args);
  return filter.function(in, v, args);
}

}  // namespace shoal::jinja
