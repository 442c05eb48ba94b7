// Files that must be refused cleanly: the table of the reliability page, every truncation, random
// byte flips, and claims that must not take memory.
#include <gtest/gtest.h>

#include <functional>
#include <limits>

#include "base/rng.h"
#include "model/gguf.h"
#include "tests/model/gguf_raw.h"
#include "tests/support/allocation_watch.h"
#include "tests/support/support.h"

namespace shoal {
namespace {

using namespace shoal::testing;  // the raw_* builders

Result<GgufFile> parse(std::vector<uint8_t> bytes, const std::string& name = "bad.gguf") {
  return GgufFile::parse(make_memory_source(name, std::move(bytes)));
}

struct Case {
  const char* name;
  std::function<void(RawGguf&)> spoil;
  std::vector<std::string> expect;  // parts of the message besides the file's name
};

constexpr uint64_t kHuge = std::numeric_limits<uint64_t>::max();

void set_tensor(RawGguf& f, std::string tensor) {
  f.tensors = {std::move(tensor)};
  f.data_bytes = 4096;
}

// Replaces or adds a key.
std::function<void(RawGguf&)> with_key(std::string kv) {
  return [kv = std::move(kv)](RawGguf& f) { f.keys.push_back(kv); };
}
std::function<void(RawGguf&)> with_tensor(std::string tensor) {
  return [tensor = std::move(tensor)](RawGguf& f) { set_tensor(f, tensor); };
}

std::vector<Case> header_cases() {
  return {
      {"BadMagic", [](RawGguf& f) { f.magic = "GGML"; }, {"not a GGUF file", "offset 0"}},
      {"Version0", [](RawGguf& f) { f.version = 0; }, {"version 0", "offset 4"}},
      {"Version1", [](RawGguf& f) { f.version = 1; }, {"version 1", "offset 4"}},
      {"VersionFuture", [](RawGguf& f) { f.version = 4; }, {"version 4", "offset 4"}},
      {"VersionByteSwapped",
       [](RawGguf& f) { f.version = 0x03000000; },
       {"big-endian", "offset 4"}},
      {"TensorsNegative",
       [](RawGguf& f) { f.n_tensors = kHuge; },
       {"tensor count is negative (-1)", "offset 8"}},
      {"TensorsHuge",
       [](RawGguf& f) { f.n_tensors = 1 << 30; },
       {"tensor count", "exceeds", "offset 8"}},
      {"TensorsBeyondFile",
       [](RawGguf& f) { f.n_tensors = 1000; },
       {"tensor count 1000 cannot fit", "offset 8"}},
      {"KeysNegative",
       [](RawGguf& f) { f.n_keys = kHuge; },
       {"key count is negative", "offset 16"}},
      {"KeysHuge", [](RawGguf& f) { f.n_keys = 1 << 20; }, {"key count", "exceeds", "offset 16"}},
      {"KeysBeyondFile",
       [](RawGguf& f) { f.n_keys = 2000; },
       {"key count 2000 cannot fit", "offset 16"}},
      {"KeyLengthMinusOne",
       [](RawGguf& f) { f.keys[0] = raw(kHuge); },
       {"metadata key 0", "key length is negative", "offset 24"}},
      {"KeyLengthHuge",
       [](RawGguf& f) { f.keys[0] = raw<uint64_t>(70000); },
       {"key length 70000 exceeds 65535", "offset 24"}},
      {"KeyEmpty", with_key(raw_kv("", kU8, "a")), {"metadata key 7 ''", "empty"}},
      {"KeyDuplicate", with_key(raw_kv("llama.flag", kU8, "a")), {"key 'llama.flag'", "twice"}},
      {"KeyNotAscii", with_key(raw_kv("na\xc3\xafve", kU8, "a")), {"'na\xc3\xafve'", "ASCII"}},
      {"KeyControl", with_key(raw_kv(std::string("a\0b", 3), kU8, "a")), {"'a\\x00b'", "ASCII"}},
  };
}

std::vector<Case> value_cases() {
  return {
      {"ValueTypeBad", with_key(raw_kv("x", 13, "a")), {"key 'x'", "unknown value type 13"}},
      {"ValueTypeHuge",
       with_key(raw_kv("x", 0xffffffff, "a")),
       {"key 'x'", "unknown value type 4294967295"}},
      {"ArrayNested",
       with_key(raw_kv("x", kArray, raw(kArray) + raw<uint64_t>(1))),
       {"key 'x'", "arrays of arrays"}},
      {"ArrayElementTypeBad",
       with_key(raw_kv("x", kArray, raw(99u) + raw<uint64_t>(1))),
       {"key 'x'", "unknown value type 99"}},
      {"ArrayBeyondFile",
       with_key(raw_kv("x", kArray, raw(kU64) + raw<uint64_t>(100000))),
       {"key 'x'", "array length 100000 cannot fit"}},
      {"ArrayNegative",
       with_key(raw_kv("x", kArray, raw(kU8) + raw(kHuge))),
       {"key 'x'", "array length is negative"}},
      {"ArrayHuge",
       with_key(raw_kv("x", kArray, raw(kU8) + raw<uint64_t>(1 << 30))),
       {"key 'x'", "exceeds 16777216"}},
      {"ArrayOfStringsBeyondFile",
       with_key(raw_kv("x", kArray, raw(kString) + raw<uint64_t>(1000))),
       {"key 'x'", "array length 1000 cannot fit"}},
      {"StringBeyondFile",
       with_key(raw_kv("x", kString, raw<uint64_t>(100000))),
       {"key 'x'", "string length 100000 cannot fit"}},
      {"StringNegative",
       with_key(raw_kv("x", kString, raw(kHuge))),
       {"key 'x'", "string length is negative"}},
      {"StringInArrayBeyondFile",
       with_key(raw_kv("x", kArray,
                       raw(kString) + raw<uint64_t>(2) + raw_string("a") + raw<uint64_t>(100000))),
       {"key 'x'", "element 1", "string length 100000"}},
      {"BoolTwo", with_key(raw_kv("x", kBool, raw<uint8_t>(2))), {"key 'x'", "a bool holds 2"}},
      {"Alignment0",
       with_key(raw_kv("general.alignment", kU32, raw(0u))),
       {"key 'general.alignment'", "0 is not a power of two"}},
      {"Alignment13",
       with_key(raw_kv("general.alignment", kU32, raw(13u))),
       {"key 'general.alignment'", "13 is not"}},
      {"Alignment2To31",
       with_key(raw_kv("general.alignment", kU32, raw(1u << 31))),
       {"key 'general.alignment'", "2147483648 is not"}},
      {"AlignmentWrongType",
       with_key(raw_kv("general.alignment", kU64, raw<uint64_t>(32))),
       {"key 'general.alignment'", "expected uint32, found uint64"}},
      {"AlignmentString",
       with_key(raw_kv("general.alignment", kString, raw_string("32"))),
       {"key 'general.alignment'", "found string"}},
  };
}

constexpr uint64_t kBig = uint64_t{1} << 40;

std::vector<Case> tensor_cases() {
  return {
      {"NameTooLong",
       with_tensor(raw_tensor(std::string(64, 'n'), {1}, 0, 0)),
       {"tensor 0", "name length 64 exceeds 63"}},
      {"NameEmpty", with_tensor(raw_tensor("", {1}, 0, 0)), {"tensor 0 ''", "empty"}},
      {"NameControl",
       with_tensor(raw_tensor("a\nb", {1}, 0, 0)),
       {"tensor 0 'a\\nb'", "control character"}},
      {"NameDuplicate",
       [](RawGguf& f) { f.tensors[2] = f.tensors[0]; },
       {"tensor 2 'a.weight'", "twice"}},
      {"NoDimensions", with_tensor(raw_tensor("t", {}, 0, 0)), {"tensor 0 't'", "0 dimensions"}},
      {"FiveDimensions",
       with_tensor(raw_tensor("t", {1, 1, 1, 1, 1}, 0, 0)),
       {"tensor 0 't'", "5 dimensions"}},
      {"ZeroDimension",
       with_tensor(raw_tensor("t", {4, 0}, 0, 0)),
       {"tensor 0 't'", "dimension 1 is 0"}},
      {"NegativeDimension",
       with_tensor(raw_tensor("t", {4, kHuge}, 0, 0)),
       {"tensor 0 't'", "dimension 1 is -1"}},
      {"DimensionBeyondLimit",
       with_tensor(raw_tensor("t", {kBig + 1}, 0, 0)),
       {"tensor 0 't'", "dimension 0"}},
      {"ElementOverflow",
       with_tensor(raw_tensor("t", {kBig, kBig}, 0, 0)),
       {"tensor 0 't'", "elements overflows"}},
      {"ByteOverflow",
       with_tensor(raw_tensor("t", {kBig, 1 << 22}, 28, 0)),
       {"tensor 0 't'", "bytes overflows"}},
      {"BlockDoesNotDivideRow",
       with_tensor(raw_tensor("t", {100}, 12, 0)),
       {"tensor 0 't'", "rows of 100 elements", "Q4_K blocks of 256"}},
      {"TypeUnknown",
       with_tensor(raw_tensor("t", {32}, 43, 0)),
       {"tensor 0 't'", "unknown tensor type 43"}},
      {"TypeHuge",
       with_tensor(raw_tensor("t", {32}, 0xffffffff, 0)),
       {"tensor 0 't'", "unknown tensor type 4294967295"}},
      {"TypeRemoved",
       with_tensor(raw_tensor("t", {32}, 4, 0)),
       {"tensor 0 't'", "Q4_2", "removed"}},
      {"TypeRepack",
       with_tensor(raw_tensor("t", {32}, 31, 0)),
       {"tensor 0 't'", "Q4_0_4_4", "removed"}},
      {"TypeActivation",
       with_tensor(raw_tensor("t", {256}, 15, 0)),
       {"tensor 0 't'", "Q8_K", "activation"}},
      {"TypeIk",
       with_tensor(raw_tensor("t", {256}, 144, 0)),
       {"tensor 0 't'", "IQ4_KS", "ik_llama.cpp"}},
      {"TypeIkRepack",
       with_tensor(raw_tensor("t", {256}, 212, 0)),
       {"tensor 0 't'", "repack of Q4_K"}},
      {"OffsetUnaligned",
       with_tensor(raw_tensor("t", {32}, 8, 16)),
       {"tensor 0 't'", "16 is not a multiple of 32"}},
      {"OffsetPastEnd",
       with_tensor(raw_tensor("t", {32}, 8, 4096)),
       {"tensor 0 't'", "past the end of the file"}},
      {"OffsetOverflow",
       with_tensor(raw_tensor("t", {32}, 8, kHuge & ~uint64_t{31})),
       {"tensor 0 't'", "past the end of the file"}},
      {"DataTruncated",
       [](RawGguf& f) { f.data_bytes -= 1; },
       {"tensor 2 'c.weight'", "past the end of the file"}},
      {"NoDataSection",
       [](RawGguf& f) { f.data_bytes = 0; },
       {"tensor 0 'a.weight'", "past the end of the file"}},
      {"Overlap",
       [](RawGguf& f) {
         f.tensors[1] = raw_tensor("b.weight", {4, 1, 3}, 0, 64);
       },
       {"tensor 1 'b.weight'", "overlaps tensor 'a.weight'"}},
      {"OverlapSameOffset",
       [](RawGguf& f) { f.tensors[2] = raw_tensor("c.weight", {256}, 12, 0); },
       {"overlaps"}},
  };
}

void check_case(const Case& one) {
  SCOPED_TRACE(one.name);
  RawGguf file = small_gguf();
  ASSERT_TRUE(parse(file.bytes()).is_ok()) << "the unspoilt file";
  one.spoil(file);
  const auto result = parse(file.bytes());
  ASSERT_FALSE(result.is_ok());
  const std::string message = result.status().message();
  EXPECT_NE(message.find("bad.gguf"), std::string::npos) << message;
  EXPECT_NE(message.find("offset "), std::string::npos) << message;
  for (const std::string& part : one.expect) {
    EXPECT_NE(message.find(part), std::string::npos) << message << "\n  lacks: " << part;
  }
}

TEST(GgufRefuse, Header) {
  for (const Case& one : header_cases()) check_case(one);
}

TEST(GgufRefuse, Values) {
  for (const Case& one : value_cases()) check_case(one);
}

TEST(GgufRefuse, Tensors) {
  for (const Case& one : tensor_cases()) check_case(one);
}

// A file of 3 · 2^61 bytes that reads as zeros behind its header: sums can overflow before ends do.
class SparseSource final : public ByteSource {
 public:
  explicit SparseSource(std::vector<uint8_t> head) : head_(std::move(head)) {}
  uint64_t size() const override { return (uint64_t{1} << 62) + (uint64_t{1} << 61); }
  const std::string& name() const override { return name_; }
  Status read_at(uint64_t offset, std::span<uint8_t> out) const override {
    for (size_t i = 0; i < out.size(); ++i) {
      out[i] = offset + i < head_.size() ? head_[offset + i] : 0;
    }
    return Status::ok();
  }

