// Reads the fields of one JSON object and remembers the first thing that is wrong with it. Every
// reader returns nothing when the field is absent or null, or when an error was found before.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>

#include "coordinator/gateway/api_error.h"
#include "coordinator/gateway/json_reader.h"

namespace shoal::gateway {

// Range of a number; `open_low` excludes `low` itself.
struct NumberRange {
  double low, high;
  bool open_low = false;
};

class FieldReader {
 public:
  // `path` is put before every field's name in errors: "" or "messages[2]". `object` and `error`
  // must outlive the reader. REQUIRES object.is_object().
  FieldReader(const Json& object, std::string path, std::optional<ApiError>* error)
      : object_(object), path_(std::move(path)), error_(error) {}

  bool ok() const { return !error_->has_value(); }

  // The value, or nullptr when absent or null.
  const Json* find(std::string_view name) const;
  std::optional<bool> boolean(std::string_view name);
  // JSON has one kind of number: 2.0 is an integer (as_integer()).
  std::optional<int64_t> integer(std::string_view name, int64_t low, int64_t high);
  std::optional<double> number(std::string_view name, NumberRange range);  // finite
  std::optional<std::string> string(std::string_view name, size_t max_bytes);
  const Json* object(std::string_view name);
  const Json* array(std::string_view name);

  std::string param(std::string_view name) const;  // with the path
  // "'param' must be …"; the first failure stays.
  void must(std::string_view name, std::string_view expectation);
  void unsupported(std::string_view name, std::string_view detail = {});
  void fail(std::string_view name, std::string message, std::string code = "invalid_value");

 private:
  const Json& object_;
  std::string path_;
  std::optional<ApiError>* error_;
};

// The integer a number stands for, if it does and int64 holds it: 2, 2.0, 2e3.
std::optional<int64_t> as_integer(const Json& value);

// "a string", "an array" …: what a value is, for messages.
std::string_view json_kind(const Json& value);

}  // namespace shoal::gateway
