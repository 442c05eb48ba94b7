// Walks the tree. One instance per rendering.
#pragma once

#include <cstdint>
#include <ctime>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "model/chat_template.h"
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

 private:
  enum class Flow : uint8_t { kNext, kBreak, kContinue };
  struct Binding {
    uint32_t symbol;
    Value value;
  };
  // The names one block of the template has set.
  struct Frame {
    std::vector<Binding> bindings;
    size_t outer = 0;     // where names not found here are looked for; 0 for itself: nowhere
    uint64_t serial = 0;  // no two frames have the same
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
  Flow execute_if(const Node& node);
  void execute_set(const Node& node);
  void execute_set_block(const Node& node);
  void execute_filter_block(const Node& node);
  void execute_call_block(const Node& node);
  void execute_with(const Node& node);
  Value kept_items(const Node& node, const Value& items);
  // Output of `body` as a string.
  Value capture(const Node& body);
  // The filters of a set or filter block, over what it wrote.
  Value filtered(const Node& filters, Value written);
  Value make_macro(const Node& node, size_t first_default, const Node& body,
                   const std::string& name);
  Value call_macro(const Node& node, size_t first_default, const Node& body,
                   const std::string& name, size_t home, uint64_t home_serial,
                   const Arguments& args);
  void bind_parameters(const Node& node, size_t first_default, const std::string& name,
                       const Arguments& args, std::vector<Binding>* out);
  void assign(const Node& node, const Value& value);
  void bind(uint32_t symbol, Value value);
  void clear_frame();
  void write(const Value& value);

  Value evaluate(const Node& node);
  Value evaluate_compare(const Node& node);
  Value evaluate_binary(const Node& node);
  Value evaluate_sign(const Node& node);
  Value evaluate_slice(const Node& node);
  Value evaluate_call(const Node& node);
  Value literal(const Node& node);
  void arguments(const Node& node, size_t first, Arguments* args);
  Value attribute(const Value& object, const Node& node);
  Value item(const Value& object, const Value& index, const Node& index_node);
  Value lookup(uint32_t symbol, const std::string& name);

  Budget budget_;  // first: everything below is freed before it
  const Program& program_;
  const std::time_t now_;
  std::vector<std::optional<Value>> context_;  // [symbol]: what the caller gave, and the globals
  std::vector<Value> strings_;                 // [slot]; none: not needed yet
  std::vector<Frame> frames_;                  // [0]: the template's top level
  uint64_t next_serial_ = 1;
  TextBuilder output_;
  Value block_text_;
  uint64_t depth_ = 0;
};

// filters.cc, tests.cc, methods.cc, globals.cc. Throw TemplateError for unknown names and wrong
// types.
using Filter = Value (*)(Interpreter&, const Value&, const Arguments&);
using Test = bool (*)(Interpreter&, const Value&, const Arguments&);
using Method = Value (*)(Interpreter&, const Value&, const Arguments&);
Filter find_filter(std::string_view name);
Test find_test(std::string_view name);
// null: `object` has no such method. Error: it has, but templates must not call it.
Method find_method(const Value& object, std::string_view name);
// Could find_method() give something else than null for any object?
bool may_be_method(std::string_view name);
// The method as a value, or undefined.
Value bound_method(Interpreter& interpreter, const Value& object, std::string_view name);
// A function every template may call, or undefined. `name` stands in the template.
Value global(Interpreter& interpreter, const std::string& name);

}  // namespace shoal::jinja
