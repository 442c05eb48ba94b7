#include "model/chat_template.h"

#include <algorithm>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "model/jinja/interpreter.h"
#include "model/jinja/lexer.h"
#include "model/jinja/parser.h"

namespace shoal {
namespace {

Duration thread_cpu_time() {
  std::timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
}

Status status_of(const jinja::TemplateError& error) {
  if (error.raised_by_template) return invalid_argument(error.what());
  if (error.limit) return Status(error.code, error.what());
  return Status(error.code, fmt::format("chat template, line {}: {}", error.line, error.what()));
}

}  // namespace

RenderControl::RenderControl(Duration cpu_limit)
    : cpu_limit_(cpu_limit), started_(thread_cpu_time()) {}

bool RenderControl::out_of_time() const { return thread_cpu_time() - started_ > cpu_limit_; }

void RenderControl::add(uint64_t work, uint64_t peak_bytes, uint64_t lost_bytes) {
  work_ += work;
  peak_bytes_ = std::max(peak_bytes_, peak_bytes);
  lost_bytes_ += lost_bytes;
}

struct ChatTemplate::Program {
  jinja::Program code;
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
    program->code = jinja::parse(jinja::tokenize(source), limits.max_depth);
    ChatTemplate out;
    out.program_ = std::move(program);
    return out;
  } catch (const jinja::TemplateError& error) {
    return status_of(error);
  }
}

Result<std::string> ChatTemplate::render(const nlohmann::ordered_json& context, std::time_t now,
                                         RenderControl& control) const {
  if (!context.is_object()) return invalid_argument("the template's context is not an object");
  try {
    return jinja::Interpreter(program_->code, program_->limits, control, now).run(context);
  } catch (const jinja::TemplateError& error) {
    return status_of(error);
  }
}

}  // namespace shoal
