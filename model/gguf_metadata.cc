#include "model/gguf_metadata.h"

#include <fmt/format.h>

#include <cmath>
#include <cstring>

#include "base/quote.h"

namespace shoal {
namespace {

constexpr struct {
  std::string_view name;
  uint32_t bytes;
} kTypes[kGgufTypeIds] = {
    {"uint8", 1},  {"int8", 1},    {"uint16", 2},  {"int16", 2},  {"uint32", 4},
    {"int32", 4},  {"float32", 4}, {"bool", 1},    {"string", 0}, {"array", 0},
    {"uint64", 8}, {"int64", 8},   {"float64", 8},
};

template <class T>
T load(const std::string& data, uint64_t i) {
  T value;
  std::memcpy(&value, data.data() + i * sizeof(T), sizeof(T));
  return value;
}

bool is_integer(GgufType type) {
  switch (type) {
    case GgufType::kUint8:
    case GgufType::kInt8:
    case GgufType::kUint16:
    case GgufType::kInt16:
    case GgufType::kUint32:
    case GgufType::kInt32:
    case GgufType::kUint64:
    case GgufType::kInt64:
      return true;
    default:
      return false;
  }
}

bool is_float(GgufType type) { return type == GgufType::kFloat32 || type == GgufType::kFloat64; }

// A conversion: the value, or what is wrong with it (to be put behind the key's name).
template <class T>
struct Converted {
  T value{};
  std::string problem;
};

std::string expected(std::string_view what, const GgufValue& value) {
  return fmt::format("expected {}, found {}", what, value.describe());
}

// Element i as an unsigned number in [lo, hi]; `value` has integer elements.
std::string to_uint(const GgufValue& value, uint64_t i, uint64_t lo, uint64_t hi, uint64_t* out) {
  const int64_t number = value.int_at(i);
  if (number < 0 && value.element_type != GgufType::kUint64) {
    return fmt::format("expected a non-negative integer, found {}", number);
  }
  *out = static_cast<uint64_t>(number);
  if (*out < lo || *out > hi) {
    return hi == GgufMetadata::kAny ? fmt::format("{} is below the least valid value, {}", *out, lo)
                                    : fmt::format("{} is outside {}..{}", *out, lo, hi);
  }
  return {};
}

Converted<uint64_t> convert_uint(const GgufValue& value, uint64_t lo, uint64_t hi) {
  if (value.is_array() || !is_integer(value.type)) {
    return {0, expected("an unsigned integer", value)};
  }
  Converted<uint64_t> out;
  out.problem = to_uint(value, 0, lo, hi, &out.value);
  return out;
}

Converted<int64_t> convert_int(const GgufValue& value) {
  if (value.is_array() || !is_integer(value.type)) return {0, expected("an integer", value)};
  if (value.type == GgufType::kUint64 && value.int_at(0) < 0) {
    return {0,
            fmt::format("{} does not fit a signed 64-bit integer", load<uint64_t>(value.data, 0))};
  }
  return {value.int_at(0), {}};
}

Converted<double> convert_float(const GgufValue& value) {
  if (value.is_array() || !is_float(value.type)) return {0, expected("a float", value)};
  const double number = value.float_at(0);
  if (!std::isfinite(number)) return {0, fmt::format("{} is not a finite number", number)};
  return {number, {}};
}

Converted<bool> convert_bool(const GgufValue& value) {
  if (value.type != GgufType::kBool) return {false, expected("a bool", value)};
  return {value.int_at(0) != 0, {}};
}

Converted<std::string_view> convert_string(const GgufValue& value) {
  if (value.type != GgufType::kString) return {{}, expected("a string", value)};
  return {value.string_at(0), {}};
}

Converted<std::vector<std::string_view>> convert_strings(const GgufValue& value) {
  if (!value.is_array() || value.element_type != GgufType::kString) {
    return {{}, expected("an array of strings", value)};
  }
  Converted<std::vector<std::string_view>> out;
  out.value.reserve(value.count);
  for (uint64_t i = 0; i < value.count; ++i) out.value.push_back(value.string_at(i));
  return out;
}

Converted<std::vector<float>> convert_floats(const GgufValue& value) {
  if (!value.is_array() || !is_float(value.element_type)) {
    return {{}, expected("an array of floats", value)};
  }
  Converted<std::vector<float>> out;
  out.value.resize(value.count);
  for (uint64_t i = 0; i < value.count; ++i) {
    out.value[i] = static_cast<float>(value.float_at(i));
    if (!std::isfinite(out.value[i])) {
      return {{}, fmt::format("element {} is {}, not a finite number", i, value.float_at(i))};
    }
  }
  return out;
}

Converted<std::vector<int64_t>> convert_ints(const GgufValue& value) {
  if (!value.is_array() || !is_integer(value.element_type)) {
    return {{}, expected("an array of integers", value)};
  }
  Converted<std::vector<int64_t>> out;
  out.value.resize(value.count);
  for (uint64_t i = 0; i < value.count; ++i) {
    out.value[i] = value.int_at(i);
    if (value.element_type == GgufType::kUint64 && out.value[i] < 0) {
      return {{}, fmt::format("element {} does not fit a signed 64-bit integer", i)};
    }
  }
  return out;
}

Converted<std::vector<uint64_t>> convert_per_layer(const GgufValue& value, uint64_t n, uint64_t lo,
                                                   uint64_t hi) {
  if (!is_integer(value.element_type)) {
    return {{}, expected("an unsigned integer, or an array of them with one per layer", value)};
  }
  if (value.is_array() && value.count != n) {
    return {{}, fmt::format("the array has {} values for {} layers", value.count, n)};
  }
  Converted<std::vector<uint64_t>> out;
  out.value.resize(n);
  for (uint64_t i = 0; i < n; ++i) {
    out.problem = to_uint(value, value.is_array() ? i : 0, lo, hi, &out.value[i]);
    if (!out.problem.empty()) {
      if (value.is_array()) out.problem = fmt::format("element {}: {}", i, out.problem);
      return out;
    }
  }
  return out;
}

template <class T>
Result<T> required(const GgufMetadata& metadata, std::string_view key,
                   Result<std::optional<T>> found) {
  if (!found.is_ok()) return found.status();
  if (!found->has_value()) {
    const Status error = metadata.key_error(key, "the key is missing");
    return not_found(error.message());
  }
  return std::move(**found);
}

}  // namespace

std::string_view gguf_type_name(GgufType type) { return kTypes[static_cast<uint32_t>(type)].name; }
uint32_t gguf_type_bytes(GgufType type) { return kTypes[static_cast<uint32_t>(type)].bytes; }

std::string_view GgufValue::string_at(uint64_t i) const {
  SHOAL_CHECK(element_type == GgufType::kString && i < count, "no such string");
  const uint64_t begin = i == 0 ? 0 : ends[i - 1];
  return std::string_view(data).substr(begin, ends[i] - begin);
}

int64_t GgufValue::int_at(uint64_t i) const {
  SHOAL_CHECK(i < count, "no such element");
  switch (element_type) {
    case GgufType::kUint8:
    case GgufType::kBool:
      return load<uint8_t>(data, i);
    case GgufType::kInt8:
      return load<int8_t>(data, i);
    case GgufType::kUint16:
      return load<uint16_t>(data, i);
    case GgufType::kInt16:
      return load<int16_t>(data, i);
    case GgufType::kUint32:
      return load<uint32_t>(data, i);
    case GgufType::kInt32:
      return load<int32_t>(data, i);
    case GgufType::kUint64:
    case GgufType::kInt64:
      return load<int64_t>(data, i);
    default:
      SHOAL_CHECK(false, "int_at of " + describe());
  }
}

double GgufValue::float_at(uint64_t i) const {
  SHOAL_CHECK(i < count && is_float(element_type), "float_at of " + describe());
  return element_type == GgufType::kFloat32 ? static_cast<double>(load<float>(data, i))
                                            : load<double>(data, i);
}

std::string GgufValue::describe() const {
  if (is_array()) return fmt::format("an array of {} {}", count, gguf_type_name(element_type));
  if (is_integer(type) && type != GgufType::kUint64) {
    return fmt::format("{} {}", gguf_type_name(type), int_at(0));
  }
  return std::string(gguf_type_name(type));
}

void GgufMetadata::assign(std::vector<std::pair<std::string, GgufValue>> entries) {
  metadata_ = std::move(entries);
  index_.clear();
  index_.reserve(metadata_.size());
  for (size_t i = 0; i < metadata_.size(); ++i) {
    const bool added = index_.emplace(metadata_[i].first, i).second;
    SHOAL_CHECK(added, "duplicate key " + metadata_[i].first);
  }
}

const GgufValue* GgufMetadata::find_value(std::string_view key) const {
  const auto found = index_.find(key);
  return found == index_.end() ? nullptr : &metadata_[found->second].second;
}

Status GgufMetadata::key_error(std::string_view key, std::string_view problem) const {
  const GgufValue* value = find_value(key);
  if (value == nullptr)
    return data_loss(fmt::format("{}: key {}: {}", excerpt(file_name_), in_quotes(key), problem));
  return data_loss(fmt::format("{}: key {} at offset {}: {}", excerpt(file_name_), in_quotes(key),
                               value->offset, problem));
}

// One definition for every find_*/get_* pair: `convert(value)` makes a Converted<T>.
#define SHOAL_GGUF_GETTER(T, NAME, PARAMETERS, ARGUMENTS, CONVERSION)         \
  Result<std::optional<T>> GgufMetadata::find_##NAME PARAMETERS const {       \
    const GgufValue* value = find_value(key);                                 \
    if (value == nullptr) return std::optional<T>();                          \
    Converted<T> converted = CONVERSION;                                      \
    if (!converted.problem.empty()) return key_error(key, converted.problem); \
    return std::optional<T>(std::move(converted.value));                      \
  }                                                                           \
  Result<T> GgufMetadata::get_##NAME PARAMETERS const {                       \
    return required<T>(*this, key, find_##NAME ARGUMENTS);                    \
  }