 private:
  std::string name_ = "sparse.gguf";
  std::vector<uint8_t> head_;
};

TEST(GgufRefuse, FinalSumOverflows) {
  RawGguf file;
  const uint64_t big = uint64_t{1} << 40;
  for (const char* name : {"t", "u"}) {
    file.tensors.push_back(raw_tensor(name, {big, 1 << 20}, 0, 0));  // 2^62 bytes each
  }
  const auto result = GgufFile::parse(std::make_shared<SparseSource>(file.bytes()));
  ASSERT_FALSE(result.is_ok());
  EXPECT_NE(result.status().message().find("tensor 1 'u'"), std::string::npos);
  EXPECT_NE(result.status().message().find("sum of all tensor sizes overflows"), std::string::npos)
      << result.status().message();
}

TEST(GgufRefuse, EveryTruncation) {
  const std::vector<uint8_t> whole = small_gguf().bytes();
  ASSERT_TRUE(parse(whole).is_ok());
  for (size_t length = 0; length < whole.size(); ++length) {
    const auto result = parse({whole.begin(), whole.begin() + static_cast<long>(length)});
    ASSERT_FALSE(result.is_ok()) << length;
    const std::string message = result.status().message();
    EXPECT_NE(message.find("bad.gguf: "), std::string::npos) << message;
    EXPECT_NE(message.find("offset "), std::string::npos) << message;
  }
}

TEST(GgufRefuse, ClaimsDoNotTakeMemory) {
  const auto claims = [](const std::string& kv) {
    RawGguf file = small_gguf();
    file.keys.push_back(kv);
    return file.bytes();
  };
  const uint64_t counts[] = {1000, 1 << 20, 1 << 24, 1 << 30, uint64_t{1} << 61, kHuge};
  for (const uint64_t count : counts) {
    for (uint32_t type = 0; type < 13; ++type) {
      const std::vector<uint8_t> array = claims(raw_kv("x", kArray, raw(type) + raw(count)));
      const std::vector<uint8_t> text = claims(raw_kv("x", kString, raw(count)));
      RawGguf counted = small_gguf();
      counted.n_keys = count;
      const std::vector<uint8_t> keys = counted.bytes();
      counted.n_keys.reset();
      counted.n_tensors = count;
      const std::vector<uint8_t> tensors = counted.bytes();
      for (const auto* bytes : {&array, &text, &keys, &tensors}) {
        auto source = make_memory_source("claim.gguf", *bytes);
        reset_largest_allocation();
        const auto result = GgufFile::parse(std::move(source));
        EXPECT_LT(largest_allocation(), 64u << 10) << "type " << type << " count " << count;
        // An array of few bytes may fit the data behind it: then something later fails.
        EXPECT_FALSE(result.is_ok());
      }
    }
  }
}

// Reads everything an accepted file offers; tensors must lie inside their part.
void exercise(const GgufFile& file) {
  for (const auto& [key, value] : file.metadata()) {
    (void)file.get_uint(key).is_ok();
    (void)file.get_int(key).is_ok();
    (void)file.get_float(key).is_ok();
    (void)file.get_bool(key).is_ok();
    (void)file.get_string(key).is_ok();
    (void)file.get_string_array(key).is_ok();
    (void)file.get_float_array(key).is_ok();
    (void)file.get_int_array(key).is_ok();
    (void)file.get_uint_per_layer(key, 2).is_ok();
    EXPECT_FALSE(value.describe().empty());
  }
  for (const TensorInfo& tensor : file.tensors()) {
    ASSERT_LE(tensor.file_offset + tensor.bytes, file.parts()[tensor.part].size);
    ASSERT_EQ(file.find_tensor(tensor.name), &tensor);
    std::vector<uint8_t> data(tensor.bytes);
    ASSERT_TRUE(file.read_tensor(tensor, 0, data).is_ok());
  }
}

TEST(GgufRefuse, TenThousandByteFlips) {
  RawGguf first = small_gguf();
  first.keys.push_back(raw_kv("split.no", kU16, raw<uint16_t>(0)));
  first.keys.push_back(raw_kv("split.count", kU16, raw<uint16_t>(2)));
  first.keys.push_back(raw_kv("split.tensors.count", kI32, raw<int32_t>(4)));
  RawGguf second;
  second.keys = {raw_kv("split.no", kU16, raw<uint16_t>(1)),
                 raw_kv("split.count", kU16, raw<uint16_t>(2)),
                 raw_kv("split.tensors.count", kI32, raw<int32_t>(4))};
  second.tensors = {raw_tensor("d.weight", {32}, 2, 0)};
  second.data_bytes = 18;
  const std::vector<std::vector<uint8_t>> whole = {small_gguf().bytes(), first.bytes(),
                                                   second.bytes()};

  Rng rng(test_seed(21));
  int loaded = 0, refused = 0;
  for (int i = 0; i < 10000; ++i) {
    const size_t victim = rng.below(3);
    std::vector<std::vector<uint8_t>> files = whole;
    // Mostly the header: flips in the data always load.
    for (uint64_t flips = 1 + rng.below(3); flips > 0; --flips) {
      std::vector<uint8_t>& bytes = files[victim];
      bytes[rng.below(bytes.size())] ^= static_cast<uint8_t>(1 + rng.below(255));
    }
    std::vector<std::shared_ptr<const ByteSource>> sources;
    if (victim == 0) {
      sources = {make_memory_source("m.gguf", files[0])};
    } else {
      sources = {make_memory_source("m-00001-of-00002.gguf", files[1]),
                 make_memory_source("m-00002-of-00002.gguf", files[2])};
    }
    const auto result = GgufFile::parse(std::move(sources));
    if (result.is_ok()) {
      ++loaded;
      exercise(*result);
      continue;
    }
    ++refused;
    const std::string message = result.status().message();
    EXPECT_EQ(message.find("m"), 0u) << message;
    EXPECT_TRUE(message.find(" offset ") != std::string::npos ||
                message.find("the key is missing") != std::string::npos)
        << message;
    EXPECT_TRUE(message.find("key") != std::string::npos ||
                message.find("tensor") != std::string::npos ||
                message.find("the file header") != std::string::npos)
        << message;
  }
  std::printf("%d loaded, %d refused\n", loaded, refused);
  EXPECT_GT(loaded, 1000);
  EXPECT_GT(refused, 1000);
}

}  // namespace
}  // namespace shoal
