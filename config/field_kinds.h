// Kinds of keys: text, numbers, sizes, durations, choices, addresses, each with its range and how
// it is written. For config/schema.cc.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include <fmt/core.h>

#include "base/host.h"
#include "base/quote.h"
#include "base/utf8.h"
#include "config/schema.h"
#include "config/values.h"

namespace shoal::config::kinds {

inline constexpr size_t kMaxText = 4096;

// `member` below is a lambda (auto& object) -> auto&, so that one serves set and get.

template <class T, class M>
Field<T> text(std::string_view key, M member, std::string_view doc) {
  return {key,
          "text",
          doc,
          Shape::kScalar,
          [member](T& object, std::string_view value) {
            if (value.size() > kMaxText) {
              return invalid_argument(fmt::format("longer than {} bytes", kMaxText));
            }
            for (const char c : value) {
              if (static_cast<unsigned char>(c) < 0x20) {
                return invalid_argument("contains a control character");
              }
            }
            if (!is_valid_utf8(value)) return invalid_argument("is not valid UTF-8");
            member(object) = std::string(value);
            return Status::ok();
          },
          [member](const T& object) { return std::string(member(object)); }};
}

template <class T, class M>
Field<T> boolean(std::string_view key, M member, std::string_view doc) {
  return {key,
          "true, false",
          doc,
          Shape::kScalar,
          [member](T& object, std::string_view value) {
            SHOAL_ASSIGN(member(object), parse_bool(value));
            return Status::ok();
          },
          [member](const T& object) { return member(object) ? "true" : "false"; }};
}

// `zero`: the word for 0 ("auto"), which is then allowed besides the range; or empty.
template <class T, class M>
Field<T> integer(std::string_view key, uint64_t low, uint64_t high, M member, std::string_view doc,
                 std::string_view zero = {}) {
  const std::string range = zero.empty() ? fmt::format("{} … {}", low, high)
                                         : fmt::format("{}, or {} … {}", zero, low, high);
  return {key,
          range,
          doc,
          Shape::kScalar,
          [member, low, high, zero](T& object, std::string_view value) {
            using Value = std::remove_reference_t<decltype(member(object))>;
            if (!zero.empty() && (value == zero || value == "0")) {
              member(object) = 0;
              return Status::ok();
            }
            SHOAL_ASSIGN(const uint64_t number, parse_integer(value));
            if (number < low || number > high) {
              return out_of_range(fmt::format("{} is not in {} … {}", number, low, high));
            }
            member(object) = static_cast<Value>(number);
            return Status::ok();
          },
          [member, zero](const T& object) {
            return member(object) == 0 && !zero.empty() ? std::string(zero)
                                                        : fmt::format("{}", member(object));
          }};
}

// integer() that also takes "32k" and "1M".
template <class M>
Field<Config> tokens(std::string_view key, uint64_t low, uint64_t high, M member,
                     std::string_view doc, std::string_view zero = {}) {
  Field<Config> field = integer<Config>(key, low, high, member, doc, zero);
  field.set = [inner = std::move(field.set)](Config& object, std::string_view value) {
    SHOAL_ASSIGN(const std::string plain, expand_tokens(value));
    return inner(object, plain);
  };
  return field;
}

template <class T, class M>
Field<T> number(std::string_view key, double high, M member, std::string_view doc) {
  return {key,
          fmt::format("above 0, up to {}", high),
          doc,
          Shape::kScalar,
          [member, high](T& object, std::string_view value) {
            SHOAL_ASSIGN(const double parsed, parse_number(value));
            if (parsed <= 0 || parsed > high) {
              return out_of_range(fmt::format("{} is not above 0 and at most {}", parsed, high));
            }
            member(object) = parsed;
            return Status::ok();
          },
          [member](const T& object) { return format_number(member(object)); }};
}

// A number from `low` to `high`, both included.
template <class M>
Field<Config> real(std::string_view key, double low, double high, M member, std::string_view doc) {
  return {key,
          fmt::format("{} … {}", low, high),
          doc,
          Shape::kScalar,
          [member, low, high](Config& object, std::string_view value) {
            SHOAL_ASSIGN(const double parsed, parse_number(value));
            if (parsed < low || parsed > high) {
              return out_of_range(fmt::format("{} is not in {} … {}", parsed, low, high));
            }
            member(object) = parsed;
            return Status::ok();
          },
          [member](const Config& object) { return format_number(member(object)); }};
}

template <class M>
Field<Config> bytes(std::string_view key, uint64_t low, uint64_t high, M member,
                    std::string_view doc) {
  const std::string range = fmt::format("{} … {}", format_bytes(low), format_bytes(high));
  return {key,
          range,
          doc,
          Shape::kScalar,
          [member, low, high, range](Config& object, std::string_view value) {
            SHOAL_ASSIGN(const uint64_t parsed, parse_bytes(value));
            if (parsed < low || parsed > high) {
              return out_of_range(fmt::format("{} is not in {}", in_quotes(value), range));
            }
            member(object) = parsed;
            return Status::ok();
          },
          [member](const Config& object) { return format_bytes(member(object)); }};
}

template <class M>
Field<Config> duration(std::string_view key, Duration low, Duration high, M member,
                       std::string_view doc) {
  const std::string range = fmt::format("{} … {}", format_duration(low), format_duration(high));
  return {key,
          range,
          doc,
          Shape::kScalar,
          [member, low, high, range](Config& object, std::string_view value) {
            SHOAL_ASSIGN(const Duration parsed, parse_duration(value));
            if (parsed < low || parsed > high) {
              return out_of_range(fmt::format("{} is not in {}", in_quotes(value), range));
            }
            member(object) = parsed;
            return Status::ok();
          },
          [member](const Config& object) { return format_duration(member(object)); }};
}

template <class M, class E, size_t N>
Field<Config> choice(std::string_view key,
                     const std::array<std::pair<std::string_view, E>, N>& names, M member,
                     std::string_view doc) {
  std::string list;
  for (const auto& [name, value] : names) list += (list.empty() ? "" : ", ") + std::string(name);
  return {key,
          list,
          doc,
          Shape::kScalar,
          [member, names, list](Config& object, std::string_view text) {
            for (const auto& [name, value] : names) {
              if (name != text) continue;
              member(object) = value;
              return Status::ok();
            }
            return invalid_argument(fmt::format("{} is not one of {}", in_quotes(text), list));
          },
          [member, names](const Config& object) {
            for (const auto& [name, value] : names) {
              if (value == member(object)) return std::string(name);
            }
            return std::string();
          }};
}

template <class M>
Field<Config> address(std::string_view key, M member, std::string_view doc) {
  return {key,
          "HOST:PORT",
          doc,
          Shape::kScalar,
          [member](Config& object, std::string_view value) {
            SHOAL_ASSIGN(member(object), parse_host_port(value));
            return Status::ok();
          },
          [member](const Config& object) { return format_host_port(member(object)); }};
}

}  // namespace shoal::config::kinds
