// How the interpreter gives up.
#pragma once

#include <stdexcept>
#include <string>

#include "base/status.h"

namespace shoal::jinja {

// Thrown inside the interpreter only; ChatTemplate turns it into a Status.
struct TemplateError : std::runtime_error {
  explicit TemplateError(const std::string& message, int at_line = 0)
      : std::runtime_error(message), line(at_line) {}
  // A limit was exceeded or the rendering was cancelled: no fault of one line.
  TemplateError(Code reason, const std::string& message)
      : std::runtime_error(message), code(reason), limit(true) {}

  int line = 0;
  Code code = Code::kInvalidArgument;
  bool limit = false;
  bool raised_by_template = false;  // raise_exception(): the words are the template's own
};

// At most 200 bytes of it, whole characters: errors quote what came from outside.
std::string excerpt(std::string_view text);

}  // namespace shoal::jinja
