#include "coordinator/gateway/field_reader.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

namespace shoal::gateway {

std::string_view json_kind(const Json& value) {
  switch (value.type()) {
    case Json::value_t::null:
      return "null";
    case Json::value_t::boolean:
      return "a boolean";
    case Json::value_t::string:
      return "a string";
    case Json::value_t::array:
      return "an array";
    case Json::value_t::object:
      return "an object";
    case Json::value_t::number_float:
      return "a fractional number";
    default:
      return "an integer";
  }
}

std::optional<int64_t> as_integer(const Json& value) {
  if (value.is_number_unsigned()) {
    const auto number = value.get<uint64_t>();
    if (number > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
    return static_cast<int64_t>(number);
  }
  if (value.is_number_integer()) return value.get<int64_t>();
  if (!value.is_number_float()) return std::nullopt;
  const double number = value.get<double>();
  constexpr double kExact = 9007199254740992.0;  // 2^53: beyond, several integers are one double
  if (!(std::fabs(number) <= kExact) || number != std::trunc(number)) return std::nullopt;
  return static_cast<int64_t>(number);
}

const Json* FieldReader::find(std::string_view name) const {
  for (const auto& [key, value] : object_.get_ref<const Json::object_t&>()) {
    if (key == name) return value.is_null() ? nullptr : &value;
  }
  return nullptr;
}

std::string FieldReader::param(std::string_view name) const {
  if (path_.empty()) return std::string(name);
  return name.empty() ? path_ : path_ + "." + std::string(name);
}

void FieldReader::fail(std::string_view name, std::string message, std::string code) {
  if (ok()) *error_ = invalid_field(param(name), std::move(message), std::move(code));
}

void FieldReader::must(std::string_view name, std::string_view expectation) {
  fail(name, fmt::format("'{}' must be {}", param(name), expectation));
}

void FieldReader::unsupported(std::string_view name, std::string_view detail) {
  fail(name,
       fmt::format("'{}' is not supported{}{}", param(name), detail.empty() ? "" : ": ", detail),
       "unsupported_parameter");
}

std::optional<bool> FieldReader::boolean(std::string_view name) {
  const Json* value = find(name);
  if (!ok() || value == nullptr) return std::nullopt;
  if (!value->is_boolean()) {
    must(name, fmt::format("true or false, not {}", json_kind(*value)));
    return std::nullopt;
  }
  return value->get<bool>();
}

std::optional<int64_t> FieldReader::integer(std::string_view name, int64_t low, int64_t high) {
  const Json* value = find(name);
  if (!ok() || value == nullptr) return std::nullopt;
  const std::optional<int64_t> number = as_integer(*value);
  if (!number && !value->is_number_unsigned()) {
    must(name, fmt::format("an integer, not {}", json_kind(*value)));
    return std::nullopt;
  }
  if (!number || *number < low || *number > high) {
    must(name, fmt::format("between {} and {}, not {}", low, high, value->dump()));
    return std::nullopt;
  }
  return number;
}

std::optional<double> FieldReader::number(std::string_view name, NumberRange range) {
  const Json* value = find(name);
  if (!ok() || value == nullptr) return std::nullopt;
  if (!value->is_number()) {
    must(name, fmt::format("a number, not {}", json_kind(*value)));
    return std::nullopt;
  }
  const double number = value->get<double>();
  const bool low_ok = range.open_low ? number > range.low : number >= range.low;
  if (!std::isfinite(number) || !low_ok || number > range.high) {
    must(name, fmt::format("{} {} and at most {}, not {}", range.open_low ? "above" : "at least",
                           range.low, range.high, value->dump()));
    return std::nullopt;
  }
  return number;
}

std::optional<std::string> FieldReader::string(std::string_view name, size_t max_bytes) {
  const Json* value = find(name);
  if (!ok() || value == nullptr) return std::nullopt;
  if (!value->is_string()) {
    must(name, fmt::format("a string, not {}", json_kind(*value)));
    return std::nullopt;
  }
  const auto& text = value->get_ref<const std::string&>();
  if (text.size() > max_bytes) {
    must(name, fmt::format("at most {} bytes long, not {}", max_bytes, text.size()));
    return std::nullopt;
  }
  return text;
}

const Json* FieldReader::object(std::string_view name) {
  const Json* value = find(name);
  if (!ok() || value == nullptr) return nullptr;
  if (value->is_object()) return value;
  must(name, fmt::format("an object, not {}", json_kind(*value)));
  return nullptr;
}

const Json* FieldReader::array(std::string_view name) {
  const Json* value = find(name);
  if (!ok() || value == nullptr) return nullptr;
  if (value->is_array()) return value;
  must(name, fmt::format("an array, not {}", json_kind(*value)));
  return nullptr;
}

}  // namespace shoal::gateway
