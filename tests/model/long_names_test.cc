// Names and texts of a file that are as long as the format allows: refused in messages of ordinary
// length.
#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>

#include "base/utf8.h"
#include "model/chat_template.h"
#include "model/gguf.h"
#include "model/model_spec.h"
#include "model/tokenizer.h"
#include "tests/model/gguf_raw.h"

namespace shoal {
namespace {

using namespace shoal::testing;

constexpr size_t kKey = 60000, kText = 1 << 20;

// 200 bytes of each of two pieces of input and our own words around them.
void expect_short(const Status& status, const std::string& what) {
  ASSERT_FALSE(status.is_ok()) << what;
  const std::string& message = status.message();
  EXPECT_LE(message.size(), 1024u) << what << ": " << message.substr(0, 2000);
  EXPECT_TRUE(is_valid_utf8(message)) << what;
  for (const char c : message) {
    ASSERT_TRUE(static_cast<unsigned char>(c) >= 0x20 && c != 0x7f) << what << ": " << message;
  }
}

// As long as `n` bytes, in several ways that are unpleasant to print.
std::vector<std::string> texts(size_t n) {
  std::vector<std::string> out = {std::string(n, 'k'), std::string(n, '\x01'),
                                  std::string(n, '\xff'), std::string(n, '\n')};
  std::string wide;
  while (wide.size() + 4 <= n) wide += "\xf0\x9f\x90\x9f";
  out.push_back(wide);
  return out;
}

Result<GgufFile> parse(const std::vector<std::string>& keys,
                       const std::vector<std::string>& tensors = {}) {
  RawGguf file;
  file.keys = keys;
  file.tensors = tensors;
  file.data_bytes = 4096;
  return GgufFile::parse(make_memory_source("m.gguf", file.bytes()));
}

std::string text_kv(std::string_view key, std::string_view text) {
  return raw_kv(key, kString, raw_string(text));
}

TEST(LongNames, Keys) {
  for (const std::string& key : texts(kKey)) {
    const std::string one = raw_kv(key, kU8, "a");
    for (const std::string& bad : {raw_kv(key, 99, "a"), raw_kv(key, kBool, "z"),
                                   raw_kv(key, kArray, raw(kArray) + raw<uint64_t>(1))}) {
      expect_short(parse({bad}).status(), "a bad value");
    }
    expect_short(parse({one, one}).status(), "twice");
    const auto file = parse({one});
    if (!file.is_ok()) {
      expect_short(file.status(), "not ASCII");
      continue;
    }
    expect_short(file->get_string(key).status(), "another type");
    expect_short(file->get_uint(key, 200, 300).status(), "out of range");
    expect_short(file->get_float(key + "x").status(), "missing");
  }
}

TEST(LongNames, TensorNames) {
  for (const std::string& name : texts(kKey)) {
    expect_short(parse({}, {raw_tensor(name, {32}, 0, 0)}).status(), "too long");
    const std::string short_name = name.substr(0, 60);
    const std::string tensor = raw_tensor(short_name, {32}, 0, 0);
    expect_short(parse({}, {tensor, tensor}).status(), "twice");
    expect_short(parse({}, {raw_tensor(short_name, {32}, 77, 0)}).status(), "an unknown type");
  }
}

TEST(LongNames, TextsOfAModel) {
  for (const std::string& text : texts(kText)) {
    const auto spec_of = [&](const std::vector<std::string>& keys) {
      return read_model_spec(*parse(keys)).status();
    };
    expect_short(spec_of({text_kv("general.architecture", text)}), "architecture");
    Vocab vocab;
    vocab.tokens = {"a"};
    vocab.kinds = {TokenKind::kNormal};
    vocab.model = text;
    expect_short(Tokenizer::create(vocab).status(), "tokenizer.ggml.model");
    vocab.model = "gpt2", vocab.pre = text;
    expect_short(Tokenizer::create(vocab).status(), "tokenizer.ggml.pre");
  }
}

TEST(LongNames, Templates) {
  const nlohmann::ordered_json context = {{"messages", nlohmann::ordered_json::array()}};
  for (const size_t n : {size_t{60000}}) {
    const std::string name(n, 'n');
    for (const std::string& source :
         {"{{ x | " + name + " }}", "{% " + name + " %}", "{{ x is " + name + " }}",
          "{{ " + name + ".y.z }}", "{{ x." + name + ".y }}", "{{ " + name + "() }}",
          "{{ raise_exception('" + name + "') }}",
          "{% macro " + name + "(a) %}{% endmacro %}{{ " + name + "(1, 2) }}",
          "{{ {'a': 1}." + name + "() }}", "{{ '" + name + "' + 1 }}",
          "{{ '" + name + "'|int + [] }}", "{% for x in 5 %}" + name, "{{ \"" + name,
          "{{ messages['" + name + "'].x }}", "{{ raise_exception('\x1b\x07" + name + "') }}"}) {
      const auto made = ChatTemplate::parse(source, {});
      RenderControl control;
      const Status status = made ? made->render(context, 0, control).status() : made.status();
      expect_short(status, source.substr(0, 40));
    }
  }
  // Words that a request put there.
  const auto made = ChatTemplate::parse("{{ raise_exception('role: ' + messages[0].role) }}", {});
  ASSERT_TRUE(made.is_ok());
  for (const std::string& text : texts(100000)) {
    if (!is_valid_utf8(text)) continue;
    const nlohmann::ordered_json asked = {
        {"messages", nlohmann::ordered_json::array({{{"role", text}}})}};
    RenderControl control;
    expect_short(made->render(asked, 0, control).status(), "a role");
  }
}

}  // namespace
}  // namespace shoal
