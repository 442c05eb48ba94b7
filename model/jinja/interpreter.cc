#include "model/jinja/interpreter.h"

#include <algorithm>

#include <nlohmann/json.hpp>

namespace shoal::jinja {

void Interpreter::Frame::clear() {
  forget_bindings();
  outer = Ref<Frame>();
}

void Interpreter::Frame::forget_bindings() {
  held.set(0);
  const std::vector<Binding> gone = std::exchange(bindings, {});  // freeing may come back here
}

// A frame inside `outer`, while it lives.
class Interpreter::FrameGuard {
 public:
  FrameGuard(Interpreter& self, const Ref<Frame>& outer) : self_(self), before_(self.frame_) {
    self_.frame_ = make_object<Frame>(self_.budget_, 0, outer);
  }
  explicit FrameGuard(Interpreter& self) : FrameGuard(self, self.frame_) {}
  ~FrameGuard() { self_.frame_ = before_; }
  FrameGuard(const FrameGuard&) = delete;
  FrameGuard& operator=(const FrameGuard&) = delete;

 private:
  Interpreter& self_;
  const Ref<Frame> before_;
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

Interpreter::~Interpreter() = default;

std::string Interpreter::run(const nlohmann::ordered_json& context) {
  const Held held(budget_,
                  program_.symbols.size() * sizeof(context_[0]) + program_.strings * sizeof(Value));
  context_.resize(program_.symbols.size());
  strings_.resize(program_.strings);
  top_ = frame_ = make_object<Frame>(budget_, 0, Ref<Frame>());
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
  std::vector<Binding>& bindings = frame_->bindings;
  budget_.work(bindings.size() / 8);
  for (Binding& binding : bindings) {
    if (binding.symbol != symbol) continue;
    std::swap(binding.value, value);  // the old one goes when the new one stands
    return;
  }
  frame_->held.add(sizeof(Binding));
  bindings.push_back({symbol, std::move(value)});
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
      assign(*node.children[1], evaluate(*node.children[0]));
      break;
    case Kind::kSetBlock:
      return execute_set_block(node);
    case Kind::kMacro:
      bind(node.symbols.back(), make_macro(node, 1, *node.children[0], node.text));
      break;
    case Kind::kCallBlock:
      execute_call_block(node);
      break;
    case Kind::kFilterBlock:
      return execute_filter_block(node);
    case Kind::kWith:
      return execute_with(node);
    case Kind::kNamedBlock:
      if (node.flag)
        throw TemplateError("the required block '" + node.text + "' is not there", node.line);
      return execute_scoped(*node.children[0], top_);
    case Kind::kGeneration:
      return execute_scoped(*node.children[0], frame_);
    case Kind::kNeedsLoader:
      throw TemplateError("'" + node.text + "' needs other templates; this server loads none",
                          node.line);
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

Interpreter::Flow Interpreter::execute_scoped(const Node& body, const Ref<Frame>& outer) {
  const FrameGuard frame(*this, outer);
  return execute(body);
}

Interpreter::Flow Interpreter::execute_if(const Node& node) {
  const size_t pairs = (node.children.size() - 1) / 2;
  for (size_t i = 0; i < pairs; ++i) {
    if (evaluate(*node.children[2 * i]).truthy()) return execute(*node.children[2 * i + 1]);
  }
  const NodePtr& otherwise = node.children.back();
  return otherwise ? execute(*otherwise) : Flow::kNext;
}

void Interpreter::assign(const Node& target, const Value& value) {
  const Depth depth(*this);
  if (target.kind == Kind::kTarget) return bind(target.symbols[0], value);
  if (target.kind == Kind::kNamespaceTarget) {
    const Value object = lookup(target.symbols[0], target.words[0]);
    if (!object.is_namespace())
      throw TemplateError("cannot assign attribute on non-namespace object", target.line);
    return object.dict().set(target.words[1], value);
  }
  const Value list = iterate(budget_, value);
  const std::span<const Value> parts = list.items();
  if (parts.size() != target.children.size()) {
    throw TemplateError("cannot unpack " + std::to_string(parts.size()) + " values into " +
                        std::to_string(target.children.size()) + " variables");
  }
  for (size_t i = 0; i < parts.size(); ++i) assign(*target.children[i], parts[i]);
}

Interpreter::Flow Interpreter::execute_for(const Node& node) {
  return run_loop(node, evaluate(*node.children[0]), 0);
}

Interpreter::Flow Interpreter::run_loop(const Node& node, const Value& over, int64_t depth0) {
  const auto loop = make_object<Loop>(budget_, 0, iterate(budget_, over), depth0);
  const Node* condition = node.children[1].get();
  const Ref<Frame> home = frame_;
  if (condition != nullptr) {
    loop->passes = [this, &node, condition, home](const Value& candidate) {
      const Depth depth(*this);
      const FrameGuard frame(*this, home);
      assign(*node.children[4], candidate);
      return evaluate(*condition).truthy();
    };
  }
  if (node.flag) {
    loop->again = [this, &node, home, depth0](const Arguments& args) {
      static const Signature kTakes = "iterable";
      kTakes.check("loop", args);
      const Depth depth(*this);
      OutputGuard output(*this);
      const FrameGuard frame(*this, home);
      (void)run_loop(node, args.need(0, "iterable"), depth0 + 1);
      return output.take();
    };
  }
  bool completed =
      false;  // did an iteration reach the body's end? As in Jinja, one that broke off did not
  if (loop->reach(0)) {
    const FrameGuard guard(*this);
    for (size_t i = 0; loop->reach(i); ++i) {
      frame_->forget_bindings();
      loop->index = i;
      bind(kLoopSymbol, Value::loop(loop));
      assign(*node.children[4], loop->item(i));
      const Flow flow = execute(*node.children[2]);
      completed |= flow == Flow::kNext;
      if (flow == Flow::kBreak) break;
    }
  }
  return !completed && node.children[3] ? execute_scoped(*node.children[3], frame_) : Flow::kNext;
}

Value Interpreter::filtered(const Node& filters, Value written) {
  std::swap(block_text_, written);
  Value value = evaluate(filters);
  std::swap(block_text_, written);
  return value;
}

Interpreter::Flow Interpreter::execute_set_block(const Node& node) {
  Flow flow = Flow::kNext;
  Value value = capture(*node.children[0], &flow);
  if (flow != Flow::kNext) return flow;
  if (node.children[1]) value = filtered(*node.children[1], std::move(value));
  assign(*node.children[2], value);
  return flow;
}

Interpreter::Flow Interpreter::execute_filter_block(const Node& node) {
  Flow flow = Flow::kNext;
  Value value = capture(*node.children[0], &flow);
  if (flow != Flow::kNext) return flow;
  value = filtered(*node.children[1], std::move(value));
  if (!value.is_string())
    throw TemplateError(std::string("a filter block needs a string, not ") + value.type_name(),
                        node.line);
  write(value);
  return flow;
}

Interpreter::Flow Interpreter::execute_with(const Node& node) {
  ListBuilder values(budget_);
  for (size_t i = 2; i < node.children.size(); i += 2) values.add(evaluate(*node.children[i]));
  const Value list = values.take();
  const FrameGuard frame(*this);
  for (size_t i = 0; i < list.items().size(); ++i)
    assign(*node.children[1 + 2 * i], list.items()[i]);
  return execute(*node.children[0]);
}

Value Interpreter::capture(const Node& body, Flow* flow) {
  OutputGuard output(*this);
  const FrameGuard frame(*this);
  *flow = execute(body);
  return output.take();
}

// A macro sees what stands around it, not what it is called from.
Value Interpreter::make_macro(const Node& node, size_t first_default, const Node& body,
                              const std::string& name) {
  return Value::callable(
      budget_, name,
      [this, &node, &body, &name, first_default, home = frame_](const Arguments& args) {
        return call_macro(node, first_default, body, name, home, args);
      },
      &node);
}

// In the macro's frame: defaults may refer to the parameters before them.
void Interpreter::bind_parameters(const Node& node, size_t first_default, const std::string& name,
                                  const Arguments& args) {
  const size_t count = node.words.size(), defaults = node.children.size() - first_default;
  budget_.work(count);
  for (size_t i = 0; i < count; ++i) {
    if (const Value* given = args.find(i, node.words[i])) {
      bind(node.symbols[i], *given);
    } else if (i >= count - defaults) {
      bind(node.symbols[i], evaluate(*node.children[first_default + i - (count - defaults)]));
    } else {
      bind(node.symbols[i], Value::undefined(Missing::kParameter, node.words[i]));
    }
  }
  bind_rest(node, name, args);
}

// `caller`, and what no parameter takes: `varargs`, `kwargs`.
void Interpreter::bind_rest(const Node& node, const std::string& name, const Arguments& args) {
  const size_t count = node.words.size();
  const auto parameter = [&](std::string_view word) {
    const auto found = std::find(node.words.begin(), node.words.end(), word);
    return static_cast<size_t>(found - node.words.begin());
  };
  bool caller_given = parameter("caller") < count;
  const bool caller_wanted = (node.uses & kUsesCaller) && !caller_given;
  const auto rest = make_object<Dict>(budget_, 0);
  for (const auto& [key, value] : args.named) {
    budget_.work(1 + count / 8);
    const size_t at = parameter(key);
    if (at < count && at >= args.positional.size()) continue;
    if (key == "caller" && caller_wanted) {
      bind(kCallerSymbol, value);
      caller_given = true;
      continue;
    }
    if (!(node.uses & kUsesKwargs) || parameter("kwargs") < count)
      throw TemplateError("macro '" + name + "' takes no argument '" + excerpt(key) + "'");
    rest->set(key, value);
  }
  if (caller_wanted && !caller_given) bind(kCallerSymbol, Value::undefined("no caller is given"));
  if ((node.uses & kUsesKwargs) && parameter("kwargs") == count)
    bind(kKwargsSymbol, Value::dict(rest));
  const bool takes_more = (node.uses & kUsesVarargs) && parameter("varargs") == count;
  if (args.positional.size() > count && !takes_more)
    throw TemplateError("macro '" + name + "' takes at most " + std::to_string(count) +
                        " arguments");
  if (!takes_more) return;
  ListBuilder more(budget_);
  if (args.positional.size() > count) more.add(std::span(args.positional).subspan(count));
  bind(kVarargsSymbol, more.take(Series::kTuple));
}

Value Interpreter::call_macro(const Node& node, size_t first_default, const Node& body,
                              const std::string& name, const Ref<Frame>& home,
                              const Arguments& args) {
  const Depth depth(*this);
  OutputGuard output(*this);
  const FrameGuard frame(*this, home);
  bind_parameters(node, first_default, name, args);
  (void)execute(body);
  return output.take();
}

void Interpreter::execute_call_block(const Node& node) {
  const Node& written = *node.children[0];
  const Value function = evaluate(*written.children[0]);
  Arguments args(budget_);
  arguments(written, 1, &args);
  static const std::string kCaller = "caller";
  if (args.find(kCaller) != nullptr) throw TemplateError("'caller' is given twice", node.line);
  args.add(kCaller, make_macro(node, 2, *node.children[1], kCaller));
  write(call(function, args));
}

}  // namespace shoal::jinja
