// Vocabularies for comparisons with other tokenizers.
//   vocab_tool make TEMPLATE OUT PRE < TEXTS     a byte-level BPE vocabulary that shows word limits
//   vocab_tool rewrite IN OUT PRE                the metadata of IN with another pre-tokenizer
//   vocab_tool tokenize FILE < TEXTS             a JSON array of arrays of ids
//   vocab_tool split PRE < TEXTS                 a JSON array of arrays of words
//   vocab_tool names                             a JSON array of the known pre-tokenizers
// TEXTS is a JSON array of strings. The files have no tensors.
#include <cstdio>
#include <iostream>
#include <set>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "model/gguf.h"
#include "model/gguf_writer.h"
#include "model/pretokenizer.h"
#include "model/subword.h"
#include "model/tokenizer.h"

namespace shoal {
namespace {

constexpr size_t kLongestTokenBytes = 32;

std::vector<std::string> read_texts() {
  return nlohmann::json::parse(std::cin).get<std::vector<std::string>>();
}

// The metadata of `in` without its tokenizer's tables, or with them.
void copy_metadata(const GgufFile& in, bool with_tables, GgufWriter* writer) {
  for (const auto& [key, value] : in.metadata()) {
    const bool table = key.starts_with("tokenizer.ggml.") && key != "tokenizer.ggml.model";
    if (key == "tokenizer.ggml.pre" || key == "general.alignment" || key.ends_with(".vocab_size") ||
        (table && !with_tables)) {
      continue;
    }
    writer->add_kv(key, value);
  }
}

Status rewrite(const std::string& in, const std::string& out, const std::string& pre) {
  SHOAL_ASSIGN(const GgufFile file, GgufFile::open(in));
  GgufWriter writer;
  copy_metadata(file, true, &writer);
  writer.add_kv("tokenizer.ggml.pre", pre);
  return writer.finish(out);
}

// Every stretch of the texts is a token that grows byte by byte from its left end, the earliest
// start first: so a word becomes one token unless it is longer than kLongestTokenBytes.
Status make(const std::string& in, const std::string& out, const std::string& pre) {
  SHOAL_ASSIGN(const GgufFile file, GgufFile::open(in));
  std::vector<std::string> tokens, merges;
  std::set<std::string> known;
  for (int byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(byte);
    tokens.push_back(bytes_to_bpe_text(std::string_view(&c, 1)));
  }
  for (const std::string& text : read_texts()) {
    for (size_t begin = 0; begin < text.size(); ++begin) {
      for (size_t n = 2; n <= kLongestTokenBytes && begin + n <= text.size(); ++n) {
        const std::string token = text.substr(begin, n);
        if (!known.insert(token).second) continue;
        tokens.push_back(bytes_to_bpe_text(token));
        merges.push_back(bytes_to_bpe_text(token.substr(0, n - 1)) + " " +
                         bytes_to_bpe_text(token.substr(n - 1)));
      }
    }
  }
  std::vector<int32_t> kinds(tokens.size(), static_cast<int32_t>(TokenKind::kNormal));
  tokens.push_back("<|end|>");
  kinds.push_back(static_cast<int32_t>(TokenKind::kControl));
  const auto end = static_cast<uint32_t>(tokens.size() - 1);
  GgufWriter writer;
  copy_metadata(file, false, &writer);
  writer.add_kv("tokenizer.ggml.pre", pre);
  writer.add_kv("tokenizer.ggml.tokens", tokens);
  writer.add_kv("tokenizer.ggml.token_type", kinds);
  writer.add_kv("tokenizer.ggml.merges", merges);
  writer.add_kv("tokenizer.ggml.bos_token_id", end);
  writer.add_kv("tokenizer.ggml.eos_token_id", end);
  writer.add_kv("tokenizer.ggml.add_bos_token", false);
  return writer.finish(out);
}

Status tokenize(const std::string& path) {
  SHOAL_ASSIGN(const GgufFile file, GgufFile::open(path));
  SHOAL_ASSIGN(Vocab vocab, read_vocab(file));
  SHOAL_ASSIGN(const auto tokenizer, Tokenizer::create(std::move(vocab)));
  nlohmann::json out = nlohmann::json::array();
  for (const std::string& text : read_texts()) {
    SHOAL_ASSIGN(const auto ids, tokenizer->encode(text, {}));
    out.push_back(ids);
  }
  std::cout << out << "\n";
  return Status::ok();
}

Status split(const std::string& pre) {
  SHOAL_ASSIGN(const auto words, PreTokenizer::create(pre));
  nlohmann::json out = nlohmann::json::array();
  for (const std::string& text : read_texts()) {
    SHOAL_ASSIGN(const auto pieces, words->split(text));
    out.push_back(pieces);
  }
  std::cout << out << "\n";
  return Status::ok();
}

Status run(const std::vector<std::string>& args) {
  if (args.size() == 4 && args[0] == "make") return make(args[1], args[2], args[3]);
  if (args.size() == 4 && args[0] == "rewrite") return rewrite(args[1], args[2], args[3]);
  if (args.size() == 2 && args[0] == "tokenize") return tokenize(args[1]);
  if (args.size() == 2 && args[0] == "split") return split(args[1]);
  if (args.size() == 1 && args[0] == "names") {
    std::cout << nlohmann::json(PreTokenizer::known_names()) << "\n";
    return Status::ok();
  }
  return invalid_argument(
      "usage: vocab_tool make TEMPLATE OUT PRE | rewrite IN OUT PRE | tokenize FILE | split PRE | "
      "names");
}

}  // namespace
}  // namespace shoal

int main(int argc, char** argv) {
  const shoal::Status status = shoal::run({argv + 1, argv + argc});
  if (!status.is_ok()) std::fprintf(stderr, "vocab_tool: %s\n", status.message().c_str());
  return status.is_ok() ? 0 : 1;
}
