#include "cli/chat/settings.h"

#include <charconv>
#include <cmath>

#include <fmt/core.h>

#include "base/quote.h"
#include "config/values.h"

namespace shoal::chat {
namespace {

using Json = nlohmann::json;

enum class Type { kNumber, kInteger, kTokens, kText, kFlag };

constexpr struct {
  std::string_view name;
  Type type;
} kFields[] = {
    {"temperature", Type::kNumber},
    {"top_p", Type::kNumber},
    {"top_k", Type::kInteger},
    {"min_p", Type::kNumber},
    {"seed", Type::kInteger},
    {"max_tokens", Type::kTokens},
    {"presence_penalty", Type::kNumber},
    {"frequency_penalty", Type::kNumber},
    {"repeat_penalty", Type::kNumber},
    {"repetition_penalty", Type::kNumber},
    {"stop", Type::kText},
    {"reasoning_effort", Type::kText},
    {"ignore_eos", Type::kFlag},
};

// What others call it.
std::string_view usual_name(std::string_view name) {
  if (name == "num_predict" || name == "n_predict") return "max_tokens";
  if (name == "temp") return "temperature";
  return name;
}

template <typename Number>
bool parse(std::string_view text, Number* out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *out);
  return error == std::errc() && end == text.data() + text.size();
}

Result<Json> parse_value(std::string_view name, Type type, std::string_view text) {
  const auto must_be = [&](std::string_view what) {
    return invalid_argument(fmt::format("{} must be {}, not {}", name, what, in_quotes(text)));
  };
  switch (type) {
    case Type::kNumber: {
      double value = 0;
      if (!parse(text, &value) || !std::isfinite(value)) return must_be("a number");
      return Json(value);
    }
    case Type::kInteger: {
      int64_t value = 0;
      if (!parse(text, &value)) return must_be("a whole number");
      return Json(value);
    }
    case Type::kTokens: {
      SHOAL_ASSIGN(const std::string plain, config::expand_tokens(text));
      int64_t value = 0;
      if (!parse(plain, &value)) return must_be("a number of tokens");
      return Json(value);
    }
    case Type::kFlag:
      if (text != "true" && text != "false") return must_be("true or false");
      return Json(text == "true");
    case Type::kText:
      if (text.empty()) return must_be("a text");
      return Json(std::string(text));
  }
  return must_be("something else");
}

}  // namespace

Status Settings::set(std::string_view name, std::string_view value) {
  name = usual_name(name);
  for (const auto& field : kFields) {
    if (field.name != name) continue;
    if (value == "default") {
      fields_.erase(std::string(name));
      return Status::ok();
    }
    SHOAL_ASSIGN(fields_[std::string(name)], parse_value(name, field.type, value));
    return Status::ok();
  }
  std::string names;
  for (const auto& field : kFields) names += (names.empty() ? "" : ", ") + std::string(field.name);
  return invalid_argument(
      fmt::format("there is no setting {}; there are {}", in_quotes(name), names));
}

Status Settings::set_pair(std::string_view pair) {
  const size_t equals = pair.find('=');
  if (equals == std::string_view::npos)
    return invalid_argument(in_quotes(pair) + " is not NAME=VALUE");
  return set(pair.substr(0, equals), pair.substr(equals + 1));
}

std::string Settings::text() const {
  std::string out;
  for (const auto& [name, value] : fields_.items())
    out += fmt::format("{}{} {}", out.empty() ? "" : ", ", name, excerpt(value.dump()));
  return out.empty() ? "none" : out;
}

}  // namespace shoal::chat
