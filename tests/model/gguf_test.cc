// Reads real files: the shipped models and the shared vocabularies.
#include "model/gguf.h"

#include <gtest/gtest.h>

#include <chrono>

#include "tests/support/support.h"

namespace shoal {
namespace {

using shoal::testing::model_path;
using shoal::testing::shared_path;

TEST(GgufRead, ShippedModel) {
  const auto file = GgufFile::open(model_path("shoal-tiny-dense-q8_0.gguf"));
  ASSERT_TRUE(file.is_ok()) << file.status().message();
  EXPECT_EQ(file->version(), 3u);
  EXPECT_EQ(file->parts().size(), 1u);
  EXPECT_EQ(file->digest().size(), 32u);
  EXPECT_EQ(*file->get_string("general.architecture"), "llama");
  const TensorInfo* tensor = file->find_tensor("token_embd.weight");
  ASSERT_NE(tensor, nullptr);
  EXPECT_EQ(tensor->type, TensorType::kQ8_0);
  EXPECT_EQ(tensor->dims[0], *file->get_uint("llama.embedding_length"));
  EXPECT_EQ(tensor->bytes, tensor->rows() * row_bytes(tensor->type, tensor->dims[0]));
  const auto tokens = file->get_string_array("tokenizer.ggml.tokens");
  ASSERT_TRUE(tokens.is_ok()) << tokens.status().message();
  EXPECT_EQ(tokens->size(), tensor->dims[1]);
  // The last tensor ends with the file, give or take the alignment.
  uint64_t end = 0;
  for (const TensorInfo& t : file->tensors()) end = std::max(end, t.file_offset + t.bytes);
  EXPECT_LE(end, file->parts()[0].size);
  EXPECT_GT(end + 32, file->parts()[0].size);
}

TEST(GgufRead, LargeVocabularyIsFast) {
  SHOAL_SKIP_WITHOUT_SHARED("vocabs/llama-bpe.gguf");
  const std::string path = *shared_path("vocabs/llama-bpe.gguf");
  ASSERT_TRUE(GgufFile::open(path).is_ok());  // warms the page cache
  const auto start = std::chrono::steady_clock::now();
  const auto file = GgufFile::open(path);
  const double ms =
      std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
  ASSERT_TRUE(file.is_ok());
  const auto tokens = file->get_string_array("tokenizer.ggml.tokens");
  ASSERT_TRUE(tokens.is_ok());
  EXPECT_EQ(tokens->size(), 128256u);
  EXPECT_TRUE(file->tensors().empty());
  RecordProperty("parse_ms", std::to_string(ms));
  std::printf("llama-bpe.gguf: %.1f ms\n", ms);
#ifndef SHOAL_SANITIZED
  EXPECT_LT(ms, 100.0);
#endif
}

}  // namespace
}  // namespace shoal
