// Template source → text and tag tokens, whitespace control applied (trim_blocks, lstrip_blocks).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "model/jinja/value.h"

namespace shoal::jinja {

enum class TokenType : uint8_t {
  kText,
  kOutputBegin,
  kOutputEnd,
  kTagBegin,
  kTagEnd,
  kName,
  kInteger,
  kFloat,
  kString,
  kOperator,
  kEnd,
};

struct Token {
  TokenType type{};
  int line = 0;
  std::string text;  // operator, name, or the string's value
  Value value;       // of numbers; never an object
};

// Throws TemplateError.
std::vector<Token> tokenize(std::string_view source);

}  // namespace shoal::jinja
