#include "coordinator/gateway/parse_options.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/quote.h"

namespace shoal::gateway {
namespace {

constexpr size_t kMaxCacheSalt = 1024;  // enough for any hash or name; it is hashed once a request

constexpr size_t kMaxModelBytes = 256;

// The largest a worker takes.
constexpr double kMaxTemperature = 100;
// Below it logits would be divided beyond what floats hold, and no draw differs from the largest:
// the noise of one is less than 40.
constexpr float kLeastTemperature = 1e-5f;
constexpr double kLeastRepetition = 1e-3;  // likewise

void parse_sampling(FieldReader& fields, const RequestLimits& limits, wire::SamplingParams* out) {
  *out = limits.sampling;
  const auto set = [&](const char* name, NumberRange range, float* target) {
    if (const auto value = fields.number(name, range)) *target = static_cast<float>(*value);
  };
  set("temperature", {0, kMaxTemperature}, &out->temperature);
  // Hugging Face's word for greedy, whatever the temperature.
  const bool draws = fields.boolean("do_sample").value_or(true);
  if (!draws || out->temperature < kLeastTemperature) out->temperature = 0;
  set("top_p", {0, 1, true}, &out->top_p);
  set("min_p", {0, 1}, &out->min_p);
  set("presence_penalty", {-2, 2}, &out->presence);
  set("frequency_penalty", {-2, 2}, &out->frequency);
  set("repeat_penalty", {kLeastRepetition, 10}, &out->repetition);  // llama-server's name
  set("repetition_penalty", {kLeastRepetition, 10}, &out->repetition);
  // A double just above 0 may be 0 as a float, which would keep no token.
  if (out->top_p == 0.0f) fields.must("top_p", "above 0 and at most 1");
  if (const auto value = fields.integer("top_k", -1, INT32_MAX)) {
    out->top_k = *value < 0 ? 0 : static_cast<int32_t>(*value);
  }
}

void parse_logit_bias(FieldReader& fields, const RequestLimits& limits, wire::SamplingParams* out) {
  const Json* bias = fields.object("logit_bias");
  if (bias == nullptr) return;
  if (bias->size() > limits.max_logit_bias) {
    fields.must("logit_bias", fmt::format("at most {} entries", limits.max_logit_bias));
    return;
  }
  for (const auto& [key, value] : bias->get_ref<const Json::object_t&>()) {
    int32_t id = -1;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    if (error != std::errc() || end != key.data() + key.size() || id < 0 ||
        id >= limits.vocab_size) {
      fields.must("logit_bias",
                  fmt::format("keyed by token ids from 0 to {}", limits.vocab_size - 1));
      return;
    }
    for (const auto& entry : out->logit_bias) {  // "7" and "07" are the same token
      if (entry.first == id) {
        fields.fail("logit_bias", fmt::format("'logit_bias' names token {} twice", id));
        return;
      }
    }
    const double number = value.is_number() ? value.get<double>() : NAN;
    if (!(number >= -100 && number <= 100)) {
      // "7" may have been written with a megabyte of zeros before it.
      const std::string name = "logit_bias." + excerpt(key);
      fields.fail(name, fmt::format("'{}' must be a number from -100 to 100", name));
      return;
    }
    out->logit_bias.emplace_back(id, static_cast<float>(number));
  }
}

void parse_stop(FieldReader& fields, const RequestLimits& limits, GenerationOptions* out) {
  const auto add = [&](const std::string& name, const Json& value) {
    if (!value.is_string()) {
      fields.must(name, fmt::format("a string, not {}", json_kind(value)));
      return;
    }
    const auto& text = value.get_ref<const std::string&>();
    if (text.empty() || text.size() > limits.max_stop_bytes) {
      fields.must(name, fmt::format("1 to {} bytes long", limits.max_stop_bytes));
      return;
    }
    out->stop.push_back(text);
  };
  const Json* stop = fields.find("stop");
  if (stop != nullptr && stop->is_string() && stop->get_ref<const std::string&>().empty()) {
    // asks for nothing
  } else if (stop != nullptr && stop->is_array()) {
    if (stop->size() > limits.max_stop) {
      fields.must("stop", fmt::format("at most {} strings", limits.max_stop));
      return;
    }
    for (size_t i = 0; i < stop->size(); ++i) add(fmt::format("stop[{}]", i), (*stop)[i]);
  } else if (stop != nullptr && stop->is_string()) {
    add("stop", *stop);
  } else if (stop != nullptr) {
    fields.must("stop", fmt::format("a string or an array of strings, not {}", json_kind(*stop)));
  }
  if (const Json* ids = fields.array("stop_token_ids")) {
    if (ids->size() > limits.max_stop) {
      fields.must("stop_token_ids", fmt::format("at most {} ids", limits.max_stop));
      return;
    }
    parse_token_ids(fields, "stop_token_ids", *ids, limits.vocab_size, &out->stop_token_ids);
  }
}

void parse_max_tokens(FieldReader& fields, const RequestLimits& limits, GenerationOptions* out) {
  out->max_tokens = limits.max_tokens;
  // llama-server's name, OpenAI's old one, its new one: the last that is there counts. −1, and −2
  // of the first, are no limit but the context's.
  const struct {
    const char* name;
    int64_t low;
  } names[] = {{"n_predict", -2}, {"max_tokens", -1}, {"max_completion_tokens", -1}};
  for (const auto& [name, low] : names) {
    const auto value = fields.integer(name, low, INT32_MAX);
    if (!value) continue;
    if (*value == 0 && !out->echo)
      return fields.must(name, "at least 1, or -1 for no limit, not 0");
    out->max_tokens.reset();
    if (*value >= 0) out->max_tokens = static_cast<uint32_t>(*value);
  }
}

void parse_stream(FieldReader& fields, GenerationOptions* out) {
  out->stream = fields.boolean("stream").value_or(false);
  const Json* object = fields.object("stream_options");
  if (object == nullptr) return;
  if (!out->stream) {
    if (object->empty()) return;
    fields.fail("stream_options", "'stream_options' is only allowed with \"stream\": true");
    return;
  }
  std::optional<ApiError> error;
  FieldReader options(*object, "stream_options", &error);
  out->include_usage = options.boolean("include_usage").value_or(false);
  if (options.boolean("continuous_usage_stats").value_or(false)) {
    options.unsupported("continuous_usage_stats");
  }
  if (error) fields.fail(error->param, error->message, error->code);
}

// ---------------------------------------------------------------- known, not supported

enum class Harmless {  // values that ask for nothing, besides null, [], {} and ""
  kNull,               // only these
  kOnlyNull,           // only null: {} asks for it with its defaults, or for any JSON
  kAny,                // whatever it is
  kFalse,
  kTrue,
  kZero,
  kOne,
  kNoneOrAuto,     // "none", "auto"
  kAutoOrDefault,  // "auto", "default"
  kTextFormat,     // {"type": "text"}
  kTextOnly,       // ["text"]
};

struct KnownField {
  const char* name;
  Harmless harmless;
};

constexpr KnownField kBoth[] = {
    {"logits_processors", Harmless::kNull},
    {"guided_json", Harmless::kOnlyNull},
    {"guided_regex", Harmless::kNull},
    {"guided_choice", Harmless::kNull},
    {"guided_grammar", Harmless::kNull},
    {"guided_decoding_backend", Harmless::kNull},
    {"guided_whitespace_pattern", Harmless::kNull},
    {"structured_outputs", Harmless::kNull},
    {"structural_tag", Harmless::kNull},
    {"grammar", Harmless::kNull},
    {"json_schema", Harmless::kOnlyNull},
    {"response_format", Harmless::kTextFormat},
    {"prompt_logprobs", Harmless::kNull},
    {"use_beam_search", Harmless::kFalse},
    {"early_stopping", Harmless::kFalse},
    {"length_penalty", Harmless::kOne},
    {"min_tokens", Harmless::kZero},
    {"include_stop_str_in_output", Harmless::kFalse},
    {"skip_special_tokens", Harmless::kTrue},
    {"bad_words", Harmless::kNull},
    {"allowed_token_ids", Harmless::kNull},
    {"truncate_prompt_tokens", Harmless::kNull},
    {"typical_p", Harmless::kOne},
    {"tfs_z", Harmless::kOne},
    {"mirostat", Harmless::kZero},
    {"dry_multiplier", Harmless::kZero},
    {"xtc_probability", Harmless::kZero},
    {"dynatemp_range", Harmless::kZero},
    {"suffix", Harmless::kNull},
    // Parameters of Hugging Face's text generation, which its clients send to any endpoint.
    {"truncate", Harmless::kNull},
    {"watermark", Harmless::kFalse},
    {"decoder_input_details", Harmless::kFalse},
    {"top_n_tokens", Harmless::kZero},
    {"adapter_id", Harmless::kNull},
};

constexpr KnownField kChatOnly[] = {
    {"echo", Harmless::kFalse},
    {"return_full_text", Harmless::kFalse},
    {"tools", Harmless::kNull},
    {"tool_choice", Harmless::kNoneOrAuto},
    {"functions", Harmless::kNull},
    {"function_call", Harmless::kNoneOrAuto},
    {"audio", Harmless::kNull},
    {"modalities", Harmless::kTextOnly},
    {"prediction", Harmless::kNull},
    {"web_search_options", Harmless::kOnlyNull},
    {"store", Harmless::kAny},  // nothing is kept; nobody reads it back
    {"service_tier", Harmless::kAutoOrDefault},
    {"documents", Harmless::kNull},
    {"chat_template", Harmless::kNull},
    {"add_special_tokens", Harmless::kFalse},
    {"mm_processor_kwargs", Harmless::kNull},
};

bool is_string_in(const Json& value, std::string_view a, std::string_view b) {
  return value.is_string() &&
         (value.get_ref<const std::string&>() == a || value.get_ref<const std::string&>() == b);
}

bool asks_for_nothing(const Json& value, Harmless harmless) {
  if (harmless == Harmless::kOnlyNull) return false;  // null never gets here
  if ((value.is_structured() && value.empty()) || is_string_in(value, "", "")) return true;
  switch (harmless) {
    case Harmless::kNull:
    case Harmless::kOnlyNull:
      return false;
    case Harmless::kAny:
      return true;
    case Harmless::kFalse:
      return value.is_boolean() && !value.get<bool>();
    case Harmless::kTrue:
      return value.is_boolean() && value.get<bool>();
    case Harmless::kZero:
      return value.is_number() && value.get<double>() == 0;
    case Harmless::kOne:
      return value.is_number() && value.get<double>() == 1;
    case Harmless::kNoneOrAuto:
      return is_string_in(value, "none", "auto");
    case Harmless::kAutoOrDefault:
      return is_string_in(value, "auto", "default");
    case Harmless::kTextFormat:
      return value.is_object() && value.size() == 1 && value.contains("type") &&
             is_string_in(value["type"], "text", "text");
    case Harmless::kTextOnly:
      return value.is_array() && value.size() == 1 && is_string_in(value[0], "text", "text");
  }
  return false;
}

void refuse(FieldReader& fields, const KnownField& field) {
  const Json* value = fields.find(field.name);
  if (value != nullptr && !asks_for_nothing(*value, field.harmless)) {
    fields.unsupported(field.name);
  }
}

}  // namespace

bool parse_token_ids(FieldReader& fields, std::string_view name, const Json& array,
                     int32_t vocab_size, std::vector<int32_t>* out) {
  out->reserve(array.size());
  for (size_t i = 0; i < array.size(); ++i) {
    const std::optional<int64_t> id = as_integer(array[i]);
    if (!id || *id < 0 || *id >= vocab_size) {
      fields.must(fmt::format("{}[{}]", name, i),
                  fmt::format("a token id from 0 to {}", vocab_size - 1));
      return false;
    }
    out->push_back(static_cast<int32_t>(*id));
  }
  return true;
}

void refuse_unsupported(FieldReader& fields, AnswerKind kind) {
  for (const KnownField& field : kBoth) refuse(fields, field);
  if (kind != AnswerKind::kChat) return;
  // Tools that may not be called are nothing the answer depends on.
  const Json* choice = fields.find("tool_choice");
  const bool no_tools = choice != nullptr && is_string_in(*choice, "none", "none");
  for (const KnownField& field : kChatOnly) {
    if (!(no_tools && std::string_view(field.name) == "tools")) refuse(fields, field);
  }
}

void parse_options(FieldReader& fields, const RequestLimits& limits, GenerationOptions* out) {
  out->model = fields.string("model", kMaxModelBytes).value_or(limits.served_model);
  parse_stream(fields, out);
  out->n = static_cast<uint32_t>(fields.integer("n", 1, limits.max_n).value_or(1));
  // best_of equal to n asks for nothing beyond n.
  const auto best_of = fields.integer("best_of", 1, INT32_MAX);
  if (best_of && *best_of != out->n) fields.unsupported("best_of");
  parse_max_tokens(fields, limits, out);
  parse_sampling(fields, limits, &out->sampling);
  parse_logit_bias(fields, limits, &out->sampling);
  if (const auto seed = fields.integer("seed", INT64_MIN, INT64_MAX)) {
    out->seed = static_cast<uint64_t>(*seed);
  }
  parse_stop(fields, limits, out);
  out->cache_salt = fields.string("cache_salt", kMaxCacheSalt).value_or("");
  out->ignore_eos = fields.boolean("ignore_eos").value_or(false);
  out->return_token_ids = fields.boolean("return_token_ids").value_or(false);
}

}  // namespace shoal::gateway
