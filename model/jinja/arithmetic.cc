#include "model/jinja/arithmetic.h"

#include <algorithm>
#include <cmath>

#include "model/jinja/text.h"

namespace shoal::jinja {
namespace {

[[noreturn]] void type_error(const std::string& op, const Value& a, const Value& b) {
  throw TemplateError("'" + op + "' does not work on " + a.type_name() + " and " + b.type_name() +
                      (a.is_undefined()   ? " (" + a.undefined_text() + ")"
                       : b.is_undefined() ? " (" + b.undefined_text() + ")"
                                          : ""));
}

[[noreturn]] void too_large() { throw TemplateError("an integer grows beyond 64 bits"); }

enum class Op : uint8_t { kAdd, kSubtract, kMultiply };

int64_t checked(Op op, int64_t a, int64_t b) {
  int64_t out = 0;
  const bool overflow = op == Op::kAdd        ? __builtin_add_overflow(a, b, &out)
                        : op == Op::kSubtract ? __builtin_sub_overflow(a, b, &out)
                                              : __builtin_mul_overflow(a, b, &out);
  if (overflow) too_large();
  return out;
}

double float_power(double a, double b) {
  if (a == 0 && b < 0) throw TemplateError("division by zero");
  if (a < 0 && std::isfinite(a) && std::isfinite(b) && b != std::floor(b))
    throw TemplateError("the result is a complex number");
  const double out = std::pow(a, b);
  if (std::isinf(out) && std::isfinite(a) && std::isfinite(b))
    throw TemplateError("the result of '**' is too large");
  return out;
}

Value integer_power(int64_t a, int64_t b) {
  if (b < 0) return float_power(static_cast<double>(a), static_cast<double>(b));
  if (b == 0 || a == 1) return int64_t{1};
  if (a == 0) return int64_t{0};
  if (a == -1) return b % 2 == 0 ? int64_t{1} : int64_t{-1};
  int64_t result = 1;  // 64 steps at most before it overflows
  for (int64_t i = 0; i < b; ++i) result = checked(Op::kMultiply, result, a);
  return result;
}

Value integer_arithmetic(const std::string& op, int64_t a, int64_t b) {
  if (op == "+") return checked(Op::kAdd, a, b);
  if (op == "-") return checked(Op::kSubtract, a, b);
  if (op == "*") return checked(Op::kMultiply, a, b);
  if (op == "**") return integer_power(a, b);
  if (b == 0) throw TemplateError("division by zero");
  // 64 bits of mantissa hold both operands.
  if (op == "/")
    return static_cast<double>(static_cast<long double>(a) / static_cast<long double>(b));
  if (b == -1) return op == "%" ? Value(int64_t{0}) : Value(checked(Op::kSubtract, 0, a));
  const int64_t quotient = a / b - ((a % b != 0 && (a % b < 0) != (b < 0)) ? 1 : 0);  // towards −∞
  return op == "//" ? quotient : a - quotient * b;
}

// Quotient rounded down and remainder with the divisor's sign, as CPython computes them.
Value float_division(bool quotient_wanted, double a, double b) {
  double rest = std::fmod(a, b);
  double quotient = (a - rest) / b;
  if (rest != 0) {
    if ((b < 0) != (rest < 0)) {
      rest += b;
      quotient -= 1;
    }
  } else {
    rest = std::copysign(0.0, b);
  }
  if (!quotient_wanted) return rest;
  if (quotient == 0) return std::copysign(0.0, a / b);
  const double down = std::floor(quotient);
  return quotient - down > 0.5 ? down + 1 : down;
}

Value float_arithmetic(const std::string& op, double a, double b) {
  if (op == "+") return a + b;
  if (op == "-") return a - b;
  if (op == "*") return a * b;
  if (op == "**") return float_power(a, b);
  if (b == 0) throw TemplateError("division by zero");
  if (op == "/") return a / b;
  return float_division(op == "//", a, b);
}

Value repeated(Budget& budget, const Value& a, int64_t count) {
  const auto times = static_cast<uint64_t>(std::max<int64_t>(0, count));
  const uint64_t unit = a.is_string() ? a.str().size() : a.items().size();
  if (unit == 0 || (times == 1 && !(a.is_series() && a.list().kind == Series::kGroup))) return a;
  constexpr uint64_t kMost = uint64_t{1} << 40;  // more than any limit; 16 times that does not wrap
  const uint64_t total = times > kMost / unit ? kMost : times * unit;
  if (a.is_string()) {
    TextBuilder out(budget, total);
    for (uint64_t i = 0; i < times; ++i) out.append(a.str());
    return out.take(a.is_markup());
  }
  ListBuilder out(budget, total);
  for (uint64_t i = 0; i < times; ++i) out.add(a.items());
  return out.take(a.list().tuple() ? Series::kTuple : Series::kList);
}

bool is_integral(const Value& v) { return v.is_int() || v.is_bool(); }

Value sum_of_texts(Budget& budget, const Value& a, const Value& b) {
  if (!a.is_markup() && !b.is_markup()) return concatenate_text(budget, a, b);
  return as_markup(concatenate_text(budget, escape(budget, a), escape(budget, b)), true);
}

}  // namespace

Value binary(Budget& budget, const std::string& op, const Value& a, const Value& b) {
  if (a.is_number() && b.is_number()) {
    return a.is_float() || b.is_float() ? float_arithmetic(op, a.as_double(), b.as_double())
                                        : integer_arithmetic(op, a.as_int(), b.as_int());
  }
  if (op == "+") {
    if (a.is_string() && b.is_string()) return sum_of_texts(budget, a, b);
    if (a.is_list() && b.is_list() && a.list().tuple() == b.list().tuple()) {
      if (a.list().kind == Series::kGroup || b.list().kind == Series::kGroup) {
        ListBuilder out(budget);
        out.add(a.items());
        out.add(b.items());
        return out.take(Series::kTuple);
      }
      return concatenate_lists(budget, a, b);
    }
  } else if (op == "*") {
    if ((a.is_string() || a.is_list()) && is_integral(b)) return repeated(budget, a, b.as_int());
    if ((b.is_string() || b.is_list()) && is_integral(a)) return repeated(budget, b, a.as_int());
  } else if (op == "%" && a.is_string()) {
    return percent_format(budget, a, b);
  }
  type_error(op, a, b);
}

Value negative(const Value& value) {
  if (!value.is_number()) throw TemplateError(std::string("a sign before ") + value.type_name());
  return value.is_float() ? Value(-value.as_double())
                          : Value(checked(Op::kSubtract, 0, value.as_int()));
}

Value positive(const Value& value) {
  if (!value.is_number()) throw TemplateError(std::string("a sign before ") + value.type_name());
  return value.is_bool() ? Value(value.as_int()) : value;
}

Value absolute(const Value& value) {
  if (value.is_float()) return std::fabs(value.as_double());
  if (!value.is_number()) throw TemplateError("abs: needs a number");
  return value.as_int() < 0 ? negative(value) : positive(value);
}

Value rounded(const Value& value, int64_t digits) {
  if (value.is_float()) {
    const double number = value.as_double();
    if (!std::isfinite(number) || digits > 323) return number;
    if (digits < -308) return std::copysign(0.0, number);
    if (digits >= 0) return std::stod(float_digits(number, 'f', digits, false, false));
    const double unit = std::pow(10.0, static_cast<double>(-digits));
    const double out = std::nearbyint(number / unit) * unit;
    if (std::isinf(out)) throw TemplateError("round: the result is too large");
    return out;
  }
  const int64_t number = value.as_int();
  if (digits >= 0) return number;
  if (digits < -18) return int64_t{0};
  int64_t unit = 1;
  for (int64_t i = digits; i < 0; ++i) unit *= 10;
  int64_t down = number / unit - (number % unit < 0 ? 1 : 0);
  const int64_t rest = number - down * unit;
  if (rest > unit - rest || (rest == unit - rest && down % 2 != 0)) ++down;
  return checked(Op::kMultiply, down, unit);
}

int64_t truncated(double value) {
  if (std::isnan(value)) throw TemplateError("not-a-number is no integer");
  if (std::isinf(value)) throw TemplateError("infinity is no integer");
  if (!(value >= -9223372036854775808.0 && value < 9223372036854775808.0))
    throw TemplateError("an integer is beyond 64 bits");
  return static_cast<int64_t>(value);
}

}  // namespace shoal::jinja