SHOAL_GGUF_GETTER(uint64_t, uint, (std::string_view key, uint64_t lo, uint64_t hi), (key, lo, hi),
                  convert_uint(*value, lo, hi))
SHOAL_GGUF_GETTER(int64_t, int, (std::string_view key), (key), convert_int(*value))
SHOAL_GGUF_GETTER(double, float, (std::string_view key), (key), convert_float(*value))
SHOAL_GGUF_GETTER(bool, bool, (std::string_view key), (key), convert_bool(*value))
SHOAL_GGUF_GETTER(std::string_view, string, (std::string_view key), (key), convert_string(*value))
SHOAL_GGUF_GETTER(std::vector<std::string_view>, string_array, (std::string_view key), (key),
                  convert_strings(*value))
SHOAL_GGUF_GETTER(std::vector<float>, float_array, (std::string_view key), (key),
                  convert_floats(*value))
SHOAL_GGUF_GETTER(std::vector<int64_t>, int_array, (std::string_view key), (key),
                  convert_ints(*value))
SHOAL_GGUF_GETTER(std::vector<uint64_t>, uint_per_layer,
                  (std::string_view key, uint64_t n, uint64_t lo, uint64_t hi), (key, n, lo, hi),
                  convert_per_layer(*value, n, lo, hi))

#undef SHOAL_GGUF_GETTER

}  // namespace shoal
