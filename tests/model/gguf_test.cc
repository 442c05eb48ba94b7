// The GGUF reader and writer: real files, typed getters, split models, digests, round trips.
#include "model/gguf.h"

#include <gtest/gtest.h>

#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>

#include "base/rng.h"
#include "model/gguf_writer.h"
#include "tests/model/gguf_raw.h"
#include "tests/support/support.h"

namespace shoal {
namespace {

using namespace shoal::testing;
namespace fs = std::filesystem;

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

TEST(GgufRead, LargeVocabulary) {
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
}

GgufFile parse_ok(const std::vector<std::string>& keys) {
  RawGguf file;
  file.keys = keys;
  auto result = GgufFile::parse(make_memory_source("t.gguf", file.bytes()));
  SHOAL_CHECK(result.is_ok(), result.status().message());
  return std::move(result).value();
}

// The message of an error; "" and a failure if there is none.
template <class T>
std::string error_of(const Result<T>& result) {
  EXPECT_FALSE(result.is_ok());
  return result.is_ok() ? "" : result.status().message();
}

void expect_has(const std::string& message, std::initializer_list<const char*> parts) {
  for (const char* part : parts) {
    EXPECT_NE(message.find(part), std::string::npos) << message << "\n  lacks: " << part;
  }
}

TEST(GgufGet, EveryIntegerWidth) {
  const GgufFile file = parse_ok({
      raw_kv("u8", kU8, raw<uint8_t>(255)),
      raw_kv("i8", kI8, raw<int8_t>(127)),
      raw_kv("u16", kU16, raw<uint16_t>(65535)),
      raw_kv("i16", kI16, raw<int16_t>(32767)),
      raw_kv("u32", kU32, raw<uint32_t>(4294967295u)),
      raw_kv("i32", kI32, raw<int32_t>(2147483647)),
      raw_kv("u64", kU64, raw(std::numeric_limits<uint64_t>::max())),
      raw_kv("i64", kI64, raw(std::numeric_limits<int64_t>::max())),
      raw_kv("n8", kI8, raw<int8_t>(-1)),
      raw_kv("n64", kI64, raw<int64_t>(-5)),
      raw_kv("f", kF32, raw(1.0f)),
      raw_kv("b", kBool, raw<uint8_t>(1)),
  });
  EXPECT_EQ(*file.get_uint("u8"), 255u);
  EXPECT_EQ(*file.get_uint("i8"), 127u);
  EXPECT_EQ(*file.get_uint("u16"), 65535u);
  EXPECT_EQ(*file.get_uint("i16"), 32767u);
  EXPECT_EQ(*file.get_uint("u32"), 4294967295u);
  EXPECT_EQ(*file.get_uint("i32"), 2147483647u);
  EXPECT_EQ(*file.get_uint("u64"), std::numeric_limits<uint64_t>::max());
  EXPECT_EQ(*file.get_uint("i64"), static_cast<uint64_t>(std::numeric_limits<int64_t>::max()));
  EXPECT_EQ(*file.get_int("n8"), -1);
  EXPECT_EQ(*file.get_int("n64"), -5);
  EXPECT_EQ(*file.get_int("u32"), 4294967295);
  expect_has(error_of(file.get_int("u64")), {"t.gguf", "'u64'", "offset", "does not fit"});
  expect_has(error_of(file.get_uint("n8")), {"t.gguf", "'n8'", "offset", "non-negative", "-1"});
  expect_has(error_of(file.get_uint("f")), {"'f'", "expected an unsigned integer, found float32"});
  expect_has(error_of(file.get_uint("b")), {"'b'", "found bool"});
  expect_has(error_of(file.get_uint("u8", 1, 254)), {"'u8'", "255 is outside 1..254"});
  EXPECT_EQ(*file.get_uint("u8", 255, 255), 255u);
}

TEST(GgufGet, FloatsBoolsStrings) {
  const GgufFile file = parse_ok({
      raw_kv("f32", kF32, raw(0.5f)),
      raw_kv("f64", kF64, raw(1e-6)),
      raw_kv("inf", kF32, raw(std::numeric_limits<float>::infinity())),
      raw_kv("nan", kF64, raw(std::numeric_limits<double>::quiet_NaN())),
      raw_kv("no", kBool, raw<uint8_t>(0)),
      raw_kv("yes", kBool, raw<uint8_t>(1)),
      raw_kv("s", kString, raw_string(std::string("a\0\xff", 3))),
      raw_kv("one", kU32, raw(1u)),
  });
  EXPECT_EQ(*file.get_float("f32"), 0.5);
  EXPECT_EQ(*file.get_float("f64"), 1e-6);
  expect_has(error_of(file.get_float("inf")), {"'inf'", "not a finite number"});
  expect_has(error_of(file.get_float("nan")), {"'nan'", "not a finite number"});
  expect_has(error_of(file.get_float("one")), {"'one'", "expected a float, found uint32 1"});
  EXPECT_FALSE(*file.get_bool("no"));
  EXPECT_TRUE(*file.get_bool("yes"));
  expect_has(error_of(file.get_bool("one")), {"'one'", "expected a bool, found uint32 1"});
  EXPECT_EQ(*file.get_string("s"), std::string_view("a\0\xff", 3));
  expect_has(error_of(file.get_string("one")), {"'one'", "expected a string"});
  expect_has(error_of(file.get_uint("s")), {"'s'", "found string"});
}

TEST(GgufGet, Arrays) {
  const GgufFile file = parse_ok({
      raw_kv("s", kArray,
             raw(kString) + raw<uint64_t>(3) + raw_string("x") + raw_string("") + raw_string("yz")),
      raw_kv("none", kArray, raw(kString) + raw<uint64_t>(0)),
      raw_kv("f", kArray, raw(kF32) + raw<uint64_t>(2) + raw(1.5f) + raw(-2.5f)),
      raw_kv("d", kArray, raw(kF64) + raw<uint64_t>(1) + raw(0.25)),
      raw_kv("i", kArray, raw(kI16) + raw<uint64_t>(2) + raw<int16_t>(-3) + raw<int16_t>(4)),
      raw_kv("big", kArray,
             raw(kU64) + raw<uint64_t>(1) + raw(std::numeric_limits<uint64_t>::max())),
      raw_kv("b", kArray,
             raw(kBool) + raw<uint64_t>(3) + raw<uint8_t>(1) + raw<uint8_t>(0) + raw<uint8_t>(1)),
      raw_kv("scalar", kU8, raw<uint8_t>(9)),
  });
  EXPECT_EQ(*file.get_string_array("s"), (std::vector<std::string_view>{"x", "", "yz"}));
  EXPECT_TRUE(file.get_string_array("none")->empty());
  EXPECT_EQ(*file.get_float_array("f"), (std::vector<float>{1.5f, -2.5f}));
  EXPECT_EQ(*file.get_float_array("d"), (std::vector<float>{0.25f}));
  EXPECT_EQ(*file.get_int_array("i"), (std::vector<int64_t>{-3, 4}));
  expect_has(error_of(file.get_int_array("b")), {"'b'", "found an array of 3 bool"});
  expect_has(error_of(file.get_int_array("big")), {"'big'", "element 0"});
  expect_has(error_of(file.get_int_array("s")), {"'s'", "found an array of 3 string"});
  expect_has(error_of(file.get_float_array("i")), {"'i'", "found an array of 2 int16"});
  expect_has(error_of(file.get_string_array("scalar")), {"'scalar'", "found uint8 9"});

  EXPECT_EQ(*file.get_uint_per_layer("scalar", 3), (std::vector<uint64_t>{9, 9, 9}));
  expect_has(error_of(file.get_uint_per_layer("b", 3)), {"'b'", "found an array of 3 bool"});
  expect_has(error_of(file.get_uint_per_layer("i", 3)), {"'i'", "2 values for 3 layers"});
  expect_has(error_of(file.get_uint_per_layer("i", 2)), {"'i'", "element 0", "-3"});
  expect_has(error_of(file.get_uint_per_layer("scalar", 2, 0, 8)),
             {"'scalar'", "9 is outside 0..8"});
  expect_has(error_of(file.get_uint_per_layer("s", 3)), {"'s'", "one per layer"});
}

TEST(GgufGet, MissingAndOptional) {
  const GgufFile file = parse_ok({raw_kv("i", kU8, raw<uint8_t>(1))});
  EXPECT_FALSE(file.has("x"));
  EXPECT_TRUE(file.has("i"));
  const auto missing = file.get_uint("x");
  EXPECT_EQ(missing.status().code(), Code::kNotFound);
  expect_has(error_of(missing), {"t.gguf", "'x'", "missing"});
  EXPECT_FALSE(file.find_uint("x")->has_value());
  EXPECT_EQ(file.find_uint("i")->value(), 1u);
  EXPECT_FALSE(file.find_string("x")->has_value());
  expect_has(error_of(file.find_string("i")), {"'i'", "expected a string"});
}

TEST(GgufRead, GapsAreToleratedAndOrderIsFree) {
  RawGguf file;
  file.tensors = {raw_tensor("late", {8}, 0, 512), raw_tensor("early", {8}, 0, 64)};
  file.data_bytes = 544;
  const auto result = GgufFile::parse(make_memory_source("t.gguf", file.bytes()));
  ASSERT_TRUE(result.is_ok()) << result.status().message();
  const uint64_t start = result->parts()[0].data_offset;
  EXPECT_EQ(result->find_tensor("late")->file_offset, start + 512);
  EXPECT_EQ(result->find_tensor("early")->file_offset, start + 64);
  EXPECT_EQ(result->find_tensor("other"), nullptr);
}

TEST(GgufRead, FuzzSeedsLoad) {
  int loaded = 0;
  for (const auto& entry : fs::directory_iterator(source_dir() + "/tests/fuzz/corpus/fuzz_gguf")) {
    const std::string name = entry.path().filename();
    const std::string seed = read_file(entry.path());
    // Behind the mode: one file, or two with the first one's length in the mode.
    const size_t cut =
        name == "split" ? 3 + static_cast<uint8_t>(seed[1]) + 256u * static_cast<uint8_t>(seed[2])
                        : seed.size();
    std::vector<std::shared_ptr<const ByteSource>> sources;
    sources.push_back(make_memory_source(
        "s-00001-of-00002.gguf", {seed.begin() + 3, seed.begin() + static_cast<long>(cut)}));
    if (name == "split") {
      sources.push_back(make_memory_source("s-00002-of-00002.gguf",
                                           {seed.begin() + static_cast<long>(cut), seed.end()}));
    }
    const auto file = GgufFile::parse(std::move(sources));
    if (file.is_ok()) ++loaded;
    EXPECT_EQ(file.is_ok(), name != "version0") << name << ": " << file.status().message();
  }
  EXPECT_EQ(loaded, 8);
}

TEST(GgufRead, Version2AndOwnAlignment) {
  RawGguf file;
  file.version = 2;
  file.alignment = 128;
  file.keys = {raw_kv("general.alignment", kU32, raw(128u))};
  file.tensors = {raw_tensor("a", {1}, 0, 0), raw_tensor("b", {1}, 0, 128)};
  file.data_bytes = 132;
  const auto result = GgufFile::parse(make_memory_source("t.gguf", file.bytes()));
  ASSERT_TRUE(result.is_ok()) << result.status().message();
  EXPECT_EQ(result->version(), 2u);
  EXPECT_EQ(result->parts()[0].data_offset % 128, 0u);
}

TEST(GgufWrite, RoundTripOfEverything) {
  Rng rng(test_seed(31));
  const TempDir folder;
  const std::string path = folder.path() + "/out.gguf";
  GgufWriter writer(64);
  writer.add_kv("general.architecture", "llama");
  writer.add_kv("u8", uint8_t{1});
  writer.add_kv("i64", int64_t{-7});
  writer.add_kv("f64", 0.125);
  writer.add_kv("flag", true);
  writer.add_kv("strings", std::vector<std::string>{"a", "", "\xff"});
  writer.add_kv("floats", std::vector<float>{1, 2});
  writer.add_kv("bools", std::vector<bool>{true, false});
  std::vector<std::vector<uint8_t>> data;
  for (uint32_t id = 0; id < kTensorTypeIds; ++id) {
    if (!kTensorTypes[id].storable) continue;
    const auto type = static_cast<TensorType>(id);
    const std::vector<uint64_t> dims{256, 3, 2};
    std::vector<uint8_t>& bytes = data.emplace_back(*tensor_bytes(type, dims));
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(rng());
  }
  size_t next = 0;
  for (uint32_t id = 0; id < kTensorTypeIds; ++id) {
    if (!kTensorTypes[id].storable) continue;
    ASSERT_TRUE(writer
                    .add_tensor("t." + std::string(kTensorTypes[id].name),
                                static_cast<TensorType>(id), {256, 3, 2}, data[next++])
                    .is_ok());
  }
  ASSERT_TRUE(writer.finish(path).is_ok());
  EXPECT_EQ(fs::file_size(path), writer.file_bytes());

  const auto file = GgufFile::open(path);
  ASSERT_TRUE(file.is_ok()) << file.status().message();
  EXPECT_EQ(*file->get_string("general.architecture"), "llama");
  EXPECT_EQ(*file->get_uint("u8"), 1u);
  EXPECT_EQ(*file->get_int("i64"), -7);
  EXPECT_EQ(*file->get_float("f64"), 0.125);
  EXPECT_TRUE(*file->get_bool("flag"));
  EXPECT_EQ(*file->get_string_array("strings"), (std::vector<std::string_view>{"a", "", "\xff"}));
  expect_has(error_of(file->get_int_array("bools")), {"found an array of 2 bool"});
  ASSERT_EQ(file->tensors().size(), data.size());
  for (size_t i = 0; i < data.size(); ++i) {
    const TensorInfo& tensor = file->tensors()[i];
    EXPECT_EQ(tensor.file_offset % 64, 0u);
    std::vector<uint8_t> bytes(tensor.bytes);
    ASSERT_TRUE(file->read_tensor(tensor, 0, bytes).is_ok());
    EXPECT_EQ(bytes, data[i]) << tensor.name;
  }
  // Decode, encode, decode: what was read can be written again, byte for byte.
  GgufWriter again(64);
  for (const auto& [key, value] : file->metadata()) {
    if (key != "general.alignment") again.add_kv(key, value);
  }
  for (const TensorInfo& tensor : file->tensors()) {
    const uint64_t stride = row_bytes(tensor.type, tensor.dims[0]);
    ASSERT_TRUE(again
                    .add_tensor(tensor.name, tensor.type, {256, 3, 2},
                                [&file, &tensor, stride](uint64_t row, uint64_t, auto out) {
                                  return file->read_tensor(tensor, row * stride, out);
                                })
                    .is_ok());
  }
  const auto bytes = again.finish_bytes();
  ASSERT_TRUE(bytes.is_ok());
  const std::string original = read_file(path);
  EXPECT_EQ(std::string(bytes->begin(), bytes->end()), original);
}

TEST(GgufWrite, RefusesBadTensorsAndLeavesNoFile) {
  const TempDir folder;
  GgufWriter writer;
  const std::vector<uint8_t> bytes(34);
  EXPECT_FALSE(writer.add_tensor("t", TensorType::kQ8_0, {33}, bytes).is_ok());
  EXPECT_FALSE(writer.add_tensor("t", TensorType::kQ8_0, {64}, bytes).is_ok());
  EXPECT_FALSE(writer.add_tensor("t", TensorType::kQ8_K, {256}, bytes).is_ok());
  EXPECT_FALSE(writer.add_tensor(std::string(64, 'x'), TensorType::kQ8_0, {32}, bytes).is_ok());
  ASSERT_TRUE(writer.add_tensor("t", TensorType::kQ8_0, {32}, bytes).is_ok());
  ASSERT_TRUE(writer
                  .add_tensor("bad", TensorType::kF32, {1},
                              [](uint64_t, uint64_t, auto) { return internal_error("no data"); })
                  .is_ok());
  const Status status = writer.finish(folder.path() + "/x.gguf");
  expect_has(status.message(), {"'bad'", "no data"});
  EXPECT_TRUE(fs::is_empty(folder.path()));
  ASSERT_TRUE(writer.add_tensor("t", TensorType::kQ8_0, {32}, bytes).is_ok());
  expect_has(writer.finish(folder.path() + "/x.gguf").message(), {"'t'", "twice"});
  EXPECT_FALSE(writer.finish(folder.path() + "/no/such/folder/x.gguf").is_ok());
}

TEST(GgufDigest, TellsFilesApart) {
  const auto digest = [](const std::vector<uint8_t>& bytes, const char* name = "t.gguf") {
    const auto file = GgufFile::parse(make_memory_source(name, bytes));
    SHOAL_CHECK(file.is_ok(), file.status().message());
    return file->digest();
  };
  const std::vector<uint8_t> small = small_gguf().bytes();
  EXPECT_EQ(digest(small), digest(small, "other-name.gguf"));
  for (size_t at : {size_t{50}, small.size() - 1}) {  // a key's text, the last byte of data
    std::vector<uint8_t> changed = small;
    changed[at] ^= 1;
    EXPECT_NE(digest(changed), digest(small)) << at;
  }
  RawGguf large;
  large.tensors = {raw_tensor("t", {1 << 20}, 0, 0)};
  large.data_bytes = 4 << 20;
  const std::vector<uint8_t> bytes = large.bytes();
  std::vector<uint8_t> last = bytes, longer = bytes, other = bytes;
  last.back() ^= 1;
  longer.push_back(0);
  for (size_t i = 2048; i < other.size(); i += 4096) other[i] ^= 1;  // as if requantised
  EXPECT_NE(digest(last), digest(bytes));
  EXPECT_NE(digest(longer), digest(bytes));
  EXPECT_NE(digest(other), digest(bytes));
}

TEST(TensorType, IdsNamesAndSizes) {
  for (uint32_t id = 0; id < kTensorTypeIds; ++id) {
    const TensorTypeTraits& t = kTensorTypes[id];
    if (t.block_elems == 0) continue;
    EXPECT_EQ(static_cast<uint32_t>(*tensor_type_from_name(t.name)), id);
    EXPECT_EQ(tensor_type_from_id(id).is_ok(), t.storable) << t.name;
    EXPECT_EQ(row_bytes(static_cast<TensorType>(id), 3 * t.block_elems), 3 * t.block_bytes);
  }
  EXPECT_EQ(*tensor_type_from_name("q4_k"), TensorType::kQ4_K);
  expect_has(error_of(tensor_type_from_name("q9")), {"'q9'", "Q4_K"});
  for (const uint32_t id : {4u, 5u, 31u, 32u, 33u, 36u, 37u, 38u}) {
    const auto type = tensor_type_from_id(id);
    EXPECT_EQ(type.status().code(), Code::kUnsupported);
    expect_has(error_of(type), {"removed"});
  }
  expect_has(error_of(tensor_type_from_id(133)), {"133", "Q6_0", "ik_llama.cpp"});
  expect_has(error_of(tensor_type_from_id(158)), {"IQ1_KT", "ik_llama.cpp"});
  expect_has(error_of(tensor_type_from_id(337)), {"337", "repack of IQ2_K", "ik_llama.cpp"});
  expect_has(error_of(tensor_type_from_id(9)), {"Q8_1", "activation"});
  EXPECT_EQ(tensor_type_from_id(43).status().code(), Code::kDataLoss);
  EXPECT_EQ(tensor_type_from_id(0xffffffff).status().code(), Code::kDataLoss);
}

}  // namespace
}  // namespace shoal
