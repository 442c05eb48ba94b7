#include "model/jinja/interpreter.h"

#include <algorithm>

#include <nlohmann/json.hpp>

namespace shoal::jinja {

// A frame inside frame `outer`, while it lives.
class Interpreter::FrameGuard {
 public:
  FrameGuard(Interpreter& self, size_t outer) : self_(self) {
    self_.budget_.hold(sizeof(Frame));
    Frame frame;
    frame.outer = outer;
    frame.serial = self_.next_serial_++;
    self_.frames_.push_back(std::move(frame));
  }
  explicit FrameGuard(Interpreter& self) : FrameGuard(self, self.frames_.size() - 1) {}
  ~FrameGuard() {
    self_.clear_frame();
    self_.frames_.pop_back();
    self_.budget_.release(sizeof(Frame));
  }
  FrameGuard(const FrameGuard&) = delete;
  FrameGuard& operator=(const FrameGuard&) = delete;

 private:
  Interpreter& self_;
};

// Output goes to a string of its own while it lives.
class Interpreter::OutputGuard {
 public:
  explicit OutputGuard(Interpreter& self) : self_(self), outside_(self.budget_) {
    std::swap(self_.output_, outside_);
  }
  ~OutputGuard() { std::swap(self_.output_, outside_); }
  OutputGuard(const OutputGuard&) = delete;
  OutputGuard& operator=(const OutputGuard&) = delete;
  Value take() { return self_.output_.take(); }

