// The request parsers: every bad request names its field, good ones arrive complete.
#include <gtest/gtest.h>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "coordinator/gateway/api_request.h"
#include "tests/coordinator/bad_requests.h"
#include "tests/coordinator/gateway_fakes.h"

namespace shoal::gateway {
namespace {

RequestLimits limits() {
  RequestLimits out;
  out.vocab_size = testing::kVocab;
  out.served_model = "served";
  return out;
}

std::optional<ApiError> parse_any(const std::string& path, const std::string& body) {
  auto json = parse_json(body);
  if (!json) return invalid_field("", json.status().message());
  const auto error_of = [](auto parsed) -> std::optional<ApiError> {
    if (auto* error = std::get_if<ApiError>(&parsed)) return *error;
    return std::nullopt;
  };
  if (path == "/v1/chat/completions") return error_of(parse_chat_request(*json, limits()));
  if (path == "/v1/completions") return error_of(parse_completion_request(*json, limits()));
  if (path == "/tokenize") return error_of(parse_tokenize_request(*json));
  return error_of(parse_detokenize_request(*json, limits()));
}

TEST(GatewayParse, BadRequestsNameTheirField) {
  const auto table = testing::bad_requests();
  EXPECT_GE(table.size(), 150u);
  for (const auto& bad : table) {
    const std::string shown = bad.body.substr(0, 200);
    const auto error = parse_any(bad.path, bad.body);
    ASSERT_TRUE(error.has_value()) << bad.path << " accepted " << shown;
    EXPECT_EQ(error->status, 400) << shown;
    EXPECT_EQ(error->param, bad.param) << shown << "\n" << error->message;
    EXPECT_FALSE(error->message.empty()) << shown;
    EXPECT_LE(error->message.size(), 600u) << shown;
    if (!bad.param.empty()) {
      EXPECT_NE(error->message.find(bad.param.substr(0, bad.param.find('.'))), std::string::npos)
          << error->message;
    }
  }
}

ChatRequest chat(const std::string& body) {
  auto parsed = parse_chat_request(parse_json(body).value(), limits());
  if (auto* error = std::get_if<ApiError>(&parsed)) {
    ADD_FAILURE() << error->param << ": " << error->message;
    return {};
  }
  return std::get<ChatRequest>(std::move(parsed));
}

CompletionRequest completion(const std::string& body) {
  auto parsed = parse_completion_request(parse_json(body).value(), limits());
  if (auto* error = std::get_if<ApiError>(&parsed)) {
    ADD_FAILURE() << error->param << ": " << error->message;
    return {};
  }
  return std::get<CompletionRequest>(std::move(parsed));
}

TEST(GatewayParse, EveryFieldArrives) {
  const ChatRequest got = chat(R"({"model":"any/name","messages":[
      {"role":"developer","content":"be brief"},
      {"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}],"name":"N"},
      {"role":"assistant","content":"ok","refusal":null,"tool_calls":[]},
      {"role":"tool","content":"r","tool_call_id":"id1"}],
      "max_completion_tokens":7,"temperature":0.5,"top_p":0.9,"top_k":-1,"min_p":0.05,"n":3,
      "stop":["x","yy"],"stop_token_ids":[3,4],"seed":-5,"presence_penalty":1,"frequency_penalty":-1,
      "repetition_penalty":1.1,"logit_bias":{"5":-100,"6":1.5},"logprobs":true,"top_logprobs":20,
      "stream":true,"stream_options":{"include_usage":true},"ignore_eos":true,
      "return_token_ids":true,"add_generation_prompt":false,"reasoning_effort":"low",
      "chat_template_kwargs":{"enable_thinking":false},"user":"u","metadata":{"a":"b"},"zzz":[1]})");
  const GenerationOptions& options = got.options;
  EXPECT_EQ(options.model, "any/name");
  EXPECT_EQ(
      got.messages->dump(),
      R"([{"role":"system","content":"be brief"},{"role":"user","content":"a\nb","name":"N"},)"
      R"({"role":"assistant","content":"ok"},)"
      R"({"role":"tool","content":"r","tool_call_id":"id1"}])");
  EXPECT_EQ(options.max_tokens, 7u);
  EXPECT_FLOAT_EQ(options.sampling.temperature, 0.5f);
  EXPECT_FLOAT_EQ(options.sampling.top_p, 0.9f);
  EXPECT_EQ(options.sampling.top_k, 0);
  EXPECT_FLOAT_EQ(options.sampling.min_p, 0.05f);
  EXPECT_EQ(options.n, 3u);
  EXPECT_EQ(options.stop, (std::vector<std::string>{"x", "yy"}));
  EXPECT_EQ(options.stop_token_ids, (std::vector<int32_t>{3, 4}));
  EXPECT_EQ(options.seed, static_cast<uint64_t>(-5));
  EXPECT_FLOAT_EQ(options.sampling.presence, 1);
  EXPECT_FLOAT_EQ(options.sampling.frequency, -1);
  EXPECT_FLOAT_EQ(options.sampling.repetition, 1.1f);
  EXPECT_EQ(options.sampling.logit_bias,
            (std::vector<std::pair<int32_t, float>>{{5, -100.f}, {6, 1.5f}}));
  EXPECT_EQ(options.sampling.top_logprobs, 20);
  EXPECT_TRUE(options.stream && options.include_usage);
  EXPECT_TRUE(options.ignore_eos && options.return_token_ids);
  EXPECT_FALSE(got.add_generation_prompt);
  EXPECT_EQ(got.template_arguments->dump(),
            R"({"enable_thinking":false,"reasoning_effort":"low"})");
}

TEST(GatewayParse, DefaultsAndHarmlessValues) {
  const ChatRequest got = chat(R"({"messages":[{"role":"user","content":""}],"max_tokens":null,
      "temperature":null,"stop":null,"n":null,"seed":null,"tools":[],"tool_choice":"none",
      "functions":null,"response_format":{"type":"text"},"modalities":["text"],"store":false,
      "service_tier":"auto","logprobs":false,"top_logprobs":0,"min_tokens":0,"echo":false,
      "best_of":1,"logit_bias":{},"parallel_tool_calls":true,"stream_options":null,"length_penalty":1})");
  EXPECT_EQ(got.options.model, "served");
  EXPECT_FALSE(got.options.max_tokens.has_value());
  EXPECT_FALSE(got.options.seed.has_value());
  EXPECT_EQ(got.options.n, 1u);
  EXPECT_FLOAT_EQ(got.options.sampling.temperature, 1);
  EXPECT_FALSE(got.options.logprobs());
  EXPECT_TRUE(got.add_generation_prompt);
  EXPECT_EQ(chat(R"({"messages":[{"role":"user","content":"a"}],"logprobs":true})")
                .options.sampling.top_logprobs,
            0);
}

