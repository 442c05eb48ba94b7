// The functions every template may call, and what `loop` knows.
#include <array>
#include <ctime>

#include "model/jinja/interpreter.h"

namespace shoal::jinja {
namespace {

constexpr int64_t kMaxRange = 100'000;  // entries: a template loops over messages, not over numbers

Value range(Budget& budget, const Arguments& args) {
  if (args.positional.empty()) throw TemplateError("range: needs an argument");
  const auto at = [&](size_t i) {
    if (!args.positional[i].is_number()) throw TemplateError("range: needs integers");
    return args.positional[i].as_int();
  };
  const int64_t start = args.positional.size() > 1 ? at(0) : 0,
                stop = args.positional.size() > 1 ? at(1) : at(0);
  const int64_t step = args.positional.size() > 2 ? at(2) : 1;
  if (step == 0) throw TemplateError("range: the step is zero");
  ListBuilder out(budget);
  for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
    out.add(i);
    if (static_cast<int64_t>(out.size()) > kMaxRange)
      throw TemplateError("Range too big. The sandbox blocks ranges larger than 100000.");
    if (__builtin_add_overflow(i, step, &i)) break;
  }
  return out.take();
}

Value named_dict(Budget& budget, const Arguments& args, bool is_namespace) {
  const auto dict = make_object<Dict>(budget, 0);
  dict->is_namespace = is_namespace;
  if (!args.positional.empty() && args.positional[0].is_dict()) {
    for (const auto& [key, value] : args.positional[0].dict().entries) dict->add(key, value);
  }
  for (const auto& [key, value] : args.named) dict->set(key, value);
  return Value::dict(dict);
}

Value strftime_now(Budget& budget, std::time_t now, const Arguments& args) {
  const Value format = to_text(budget, args.need(0, "format", "strftime_now"));
  std::tm local{};
  ::localtime_r(&now, &local);
  std::array<char, 512> text{};
  if (format.str().size() > 256) throw TemplateError("strftime_now: the format is too long");
  const size_t n =
      std::strftime(text.data(), text.size(), std::string(format.str()).c_str(), &local);
  return Value::string(budget, {text.data(), n});
}

[[noreturn]] void raise_exception(Budget& budget, const Arguments& args) {
  const Value message = to_text(budget, args.get(0, "message", Value::string(budget, "")));
  constexpr size_t kMost = 4096;
  TemplateError error(std::string(message.str().substr(0, kMost)));
  error.raised_by_template = true;
  throw error;
}

// Nothing at its first call, then the separator.
Value joiner(Budget& budget, const Arguments& args) {
  const Value separator = to_text(budget, args.get(0, "sep", Value::outside(budget, ", ")));
  return Value::callable(
      budget, "joiner", [&budget, separator, used = false](const Arguments&) mutable {
        return std::exchange(used, true) ? separator : Value::outside(budget, "");
      });
}

}  // namespace

Value global(Interpreter& in, const std::string& name) {
  Budget& budget = in.budget();
  Call call;
  if (name == "raise_exception") {
    call = [&budget](const Arguments& args) -> Value { raise_exception(budget, args); };
  } else if (name == "strftime_now") {
    call = [&in](const Arguments& args) { return strftime_now(in.budget(), in.now(), args); };
  } else if (name == "namespace") {
    call = [&budget](const Arguments& args) { return named_dict(budget, args, true); };
  } else if (name == "dict") {
    call = [&budget](const Arguments& args) { return named_dict(budget, args, false); };
  } else if (name == "range") {
    call = [&budget](const Arguments& args) { return range(budget, args); };
  } else if (name == "joiner") {
    call = [&budget](const Arguments& args) { return joiner(budget, args); };
  } else {
    return Value::undefined(Missing::kVariable, name);
  }
  return Value::callable(budget, name, std::move(call));
}

std::optional<Value> Loop::attribute(std::string_view name) const {
  const std::span<const Value> all = items.items();
  const auto n = static_cast<int64_t>(all.size()), i = static_cast<int64_t>(index);
  if (name == "index") return i + 1;
  if (name == "index0") return i;
  if (name == "revindex") return n - i;
  if (name == "revindex0") return n - i - 1;
  if (name == "first") return i == 0;
  if (name == "last") return i + 1 == n;
  if (name == "length") return n;
  if (name == "depth") return int64_t{1};  // of recursive loops, which there are not
  if (name == "depth0") return int64_t{0};
  if (name == "previtem")
    return i > 0 ? all[index - 1] : Value::undefined("there is no previous item");
  if (name == "nextitem")
    return i + 1 < n ? all[index + 1] : Value::undefined("there is no next item");
  return std::nullopt;
}

}  // namespace shoal::jinja
