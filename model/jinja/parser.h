// Tokens → syntax tree. Throws TemplateError with the line.
#pragma once

#include <cstdint>
#include <vector>

#include "model/jinja/ast.h"
#include "model/jinja/lexer.h"

namespace shoal::jinja {

// Deeper nesting than max_depth is an error: the tree is walked recursively.
Program parse(const std::vector<Token>& tokens, uint64_t max_depth);

}  // namespace shoal::jinja