const char* const kHello = R"("messages":[{"role":"user","content":"a"}])";

GenerationOptions options_of(const std::string& fields) {
  const GenerationOptions options = chat(fmt::format("{{{},{}}}", kHello, fields)).options;
  const GenerationOptions same = completion(fmt::format(R"({{"prompt":"a",{}}})", fields)).options;
  EXPECT_EQ(options.max_tokens, same.max_tokens) << fields;
  EXPECT_EQ(options.sampling.temperature, same.sampling.temperature) << fields;
  return options;
}

// What the server's configuration says counts for requests that do not say.
TEST(GatewayParse, TheServersDefaults) {
  RequestLimits limits;
  limits.vocab_size = 300;
  limits.sampling.temperature = 0.25f;
  limits.sampling.top_k = 7;
  limits.sampling.repetition = 1.5f;
  limits.max_tokens = 9;
  const auto options = [&](const std::string& fields) {
    const auto parsed =
        parse_completion_request(Json::parse(R"({"prompt":"a")" + fields + "}"), limits);
    return std::get<CompletionRequest>(parsed).options;
  };
  const auto silent = options(R"(,"temperature":null)");
  EXPECT_EQ(silent.sampling.temperature, 0.25f);
  EXPECT_EQ(silent.sampling.top_k, 7);
  EXPECT_EQ(silent.sampling.repetition, 1.5f);
  EXPECT_EQ(silent.max_tokens, 9u);
  const auto says = options(R"(,"temperature":1,"top_k":-1,"repeat_penalty":1,"max_tokens":-1)");
  EXPECT_EQ(says.sampling.temperature, 1.0f);
  EXPECT_EQ(says.sampling.top_k, 0);
  EXPECT_EQ(says.sampling.repetition, 1.0f);
  EXPECT_EQ(says.max_tokens, std::nullopt);
}

