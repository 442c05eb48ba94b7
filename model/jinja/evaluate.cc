// Expressions.
#include <algorithm>

#include "model/jinja/arithmetic.h"
#include "model/jinja/interpreter.h"
#include "model/jinja/text.h"

namespace shoal::jinja {
namespace {

// Items or characters [from, to); copies nothing.
Value run_of(Budget& budget, const Value& object, int64_t from, int64_t to) {
  if (object.is_string()) return characters(budget, object, from, to);
  return sublist(object, static_cast<size_t>(from), static_cast<size_t>(to - from));
}

// Every step-th from `from` to before `to`, downwards if step < 0.
Value steps_of(Budget& budget, const Value& object, int64_t from, int64_t to, int64_t step) {
  const Value all = iterate(budget, object);
  ListBuilder items(budget);
  TextBuilder text(budget);
  const int64_t n = length_of(object), by = std::clamp(step, -n - 1, n + 1);
  for (int64_t i = from; step > 0 ? i < to : i > to; i += by) {
    const Value& value = all.items()[static_cast<size_t>(i)];
    if (object.is_string()) {
      text.append(value.str());
    } else {
      items.add(value);
    }
  }
  if (object.is_string()) return text.take(object.is_markup());
  if (object.list().kind == Series::kRange) {
    const auto& range = static_cast<const Range&>(object.list());
    int64_t wide = 0;
    if (__builtin_mul_overflow(range.step, step, &wide))
      throw TemplateError("an integer grows beyond 64 bits");
    return items.take_range(range.start + from * range.step, range.start + to * range.step, wide);
  }
  return items.take(object.list().tuple() ? Series::kTuple : Series::kList);
}

// Does Python find items in it by number?
bool is_indexable(const Value& v) {
  return v.is_string() || v.is_list() || (v.is_series() && v.list().kind == Series::kRange);
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
        return attribute_of(evaluate(*node.children[0]), node);
      case Kind::kItem: {
        const Value object = evaluate(*node.children[0]);
        return item(object, evaluate(*node.children[1]));
      }
      case Kind::kSlice:
        return evaluate_slice(node);
      case Kind::kCall:
        return evaluate_call(node);
      case Kind::kFilter: {
        const Value value = evaluate(*node.children[0]);
        Arguments args(budget_);
        arguments(node, 1, &args);
        return apply_filter(*this, node.text, value, args);
      }
      case Kind::kTest: {
        const Value value = evaluate(*node.children[0]);
        Arguments args(budget_);
        arguments(node, 1, &args);
        return apply_test(*this, node.text, value, args) != node.flag;
      }
      case Kind::kNot:
        return !evaluate(*node.children[0]).truthy();
      case Kind::kNegate:
      case Kind::kPlus: {
        const Value value = evaluate(*node.children[0]);
        if (value.is_undefined()) throw TemplateError(value.undefined_text());
        return node.kind == Kind::kPlus ? positive(value) : negative(value);
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
    const auto dict = make_object<Dict>(budget_, 0);
    for (size_t i = 0; i + 1 < node.children.size(); i += 2) {
      const Value key = evaluate(*node.children[i]);
      if (!hashable(key))
        throw TemplateError(std::string("a ") + key.type_name() + " cannot be a key");
      dict->set(key, evaluate(*node.children[i + 1]));
    }
    return Value::dict(dict);
  }
  ListBuilder items(budget_, node.children.size());
  for (const NodePtr& child : node.children) items.add(evaluate(*child));
  return items.take(node.kind == Kind::kTupleLiteral ? Series::kTuple : Series::kList);
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
  if (node.text == "~") return concatenate_text(budget_, to_text(budget_, a), to_text(budget_, b));
  if (a.is_undefined()) throw TemplateError(a.undefined_text());
  return binary(budget_, node.text, a, b);
}

Value Interpreter::evaluate_slice(const Node& node) {
  const Value object = evaluate(*node.children[0]);
  const auto part = [&](size_t i) {
    return node.children[i] ? evaluate(*node.children[i]) : Value();
  };
  const Value start = part(1), stop = part(2), step_value = part(3);
  if (object.is_undefined()) throw TemplateError(object.undefined_text());
  const auto usable = [](const Value& v) { return v.is_none() || v.is_int() || v.is_bool(); };
  if (!is_indexable(object))
    throw TemplateError(std::string("a '") + object.type_name() + "' cannot be sliced");
  if (!usable(start) || !usable(stop) || !usable(step_value))
    throw TemplateError("a slice needs integers");
  const int64_t step = step_value.is_none() ? 1 : step_value.as_int();
  if (step == 0) throw TemplateError("a slice's step is zero");
  const int64_t n = length_of(object);
  const auto bound = [&](const Value& v, int64_t fallback) {
    if (v.is_none()) return fallback;
    int64_t i = v.as_int();
    if (i < 0) i = std::max<int64_t>(i + n, step > 0 ? 0 : -1);
    return std::min(i, step > 0 ? n : n - 1);
  };
  const int64_t from = bound(start, step > 0 ? 0 : n - 1), to = bound(stop, step > 0 ? n : -1);
  if (step == 1 && !(object.is_series() && object.list().kind == Series::kRange))
    return run_of(budget_, object, from, std::max(from, to));
  return steps_of(budget_, object, from, to, step);
}

void Interpreter::arguments(const Node& node, size_t first, Arguments* args) {
  for (size_t i = first; i < node.children.size(); ++i) {
    const Node& child = *node.children[i];
    if (child.kind == Kind::kNamed) {
      args->add(child.text, evaluate(*child.children[0]));
    } else if (child.kind == Kind::kUnpackItems) {
      args->unpack_items(evaluate(*child.children[0]));
    } else if (child.kind == Kind::kUnpackNames) {
      args->unpack_names(evaluate(*child.children[0]));
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
    if (const Function<Method>* method = find_method(object, callee.text)) {
      arguments(node, 1, &args);
      return call_method(*this, *method, callee.text, object, args);
    }
    function = attribute_of(object, callee);
  } else {
    function = evaluate(callee);
  }
  arguments(node, 1, &args);
  return call(function, args);
}

Value Interpreter::call(const Value& function, const Arguments& args) {
  if (function.is_undefined()) throw TemplateError(function.undefined_text());
  if (function.is_loop() && function.loop().again) return function.loop().again(args);
  if (!function.is_callable())
    throw TemplateError(std::string("a ") + function.type_name() + " cannot be called");
  return function.callable().call(args);
}

// For a name in the template: known whether a dict could have such an attribute.
Value Interpreter::attribute_of(const Value& object, const Node& node) {
  if (object.is_dict() && !node.flag) {
    if (const Value* found = object.dict().find(std::string_view(node.text))) return *found;
    return Value::undefined(Missing::kAttribute, node.text, object.type());
  }
  if (auto found = python_attribute(*this, object, node.text)) return *found;
  if (object.is_undefined()) throw TemplateError(object.undefined_text());
  if (object.is_dict()) {
    if (const Value* found = object.dict().find(std::string_view(node.text))) return *found;
  }
  return Value::undefined(Missing::kAttribute, node.text, object.type());
}

Value Interpreter::attribute(const Value& object, std::string_view name) {
  if (auto found = python_attribute(*this, object, name)) return *found;
  if (object.is_undefined()) throw TemplateError(object.undefined_text());
  if (object.is_dict()) {
    if (const Value* found = object.dict().find(name)) return *found;
  }
  return Value::undefined(budget_, std::string("'") + object.type_name() +
                                       " object' has no attribute '" + excerpt(name) + "'");
}

Value Interpreter::item(const Value& object, const Value& index) {
  if (object.is_undefined()) throw TemplateError(object.undefined_text());
  if (object.is_dict()) {
    if (hashable(index)) {
      if (const Value* found = object.dict().find(index)) return *found;
    }
  } else if (is_indexable(object) && (index.is_int() || index.is_bool())) {
    const int64_t n = length_of(object);
    const int64_t i = index.as_int() < 0 ? index.as_int() + n : index.as_int();
    if (i >= 0 && i < n) {
      return object.is_string() ? run_of(budget_, object, i, i + 1)
                                : object.items()[static_cast<size_t>(i)];
    }
  }
  if (!index.is_string()) return Value::undefined("an item that is not there");
  if (!object.is_dict() || may_be_attribute(index.str())) {
    if (auto found = python_attribute(*this, object, index.str())) return *found;
  }
  return Value::undefined(budget_, std::string("'") + object.type_name() +
                                       " object' has no attribute '" + excerpt(index.str()) + "'");
}

Value Interpreter::lookup(uint32_t symbol, const std::string& name) {
  for (const Frame* frame = frame_.get(); frame != nullptr; frame = frame->outer.get()) {
    budget_.work(frame->bindings.size() / 8);
    for (const Binding& binding : frame->bindings) {
      if (binding.symbol == symbol) return binding.value;
    }
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
