// [[fill]align][sign][#][0][width][,|_][.precision][type]
#pragma once

#include <cstdint>
#include <string_view>

#include "model/jinja/value.h"

namespace shoal::jinja {

inline constexpr int64_t kWidest = 1'000'000;  // a wider format is an error

struct FormatSpec {
  explicit FormatSpec(std::string_view text);  // outlives it; throws TemplateError
  // Head (sign and prefix) and body at the width; `usual`: how if no alignment is given.
  void pad(std::string_view head, std::string_view body, char usual, TextBuilder* out) const;

  std::string_view fill = " ";  // one character
  char align = 0;               // < > = ^; 0: the usual
  char sign = '-';
  char type = 0;
  char separator = 0;
  bool alternate = false;
  bool align_given = false, fill_given = false, sign_given = false;
  int64_t width = 0;
  int64_t precision = -1;  // −1: none
};

}  // namespace shoal::jinja
