// Walks the tree. One instance per rendering.
#pragma once

#include <cstdint>
#include <ctime>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/chat_template.h"
#include "model/jinja/arguments.h"
#include "model/jinja/ast.h"

namespace shoal::jinja {

class Interpreter {
 public:
  // All outlive it.
  Interpreter(const Program& program, const TemplateLimits& limits, RenderControl& control,
              std::time_t now);
  ~Interpreter();
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;
  std::string run(const nlohmann::ordered_json& context);

  // For filters, tests and methods.
  Budget& budget() { return budget_; }
  std::time_t now() const { return now_; }
  // object.name: Python's attribute first, then a dict's key.
  Value attribute(const Value& object, std::string_view name);
  // object[index]: the item first, then the attribute of that name.
  Value item(const Value& object, const Value& index);
  // f(args) for whatever can be called; error: it cannot.
  Value call(const Value& function, const Arguments& args);

 private:
  enum class Flow : uint8_t { kNext, kBreak, kContinue };
  struct Binding {
    uint32_t symbol;
    Value value;
  };
  // The names one block of the template has set. Macros keep the frame they were made in.
  struct Frame : MutableObject {
    Frame(Budget& b, Ref<Frame> around) : MutableObject(b), outer(std::move(around)), held(b) {}
    void clear() override;
    void forget_bindings();
    std::vector<Binding> bindings;
    Ref<Frame> outer;  // where names not found here are looked for; null: the context
    Held held;
  };

  // Counts nesting of the walk itself: the stack is bounded by it.
  class Depth {
   public:
    explicit Depth(Interpreter& self) : self_(self) {
      if (++self_.depth_ > self_.budget_.max_depth()) {
        --self_.depth_;
        throw TemplateError("nested too deeply");
      }
    }
    ~Depth() { --self_.depth_; }
    Depth(const Depth&) = delete;
    Depth& operator=(const Depth&) = delete;

   private:
    Interpreter& self_;
  };
  class FrameGuard;
  class OutputGuard;

  Flow execute(const Node& node);
  Flow execute_block(const Node& node);
  Flow execute_for(const Node& node);
  Flow run_loop(const Node& node, const Value& items, int64_t depth0);
  Flow execute_if(const Node& node);
  Flow execute_set_block(const Node& node);
  Flow execute_filter_block(const Node& node);
  Flow execute_with(const Node& node);
  Flow execute_scoped(const Node& body, const Ref<Frame>& outer);
  void execute_call_block(const Node& node);
  // Output of `body` as a string.
  Value capture(const Node& body, Flow* flow);
  // The filters of a set or filter block, over what it wrote.
  Value filtered(const Node& filters, Value written);
  Value make_macro(const Node& node, size_t first_default, const Node& body,
                   const std::string& name);
  Value call_macro(const Node& node, size_t first_default, const Node& body,
                   const std::string& name, const Ref<Frame>& home, const Arguments& args);
  void bind_parameters(const Node& node, size_t first_default, const std::string& name,
                       const Arguments& args);
  void bind_rest(const Node& node, const std::string& name, const Arguments& args);
  void assign(const Node& target, const Value& value);
  void bind(uint32_t symbol, Value value);
  void write(const Value& value);

  Value evaluate(const Node& node);
  Value evaluate_compare(const Node& node);
  Value evaluate_binary(const Node& node);
  Value evaluate_slice(const Node& node);
  Value evaluate_call(const Node& node);
  Value literal(const Node& node);
  Value attribute_of(const Value& object, const Node& node);
  void arguments(const Node& node, size_t first, Arguments* args);
  Value lookup(uint32_t symbol, const std::string& name);

  Budget budget_;  // first: everything below is freed before it
  const Program& program_;
  const std::time_t now_;
  std::vector<std::optional<Value>> context_;  // [symbol]: what the caller gave, and the globals
  std::vector<Value> strings_;                 // [slot]; none: not needed yet
  Ref<Frame> top_, frame_;                     // the template's top level; where we are
  TextBuilder output_;
  Value block_text_;
  uint64_t depth_ = 0;
};

// filters.cc, tests.cc, methods.cc, attributes.cc, globals.cc. Throw TemplateError for unknown
// names and wrong types.
using Filter = Value (*)(Interpreter&, const Value&, const Arguments&);
using Test = bool (*)(Interpreter&, const Value&, const Arguments&);
using Method = Value (*)(Interpreter&, const Value&, const Arguments&);
template <class F>
struct Function {
  F function;
  Signature takes;
};
const Function<Filter>& find_filter(std::string_view name);
const Function<Test>& find_test(std::string_view name);
bool is_filter(std::string_view name);
bool is_test(std::string_view name);
Value apply_filter(Interpreter& in, std::string_view name, const Value& v, const Arguments& args);
bool apply_test(Interpreter& in, std::string_view name, const Value& v, const Arguments& args);
// null: `object` has no such method, or templates must not call it.
const Function<Method>* find_method(const Value& object, std::string_view name);
Value call_method(Interpreter& in, const Function<Method>& method, std::string_view name,
                  const Value& object, const Arguments& args);
// Python's getattr(). What templates must not touch is an undefined value that says so.
std::optional<Value> python_attribute(Interpreter& in, const Value& object, std::string_view name);
// Could python_attribute() find something in a dict of that name?
bool may_be_attribute(std::string_view name);
// A function every template may call, or undefined. `name` stands in the template.
Value global(Interpreter& interpreter, const std::string& name);

}  // namespace shoal::jinja
