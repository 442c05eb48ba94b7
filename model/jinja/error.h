// How the interpreter gives up.
#pragma once

#include <stdexcept>
#include <string>

#include "base/quote.h"
#include "base/status.h"

namespace shoal::jinja {

// Thrown inside the interpreter only; ChatTemplate turns it into a Status. Its words may be those
// of the file, or of a request that the template quotes: kept short.
struct TemplateError : std::runtime_error {
  explicit TemplateError(const std::string& message, int at_line = 0)
      : std::runtime_error(excerpt(message)), line(at_line) {}
  // A limit was exceeded or the rendering was cancelled: no fault of one line.
  TemplateError(Code reason, const std::string& message)
      : std::runtime_error(message), code(reason), limit(true) {}

  int line = 0;
  Code code = Code::kInvalidArgument;
  bool limit = false;
  bool raised_by_template = false;  // raise_exception(): the words are the template's own
};

}  // namespace shoal::jinja
