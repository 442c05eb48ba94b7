// Walks the tree. One instance per rendering; limits are counted here.
#pragma once

#include <cstdint>
#include <ctime>
#include <string>
#include <unordered_map>
#include <vector>

#include "model/chat_template.h"
#include "model/jinja/ast.h"

namespace shoal::jinja {

class Interpreter {
 public:
  Interpreter(const TemplateLimits& limits, std::time_t now) : limits_(limits), now_(now) {}
  std::string run(const Node& program, const Value& context);

  // For filters, tests and methods: results that could grow without bound pass here.
  std::string bounded(std::string text) const;
  void check_size(uint64_t bytes) const;
  const TemplateLimits& limits() const { return limits_; }

 private:
  enum class Flow : uint8_t { kNext, kBreak, kContinue };
  using Frame = std::unordered_map<std::string, Value>;

  // Counts nesting of the walk itself: the stack is bounded by it.
  class Depth {
   public:
    explicit Depth(Interpreter& self) : self_(self) {
      if (++self_.depth_ > self_.limits_.max_depth) throw TemplateError("nested too deeply");
    }
    ~Depth() { --self_.depth_; }
    Depth(const Depth&) = delete;
    Depth& operator=(const Depth&) = delete;

   private:
    Interpreter& self_;
  };
  class FrameGuard;

  Flow execute(const Node& node);
  Flow execute_block(const Node& node);
  Flow execute_for(const Node& node);
  Flow execute_if(const Node& node);
  void execute_set(const Node& node);
  void execute_set_block(const Node& node);
  void execute_call_block(const Node& node);
  void execute_with(const Node& node);
  // Output of `body` as a string.
  std::string capture(const Node& body);
  Value make_macro(const Node& node, size_t first_default, const Node& body,
                   const std::string& name);
  Value loop_variable(const Values& items, size_t index, const std::vector<Value>& cycle_state);
  void assign(const std::vector<std::string>& names, const Value& value);
  void write(const std::string& text);

  Value evaluate(const Node& node);
  Value evaluate_compare(const Node& node);
  Value evaluate_binary(const Node& node);
  Value evaluate_slice(const Node& node);
  Value evaluate_call(const Node& node);
  Value evaluate_filter(const Node& node);
  Value evaluate_test(const Node& node);
  Value literal(const Node& node);
  Arguments arguments(const Node& node, size_t first);
  Value attribute(const Value& object, const std::string& name, int line);
  Value item(const Value& object, const Value& index);
  Value lookup(const std::string& name);
  Value global(const std::string& name);

  const TemplateLimits limits_;
  const std::time_t now_;
  std::vector<Frame> frames_;
  std::string output_;
  uint64_t steps_ = 0;
  uint64_t depth_ = 0;
};

// filters.cc, tests.cc, methods.cc. Throw TemplateError for unknown names and wrong types.
Value apply_filter(const Interpreter& interpreter, const std::string& name, const Value& input,
                   const Arguments& args);
bool apply_test(const std::string& name, const Value& input, const Arguments& args);
bool has_test(const std::string& name);
// The bound method `name` of a value, or undefined.
Value bound_method(const Interpreter& interpreter, const Value& object, const std::string& name);

}  // namespace shoal::jinja
