// The parts of `shoal chat` that need neither terminal nor server.
#include <gtest/gtest.h>

#include "base/rng.h"
#include "base/utf8.h"
#include "cli/chat/answer.h"
#include "cli/chat/conversation.h"
#include "cli/chat/endpoint.h"
#include "cli/chat/event_stream.h"
#include "cli/chat/session.h"
#include "cli/chat/settings.h"
#include "cli/chat/text.h"
#include "tests/support/support.h"

namespace shoal::chat {
namespace {

using std::chrono::milliseconds;

TEST(Endpoint, EveryWayToWriteIt) {
  const struct {
    const char *url, *base, *query;
    bool loopback;
  } cases[] = {
      {"http://127.0.0.1:8080", "http://127.0.0.1:8080/v1", "", true},
      {"http://127.0.0.1:8080/v1", "http://127.0.0.1:8080/v1", "", true},
      {" http://127.9.9.9:8080/v1/ \n", "http://127.9.9.9:8080/v1", "", true},
      {"localhost:8080", "http://localhost:8080/v1", "", true},
      {"LOCALHOST", "http://LOCALHOST/v1", "", true},
      {"a.localhost.:1", "http://a.localhost.:1/v1", "", true},
      {"[::1]:8080", "http://[::1]:8080/v1", "", true},
      {"http://[::ffff:127.0.0.1]/", "http://[::ffff:127.0.0.1]/v1", "", true},
      {"http://[::]:1", "http://[::]:1/v1", "", true},
      {"0.0.0.0:8080", "http://0.0.0.0:8080/v1", "", true},
      {"http://128.0.0.1", "http://128.0.0.1/v1", "", false},
      {"http://[fe80::1]", "http://[fe80::1]/v1", "", false},
      {"notlocalhost", "http://notlocalhost/v1", "", false},
      {"https://host/a/b", "https://host/a/b/v1", "", false},
      {"https://host//a/v1//", "https://host/a/v1", "", false},
      {"https://host/api/v4", "https://host/api/v4", "", false},
      {"https://host/v1beta/openai/", "https://host/v1beta/openai", "", false},
      {"https://host/vision", "https://host/vision/v1", "", false},
      {"https://host/v1/chat/completions", "https://host/v1", "", false},
      {"https://host/chat/completions", "https://host/v1", "", false},
      {"https://host/v1/models", "https://host/v1", "", false},
      {"https://host/v1?api-version=3#there", "https://host/v1", "?api-version=3", false},
  };
  for (const auto& c : cases) {
    const auto endpoint = parse_endpoint(c.url);
    ASSERT_TRUE(endpoint.is_ok()) << c.url << ": " << endpoint.status().message();
    EXPECT_EQ(endpoint->base, c.base) << c.url;
    EXPECT_EQ(endpoint->query, c.query) << c.url;
    EXPECT_EQ(endpoint->loopback, c.loopback) << c.url;
    EXPECT_EQ(endpoint->url("/models"), std::string(c.base) + "/models" + c.query);
    EXPECT_EQ(parse_endpoint(endpoint->base)->base, endpoint->base) << "twice is once";
  }
  const auto secret = parse_endpoint("https://me:word@host");
  EXPECT_EQ(secret->base, "https://me:word@host/v1");
  EXPECT_EQ(secret->shown, "https://host/v1");
  for (const char* url : {"", "  ", "http://", "ftp://host", "file:///etc/passwd", "http://a b",
                          "http://host:70000", "http://[::1", "unix://x"}) {
    const auto endpoint = parse_endpoint(url);
    ASSERT_FALSE(endpoint.is_ok()) << url;
    EXPECT_EQ(endpoint.status().code(), Code::kInvalidArgument);
    EXPECT_EQ(endpoint.status().message().rfind("--url '", 0), 0u) << endpoint.status().message();
  }
}

// What the stream's events say, read in pieces of these sizes.
std::vector<std::string> events_of(std::string_view bytes, const std::function<size_t()>& piece) {
  std::vector<std::string> out;
  EventStream stream([&](std::string_view data, bool last) {
    const bool whole = data.ends_with('}') || data == "[DONE]";
    if (whole || last) out.emplace_back(data);
    return whole;
  });
  for (size_t at = 0; at < bytes.size();) {
    const size_t n = std::min(piece(), bytes.size() - at);
    EXPECT_TRUE(stream.feed(bytes.substr(at, n)).is_ok());
    at += n;
  }
  stream.finish();
  return out;
}

TEST(EventStream, SaysTheSameHoweverItIsCut) {
  const struct {
    std::string bytes;
    std::vector<std::string> events;
  } cases[] = {
      {"data: {a}\n\ndata: [DONE]\n\n", {"{a}", "[DONE]"}},
      {"data:{a}\r\n\r\ndata:[DONE]\r\n\r\n", {"{a}", "[DONE]"}},
      {"data: {a}\r\rdata: {b}\r\r", {"{a}", "{b}"}},
      {"data: {a}\ndata: {b}\n", {"{a}", "{b}"}},
      {"data: {a\ndata: \ndata:  b}\n\n", {"{a\n\n b}"}},
      {"\xef\xbb\xbf"
       "data: {a}\n\n",
       {"{a}"}},
      {": data: {x}\nevent: data\nid:{x}\ndata\n\ndata: {a}", {"{a}"}},
      {"error: {a}\n\n", {"{a}"}},
      {"data: unfinished\n\ndata: {a}\n\n", {"unfinished", "{a}"}},
      {"DATA: {x}\ndatax: {x}\n data: {x}\n\n", {}},
      {"", {}},
      {"\n\n\r\r\n\n", {}},
  };
  const uint64_t seed = testing::test_seed(1);
  Rng rng(seed);
  for (const auto& c : cases) {
    EXPECT_EQ(events_of(c.bytes, [] { return size_t{1}; }), c.events) << c.bytes;
    EXPECT_EQ(events_of(c.bytes, [] { return size_t{1} << 20; }), c.events) << c.bytes;
    for (int i = 0; i < 50; ++i) {
      EXPECT_EQ(events_of(c.bytes, [&] { return 1 + rng.below(9); }), c.events)
          << c.bytes << " seed " << seed;
    }
  }
}

TEST(EventStream, AnEventHasABound) {
  EventStream stream([](std::string_view, bool) { return false; });
  const std::string piece(size_t{8} << 20, 'x');
  Status status;
  for (int i = 0; i < 9 && status.is_ok(); ++i) status = stream.feed(piece);
  EXPECT_EQ(status.code(), Code::kOutOfRange);
}

TEST(Text, CharactersInPiecesAreWhole) {
  const std::string text = "a é 東 😀 z";
  for (size_t cut = 1; cut <= text.size(); ++cut) {
    Utf8Joiner joiner;
    std::string out;
    for (size_t at = 0; at < text.size(); at += cut) {
      const std::string piece = joiner.feed(text.substr(at, cut));
      EXPECT_TRUE(is_valid_utf8(piece));
      out += piece;
    }
    EXPECT_EQ(out + joiner.finish(), text) << cut;
  }
  const struct {
    std::string bytes, text;
  } cases[] = {
      {"\xff", "\ufffd"},
      {"\xe6\x9d", "\ufffd\ufffd"},
      {"\xed\xa0\xbd\xed\xb8\x80", "😀"},             // halves of a UTF-16 pair
      {"\xed\xa0\xbd", "\ufffd"},                    // one alone
      {"\xed\xb8\x80\xed\xa0\xbd", "\ufffd\ufffd"},  // the wrong way round
      {"\xed\xa0\xbdx", "\ufffdx"},
      {"\xed\xa0", "\ufffd\ufffd"},
      {"\xed\x9f\xbf", "\ud7ff"},  // just below them
  };
  for (const auto& c : cases) {
    for (const size_t cut : {size_t{1}, size_t{2}, size_t{100}}) {
      Utf8Joiner joiner;
      std::string out;
      for (size_t at = 0; at < c.bytes.size(); at += cut)
        out += joiner.feed(c.bytes.substr(at, cut));
      EXPECT_EQ(out + joiner.finish(), c.text);
    }
  }
}

TEST(Text, RandomBytesBecomeValidAndTheSameHoweverCut) {
  const uint64_t seed = testing::test_seed(1);
  Rng rng(seed);
  const std::string alphabet = "a\x80\xbf\xc2\xe6\x9d\xb1\xed\xa0\xb8\xf0\x9f\x98\xff";
  for (int round = 0; round < 2000; ++round) {
    std::string bytes;
    for (size_t i = rng.below(12); i > 0; --i) bytes += alphabet[rng.below(alphabet.size())];
    Utf8Joiner whole, pieces;
    std::string expected = whole.feed(bytes);
    expected += whole.finish();
    std::string out;
    for (const char byte : bytes) out += pieces.feed(std::string(1, byte));
    out += pieces.finish();
    EXPECT_TRUE(is_valid_utf8(out)) << "seed " << seed;
    EXPECT_EQ(out, expected) << "seed " << seed;
  }
}

TEST(Text, JsonThatIsNotQuiteUtf8) {
  const struct {
    std::string json, bytes;
    bool marked;
  } cases[] = {
      {R"({"s": "plain é \u00e9 \ud83d\ude00"})", "plain é é 😀", false},
      {"{\"s\": \"a\xff\x80\"}", "a\xff\x80", true},
      {R"({"s": "\ud83d"})", "\xed\xa0\xbd", true},
      {R"({"s": "\uDE00x"})", "\xed\xb8\x80x", true},
      {"{\"s\": \"\\\\ud83d\xff\"}", "\\ud83d\xff", true},  // no escape: the backslash is one
      {"{\"s\": \"\\ud83d\\ude00\xff\"}", "😀\xff", true},
  };
  for (const auto& c : cases) {
    const LooseJson parsed = parse_loosely(c.json);
    ASSERT_TRUE(parsed.json.is_object()) << c.json;
    EXPECT_EQ(parsed.bytes(parsed.json["s"]), c.bytes) << c.json;
    EXPECT_EQ(parsed.marked, c.marked);
  }
  for (const char* text : {"", "{", "{\"s\": \"a", "nonsense", "{\"s\": \"\\ud83\"}", "\xff"})
    EXPECT_TRUE(parse_loosely(text).json.is_discarded()) << text;
}

TEST(Text, ATerminalIsGivenNoCommands) {
  EXPECT_EQ(for_terminal("a\tb\nc\r\nd 東 😀"), "a\tb\nc\nd 東 😀");
  EXPECT_EQ(for_terminal(std::string_view("\x1b[2J\x00\x7f\r", 7)), "\\x1b[2J\\x00\\x7f\\x0d");
  EXPECT_EQ(for_terminal("\u0085\u009b1m"), "\\xc2\\x85\\xc2\\x9b1m");
  EXPECT_EQ(for_terminal("\u00a0"), "\u00a0");
}

struct Read {
  Answer answer;
  std::string printed;
  std::string foreign;
};
Read read_answer(std::string_view body, std::string_view type = "text/event-stream") {
  Read out;
  FakeClock clock;
  AnswerReader::Options options;
  options.now = [&] { return clock.now(); };
  options.on_text = [&](std::string_view text) { out.printed += text; };
  AnswerReader reader(out.answer, options);
  for (size_t at = 0; at < body.size(); at += 10) {
    EXPECT_TRUE(reader.feed(body.substr(at, 10), type).is_ok());
    clock.advance(milliseconds(10));
  }
  reader.finish();
  out.foreign = reader.foreign_body();
  return out;
}

TEST(Answer, IsReadFromEveryKindOfBody) {
  const std::string chunk = R"({"choices":[{"delta":{"content":"hi"},"finish_reason":"stop"}]})";
  for (const char* type :
       {"text/event-stream", "text/event-stream; charset=utf-8", "", "text/plain"}) {
    const Read read = read_answer("data: " + chunk + "\n\n", type);
    EXPECT_EQ(read.printed, "hi") << type;
    EXPECT_TRUE(read.answer.whole());
  }
  const Read whole =
      read_answer(R"( {"choices":[{"message":{"content":"hi"}}]})", "application/json");
  EXPECT_EQ(whole.printed, "hi");
  EXPECT_TRUE(whole.answer.whole());
  const Read error = read_answer(R"({"error":{"message":"no"}})", "application/json");
  EXPECT_EQ(error.answer.error, "no");
  EXPECT_FALSE(error.answer.whole());
  EXPECT_EQ(read_answer("<html>", "text/html").foreign, "<html>");
  EXPECT_EQ(read_answer("{\"hello\": 1}", "application/json").foreign, "{\"hello\": 1}");
}

TEST(Answer, ValuesOfWrongTypesDoNoHarm) {
  for (const char* chunk :
       {R"({"choices": 5})", R"({"choices": [5, null, []]})", R"({"choices": {"delta": 1}})",
        R"({"choices": [{"delta": 5, "finish_reason": 7, "index": "x"}]})",
        R"({"choices": [{"delta": {"content": 5, "reasoning": [1]}}]})", R"({"usage": 3})",
        R"({"usage": {"prompt_tokens": "x", "completion_tokens": 1e300}})",
        R"({"usage": {"prompt_tokens_details": 3}})", R"([1, 2])", R"("text")", "5", "null"}) {
    const Read read = read_answer("data: " + std::string(chunk) + "\n\n");
    EXPECT_EQ(read.printed, "") << chunk;
    EXPECT_EQ(read.answer.error, "") << chunk;
  }
  EXPECT_EQ(read_answer("data: nonsense\n\ndata: 5\n\n").answer.unreadable, 2);
}

TEST(Answer, FiguresSayOnlyWhatIsKnown) {
  Answer answer;
  const TimePoint start{};
  EXPECT_EQ(figures(answer, start), "");
  answer.arrivals = 11;
  answer.first = start + milliseconds(500);
  answer.last = start + milliseconds(1500);
  EXPECT_EQ(figures(answer, start), "") << "the server counted nothing";
  answer.usage = Usage{.prompt_tokens = 5, .cached_tokens = 0, .completion_tokens = 21};
  EXPECT_EQ(figures(answer, start),
            "5 prompt tokens, 21 generated, 20.0 tok/s, first after 0.50 s");
  answer.usage->cached_tokens = 4;
  EXPECT_EQ(figures(answer, start),
            "5 prompt tokens (4 cached), 21 generated, 20.0 tok/s, first after 0.50 s");
  answer.usage->completion_tokens = 1000;  // most of them not seen one by one
  EXPECT_EQ(figures(answer, start),
            "5 prompt tokens (4 cached), 1000 generated, first after 0.50 s");
  answer.usage->completion_tokens = 1;
  EXPECT_EQ(figures(answer, start), "5 prompt tokens (4 cached), 1 generated, first after 0.50 s");
  answer.usage = Usage{};
  answer.arrivals = 0;
  EXPECT_EQ(figures(answer, start), "");
}

TEST(Conversation, KeepsWhatSucceededAndRemembersWhatFailed) {
  Conversation talk;
  EXPECT_FALSE(talk.ask_again());
  talk.system = "S";
  const auto said = [](const nlohmann::json& messages) {
    std::string out;
    for (const auto& message : messages)
      out += message["role"].get<std::string>().substr(0, 1) + ":" +
             message["content"].get<std::string>() + " ";
    return out;
  };
  talk.ask("1");
  EXPECT_EQ(said(talk.request_messages()), "s:S u:1 ");
  talk.keep("one");
  talk.ask("2");
  EXPECT_EQ(said(talk.request_messages()), "s:S u:1 a:one u:2 ");
  talk.take_back();
  EXPECT_EQ(said(talk.messages()), "s:S u:1 a:one ");
  ASSERT_TRUE(talk.ask_again());
  EXPECT_EQ(said(talk.request_messages()), "s:S u:1 a:one u:2 ");
  talk.keep("two");
  ASSERT_TRUE(talk.ask_again()) << "the last one, again";
  EXPECT_EQ(said(talk.request_messages()), "s:S u:1 a:one u:2 ");
  talk.take_back();
  EXPECT_EQ(said(talk.messages()), "s:S u:1 a:one u:2 a:two ") << "the old answer stays";
  ASSERT_TRUE(talk.ask_again());
  talk.keep("zwei");
  EXPECT_EQ(said(talk.messages()), "s:S u:1 a:one u:2 a:zwei ");
  talk.ask("3");
  talk.take_back();
  talk.ask("4");
  talk.keep("four");
  ASSERT_TRUE(talk.ask_again());
  EXPECT_EQ(said(talk.request_messages()), "s:S u:1 a:one u:2 a:zwei u:4 ") << "3 is forgotten";
  talk.take_back();
  talk.clear();
  EXPECT_FALSE(talk.ask_again());
  EXPECT_EQ(said(talk.messages()), "s:S ");
}

TEST(Settings, AreCheckedByName) {
  Settings settings;
  EXPECT_EQ(settings.text(), "none");
  for (const char* pair : {"temperature=0.5", "top_k=40", "seed=-3", "stop=a=b", "ignore_eos=true",
                           "num_predict=9", "top_p=1"})
    EXPECT_TRUE(settings.set_pair(pair).is_ok()) << pair;
  EXPECT_EQ(settings.fields(),
            nlohmann::json::parse(R"({"temperature": 0.5, "top_k": 40, "seed": -3,
      "stop": "a=b", "ignore_eos": true, "max_tokens": 9, "top_p": 1.0})"));
  for (const char* pair :
       {"temperature=", "temperature=x", "temperature=nan", "temperature=1 ", "top_k=1.5",
        "seed=99999999999999999999", "seed=4k", "max_tokens=xk", "max_tokens=1.5k",
        "max_tokens=", "ignore_eos=yes", "stop=", "nothing=1", "=1", "seed"})
    EXPECT_EQ(settings.set_pair(pair).code(), Code::kInvalidArgument) << pair;
  EXPECT_TRUE(settings.set_pair("max_tokens=4k").is_ok());
  EXPECT_EQ(settings.fields()["max_tokens"], 4096);
  EXPECT_TRUE(settings.set_pair("max_tokens=-1").is_ok());
  EXPECT_EQ(settings.fields()["max_tokens"], -1);
  EXPECT_TRUE(settings.set("stop", "default").is_ok());
  EXPECT_FALSE(settings.fields().contains("stop"));
}

}  // namespace
}  // namespace shoal::chat
