#include "model/jinja/interpreter.h"

#include <algorithm>
#include <iterator>

namespace shoal::jinja {
namespace {

bool reaches(const Value& value, const Value& target) {
  if (value.is_dict()) {
    if (&value.dict() == &target.dict()) return true;
    return std::any_of(value.dict().items.begin(), value.dict().items.end(),
                       [&](const auto& item) { return reaches(item.second, target); });
  }
  if (!value.is_list()) return false;
  return std::any_of(value.list().items.begin(), value.list().items.end(),
                     [&](const Value& item) { return reaches(item, target); });
}

}  // namespace

class Interpreter::FrameGuard {
 public:
  explicit FrameGuard(Interpreter& self) : self_(self) { self_.frames_.emplace_back(); }
  ~FrameGuard() { self_.frames_.pop_back(); }
  FrameGuard(const FrameGuard&) = delete;
  FrameGuard& operator=(const FrameGuard&) = delete;

 private:
  Interpreter& self_;
};

std::string Interpreter::run(const Node& program, const Value& context) {
  frames_.assign(2, {});  // what the caller gave, and the template's own top level
  for (const auto& [key, value] : context.dict().items) frames_[0][key.to_text()] = value;
  (void)execute(program);
  return std::move(output_);
}

void Interpreter::check_size(uint64_t bytes) const {
  if (bytes > limits_.max_output_bytes) throw TemplateError("the output grows beyond its limit");
}

std::string Interpreter::bounded(std::string text) const {
  check_size(text.size());
  return text;
}

void Interpreter::write(const std::string& text) {
  check_size(output_.size() + text.size());
  output_ += text;
}

Interpreter::Flow Interpreter::execute(const Node& node) {
  const Depth depth(*this);
  if (++steps_ > limits_.max_steps) throw TemplateError("too many steps", node.line);
  switch (node.kind) {
    case Kind::kBlock:
      return execute_block(node);
    case Kind::kText:
      write(node.text);
      break;
    case Kind::kOutput:
      write(evaluate(*node.children[0]).to_text());
      break;
    case Kind::kFor:
      return execute_for(node);
    case Kind::kIf:
      return execute_if(node);
    case Kind::kSet:
      execute_set(node);
      break;
    case Kind::kSetBlock:
      execute_set_block(node);
      break;
    case Kind::kMacro:
      frames_.back()[node.text] = make_macro(node, 1, *node.children[0], node.text);
      break;
    case Kind::kCallBlock:
      execute_call_block(node);
      break;
    case Kind::kFilterBlock: {
      std::string body = capture(*node.children[0]);
      frames_.back()["\x01"] = Value(std::move(body));
      write(evaluate(*node.children[1]).to_text());
      break;
    }
    case Kind::kWith:
      execute_with(node);
      break;
    case Kind::kBreak:
      return Flow::kBreak;
    case Kind::kContinue:
      return Flow::kContinue;
    default:
      throw TemplateError("an expression stands where a statement belongs", node.line);
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::execute_block(const Node& node) {
  for (const NodePtr& child : node.children) {
    try {
      const Flow flow = execute(*child);
      if (flow != Flow::kNext) return flow;
    } catch (TemplateError& error) {
      if (error.line == 0) error.line = child->line;
      throw;
    }
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::execute_if(const Node& node) {
  const size_t pairs = (node.children.size() - 1) / 2;
  for (size_t i = 0; i < pairs; ++i) {
    if (evaluate(*node.children[2 * i]).truthy()) return execute(*node.children[2 * i + 1]);
  }
  const NodePtr& otherwise = node.children.back();
  return otherwise ? execute(*otherwise) : Flow::kNext;
}

void Interpreter::assign(const std::vector<std::string>& names, const Value& value) {
  if (names.size() == 1) {
    frames_.back()[names[0]] = value;
    return;
  }
  const Values parts = iterate(value);
  if (parts.size() != names.size()) {
    throw TemplateError("cannot unpack " + std::to_string(parts.size()) + " values into " +
                        std::to_string(names.size()) + " variables");
  }
  for (size_t i = 0; i < names.size(); ++i) frames_.back()[names[i]] = parts[i];
}

Value Interpreter::loop_variable(const Values& items, size_t i, const std::vector<Value>& changed) {
  const auto n = static_cast<int64_t>(items.size());
  const auto index = static_cast<int64_t>(i);
  Dict loop;
  loop.set("index", index + 1);
  loop.set("index0", index);
  loop.set("revindex", n - index);
  loop.set("revindex0", n - index - 1);
  loop.set("first", Value(i == 0));
  loop.set("last", Value(index + 1 == n));
  loop.set("length", n);
  int64_t nesting = 1;
  for (const Frame& frame : frames_) nesting += frame.contains("loop");
  loop.set("depth", nesting);
  loop.set("depth0", nesting - 1);
  loop.set("previtem", i > 0 ? items[i - 1] : Value::undefined("there is no previous item"));
  loop.set("nextitem",
           i + 1 < items.size() ? items[i + 1] : Value::undefined("there is no next item"));
  loop.set("cycle", Value::callable("loop.cycle", [i](const Arguments& args) {
             if (args.positional.empty()) throw TemplateError("loop.cycle: no items");
             return args.positional[i % args.positional.size()];
           }));
  loop.set("changed", Value::callable("loop.changed", [state = changed[0]](const Arguments& args) {
             Value now = Value::list(args.positional, true);
             Values& last = state.list().items;
             if (!last.empty() && equal(last[0], now)) return Value(false);
             last.assign(1, now);
             return Value(true);
           }));
  return Value::dict(std::move(loop));
}

Interpreter::Flow Interpreter::execute_for(const Node& node) {
  Values items = iterate(evaluate(*node.children[0]));
  if (node.flag) throw TemplateError("recursive loops are not supported", node.line);
  if (node.children[1]) {
    Values kept;
    const FrameGuard frame(*this);
    for (Value& value : items) {
      assign(node.words, value);
      if (evaluate(*node.children[1]).truthy()) kept.push_back(std::move(value));
    }
    items = std::move(kept);
  }
  if (items.empty()) return node.children[3] ? execute(*node.children[3]) : Flow::kNext;
  const std::vector<Value> changed{Value::list({})};
  for (size_t i = 0; i < items.size(); ++i) {
    const FrameGuard frame(*this);
    frames_.back()["loop"] = loop_variable(items, i, changed);
    assign(node.words, items[i]);
    if (execute(*node.children[2]) == Flow::kBreak) break;
  }
  return Flow::kNext;
}

void Interpreter::execute_set(const Node& node) {
  const Value value = evaluate(*node.children[0]);
  if (!node.flag) return assign(node.words, value);
  const Value target = lookup(node.words[0]);
  if (!target.is_dict() || !target.dict().is_namespace) {
    throw TemplateError("cannot assign attribute on non-namespace object", node.line);
  }
  // A namespace that reaches itself would never be freed.
  if (reaches(value, target)) throw TemplateError("a namespace cannot hold itself", node.line);
  target.dict().set(node.words[1], value);
}

void Interpreter::execute_set_block(const Node& node) {
  Value value(capture(*node.children[0]));
  if (node.children[1]) {
    frames_.back()["\x01"] = value;
    value = evaluate(*node.children[1]);
  }
  frames_.back()[node.words[0]] = std::move(value);
}

void Interpreter::execute_with(const Node& node) {
  Values values;
  for (size_t i = 0; i < node.words.size(); ++i) values.push_back(evaluate(*node.children[i + 1]));
  const FrameGuard frame(*this);
  for (size_t i = 0; i < node.words.size(); ++i) frames_.back()[node.words[i]] = values[i];
  (void)execute(*node.children[0]);
}

std::string Interpreter::capture(const Node& body) {
  std::string saved = std::exchange(output_, "");
  try {
    const FrameGuard frame(*this);
    (void)execute(body);
  } catch (...) {
    output_ = std::move(saved);
    throw;
  }
  return std::exchange(output_, std::move(saved));
}

// A macro sees the template's top level and the caller's context, not the loops it is called from.
Value Interpreter::make_macro(const Node& node, size_t first_default, const Node& body,
                              const std::string& name) {
  const bool is_caller = node.kind == Kind::kCallBlock;
  return Value::callable(name, [this, &node, &body, first_default, is_caller,
                                name](const Arguments& args) {
    const Depth depth(*this);
    const size_t count = node.words.size(), defaults = node.children.size() - first_default;
    if (args.positional.size() > count)
      throw TemplateError("macro '" + name + "' takes at most " + std::to_string(count) +
                          " arguments");
    Frame frame;
    for (size_t i = 0; i < count; ++i) {
      if (const Value* given = args.find(i, node.words[i])) {
        frame[node.words[i]] = *given;
      } else if (i >= count - defaults) {
        frame[node.words[i]] = evaluate(*node.children[first_default + i - (count - defaults)]);
      } else {
        frame[node.words[i]] =
            Value::undefined("parameter '" + node.words[i] + "' was not provided");
      }
    }
    for (const auto& [key, value] : args.named) {
      const bool known = std::find(node.words.begin(), node.words.end(), key) != node.words.end();
      if (!known && key != "caller")
        throw TemplateError("macro '" + name + "' takes no argument '" + key + "'");
      frame[key] = value;
    }
    // A caller's body belongs to where it is written and sees everything there.
    std::vector<Frame> hidden;
    if (!is_caller) {
      hidden.assign(std::make_move_iterator(frames_.begin() + 2),
                    std::make_move_iterator(frames_.end()));
      frames_.resize(2);
    }
    frames_.push_back(std::move(frame));
    std::string saved = std::exchange(output_, "");
    const auto restore = [&] {
      frames_.pop_back();
      frames_.insert(frames_.end(), std::make_move_iterator(hidden.begin()),
                     std::make_move_iterator(hidden.end()));
    };
    try {
      (void)execute(body);
    } catch (...) {
      output_ = std::move(saved);
      restore();
      throw;
    }
    restore();
    return Value(std::exchange(output_, std::move(saved)));
  });
}

void Interpreter::execute_call_block(const Node& node) {
  const Node& call = *node.children[0];
  const Value function = evaluate(*call.children[0]);
  if (!function.is_callable()) throw TemplateError("'call' needs a macro", node.line);
  Arguments args = arguments(call, 1);
  args.named.emplace_back("caller", make_macro(node, 2, *node.children[1], "caller"));
  write(function.callable().call(args).to_text());
}

}  // namespace shoal::jinja
