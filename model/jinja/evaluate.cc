// Expressions.
#include <algorithm>
#include <cmath>

#include "model/jinja/interpreter.h"

namespace shoal::jinja {
namespace {

[[noreturn]] void type_error(const std::string& op, const Value& a, const Value& b) {
  throw TemplateError("'" + op + "' does not work on " + a.type_name() + " and " + b.type_name() +
                      (a.is_undefined()   ? " (" + a.undefined_name() + ")"
                       : b.is_undefined() ? " (" + b.undefined_name() + ")"
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
    int64_t result = 1;
    for (int64_t i = 0; i < b; ++i) {
      if (result == 0 || result == 1) {
        if (a == 0 || a == 1) return i == 0 ? a : result;
      }
      result = checked(Op::kMultiply, result, a);
    }
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

}  // namespace

Value Interpreter::evaluate(const Node& node) {
  const Depth depth(*this);
  if (++steps_ > limits_.max_steps) throw TemplateError("too many steps", node.line);
  try {
    switch (node.kind) {
      case Kind::kConstant:
        return node.value;
      case Kind::kName:
        return lookup(node.text);
      case Kind::kListLiteral:
      case Kind::kTupleLiteral:
      case Kind::kDictLiteral:
        return literal(node);
      case Kind::kAttribute:
        return attribute(evaluate(*node.children[0]), node.text, node.line);
      case Kind::kItem: {
        const Value object = evaluate(*node.children[0]);
        return item(object, evaluate(*node.children[1]));
      }
      case Kind::kSlice:
        return evaluate_slice(node);
      case Kind::kCall:
        return evaluate_call(node);
      case Kind::kFilter:
        return evaluate_filter(node);
      case Kind::kTest:
        return evaluate_test(node);
      case Kind::kNot:
        return !evaluate(*node.children[0]).truthy();
      case Kind::kNegate:
      case Kind::kPlus: {
        const Value value = evaluate(*node.children[0]);
        if (!value.is_number())
          throw TemplateError(std::string("a sign before ") + value.type_name());
        if (node.kind == Kind::kPlus) return value;
        return value.is_float() ? Value(-value.as_double())
                                : integer_arithmetic("-", 0, value.as_int());
      }
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

Value Interpreter::literal(const Node& node) {
  if (node.kind == Kind::kDictLiteral) {
    Dict dict;
    for (size_t i = 0; i + 1 < node.children.size(); i += 2) {
      const Value key = evaluate(*node.children[i]);
      if (key.is_list() || key.is_dict())
        throw TemplateError(std::string("a ") + key.type_name() + " cannot be a key");
      dict.set(key, evaluate(*node.children[i + 1]));
    }
    return Value::dict(std::move(dict));
  }
  Values items;
  for (const NodePtr& child : node.children) items.push_back(evaluate(*child));
  return Value::list(std::move(items), node.kind == Kind::kTupleLiteral);
}

Value Interpreter::evaluate_compare(const Node& node) {
  Value left = evaluate(*node.children[0]);
  for (size_t i = 0; i < node.words.size(); ++i) {
    Value right = evaluate(*node.children[i + 1]);
    const std::string& op = node.words[i];
    bool holds = false;
    if (op == "==")
      holds = equal(left, right);
    else if (op == "!=")
      holds = !equal(left, right);
    else if (op == "in")
      holds = contains(right, left);
    else if (op == "not in")
      holds = !contains(right, left);
    else if (op == "<")
      holds = compare(left, right) < 0;
    else if (op == "<=")
      holds = compare(left, right) <= 0;
    else if (op == ">")
      holds = compare(left, right) > 0;
    else
      holds = compare(left, right) >= 0;
    if (!holds) return false;
    left = std::move(right);
  }
  return true;
}

Value Interpreter::evaluate_binary(const Node& node) {
  const Value a = evaluate(*node.children[0]), b = evaluate(*node.children[1]);
  const std::string& op = node.text;
  if (op == "~") {
    std::string left = a.to_text(), right = b.to_text();
    check_size(left.size() + right.size());
    return left + right;
  }
  if (a.is_number() && b.is_number()) {
    return a.is_float() || b.is_float() ? float_arithmetic(op, a.as_double(), b.as_double())
                                        : integer_arithmetic(op, a.as_int(), b.as_int());
  }
  if (op == "+" && a.is_string() && b.is_string()) {
    check_size(a.str().size() + b.str().size());
    return a.str() + b.str();
  }
  if (op == "+" && a.is_list() && b.is_list() && a.list().is_tuple == b.list().is_tuple) {
    Values items = a.list().items;
    check_size((items.size() + b.list().items.size()) * sizeof(Value));
    items.insert(items.end(), b.list().items.begin(), b.list().items.end());
    return Value::list(std::move(items), a.list().is_tuple);
  }
  if (op == "*" && (b.is_int() || b.is_bool()) && (a.is_string() || a.is_list())) {
    const auto times = static_cast<uint64_t>(std::max<int64_t>(0, b.as_int()));
    const uint64_t unit = a.is_string() ? a.str().size() : a.list().items.size() * sizeof(Value);
    if (unit > 0 && times > limits_.max_output_bytes / unit)
      throw TemplateError("a repetition grows beyond its limit");
    if (a.is_string()) {
      std::string out;
      for (uint64_t i = 0; unit > 0 && i < times; ++i) out += a.str();
      return out;
    }
    Values items;
    for (uint64_t i = 0; unit > 0 && i < times; ++i)
      items.insert(items.end(), a.list().items.begin(), a.list().items.end());
    return Value::list(std::move(items), a.list().is_tuple);
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
  Values items;
  if (object.is_undefined()) throw TemplateError(object.undefined_name());
  if (!object.is_string() && !object.is_list())
    throw TemplateError(std::string("cannot slice ") + object.type_name());
  items = iterate(object);
  const auto n = static_cast<int64_t>(items.size());
  const int64_t step = step_value.is_none() ? 1 : step_value.as_int();
  if (step == 0) throw TemplateError("a slice's step is zero");
  const auto bound = [&](const Value& v, int64_t fallback) {
    if (v.is_none()) return fallback;
    if (!v.is_number()) throw TemplateError("a slice needs integers");
    int64_t i = v.as_int();
    if (i < 0) i = std::max<int64_t>(i + n, step > 0 ? 0 : -1);
    return std::min(i, step > 0 ? n : n - 1);
  };
  const int64_t from = bound(start, step > 0 ? 0 : n - 1), to = bound(stop, step > 0 ? n : -1);
  Values out;
  if (step > 0) {
    for (int64_t i = from; i < to; i += std::min(step, n))
      out.push_back(items[static_cast<size_t>(i)]);
  } else {
    for (int64_t i = from; i > to; i += std::max(step, -n - 1))
      out.push_back(items[static_cast<size_t>(i)]);
  }
  if (!object.is_string()) return Value::list(std::move(out), object.list().is_tuple);
  std::string text;
  for (const Value& c : out) text += c.str();
  return text;
}

Arguments Interpreter::arguments(const Node& node, size_t first) {
  Arguments args;
  for (size_t i = first; i < node.children.size(); ++i) {
    const Node& child = *node.children[i];
    if (child.kind == Kind::kNamed) {
      args.named.emplace_back(child.text, evaluate(*child.children[0]));
    } else {
      args.positional.push_back(evaluate(child));
    }
  }
  return args;
}

Value Interpreter::evaluate_call(const Node& node) {
  const Value function = evaluate(*node.children[0]);
  if (function.is_undefined()) throw TemplateError(function.undefined_name());
  if (!function.is_callable())
    throw TemplateError(std::string("a ") + function.type_name() + " cannot be called");
  return function.callable().call(arguments(node, 1));
}

Value Interpreter::evaluate_filter(const Node& node) {
  // kConstant with the placeholder's text: the input of a filter block.
  const Node& input = *node.children[0];
  const bool is_block = input.kind == Kind::kConstant && input.flag;
  const Value value = is_block ? lookup("\x01") : evaluate(input);
  return apply_filter(*this, node.text, value, arguments(node, 1));
}

Value Interpreter::evaluate_test(const Node& node) {
  const Value value = evaluate(*node.children[0]);
  return apply_test(node.text, value, arguments(node, 1)) != node.flag;
}

Value Interpreter::attribute(const Value& object, const std::string& name, int line) {
  (void)line;
  if (object.is_undefined()) throw TemplateError(object.undefined_name());
  // Python's getattr first: a dict's methods win over its keys, as in Jinja.
  if (!(object.is_dict() && object.dict().is_namespace)) {
    const Value method = bound_method(*this, object, name);
    if (!method.is_undefined()) return method;
  }
  if (object.is_dict()) {
    if (const Value* found = object.dict().find(std::string_view(name))) return *found;
  }
  return Value::undefined("'" + std::string(object.type_name()) + " object' has no attribute '" +
                          name + "'");
}

Value Interpreter::item(const Value& object, const Value& index) {
  if (object.is_undefined()) throw TemplateError(object.undefined_name());
  if (object.is_dict()) {
    if (const Value* found = object.dict().find(index)) return *found;
  } else if ((object.is_list() || object.is_string()) && (index.is_int() || index.is_bool())) {
    const Values items = object.is_list() ? Values() : iterate(object);
    const Values& from = object.is_list() ? object.list().items : items;
    const auto n = static_cast<int64_t>(from.size());
    const int64_t i = index.as_int() < 0 ? index.as_int() + n : index.as_int();
    if (i >= 0 && i < n) return from[static_cast<size_t>(i)];
  }
  if (index.is_string()) {
    const Value method = bound_method(*this, object, index.str());
    if (!method.is_undefined()) return method;
  }
  return Value::undefined("'" + std::string(object.type_name()) + " object' has no item " +
                          index.to_repr());
}

Value Interpreter::lookup(const std::string& name) {
  for (size_t i = frames_.size(); i-- > 0;) {
    const auto it = frames_[i].find(name);
    if (it != frames_[i].end()) return it->second;
  }
  return global(name);
}

}  // namespace shoal::jinja