TEST(GatewayParse, LimitsOfTheAnswer) {
  const std::pair<const char*, std::optional<uint32_t>> cases[] = {
      {R"("max_tokens":-1)", {}},
      {R"("max_tokens":null)", {}},
      {R"("max_tokens":7)", 7},
      {R"("max_tokens":7.0)", 7},
      {R"("max_tokens":1e3)", 1000},
      {R"("max_completion_tokens":-1)", {}},
      {R"("max_tokens":5,"max_completion_tokens":6)", 6},
      {R"("max_completion_tokens":6,"max_tokens":5)", 6},
      {R"("max_tokens":5,"max_completion_tokens":-1)", {}},
      {R"("max_tokens":5,"max_completion_tokens":null)", 5},
      {R"("n_predict":9)", 9},
      {R"("n_predict":-1)", {}},
      {R"("n_predict":-2)", {}},
      {R"("n_predict":9,"max_tokens":4)", 4},
  };
  for (const auto& [fields, wanted] : cases) {
    EXPECT_EQ(options_of(fields).max_tokens, wanted) << fields;
  }
}

// Numbers that floats cannot bear are what they come to.
TEST(GatewayParse, NumbersAtTheirLimits) {
  const std::pair<const char*, float> temperatures[] = {
      {"0", 0},        {"-0.0", 0},   {"1e-300", 0},   {"1e-38", 0}, {"9e-6", 0},
      {"1e-4", 1e-4f}, {"2.1", 2.1f}, {"99.5", 99.5f}, {"100", 100}};
  for (const auto& [text, wanted] : temperatures) {
    EXPECT_EQ(options_of(fmt::format(R"("temperature":{})", text)).sampling.temperature, wanted)
        << text;
  }
  EXPECT_EQ(options_of(R"("do_sample":false,"temperature":1.5)").sampling.temperature, 0);
  EXPECT_EQ(options_of(R"("do_sample":true,"temperature":1.5)").sampling.temperature, 1.5f);
  EXPECT_EQ(options_of(R"("do_sample":null)").sampling.temperature, 1);
  EXPECT_EQ(options_of(R"("top_k":40.0)").sampling.top_k, 40);
  EXPECT_EQ(options_of(R"("seed":-3.0)").seed, static_cast<uint64_t>(-3));
  EXPECT_EQ(options_of(R"("stop_token_ids":[3.0,4])").stop_token_ids, (std::vector<int32_t>{3, 4}));
  EXPECT_EQ(std::get<std::vector<int32_t>>(completion(R"({"prompt":[1.0,2]})").prompts.at(0)),
            (std::vector<int32_t>{1, 2}));
  EXPECT_FLOAT_EQ(options_of(R"("repeat_penalty":1.2)").sampling.repetition, 1.2f);
  EXPECT_FLOAT_EQ(
      options_of(R"("repeat_penalty":1.2,"repetition_penalty":1.3)").sampling.repetition, 1.3f);
  EXPECT_FLOAT_EQ(options_of(R"("repetition_penalty":0.001)").sampling.repetition, 0.001f);
}

