#include "model/chat_template.h"

#include <nlohmann/json.hpp>

#include "model/jinja/interpreter.h"
#include "model/jinja/lexer.h"
#include "model/jinja/parser.h"

namespace shoal {

struct ChatTemplate::Program {
  jinja::NodePtr tree;
  TemplateLimits limits;
};

Result<ChatTemplate> ChatTemplate::parse(std::string source, const TemplateLimits& limits) {
  if (source.size() > limits.max_source_bytes) {
    return invalid_argument("the chat template has " + std::to_string(source.size()) +
                            " bytes; at most " + std::to_string(limits.max_source_bytes) +
                            " are accepted");
  }
  try {
    auto program = std::make_shared<Program>();
    program->limits = limits;
    program->tree = jinja::parse(jinja::tokenize(source), limits.max_depth);
    ChatTemplate out;
    out.program_ = std::move(program);
    return out;
  } catch (const jinja::TemplateError& error) {
    return invalid_argument("chat template, line " + std::to_string(error.line) + ": " +
                            error.what());
  }
}

Result<std::string> ChatTemplate::render(const nlohmann::ordered_json& context,
                                         std::time_t now) const {
  if (!context.is_object()) return invalid_argument("the template's context is not an object");
  try {
    return jinja::Interpreter(program_->limits, now)
        .run(*program_->tree, jinja::Value::from_json(context));
  } catch (const jinja::TemplateError& error) {
    if (error.raised_by_template) return invalid_argument(error.what());
    return invalid_argument("chat template, line " + std::to_string(error.line) + ": " +
                            error.what());
  }
}

}  // namespace shoal