 private:
  Interpreter& self_;
  TextBuilder outside_;
};

Interpreter::Interpreter(const Program& program, const TemplateLimits& limits,
                         RenderControl& control, std::time_t now)
    : budget_(limits, control), program_(program), now_(now), output_(budget_) {}

Interpreter::~Interpreter() {
  if (!frames_.empty()) clear_frame();
}

std::string Interpreter::run(const nlohmann::ordered_json& context) {
  const Held held(budget_,
                  program_.symbols.size() * sizeof(context_[0]) + program_.strings * sizeof(Value));
  context_.resize(program_.symbols.size());
  strings_.resize(program_.strings);
  frames_.assign(1, {});
  budget_.work(program_.symbols.size() + program_.strings + context.size());
  for (auto it = context.begin(); it != context.end(); ++it) {
    const auto symbol = program_.symbols.find(it.key());
    if (symbol != program_.symbols.end())
      context_[symbol->second] = Value::from_json(budget_, it.value());
  }
  (void)execute(*program_.tree);
  return std::string(output_.view());
}

void Interpreter::bind(uint32_t symbol, Value value) {
  std::vector<Binding>& bindings = frames_.back().bindings;
  budget_.work(bindings.size() / 8);
  for (Binding& binding : bindings) {
    if (binding.symbol != symbol) continue;
    binding.value = std::move(value);
    return;
  }
  budget_.hold(sizeof(Binding));
  bindings.push_back({symbol, std::move(value)});
}

void Interpreter::clear_frame() {
  std::vector<Binding>& bindings = frames_.back().bindings;
  budget_.release(bindings.size() * sizeof(Binding));
  bindings.clear();
}

void Interpreter::write(const Value& value) { print(value, &output_); }

Interpreter::Flow Interpreter::execute(const Node& node) {
  const Depth depth(*this);
  budget_.work(1);
  switch (node.kind) {
    case Kind::kBlock:
      return execute_block(node);
    case Kind::kText:
      output_.append(node.text);
      break;
    case Kind::kOutput:
      write(evaluate(*node.children[0]));
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
      bind(node.symbols.back(), make_macro(node, 1, *node.children[0], node.text));
      break;
    case Kind::kCallBlock:
      execute_call_block(node);
      break;
    case Kind::kFilterBlock:
      write(filtered(*node.children[1], capture(*node.children[0])));
      break;
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

// To the names of a loop or `set`.
void Interpreter::assign(const Node& node, const Value& value) {
  if (node.symbols.size() == 1) return bind(node.symbols[0], value);
  const Value list = iterate(budget_, value);
  const std::span<const Value> parts = list.items();
  if (parts.size() != node.symbols.size()) {
    throw TemplateError("cannot unpack " + std::to_string(parts.size()) + " values into " +
                        std::to_string(node.symbols.size()) + " variables");
  }
  for (size_t i = 0; i < parts.size(); ++i) bind(node.symbols[i], parts[i]);
}

// What a loop's `if` lets through.
Value Interpreter::kept_items(const Node& node, const Value& items) {
  ListBuilder kept(budget_);
  const FrameGuard frame(*this);
  for (const Value& value : items.items()) {
    assign(node, value);
    if (evaluate(*node.children[1]).truthy()) kept.add(value);
  }
  return kept.take();
}

Interpreter::Flow Interpreter::execute_for(const Node& node) {
  Value items = iterate(budget_, evaluate(*node.children[0]));
  if (node.flag) throw TemplateError("recursive loops are not supported", node.line);
  if (node.children[1]) items = kept_items(node, items);
  const size_t n = items.items().size();
  if (n == 0) return node.children[3] ? execute(*node.children[3]) : Flow::kNext;
  const FrameGuard guard(*this);
  const auto loop = make_object<Loop>(budget_, 0, items);
  for (size_t i = 0; i < n; ++i) {
    clear_frame();
    loop->index = i;
    bind(kLoopSymbol, Value::loop(loop));
    assign(node, items.items()[i]);
    if (execute(*node.children[2]) == Flow::kBreak) break;
  }
  return Flow::kNext;
}

void Interpreter::execute_set(const Node& node) {
  const Value value = evaluate(*node.children[0]);
  if (!node.flag) return assign(node, value);
  const Value target = lookup(node.symbols[0], node.words[0]);
  if (!target.is_dict() || !target.dict().is_namespace) {
    throw TemplateError("cannot assign attribute on non-namespace object", node.line);
  }
  target.dict().set(node.words[1], value);
}

Value Interpreter::filtered(const Node& filters, Value written) {
  std::swap(block_text_, written);
  Value value = evaluate(filters);
  std::swap(block_text_, written);
  return value;
}

void Interpreter::execute_set_block(const Node& node) {
  Value value = capture(*node.children[0]);
  if (node.children[1]) value = filtered(*node.children[1], std::move(value));
  bind(node.symbols[0], std::move(value));
}

void Interpreter::execute_with(const Node& node) {
  ListBuilder values(budget_);
  for (size_t i = 0; i < node.words.size(); ++i) values.add(evaluate(*node.children[i + 1]));
  const Value list = values.take();
  const FrameGuard frame(*this);
  for (size_t i = 0; i < node.words.size(); ++i) bind(node.symbols[i], list.items()[i]);
  (void)execute(*node.children[0]);
}

Value Interpreter::capture(const Node& body) {
  OutputGuard output(*this);
  const FrameGuard frame(*this);
  (void)execute(body);
  return output.take();
}

// A macro sees the template's top level and the caller's context, not the loops it is called from.
// A call block's body belongs to where it is written and sees everything there.
Value Interpreter::make_macro(const Node& node, size_t first_default, const Node& body,
                              const std::string& name) {
  const size_t home = node.kind == Kind::kCallBlock ? frames_.size() - 1 : 0;
  const uint64_t serial = frames_[home].serial;
  return Value::callable(
      budget_, name,
      [this, &node, &body, &name, first_default, home, serial](const Arguments& args) {
        return call_macro(node, first_default, body, name, home, serial, args);
      });
}

void Interpreter::bind_parameters(const Node& node, size_t first_default, const std::string& name,
                                  const Arguments& args, std::vector<Binding>* out) {
  const size_t count = node.words.size(), defaults = node.children.size() - first_default;
  if (args.positional.size() > count)
    throw TemplateError("macro '" + name + "' takes at most " + std::to_string(count) +
                        " arguments");
  budget_.work(count + args.named.size() * (1 + count / 8));
  for (size_t i = 0; i < count; ++i) {
    if (const Value* given = args.find(i, node.words[i])) {
      out->push_back({node.symbols[i], *given});
    } else if (i >= count - defaults) {
      out->push_back(
          {node.symbols[i], evaluate(*node.children[first_default + i - (count - defaults)])});
    } else {
      out->push_back({node.symbols[i], Value::undefined(Missing::kParameter, node.words[i])});
    }
  }
  for (const auto& [key, value] : args.named) {
    if (std::find(node.words.begin(), node.words.end(), key) != node.words.end()) continue;
    if (key != "caller")
      throw TemplateError("macro '" + name + "' takes no argument '" + excerpt(key) + "'");
    out->push_back({kCallerSymbol, value});
  }
}

Value Interpreter::call_macro(const Node& node, size_t first_default, const Node& body,
                              const std::string& name, size_t home, uint64_t home_serial,
                              const Arguments& args) {
  const Depth depth(*this);
  std::vector<Binding> parameters;
  const Held held(budget_, (node.words.size() + 1) * sizeof(Binding));
  bind_parameters(node, first_default, name, args, &parameters);
  // A caller() that was kept and is called after its block has ended sees the top level only.
  const bool home_lives = home < frames_.size() && frames_[home].serial == home_serial;
  OutputGuard output(*this);
  const FrameGuard frame(*this, home_lives ? home : 0);
  for (Binding& parameter : parameters) bind(parameter.symbol, std::move(parameter.value));
  (void)execute(body);
  return output.take();
}

void Interpreter::execute_call_block(const Node& node) {
  const Node& call = *node.children[0];
  const Value function = evaluate(*call.children[0]);
  if (!function.is_callable()) throw TemplateError("'call' needs a macro", node.line);
  Arguments args(budget_);
  arguments(call, 1, &args);
  static const std::string kCaller = "caller";
  args.add(kCaller, make_macro(node, 2, *node.children[1], kCaller));
  write(function.callable().call(args));
}

}  // namespace shoal::jinja