// One rule for all fields: null, [], {} and "" ask for nothing.
TEST(GatewayParse, EmptyValuesAskForNothing) {
  for (const char* field : {"tools", "tool_choice", "functions", "function_call", "response_format",
                            "grammar", "structured_outputs", "audio", "modalities", "prediction",

                            "service_tier", "documents", "chat_template", "suffix", "bad_words",
                            "allowed_token_ids", "logits_processors", "store"}) {
    for (const char* empty : {"null", "[]", "{}", R"("")"}) {
      (void)options_of(fmt::format(R"("{}":{})", field, empty));
    }
  }
  for (const char* fields : {R"("stop":"")", R"("stop":[])", R"("stream_options":{})",
                             R"("logit_bias":{})", R"("stop_token_ids":[])"}) {
    EXPECT_TRUE(options_of(fields).stop.empty()) << fields;
  }
  for (const char* fields :
       {R"("store":true)", R"("store":false)", R"("service_tier":"default")",
        R"("service_tier":"auto")", R"("return_full_text":false)",
        R"("watermark":false,"decoder_input_details":false,"top_n_tokens":0)"}) {
    (void)chat(fmt::format("{{{},{}}}", kHello, fields));
  }
}

// An answer without text comes back as clients keep it.
TEST(GatewayParse, AnAssistantMayHaveSaidNothing) {
  for (const char* fields :
       {R"("content":null)", R"("content":null,"refusal":"")", R"("refusal":null,"tool_calls":[])",
        R"("content":"","function_call":null,"audio":{})", R"("tool_calls":null)"}) {
    const ChatRequest got = chat(
        fmt::format(R"({{"messages":[{{"role":"user","content":"a"}},{{"role":"assistant",{}}},)"
                    R"({{"role":"user","content":"b"}}]}})",
                    fields));
    ASSERT_TRUE(got.messages) << fields;
    EXPECT_EQ((*got.messages)[1].dump(), R"({"role":"assistant","content":""})") << fields;
  }
}

// The prompt before the answer, in OpenAI's word and Hugging Face's.
TEST(GatewayParse, WhatEchoes) {
  const std::pair<const char*, bool> cases[] = {
      {R"("echo":true)", true},
      {R"("return_full_text":true)", true},
      {R"("return_full_text":false)", false},
      {R"("return_full_text":true,"echo":null)", true},
      {R"("return_full_text":true,"echo":false)", false},
  };
  for (const auto& [fields, wanted] : cases) {
    EXPECT_EQ(completion(fmt::format(R"({{"prompt":"a",{}}})", fields)).options.echo, wanted)
        << fields;
  }
}

TEST(GatewayParse, PromptForms) {
  EXPECT_EQ(std::get<std::string>(completion(R"({"prompt":"a b"})").prompts.at(0)), "a b");
  const auto tokens = completion(R"({"prompt":[1,2,259],"best_of":2,"n":2,"logprobs":0})");
  EXPECT_EQ(std::get<std::vector<int32_t>>(tokens.prompts.at(0)),
            (std::vector<int32_t>{1, 2, 259}));
  EXPECT_EQ(tokens.options.sampling.top_logprobs, 0);
  EXPECT_EQ(completion(R"({"prompt":["a","b"]})").prompts.size(), 2u);
  EXPECT_EQ(completion(R"({"prompt":[[1],[2,3]]})").prompts.size(), 2u);
  EXPECT_FALSE(completion(R"({"prompt":"a","add_special_tokens":false})").add_special);
}

TEST(GatewayParse, ManyKeysStayFastAndDuplicatesAreSeen) {
  std::string body = "{";
  for (int i = 0; i < 200000; ++i) body += "\"k" + std::to_string(i) + "\":1,";
  EXPECT_TRUE(parse_json(body + "\"last\":1}"));
  const auto twice = parse_json(body + "\"k77\":1}");
  ASSERT_FALSE(twice);
  EXPECT_NE(twice.status().message().find("'k77'"), std::string::npos);
}

TEST(GatewayParse, ErrorsStayShortAndValid) {
  const auto broken = parse_json("\"" + std::string(1 << 20, 'a'));
  ASSERT_FALSE(broken);
  EXPECT_LE(broken.status().message().size(), 300u);
  const Json body = Json::parse(error_body(invalid_field("p\xff", "m\xff\"")));
  EXPECT_EQ(body["error"]["code"], "invalid_value");
  EXPECT_EQ(body["error"]["type"], "invalid_request_error");
}

}  // namespace
}  // namespace shoal::gateway
