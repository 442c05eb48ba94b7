// Split models on disk: all parts, a missing one, and every way they can disagree.
#include <gtest/gtest.h>

#include <filesystem>
#include <optional>

#include "model/gguf.h"
#include "model/gguf_writer.h"
#include "tests/support/support.h"

namespace shoal {
namespace {

using shoal::testing::TempDir;
namespace fs = std::filesystem;

// One part: its keys and one F32 tensor (none if the name is empty).
struct Part {
  std::optional<uint16_t> no;
  std::optional<uint16_t> count;
  std::optional<int32_t> total;
  std::string tensor;
};

void write_part(const std::string& path, const Part& part) {
  GgufWriter writer;
  if (part.no == 0) writer.add_kv("general.architecture", "llama");
  if (part.no) writer.add_kv("split.no", *part.no);
  if (part.count) writer.add_kv("split.count", *part.count);
  if (part.total) writer.add_kv("split.tensors.count", *part.total);
  const std::vector<uint8_t> data(16, static_cast<uint8_t>(part.no.value_or(9)));
  if (!part.tensor.empty()) {
    ASSERT_TRUE(writer.add_tensor(part.tensor, TensorType::kF32, {4}, data).is_ok());
  }
  const Status status = writer.finish(path);
  ASSERT_TRUE(status.is_ok()) << status.message();
}

const char* const kNames[] = {"m-00001-of-00003.gguf", "m-00002-of-00003.gguf",
                              "m-00003-of-00003.gguf"};

// A model of three parts, the first without tensors, as some splitters write it.
class GgufSplit : public ::testing::Test {
 protected:
  std::vector<Part> parts{{0, 3, 2, ""}, {1, 3, 2, "a"}, {2, 3, 2, "b"}};

  void write() {
    for (int i = 0; i < 3; ++i) write_part(path(kNames[i]), parts[static_cast<size_t>(i)]);
  }
  std::string path(const std::string& name) const { return folder_.path() + "/" + name; }
  std::string error(const std::string& name = kNames[0]) {
    const auto file = GgufFile::open(path(name));
    EXPECT_FALSE(file.is_ok());
    return file.is_ok() ? "" : file.status().message();
  }
  void expect_error(const std::string& name, std::initializer_list<std::string> wanted) {
    const std::string message = error(name);
    for (const std::string& part : wanted) {
      EXPECT_NE(message.find(part), std::string::npos) << message << "\n  lacks: " << part;
    }
  }

