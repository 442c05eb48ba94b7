// Chat templates: a bounded, sandboxed interpreter of the Jinja2 language as chat templates use it
// (docs/chat-templates.md lists what is there). No file, no attribute of the host, no code can be
// reached from a template, and steps, depth, memory and output are limited: templates come from
// model files.
#pragma once

#include <cstdint>
#include <ctime>
#include <memory>
#include <string>

#include <nlohmann/json_fwd.hpp>

#include "base/status.h"

namespace shoal {

struct TemplateLimits {
  uint64_t max_source_bytes = 4u << 20;   // the format's own bound for the key
  uint64_t max_output_bytes = 64u << 20;  // far above any context a model has
  uint64_t max_steps = 50'000'000;        // nodes evaluated: a second or so
  uint64_t max_depth = 400;               // nested expressions and macro calls; bounds the stack
};

// Immutable after parse(); render() is thread-safe.
class ChatTemplate {
 public:
  // Environment: trim_blocks, lstrip_blocks, loop controls. Errors: "line 3: …".
  static Result<ChatTemplate> parse(std::string source, const TemplateLimits& limits = {});

  // `context`: an object with messages, add_generation_prompt, tools, bos_token … in insertion
  // order. `now`: what strftime_now() shows, in local time. raise_exception(text) gives
  // kInvalidArgument with that text; other errors name the line.
  Result<std::string> render(const nlohmann::ordered_json& context, std::time_t now) const;

 private:
  struct Program;
  std::shared_ptr<const Program> program_;
};

}  // namespace shoal
