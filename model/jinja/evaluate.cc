// Expressions.
#include <algorithm>
#include <cmath>

#include "base/utf8.h"
#include "model/jinja/interpreter.h"

namespace shoal::jinja {
namespace {

[[noreturn]] void type_error(const std::string& op, const Value& a, const Value& b) {
  throw TemplateError("'" + op + "' does not work on " + a.type_name() + " and " + b.type_name() +
                      (a.is_undefined()   ? " (" + a.undefined_text() + ")"
                       : b.is_undefined() ? " (" + b.undefined_text() + ")"
                                          : ""));
}

enum class Op : uint8_t { kAdd, kSubtract, kMultiply };

int64_t checked(Op op, int64_t a, int64_t b) {
  int64_t out = 0;
  const bool overflow = op == Op::kAdd        ? __builtin_add_overflow(a, b, &out)
                        : op == Op::kSubtract ? __builtin_sub_overflow(a, b, &out)
                                              : __builtin_mul_overflow(a, b, &out);
  if (overflow) throw TemplateError("an integer grows beyond 64 bits");
  return out;
}

Value integer_arithmetic(const std::string& op, int64_t a, int64_t b) {
  if (op == "+") return checked(Op::kAdd, a, b);
  if (op == "-") return checked(Op::kSubtract, a, b);
  if (op == "*") return checked(Op::kMultiply, a, b);
  if (op == "**") {
    if (b < 0) return std::pow(static_cast<double>(a), static_cast<double>(b));
    if (b == 0 || a == 1) return int64_t{1};
    if (a == 0) return int64_t{0};
    if (a == -1) return b % 2 == 0 ? int64_t{1} : int64_t{-1};
    int64_t result = 1;  // 64 steps at most before it overflows
    for (int64_t i = 0; i < b; ++i) result = checked(Op::kMultiply, result, a);
    return result;
  }
  if (b == 0) throw TemplateError("division by zero");
  if (op == "/") return static_cast<double>(a) / static_cast<double>(b);
  if (b == -1) return op == "%" ? Value(int64_t{0}) : Value(checked(Op::kSubtract, 0, a));
  const int64_t quotient = a / b - ((a % b != 0 && (a % b < 0) != (b < 0)) ? 1 : 0);  // towards −∞
  return op == "//" ? quotient : a - quotient * b;
}

Value float_arithmetic(const std::string& op, double a, double b) {
  if (op == "+") return a + b;
  if (op == "-") return a - b;
  if (op == "*") return a * b;
  if (op == "**") return std::pow(a, b);
  if (b == 0) throw TemplateError("division by zero");
  if (op == "/") return a / b;
  const double quotient = std::floor(a / b);
  return op == "//" ? quotient : a - quotient * b;
}

// The byte in `text`, a string, where its character `index` begins. REQUIRES index ≤ its length.
size_t offset_of(Budget& budget, const Value& text, int64_t index) {
  if (text.text().one_byte_each()) return static_cast<size_t>(index);
  const std::string_view all = text.str();
  size_t pos = 0;
  for (int64_t i = 0; i < index; ++i) {
    if (i % 1024 == 0) budget.work(512);
    (void)next_code_point(all, &pos);
  }
  return pos;
}

// Items or characters [from, to); copies nothing.
Value run_of(Budget& budget, const Value& object, int64_t from, int64_t to) {
  if (object.is_list())
    return sublist(object, static_cast<size_t>(from), static_cast<size_t>(to - from));
  const size_t begin = offset_of(budget, object, from), end = offset_of(budget, object, to);
  return Value::part(object, object.str().substr(begin, end - begin));
}

// Every step-th from `from` to before `to`, downwards if step < 0.
Value steps_of(Budget& budget, const Value& object, int64_t from, int64_t to, int64_t step) {
  const Value all = iterate(budget, object);
  ListBuilder items(budget);
  TextBuilder text(budget);
  for (int64_t i = from; step > 0 ? i < to : i > to; i += step) {
    const Value& value = all.items()[static_cast<size_t>(i)];
    if (object.is_string()) {
      text.append(value.str());
    } else {
      items.add(value);
    }
  }
  return object.is_string() ? text.take() : items.take(object.list().tuple);
}

}  // namespace

Value Interpreter::evaluate(const Node& node) {
  const Depth depth(*this);
  budget_.work(1);
  try {
    switch (node.kind) {
      case Kind::kConstant:
        return node.value;
      case Kind::kString: {
        Value& text = strings_[node.slot];
        if (text.is_none()) text = Value::outside(budget_, node.text);
        return text;
      }
      case Kind::kName:
        return lookup(node.symbols[0], node.text);
      case Kind::kBlockText:
        return block_text_;
      case Kind::kListLiteral:
      case Kind::kTupleLiteral:
      case Kind::kDictLiteral:
        return literal(node);
      case Kind::kAttribute:
        return attribute(evaluate(*node.children[0]), node);
      case Kind::kItem: {
        const Value object = evaluate(*node.children[0]);
        return item(object, evaluate(*node.children[1]), *node.children[1]);
      }
      case Kind::kSlice:
        return evaluate_slice(node);
      case Kind::kCall:
        return evaluate_call(node);
      case Kind::kFilter: {
        const Value value = evaluate(*node.children[0]);
        Arguments args(budget_);
        arguments(node, 1, &args);
        return find_filter(node.text)(*this, value, args);
      }
      case Kind::kTest: {
        const Value value = evaluate(*node.children[0]);
        Arguments args(budget_);
        arguments(node, 1, &args);
        return find_test(node.text)(*this, value, args) != node.flag;
      }
      case Kind::kNot:
        return !evaluate(*node.children[0]).truthy();
      case Kind::kNegate:
      case Kind::kPlus:
        return evaluate_sign(node);
      case Kind::kAnd: {
        Value left = evaluate(*node.children[0]);
        return left.truthy() ? evaluate(*node.children[1]) : left;
      }
      case Kind::kOr: {
        Value left = evaluate(*node.children[0]);
        return left.truthy() ? left : evaluate(*node.children[1]);
      }
      case Kind::kBinary:
        return evaluate_binary(node);
      case Kind::kCompare:
        return evaluate_compare(node);
      case Kind::kTernary:
        if (evaluate(*node.children[1]).truthy()) return evaluate(*node.children[0]);
        return node.children[2] ? evaluate(*node.children[2])
                                : Value::undefined("the 'else' of an inline 'if'");
      default:
        throw TemplateError("a statement stands where an expression belongs");
    }
  } catch (TemplateError& error) {
    if (error.line == 0) error.line = node.line;
    throw;
  }
}

Value Interpreter::evaluate_sign(const Node& node) {
  const Value value = evaluate(*node.children[0]);
  if (!value.is_number()) throw TemplateError(std::string("a sign before ") + value.type_name());
  if (node.kind == Kind::kPlus) return value;
  return value.is_float() ? Value(-value.as_double()) : integer_arithmetic("-", 0, value.as_int());
}

Value Interpreter::literal(const Node& node) {
  if (node.kind == Kind::kDictLiteral) {
    const auto dict = make_object<Dict>(budget_, 0);
    for (size_t i = 0; i + 1 < node.children.size(); i += 2) {
      const Value key = evaluate(*node.children[i]);
      if (key.is_list() || key.is_dict())
        throw TemplateError(std::string("a ") + key.type_name() + " cannot be a key");
      dict->set(key, evaluate(*node.children[i + 1]));
    }
    return Value::dict(dict);
  }
  ListBuilder items(budget_, node.children.size());
  for (const NodePtr& child : node.children) items.add(evaluate(*child));
  return items.take(node.kind == Kind::kTupleLiteral);
}

Value Interpreter::evaluate_compare(const Node& node) {
  Value left = evaluate(*node.children[0]);
  for (size_t i = 0; i < node.words.size(); ++i) {
    Value right = evaluate(*node.children[i + 1]);
    const std::string& op = node.words[i];
    bool holds = false;
    if (op == "==")
      holds = equal(budget_, left, right);
    else if (op == "!=")
      holds = !equal(budget_, left, right);
    else if (op == "in")
      holds = contains(budget_, right, left);
    else if (op == "not in")
      holds = !contains(budget_, right, left);
    else if (op == "<")
      holds = compare(budget_, left, right) < 0;
    else if (op == "<=")
      holds = compare(budget_, left, right) <= 0;
    else if (op == ">")
      holds = compare(budget_, left, right) > 0;
    else
      holds = compare(budget_, left, right) >= 0;
    if (!holds) return false;
    left = std::move(right);
  }
  return true;
}

Value Interpreter::evaluate_binary(const Node& node) {
  const Value a = evaluate(*node.children[0]), b = evaluate(*node.children[1]);
  const std::string& op = node.text;
  if (op == "~") return concatenate_text(budget_, to_text(budget_, a), to_text(budget_, b));
  if (a.is_number() && b.is_number()) {
    return a.is_float() || b.is_float() ? float_arithmetic(op, a.as_double(), b.as_double())
                                        : integer_arithmetic(op, a.as_int(), b.as_int());
  }
  if (op == "+" && a.is_string() && b.is_string()) return concatenate_text(budget_, a, b);
  if (op == "+" && a.is_list() && b.is_list() && a.list().tuple == b.list().tuple)
    return concatenate_lists(budget_, a, b);
  if (op == "*" && (b.is_int() || b.is_bool()) && (a.is_string() || a.is_list())) {
    const auto times = static_cast<uint64_t>(std::max<int64_t>(0, b.as_int()));
    const uint64_t unit = a.is_string() ? a.str().size() : a.items().size();
    if (unit == 0 || times == 1) return a;
    constexpr uint64_t kMost = uint64_t{1}
                               << 40;  // more than any limit; 16 times that does not wrap
    const uint64_t total = times > kMost / unit ? kMost : times * unit;
    if (a.is_string()) {
      TextBuilder out(budget_, total);
      for (uint64_t i = 0; i < times; ++i) out.append(a.str());
      return out.take();
    }
    ListBuilder out(budget_, total);
    for (uint64_t i = 0; i < times; ++i) out.add(a.items());
    return out.take(a.list().tuple);
  }
  if (op == "%" && a.is_string())
    throw TemplateError("string formatting with % is not supported; use ~ or format");
  type_error(op, a, b);
}

Value Interpreter::evaluate_slice(const Node& node) {
  const Value object = evaluate(*node.children[0]);
  const auto part = [&](size_t i) {
    return node.children[i] ? evaluate(*node.children[i]) : Value();
  };
  const Value start = part(1), stop = part(2), step_value = part(3);
  if (object.is_undefined()) throw TemplateError(object.undefined_text());
  if (!object.is_string() && !object.is_list())
    throw TemplateError(std::string("cannot slice ") + object.type_name());
  if (!step_value.is_none() && !step_value.is_number())
    throw TemplateError("a slice needs integers");
  const int64_t step = step_value.is_none() ? 1 : step_value.as_int();
  if (step == 0) throw TemplateError("a slice's step is zero");
  const auto n =
      object.is_string() ? object.text().length() : static_cast<int64_t>(object.items().size());
  const auto bound = [&](const Value& v, int64_t fallback) {
    if (v.is_none()) return fallback;
    if (!v.is_number()) throw TemplateError("a slice needs integers");
    int64_t i = v.as_int();
    if (i < 0) i = std::max<int64_t>(i + n, step > 0 ? 0 : -1);
    return std::min(i, step > 0 ? n : n - 1);
  };
  const int64_t from = bound(start, step > 0 ? 0 : n - 1), to = bound(stop, step > 0 ? n : -1);
  return step == 1 ? run_of(budget_, object, from, std::max(from, to))
                   : steps_of(budget_, object, from, to, std::clamp(step, -n - 1, n + 1));
}

void Interpreter::arguments(const Node& node, size_t first, Arguments* args) {
  for (size_t i = first; i < node.children.size(); ++i) {
    const Node& child = *node.children[i];
    if (child.kind == Kind::kNamed) {
      args->add(child.text, evaluate(*child.children[0]));
    } else {
      args->add(evaluate(child));
    }
  }
}

Value Interpreter::evaluate_call(const Node& node) {
  const Node& callee = *node.children[0];
  Arguments args(budget_);
  Value function;
  if (callee.kind == Kind::kAttribute && callee.flag) {  // a method is called without being made
    const Value object = evaluate(*callee.children[0]);
    const bool plain = !object.is_undefined() && !(object.is_dict() && object.dict().is_namespace);
    if (const Method method = plain ? find_method(object, callee.text) : nullptr) {
      arguments(node, 1, &args);
      return method(*this, object, args);
    }
    function = attribute(object, callee);
  } else {
    function = evaluate(callee);
  }
  if (function.is_undefined()) throw TemplateError(function.undefined_text());
  if (!function.is_callable())
    throw TemplateError(std::string("a ") + function.type_name() + " cannot be called");
  arguments(node, 1, &args);
  return function.callable().call(args);
}

Value Interpreter::attribute(const Value& object, const Node& node) {
  if (object.is_undefined()) throw TemplateError(object.undefined_text());
  // Python's getattr first: a dict's methods win over its keys, as in Jinja.
  if (node.flag && !(object.is_dict() && object.dict().is_namespace)) {
    Value method = bound_method(*this, object, node.text);
    if (!method.is_undefined()) return method;
  }
  if (object.is_dict()) {
    if (const Value* found = object.dict().find(std::string_view(node.text))) return *found;
  }
  if (object.is_loop()) {
    if (auto found = object.loop().attribute(node.text)) return *found;
  }
  return Value::undefined(Missing::kAttribute, node.text, object.type());
}

Value Interpreter::item(const Value& object, const Value& index, const Node& index_node) {
  if (object.is_undefined()) throw TemplateError(object.undefined_text());
  if (object.is_dict()) {
    if (const Value* found = object.dict().find(index)) return *found;
  } else if ((object.is_list() || object.is_string()) && (index.is_int() || index.is_bool())) {
    const auto n =
        object.is_string() ? object.text().length() : static_cast<int64_t>(object.items().size());
    const int64_t i = index.as_int() < 0 ? index.as_int() + n : index.as_int();
    if (i >= 0 && i < n) {
      return object.is_string() ? run_of(budget_, object, i, i + 1)
                                : object.items()[static_cast<size_t>(i)];
    }
  }
  if (index.is_string()) {
    if (object.is_loop()) {
      if (auto found = object.loop().attribute(index.str())) return *found;
    }
    if (may_be_method(index.str())) {
      Value method = bound_method(*this, object, index.str());
      if (!method.is_undefined()) return method;
    }
    if (index_node.kind == Kind::kString)
      return Value::undefined(Missing::kAttribute, index_node.text, object.type());
  }
  return Value::undefined("an item that is not there");
}

Value Interpreter::lookup(uint32_t symbol, const std::string& name) {
  for (size_t i = frames_.size() - 1;; i = frames_[i].outer) {
    const std::vector<Binding>& bindings = frames_[i].bindings;
    budget_.work(bindings.size() / 8);
    for (const Binding& binding : bindings) {
      if (binding.symbol == symbol) return binding.value;
    }
    if (i == 0) break;
  }
  std::optional<Value>& given = context_[symbol];
  if (!given) {
    Value function = global(*this, name);
    if (function.is_undefined()) return function;
    given = std::move(function);
  }
  return *given;
}

}  // namespace shoal::jinja
