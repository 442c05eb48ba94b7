// Operators of the language on values, with Python's rules. Errors: the operands do not fit, a
// division by zero, an integer beyond 64 bits.
#pragma once

#include <string>

#include "model/jinja/value.h"

namespace shoal::jinja {

// op: + - * / // % **
Value binary(Budget& budget, const std::string& op, const Value& a, const Value& b);
Value negative(const Value& value);
Value positive(const Value& value);
Value absolute(const Value& value);
// Python's round(): to `digits` behind the point, half to even; an integer stays one.
Value rounded(const Value& value, int64_t digits);
// Towards zero; error: beyond 64 bits or no number.
int64_t truncated(double value);

// format.cc. "…%s…" % values, and "…{}…".format(values) with a format specification for one value.
struct Arguments;
class Interpreter;
Value percent_format(Budget& budget, const Value& format, const Value& values);
Value brace_format(Interpreter& in, const Value& format, const Arguments& args);

// number_format.cc. Digits of a number as text.
// type: e E f F g G, or 'r' for the shortest that reads back the same. `point_zero`: 'g' keeps one
// digit behind the point. Always with the sign of a negative number.
std::string float_digits(double value, char type, int64_t precision, bool alternate,
                         bool point_zero);
struct FormatSpec;
void format_value(const Value& value, std::string_view spec, TextBuilder* out);  // format()

}  // namespace shoal::jinja
