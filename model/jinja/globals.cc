// The functions every template may call, and what `loop` knows.
#include <array>
#include <ctime>

#include "model/jinja/interpreter.h"

namespace shoal::jinja {
namespace {

constexpr int64_t kMaxRange = 100'000;  // entries: a template loops over messages, not over numbers

Value range(Budget& budget, const Arguments& args) {
  const auto at = [&](size_t i) { return integer(args.positional[i], "range"); };
  const size_t n = args.positional.size();
  const int64_t start = n > 1 ? at(0) : 0, stop = at(n > 1 ? 1 : 0), step = n > 2 ? at(2) : 1;
  if (step == 0) throw TemplateError("range: the step is zero");
  ListBuilder out(budget);
  for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
    out.add(i);
    if (static_cast<int64_t>(out.size()) > kMaxRange)
      throw TemplateError("Range too big. The sandbox blocks ranges larger than 100000.");
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  return out.take_range(start, stop, step);
}

// dict(mapping or pairs, name=value …).
Value named_dict(Budget& budget, const Arguments& args, bool is_namespace) {
  const auto dict = make_object<Dict>(budget, 0, is_namespace);
  if (!args.positional.empty()) {
    const Value& given = args.positional[0];
    if (given.is_dict()) {
      for (const auto& [key, value] : given.dict().entries) dict->add(key, value);
    } else {
      if (given.is_undefined()) throw TemplateError(given.undefined_text());
      const Value all = iterate(budget, given);
      for (const Value& item : all.items()) {
        const Value parts = iterate(budget, item);
        if (parts.items().size() != 2) throw TemplateError("dict: needs pairs");
        if (!hashable(parts.items()[0]))
          throw TemplateError(std::string("a ") + parts.items()[0].type_name() +
                              " cannot be a key");
        dict->set(parts.items()[0], parts.items()[1]);
      }
    }
  }
  for (const auto& [key, value] : args.named) dict->set(key, value);
  return Value::dict(dict);
}

// As Python's for a time without a zone and without fractions of a second.
Value strftime_now(Budget& budget, std::time_t now, const Arguments& args) {
  const Value given = text(args.need(0, "format"), "strftime_now");
  if (given.str().size() > 256) throw TemplateError("strftime_now: the format is too long");
  std::string format;
  for (size_t i = 0; i < given.str().size(); ++i) {
    const char c = given.str()[i], next = i + 1 < given.str().size() ? given.str()[i + 1] : '\0';
    if (c != '%' || (next != 'f' && next != 'z' && next != 'Z' && next != '%')) {
      format += c;
      continue;
    }
    if (next == '%') format += "%%";
    if (next == 'f') format += "000000";
    ++i;
  }
  std::tm local{};
  ::localtime_r(&now, &local);
  std::array<char, 4096> out{};
  return Value::string(budget,
                       {out.data(), std::strftime(out.data(), out.size(), format.c_str(), &local)});
}

[[noreturn]] void raise_exception(Budget& budget, const Arguments& args) {
  const Value message = to_text(budget, args.need(0, "message"));
  constexpr size_t kMost = 4096;
  TemplateError error(std::string(message.str().substr(0, kMost)));
  error.raised_by_template = true;
  throw error;
}

// Nothing at its first call, then the separator.
Value joiner(Budget& budget, const Arguments& args) {
  static const std::string kName = "joiner";
  const Value separator = args.get(0, "sep", Value::outside(budget, ", "));
  return Value::callable(
      budget, kName, [&budget, separator, used = false](const Arguments& given) mutable {
        static const Signature kTakes = "";
        kTakes.check(kName, given);
        return std::exchange(used, true) ? separator : Value::outside(budget, "");
      });
}

Value cycler(Budget& budget, const Arguments& args) {
  if (args.positional.empty()) throw TemplateError("cycler: at least one item has to be provided");
  ListBuilder items(budget);
  items.add(args.positional);
  return Value::cycler(make_object<Cycler>(budget, 0, items.take(Series::kTuple)));
}

struct Global {
  const char* name;
  Signature takes;
  Value (*call)(Interpreter&, const Arguments&);
};

std::span<const Global> globals() {
  static const Global table[] = {
      {"raise_exception", "message",
       [](Interpreter& in, const Arguments& args) -> Value { raise_exception(in.budget(), args); }},
      {"strftime_now", "format, /",
       [](Interpreter& in, const Arguments& args) {
         return strftime_now(in.budget(), in.now(), args);
       }},
      {"namespace", "mapping=, /, **",
       [](Interpreter& in, const Arguments& args) { return named_dict(in.budget(), args, true); }},
      {"dict", "mapping=, /, **",
       [](Interpreter& in, const Arguments& args) { return named_dict(in.budget(), args, false); }},
      {"range", "start, stop=, step=, /",
       [](Interpreter& in, const Arguments& args) { return range(in.budget(), args); }},
      {"joiner",
       "sep=", [](Interpreter& in, const Arguments& args) { return joiner(in.budget(), args); }},
      {"cycler", "*",
       [](Interpreter& in, const Arguments& args) { return cycler(in.budget(), args); }},
      {"lipsum", "*, **",
       [](Interpreter&, const Arguments&) -> Value {
         throw TemplateError("lipsum: the same messages must give the same prompt");
       }},
  };
  return table;
}

}  // namespace

Value global(Interpreter& in, const std::string& name) {
  for (const Global& one : globals()) {
    if (name != one.name) continue;
    return Value::callable(in.budget(), one.name, [&in, &one](const Arguments& args) {
      one.takes.check(one.name, args);
      return one.call(in, args);
    });
  }
  return Value::undefined(Missing::kVariable, name);
}

void Loop::clear() {
  given = changed = Value();
  const auto gone = std::exchange(kept, {});
  const auto condition = std::exchange(passes, nullptr);
  const auto function = std::exchange(again, nullptr);
}

bool Loop::reach(size_t n) {
  const std::span<const Value> all = given.items();
  if (!passes) return n < all.size();
  while (kept.size() <= n && looked < all.size()) {
    const Value& candidate = all[looked++];
    if (!passes(candidate)) continue;
    held.add(2 * sizeof(Value));  // and room to grow
    kept.push_back(candidate);
  }
  return n < kept.size();
}

size_t Loop::length() {
  while (passes && reach(kept.size())) {
  }
  return passes ? kept.size() : given.items().size();
}

std::optional<Value> Loop::attribute(std::string_view name) {
  const auto i = static_cast<int64_t>(index);
  if (name == "index") return i + 1;
  if (name == "index0") return i;
  if (name == "revindex") return static_cast<int64_t>(length()) - i;
  if (name == "revindex0") return static_cast<int64_t>(length()) - i - 1;
  if (name == "first") return i == 0;
  if (name == "last") return !reach(index + 1);
  if (name == "length") return static_cast<int64_t>(length());
  if (name == "depth") return depth0 + 1;
  if (name == "depth0") return depth0;
  if (name == "previtem")
    return i > 0 ? item(index - 1) : Value::undefined("there is no previous item");
  if (name == "nextitem")
    return reach(index + 1) ? item(index + 1) : Value::undefined("there is no next item");
  return std::nullopt;
}

}  // namespace shoal::jinja