 private:
  TempDir folder_;
};

TEST_F(GgufSplit, Opens) {
  write();
  const auto file = GgufFile::open(path(kNames[0]));
  ASSERT_TRUE(file.is_ok()) << file.status().message();
  EXPECT_EQ(file->parts().size(), 3u);
  EXPECT_EQ(file->tensors().size(), 2u);
  EXPECT_EQ(*file->get_string("general.architecture"), "llama");
  const TensorInfo* b = file->find_tensor("b");
  ASSERT_NE(b, nullptr);
  EXPECT_EQ(b->part, 2u);
  std::vector<uint8_t> bytes(16);
  ASSERT_TRUE(file->read_tensor(*b, 0, bytes).is_ok());
  EXPECT_EQ(bytes, std::vector<uint8_t>(16, 2));
  EXPECT_EQ(file->data_bytes(), 32u);
}

TEST_F(GgufSplit, DigestCoversEveryPart) {
  write();
  const std::string before = GgufFile::open(path(kNames[0]))->digest();
  parts[2].tensor = "c";
  write();
  EXPECT_NE(GgufFile::open(path(kNames[0]))->digest(), before);
}

TEST_F(GgufSplit, OtherPartThanTheFirst) {
  write();
  expect_error(kNames[1], {"part 2 of 3", path(kNames[0]), "'split.no'", "offset"});
}

TEST_F(GgufSplit, MissingPart) {
  write();
  fs::remove(path(kNames[2]));
  expect_error(kNames[0], {"part 3 of 3", kNames[2], "No such file"});
}

TEST_F(GgufSplit, PartIsAFolder) {
  write();
  fs::remove(path(kNames[2]));
  fs::create_directory(path(kNames[2]));
  expect_error(kNames[0], {"part 3 of 3", "not a regular file"});
}

TEST_F(GgufSplit, NameDoesNotMatchTheKeys) {
  write();
  for (const char* name : {"m.gguf", "m-00001-of-00002.gguf", "m-00002-of-00003.gguf",
                           "m-1-of-3.gguf", "m-00001-of-00003.gguf.part"}) {
    fs::copy_file(path(kNames[0]), path(name), fs::copy_options::overwrite_existing);
    expect_error(name, {"'split.count'", "must be named PREFIX-00001-of-00003.gguf", "offset"});
  }
}

TEST_F(GgufSplit, PartsDisagree) {
  struct {
    int part;
    Part spoilt;
    std::string file, problem;
  } const cases[] = {
      {1, {2, 3, 2, "a"}, kNames[1], "'split.no' at offset"},
      {1, {1, 4, 2, "a"}, kNames[1], "found 4, but the first part says 3"},
      {1, {1, 3, 7, "a"}, kNames[1], "found 7, but the first part says 2"},
      {1, {std::nullopt, 3, 2, "a"}, kNames[1], "key 'split.no': the key is missing"},
      {1, {1, std::nullopt, 2, "a"}, kNames[1], "key 'split.count': the key is missing"},
      {1, {1, 3, 2, "b"}, kNames[2], "tensor 'b' (data at offset"},
      {1, {1, 3, 2, ""}, kNames[0], "the parts hold 1 tensors, not 2"},
      {0, {0, 3, std::nullopt, ""}, kNames[0], "key 'split.tensors.count': the key is missing"},
      {0, {0, 3, -2, ""}, kNames[0], "non-negative"},
      {0, {0, 1025, 2, ""}, kNames[0], "1025 is outside 0..1024"},
      {0, {std::nullopt, 3, 2, ""}, kNames[0], "key 'split.no': the key is missing"},
  };
  for (const auto& one : cases) {
    const Part before = parts[static_cast<size_t>(one.part)];
    parts[static_cast<size_t>(one.part)] = one.spoilt;
    write();
    expect_error(kNames[0], {one.file, one.problem});
    parts[static_cast<size_t>(one.part)] = before;
  }
}

TEST_F(GgufSplit, SamePartTwiceThroughALink) {
  write();
  fs::remove(path(kNames[2]));
  fs::create_symlink(path(kNames[1]), path(kNames[2]));
  expect_error(kNames[0], {kNames[2], "'split.no'", "expected 2, found 1"});
}

TEST_F(GgufSplit, LinksAsInADownloadCacheWork) {
  write();
  fs::create_directory(path("snapshot"));
  for (int i = 0; i < 3; ++i) {
    fs::rename(path(kNames[i]), path("blob" + std::to_string(i)));
    fs::create_symlink(path("blob" + std::to_string(i)), path("snapshot/") + kNames[i]);
  }
  EXPECT_TRUE(GgufFile::open(path("snapshot/") + kNames[0]).is_ok());
}

TEST_F(GgufSplit, OnePartNeedsNoSpecialName) {
  write_part(path("single.gguf"), {0, 1, 1, "a"});
  EXPECT_TRUE(GgufFile::open(path("single.gguf")).is_ok());
}

TEST(GgufOpen, NoFileFolderOrZeroByte) {
  const TempDir folder;
  EXPECT_EQ(GgufFile::open(folder.path() + "/none.gguf").status().code(), Code::kNotFound);
  EXPECT_FALSE(GgufFile::open(folder.path()).is_ok());
  const auto zero = GgufFile::open(std::string("a\0b", 3));
  EXPECT_NE(zero.status().message().find("zero byte"), std::string::npos);
}

}  // namespace
}  // namespace shoal
