#include "model/file_watch.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace shoal {
namespace {

using namespace std::chrono_literals;

class FileWatchTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "shoal-watch-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    path_ = folder_ / "model.gguf";
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  void write(const std::string& text) { std::ofstream(path_) << text; }
  void begin() { watch_.begin({path_.string()}, stamp_files({path_.string()})); }
  // After this many polls, 0: not within `most`.
  int polls_until_changed(int most = 10) {
    for (int i = 1; i <= most; ++i) {
      now_ += FileWatch::kInterval;
      if (watch_.changed(now_)) return i;
    }
    return 0;
  }

  std::filesystem::path folder_, path_;
  FileWatch watch_;
  TimePoint now_{1h};
};

TEST_F(FileWatchTest, SaysOnceThatAFileHasChanged) {
  write("cut short");
  begin();
  EXPECT_EQ(polls_until_changed(), 0);
  write("complete now");
  EXPECT_EQ(polls_until_changed(), 2) << "seen, and still the same a poll later";
  EXPECT_EQ(polls_until_changed(), 0) << "once";
}

TEST_F(FileWatchTest, AFileThatAppearsOrIsReplacedHasChanged) {
  begin();
  EXPECT_EQ(polls_until_changed(), 0);
  write("there");
  EXPECT_EQ(polls_until_changed(), 2);
  begin();
  std::ofstream(folder_ / "other") << "there";
  std::filesystem::last_write_time(folder_ / "other", std::filesystem::last_write_time(path_));
  std::filesystem::rename(folder_ / "other", path_);
  EXPECT_EQ(polls_until_changed(), 2) << "another inode";
  begin();
  std::filesystem::remove(path_);
  EXPECT_EQ(polls_until_changed(), 2);
}

TEST_F(FileWatchTest, WaitsUntilACopyHasEnded) {
  write("a");
  begin();
  for (int i = 0; i < 5; ++i) {
    write(std::string(10 + i, 'x'));
    EXPECT_EQ(polls_until_changed(1), 0) << i;
  }
  EXPECT_EQ(polls_until_changed(), 1);
}

TEST_F(FileWatchTest, ARepairDuringTheAttemptCounts) {
  write("cut short");
  const auto seen = stamp_files({path_.string()});
  write("complete now");  // while the load was failing
  watch_.begin({path_.string()}, seen);
  EXPECT_EQ(polls_until_changed(), 2);
}

TEST_F(FileWatchTest, LooksOnceASecond) {
  write("cut short");
  begin();
  EXPECT_FALSE(watch_.changed(now_));
  write("complete now");
  for (int i = 0; i < 9; ++i) EXPECT_FALSE(watch_.changed(now_ += 100ms));
  EXPECT_FALSE(watch_.changed(now_ += 100ms));
  EXPECT_TRUE(watch_.changed(now_ += 1s));
  watch_.begin({}, {});
  EXPECT_EQ(polls_until_changed(), 0);
}

TEST(ModelFiles, EveryPartOfASplitModel) {
  EXPECT_EQ(model_files("/m/model.gguf"), std::vector<std::string>({"/m/model.gguf"}));
  EXPECT_EQ(model_files("/m/a-00001-of-00003.gguf"),
            std::vector<std::string>({"/m/a-00001-of-00003.gguf", "/m/a-00002-of-00003.gguf",
                                      "/m/a-00003-of-00003.gguf"}));
  for (const char* odd :
       {"", "x", "-00001-of-00003.gguf", "/m/a-00002-of-00003.gguf", "/m/a-00001-of-00000.gguf",
        "/m/a-00001-of-99999.gguf", "/m/a-00001-of-0000x.gguf", "/m/a-00001-to-00003.gguf"}) {
    EXPECT_EQ(model_files(odd), std::vector<std::string>({odd}));
  }
}

}  // namespace
}  // namespace shoal
