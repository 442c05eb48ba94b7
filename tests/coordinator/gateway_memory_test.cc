// What a request may make the gateway hold, with a real tokenizer and template: its size times the
// factor that docs/http-api.md states.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "coordinator/gateway/gateway.h"
#include "coordinator/gateway/model_codec.h"
#include "model/gguf.h"
#include "tests/coordinator/fake_service.h"
#include "tests/support/allocation_watch.h"
#include "tests/support/support.h"

namespace shoal::gateway {
namespace {

constexpr size_t kFactor = 128;
constexpr size_t kBodyBytes = 1 << 20;

class RecordingExchange final : public Exchange {
 public:
  void respond(HttpResponse response) override {
    status = response.status;
    body = std::move(response.body);
  }
  void start_stream(int, std::string, HttpHeaders) override {}
  void write(std::string) override {}
  void finish() override {}
  void note_tokens(uint64_t, uint64_t) override {}
  void post(std::function<void()>) override {}  // the core's part is bounded by the context
  void on_gone(std::function<void()>) override {}
  bool gone() const override { return false; }
  void after(Duration, std::function<void()>) override {}
  int status = 0;  // 0: the request went on to the core
  std::string body;
};

class GatewayMemory : public ::testing::Test {
 protected:
  void SetUp() override {
    file_ = std::make_unique<GgufFile>(
        GgufFile::open(shoal::testing::model_path("shoal-tiny-dense-q8_0.gguf")).value());
    codec_ = std::move(make_model_codec(*file_, 1 << 20).value().codec);
    service_.context = 1 << 30;  // nothing is refused for its length
    GatewayDependencies deps;
    deps.service = &service_;
    deps.codec = codec_.get();
    deps.wall_seconds = [] { return int64_t{0}; };
    deps.random = [] { return uint64_t{1}; };
    gateway_ = std::make_unique<Gateway>(std::move(deps), GatewayOptions{});
  }

  // Sends the body; expects that the most memory held meanwhile is within the bound.
  void measure(const std::string& path, std::string body) {
    auto request = std::make_shared<HttpRequest>();
    request->method = "POST";
    request->path = path;
    request->body = std::move(body);
    const size_t bytes = request->body.size();
    const std::string start = request->body.substr(0, 60);
    auto exchange = std::make_shared<RecordingExchange>();
    const size_t before = shoal::testing::live_bytes();
    shoal::testing::reset_peak_bytes();
    gateway_->handle(std::move(request), exchange);
    const size_t factor = (shoal::testing::peak_bytes() - before) / bytes;
    EXPECT_LE(factor, kFactor) << path << " " << start << ": " << exchange->status;
    RecordProperty("factor", static_cast<int>(factor));
    if (std::getenv("SHOAL_SHOW_MEMORY") != nullptr) {
      std::printf("%3zu x  %d  %-22s %s\n", factor, exchange->status, path.c_str(), start.c_str());
    }
  }

  testing::FakeService service_;
  std::unique_ptr<GgufFile> file_;
  std::unique_ptr<TextCodec> codec_;
  std::unique_ptr<Gateway> gateway_;
};

// `unit` again and again between the two, up to the size of the test's bodies.
std::string filled(const std::string& open, const std::string& unit, const std::string& close) {
  std::string body = open + unit;
  const std::string next = close.front() == '"' ? unit : "," + unit;
  while (body.size() < kBodyBytes) body += next;
  return body + close;
}

TEST_F(GatewayMemory, Texts) {
  for (const char* unit : {"a", " ", "\\n", "a b ", ". ", "hello world ", "\xf0\x9f\x98\x80",
                           "\\u0000", "<|im_end|>", "\xc3\xa9"}) {
    measure("/tokenize", filled("{\"content\":\"", unit, "\"}"));
    measure("/tokenize", filled("{\"with_pieces\":true,\"content\":\"", unit, "\"}"));
    measure("/v1/completions", filled("{\"prompt\":\"", unit, "\"}"));
    measure("/v1/chat/completions",
            filled(R"({"messages":[{"role":"user","content":")", unit, "\"}]}"));
  }
}

TEST_F(GatewayMemory, Arrays) {
  measure("/detokenize", filled("{\"tokens\":[", "1", "]}"));
  measure("/detokenize", filled("{\"tokens\":[", "300", "]}"));
  measure("/v1/completions", filled("{\"prompt\":[", "1", "]}"));
  measure("/v1/completions", filled("{\"prompt\":[", "\"a\"", "]}"));
  measure("/v1/completions", filled("{\"prompt\":\"a\",\"stop\":[", "\"a\"", "]}"));
  measure("/v1/chat/completions",
          filled("{\"messages\":[", R"({"role":"user","content":""})", "]}"));
  measure("/v1/chat/completions", filled("{\"messages\":[", R"({"role":"user","content":"a b"})",
                                         "],\"chat_template_kwargs\":{}}"));
}

TEST_F(GatewayMemory, JsonThatIsNotForUs) {
  for (const char* unit : {"1", "\"\"", "null", "[]", "{}", "0.5", "{\"a\":1}", "[1]"}) {
    measure("/v1/completions", filled("{\"prompt\":\"a\",\"x\":[", unit, "]}"));
    measure("/v1/chat/completions",
            filled(R"({"messages":[{"role":"user","content":"a"}],"chat_template_kwargs":{"x":[)",
                   unit, "]}}"));
  }
  std::string keys = "{\"prompt\":\"a\"";
  for (int i = 0; keys.size() < kBodyBytes; ++i) keys += ",\"k" + std::to_string(i) + "\":1";
  measure("/v1/completions", keys + "}");
}

}  // namespace
}  // namespace shoal::gateway
