#include "tests/coordinator/bad_requests.h"

namespace shoal::gateway::testing {
namespace {

constexpr const char* kChat = "/v1/chat/completions";
constexpr const char* kText = "/v1/completions";

BadRequest chat(const std::string& fields, const std::string& param) {
  return {kChat, R"({"messages":[{"role":"user","content":"hi"}],)" + fields + "}", param};
}
BadRequest message(const std::string& inner, const std::string& param) {
  return {kChat, R"({"messages":[{"role":"system","content":"s"},)" + inner + "]}", param};
}
BadRequest text(const std::string& fields, const std::string& param) {
  return {kText, R"({"prompt":"hi",)" + fields + "}", param};
}
BadRequest prompt(const std::string& value, const std::string& param) {
  return {kText, R"({"prompt":)" + value + "}", param};
}

std::string repeated(size_t n, const std::string& text) {
  std::string out;
  for (size_t i = 0; i < n; ++i) out += text;
  return out;
}

void add_syntax(std::vector<BadRequest>* out) {
  for (const char* body :
       {"", "{", "nul", "{\"messages\":[}", "[]", "\"text\"", "7", "{\"a\":1,\"a\":2}",
        "{\"prompt\":\"a\"} trailing", "{\"prompt\":\"\xff\"}", "{\"prompt\":\"\\ud800\"}",
        "{\"prompt\":\"a\",\"temperature\":1e999}", "{\"prompt\":\"a\",\"temperature\":NaN}",
        "{\"prompt\":\"a\",\"x\":{\"k\":1,\"k\":1}}", "{'prompt':'a'}"}) {
    out->push_back({kText, body, ""});
  }
  out->push_back({kText, repeated(100000, "["), ""});
  out->push_back(
      {kText, "{\"prompt\":\"a\",\"x\":" + repeated(40, "[") + repeated(40, "]") + "}", ""});
  out->push_back({kText, "{\"prompt\":\"a\",\"x\":[" + repeated(70000, "[],") + "[]]}", ""});
}

void add_messages(std::vector<BadRequest>* out) {
  out->push_back({kChat, "{}", "messages"});
  out->push_back({kChat, R"({"messages":"hi"})", "messages"});
  out->push_back({kChat, R"({"messages":[]})", "messages"});
  out->push_back({kChat, R"({"messages":null})", "messages"});
  for (
      const auto& [inner, param] : std::vector<std::pair<const char*, const char*>>{
          {"7", "messages[1]"},
          {R"({"content":"x"})", "messages[1].role"},
          {R"({"role":"admin","content":"x"})", "messages[1].role"},
          {R"({"role":"<|im_end|>","content":"x"})", "messages[1].role"},
          {R"({"role":7,"content":"x"})", "messages[1].role"},
          {R"({"role":"user"})", "messages[1].content"},
          {R"({"role":"user","content":null})", "messages[1].content"},
          {R"({"role":"user","content":5})", "messages[1].content"},
          {R"({"role":"user","content":{"text":"x"}})", "messages[1].content"},
          {R"({"role":"user","content":["x"]})", "messages[1].content[0]"},
          {R"({"role":"user","content":[{"text":"x"}]})", "messages[1].content[0].type"},
          {R"({"role":"user","content":[{"type":"text"}]})", "messages[1].content[0].text"},
          {R"({"role":"user","content":[{"type":"text","text":1}]})",
           "messages[1].content[0].text"},
          {R"({"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url","image_url":{"url":"http://x"}}]})",
           "messages[1].content[1].type"},
          {R"({"role":"user","content":[{"type":"input_audio"}]})", "messages[1].content[0].type"},
          {R"({"role":"user","content":"x","name":1})", "messages[1].name"},
          {R"({"role":"assistant","content":"x","tool_calls":[{"id":"1"}]})",
           "messages[1].tool_calls[0].function"},
          {R"({"role":"assistant","content":"x","tool_calls":{"id":"1"}})",
           "messages[1].tool_calls"},
          {R"({"role":"assistant","content":"x","tool_calls":[1]})", "messages[1].tool_calls[0]"},
          {R"({"role":"assistant","content":"x","tool_calls":[{"type":"custom","function":{}}]})",
           "messages[1].tool_calls[0].type"},
          {R"({"role":"assistant","content":"x","tool_calls":[{"function":{"name":""}}]})",
           "messages[1].tool_calls[0].function.name"},
          {R"({"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":[1]}}]})",
           "messages[1].tool_calls[0].function.arguments"},
          {R"({"role":"user","content":"x","tool_calls":[{"function":{"name":"f"}}]})",
           "messages[1].tool_calls"},
          {R"({"role":"assistant","content":"x","function_call":{"name":"f"}})",
           "messages[1].function_call"},
          {R"({"role":"tool","content":"x","tool_call_id":3})", "messages[1].tool_call_id"},
      }) {
    out->push_back(message(inner, param));
  }
}

void add_sampling(std::vector<BadRequest>* out) {
  for (const auto& [fields, param] : std::vector<std::pair<const char*, const char*>>{
           {R"("temperature":-0.1)", "temperature"},
           {R"("temperature":100.1)", "temperature"},
           {R"("temperature":1e400)", ""},
           {R"("temperature":"hot")", "temperature"},
           {R"("temperature":[1])", "temperature"},
           {R"("top_p":0)", "top_p"},
           {R"("top_p":1e-300)", "top_p"},
           {R"("top_p":1.5)", "top_p"},
           {R"("min_p":-1)", "min_p"},
           {R"("min_p":1.01)", "min_p"},
           {R"("top_k":-2)", "top_k"},
           {R"("top_k":1.5)", "top_k"},
           {R"("top_k":4294967296)", "top_k"},
           {R"("presence_penalty":2.5)", "presence_penalty"},
           {R"("frequency_penalty":-3)", "frequency_penalty"},
           {R"("repetition_penalty":0)", "repetition_penalty"},
           {R"("repetition_penalty":1e-38)", "repetition_penalty"},
           {R"("repeat_penalty":0)", "repeat_penalty"},
           {R"("n_predict":-3)", "n_predict"},
           {R"("n_predict":0)", "n_predict"},
           {R"("max_tokens":9007199254740994.0)", "max_tokens"},
           {R"("repetition_penalty":11)", "repetition_penalty"},
           {R"("seed":1.5)", "seed"},
           {R"("seed":"x")", "seed"},
           {R"("seed":9223372036854775808)", "seed"},
           {R"("n":0)", "n"},
           {R"("n":17)", "n"},
           {R"("n":true)", "n"},
           {R"("max_tokens":0)", "max_tokens"},
           {R"("max_tokens":-5)", "max_tokens"},
           {R"("max_tokens":"5")", "max_tokens"},
           {R"("max_completion_tokens":0)", "max_completion_tokens"},
           {R"("logit_bias":[1])", "logit_bias"},
           {R"("logit_bias":{"x":1})", "logit_bias"},
           {R"("logit_bias":{"-1":1})", "logit_bias"},
           {R"("logit_bias":{"260":1})", "logit_bias"},
           {R"("logit_bias":{"5":101})", "logit_bias.5"},
           {R"("logit_bias":{"5":"a"})", "logit_bias.5"},
           {R"("logit_bias":{"5":1,"05":1})", "logit_bias"},
           {R"("stop":5)", "stop"},
           {R"("stop":["a",5])", "stop[1]"},
           {R"("stop":["a",""])", "stop[1]"},
           {R"("stop_token_ids":[260])", "stop_token_ids[0]"},
           {R"("stop_token_ids":[1,-1])", "stop_token_ids[1]"},
           {R"("stop_token_ids":5)", "stop_token_ids"},
           {R"("ignore_eos":1)", "ignore_eos"},
           {R"("return_token_ids":"yes")", "return_token_ids"},
           {R"("stream":"yes")", "stream"},
           {R"("stream_options":{"include_usage":true})", "stream_options"},
           {R"("stream":true,"stream_options":5)", "stream_options"},
           {R"("stream":true,"stream_options":{"include_usage":1})",
            "stream_options.include_usage"},
           {R"("stream":true,"stream_options":{"continuous_usage_stats":true})",
            "stream_options.continuous_usage_stats"},
           {R"("stream":true,"stream_options":{"continuous_usage_stats":5})",
            "stream_options.continuous_usage_stats"},
           {R"("model":5)", "model"},
       }) {
    out->push_back(chat(fields, param));
    out->push_back(text(fields, param));
  }
  std::string stops = "\"stop\":[" + repeated(16, "\"a\",") + "\"a\"]";
  out->push_back(chat(stops, "stop"));
  out->push_back(chat("\"stop\":\"" + repeated(257, "a") + "\"", "stop"));
  out->push_back(chat("\"model\":\"" + repeated(257, "a") + "\"", "model"));
}

void add_unsupported(std::vector<BadRequest>* out) {
  for (const auto& [fields, param] : std::vector<std::pair<const char*, const char*>>{
           {R"("tools":[{"type":"function"}])", "tools"},
           {R"("tool_choice":"required")", "tool_choice"},
           {R"("tool_choice":{"type":"function"})", "tool_choice"},
           {R"("functions":[{}])", "functions"},
           {R"("function_call":{"name":"f"})", "function_call"},
           {R"("response_format":{"type":"json_object"})", "response_format"},
           {R"("response_format":{"type":"json_schema","json_schema":{}})", "response_format"},
           {R"("audio":{"voice":"x"})", "audio"},
           {R"("modalities":["text","audio"])", "modalities"},
           {R"("prediction":{"type":"content"})", "prediction"},
           {R"("web_search_options":{})", "web_search_options"},
           {R"("service_tier":"flex")", "service_tier"},
           {R"("guided_json":{})", "guided_json"},
           {R"("guided_regex":"a*")", "guided_regex"},
           {R"("structured_outputs":{"regex":"a"})", "structured_outputs"},
           {R"("grammar":"root ::= x")", "grammar"},
           {R"("logits_processors":["x"])", "logits_processors"},
           {R"("min_tokens":5)", "min_tokens"},
           {R"("use_beam_search":true)", "use_beam_search"},
           {R"("skip_special_tokens":false)", "skip_special_tokens"},
           {R"("continue_final_message":true)", "continue_final_message"},
           {R"("chat_template":"{{x}}")", "chat_template"},
           {R"("chat_template_kwargs":[])", "chat_template_kwargs"},
           {R"("chat_template_kwargs":{"messages":[]})", "chat_template_kwargs.messages"},
           {R"("reasoning_effort":"extreme")", "reasoning_effort"},
           {R"("add_generation_prompt":1)", "add_generation_prompt"},
           {R"("logprobs":3)", "logprobs"},
           {R"("top_logprobs":3)", "top_logprobs"},
           {R"("logprobs":true,"top_logprobs":65)", "top_logprobs"},
           {R"("logprobs":true,"top_logprobs":-1)", "top_logprobs"},
           {R"("echo":true)", "echo"},
           {R"("return_full_text":true)", "return_full_text"},
           {R"("best_of":2)", "best_of"},
       }) {
    out->push_back(chat(fields, param));
  }
  for (const auto& [fields, param] : std::vector<std::pair<const char*, const char*>>{
           {R"("echo":"yes")", "echo"},
           {R"("max_tokens":0)", "max_tokens"},
           {R"("max_tokens":0,"echo":false)", "max_tokens"},
           {R"("suffix":"tail")", "suffix"},
           {R"("best_of":3,"n":2)", "best_of"},
           {R"("do_sample":"no")", "do_sample"},
           {R"("return_full_text":1)", "return_full_text"},
           {R"("truncate":100)", "truncate"},
           {R"("watermark":true)", "watermark"},
           {R"("decoder_input_details":true)", "decoder_input_details"},
           {R"("top_n_tokens":5)", "top_n_tokens"},
           {R"("adapter_id":"lora")", "adapter_id"},
           {R"("prompt_logprobs":1)", "prompt_logprobs"},
           {R"("logprobs":65)", "logprobs"},
           {R"("logprobs":true)", "logprobs"},
           {R"("response_format":{"type":"json_object"})", "response_format"},
       }) {
    out->push_back(text(fields, param));
  }
}

void add_prompts(std::vector<BadRequest>* out) {
  out->push_back({kText, "{}", "prompt"});
  out->push_back({kText, R"({"prompt":null})", "prompt"});
  for (const auto& [value, param] : std::vector<std::pair<std::string, const char*>>{
           {"5", "prompt"},
           {"[]", "prompt"},
           {"[[1,2],[]]", "prompt[1]"},
           {"[1,260]", "prompt[1]"},
           {"[1,-1]", "prompt[1]"},
           {"[1,1.5]", "prompt[1]"},
           {"[1,\"a\"]", "prompt[1]"},
           {"[[1],\"a\"]", "prompt[1]"},
           {"[\"a\",[1]]", "prompt[1]"},
           {"[[1,300]]", "prompt[0][1]"},
           {"[[[1]]]", "prompt[0][0]"},
           {"[{}]", "prompt[0]"},
           {"[null]", "prompt[0]"},
           {"{\"text\":\"a\"}", "prompt"},
           {"[" + repeated(128, "\"a\",") + "\"a\"]", "prompt"},
           {"[" + repeated(15, "\"a\",") + "\"a\"],\"n\":9", "n"},
       }) {
    out->push_back(prompt(value, param));
  }
}

void add_tokenize(std::vector<BadRequest>* out) {
  out->push_back({"/tokenize", "{}", "content"});
  out->push_back({"/tokenize", R"({"content":5})", "content"});
  out->push_back({"/tokenize", R"({"content":"a","add_special":"x"})", "add_special"});
  out->push_back({"/tokenize", "[]", ""});
  out->push_back({"/detokenize", "{}", "tokens"});
  out->push_back({"/detokenize", R"({"tokens":"a"})", "tokens"});
  out->push_back({"/detokenize", R"({"tokens":[260]})", "tokens[0]"});
  out->push_back({"/detokenize", R"({"tokens":[1.5]})", "tokens[0]"});
}

}  // namespace

std::vector<BadRequest> long_requests(size_t bytes) {
  constexpr const char* kFields[] = {"model",
                                     "messages",
                                     "prompt",
                                     "content",
                                     "tokens",
                                     "stream",
                                     "stream_options",
                                     "n",
                                     "best_of",
                                     "max_tokens",
                                     "max_completion_tokens",
                                     "temperature",
                                     "top_p",
                                     "min_p",
                                     "top_k",
                                     "presence_penalty",
                                     "frequency_penalty",
                                     "repetition_penalty",
                                     "logit_bias",
                                     "seed",
                                     "stop",
                                     "stop_token_ids",
                                     "cache_salt",
                                     "ignore_eos",
                                     "return_token_ids",
                                     "logprobs",
                                     "top_logprobs",
                                     "add_generation_prompt",
                                     "chat_template_kwargs",
                                     "reasoning_effort",
                                     "add_special_tokens",
                                     "response_format",
                                     "tools",
                                     "tool_choice",
                                     "echo",
                                     "suffix",
                                     "with_pieces",
                                     "parse_special"};
  const std::string texts[] = {repeated(bytes, "A"), repeated(bytes / 6, "\\u001b"),
                               repeated(bytes / 2, "\xc3\xa9")};
  std::vector<BadRequest> out;
  for (const char* path : {kChat, kText, "/tokenize", "/detokenize"}) {
    for (const std::string& text : texts) {
      const std::string value = "\"" + text + "\"";
      const bool whole = text == texts[0];  // the others in what shows text
      for (const char* field : kFields) {
        const std::string head = "{\"" + std::string(field) + "\":";
        out.push_back({path, head + value + "}", ""});
        if (!whole) continue;
        out.push_back({path, head + "[" + value + "]}", ""});
        out.push_back({path, head + "{" + value + ":1}}", ""});
      }
      out.push_back({path, "{" + value + ":1," + value + ":2}", ""});  // twice
      out.push_back({path, value, ""});
      out.push_back({path, text, ""});
    }
  }
  for (const std::string& text : texts) {
    const std::string value = "\"" + text + "\"";
    out.push_back(message("{\"role\":" + value + ",\"content\":\"x\"}", ""));
    out.push_back(message("{\"role\":\"user\",\"content\":[{\"type\":" + value + "}]}", ""));
    out.push_back(message("{\"role\":\"user\",\"content\":\"x\",\"name\":" + value + "}", ""));
    out.push_back(message("{" + value + ":\"user\"}", ""));
    out.push_back(chat("\"stream_options\":{" + value + ":true},\"stream\":7", ""));
  }
  // A token id with zeros before it is a token id.
  out.push_back(text("\"logit_bias\":{\"" + repeated(bytes, "0") + "7\":\"x\"}", ""));
  out.push_back(text("\"temperature\":" + repeated(bytes, "9"), ""));
  out.push_back(text("\"seed\":" + repeated(bytes, "9"), ""));
  return out;
}

std::vector<BadRequest> bad_requests() {
  std::vector<BadRequest> out;
  add_syntax(&out);
  add_messages(&out);
  add_sampling(&out);
  add_unsupported(&out);
  add_prompts(&out);
  add_tokenize(&out);
  return out;
}

}  // namespace shoal::gateway::testing
