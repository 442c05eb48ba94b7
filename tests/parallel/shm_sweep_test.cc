// Segments of dead creators go, everything else in the folder stays.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <string>
#include <thread>

#include "base/descriptor.h"
#include "base/file.h"
#include "parallel/collective/collective.h"
#include "parallel/collective/shm_sweep.h"
#include "parallel/collective/slot_layout.h"
#include "tests/support/support.h"

namespace shoal {
namespace {

std::string with_magic(uint64_t magic) {
  std::string text(sizeof(SegmentHeader) + 100, '\0');
  std::memcpy(text.data(), &magic, sizeof(magic));
  return text;
}

bool exists(const std::string& path) {
  struct stat info {};
  return ::lstat(path.c_str(), &info) == 0;
}

TEST(Sweep, TakesWhatIsOursAndLeft) {
  testing::TempDir dir;
  const struct {
    std::string name, text;
    unsigned mode;
    bool goes;
  } files[] = {
      {"shoal.4711.5", with_magic(kSegmentMagic), 0600, true},
      {"shoal.4711.9fe3.12", with_magic(kSegmentMagic), 0600, true},
      {"shoal.4711.6", with_magic(0), 0600, true},  // its creator died before it wrote anything
      {"shoal.4711.7", "", 0600, true},
      {"shoal.4711.8", with_magic(7), 0600, false},  // another content
      {"shoal.4711.9", "text", 0600, false},         // too short for one
      {"shoal.4711.10", with_magic(kSegmentMagic), 0644, false},
      {"shoal.4711.11", with_magic(kSegmentMagic), 04600, false},
      {"shoal.4711", with_magic(kSegmentMagic), 0600, false},
      {"shoal.4711.", with_magic(kSegmentMagic), 0600, false},
      {"shoal..5", with_magic(kSegmentMagic), 0600, false},
      {"shoal.4711.backup", with_magic(kSegmentMagic), 0600, false},
      {"shoal-4711.5", with_magic(kSegmentMagic), 0600, false},
      {"other.4711.5", with_magic(kSegmentMagic), 0600, false},
  };
  size_t expected = 0;
  for (const auto& file : files) {
    ASSERT_TRUE(write_file_atomically(dir.path() + "/" + file.name, file.text, file.mode).is_ok());
    expected += file.goes ? 1 : 0;
  }
  EXPECT_EQ(sweep_segments(dir.path()), expected);
  for (const auto& file : files)
    EXPECT_NE(exists(dir.path() + "/" + file.name), file.goes) << file.name;
  EXPECT_EQ(sweep_segments(dir.path()), 0u);
  EXPECT_EQ(sweep_segments(dir.path() + "/none"), 0u);
}

TEST(Sweep, FollowsNoLinksAndWaitsForNothing) {
  testing::TempDir dir, elsewhere;
  const std::string text = with_magic(kSegmentMagic);
  const std::string target = elsewhere.path() + "/shoal.1.1";
  ASSERT_TRUE(write_file_atomically(target, text, 0600).is_ok());
  ASSERT_EQ(::symlink(target.c_str(), (dir.path() + "/shoal.4711.1").c_str()), 0);
  ASSERT_EQ(::mkfifo((dir.path() + "/shoal.4711.2").c_str(), 0600), 0);
  ASSERT_EQ(::mkdir((dir.path() + "/shoal.4711.3").c_str(), 0700), 0);
  const std::string twice = dir.path() + "/shoal.4711.4";
  ASSERT_TRUE(write_file_atomically(twice, text, 0600).is_ok());
  ASSERT_EQ(::link(twice.c_str(), (elsewhere.path() + "/kept").c_str()), 0);
  EXPECT_EQ(sweep_segments(dir.path()), 0u);
  for (const char* name : {"1", "2", "3", "4"})
    EXPECT_TRUE(exists(dir.path() + "/shoal.4711." + name));
  EXPECT_TRUE(exists(target));
}

TEST(Sweep, LeavesOtherUsersAlone) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can make a file of another user";
  testing::TempDir dir;
  const std::string path = dir.path() + "/shoal.4711.5";
  ASSERT_TRUE(write_file_atomically(path, with_magic(kSegmentMagic), 0600).is_ok());
  ASSERT_EQ(::chown(path.c_str(), 12345, 12345), 0);
  EXPECT_EQ(sweep_segments(dir.path()), 0u);
  EXPECT_TRUE(exists(path));
}

// A creator that waits for a rank that never comes.
pid_t creator(const std::string& name) {
  const pid_t pid = ::fork();
  if (pid != 0) return pid;
  ShmOptions options;
  options.name = name;
  options.rank = 0;
  options.world = 2;
  options.epoch = 1;
  options.deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  (void)make_shm_collective(options);
  ::_exit(1);
}

TEST(Sweep, ALivingCreatorKeepsItsSegmentAKilledOneDoesNot) {
  const std::string name = "/shoal." + std::to_string(::getpid()) + ".5eed.1";
  const std::string path = "/dev/shm" + name;
  const pid_t pid = creator(name);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!exists(path) && std::chrono::steady_clock::now() < deadline) {
    // As soon as it has a name it is locked: no sweep may ever take it.
    sweep_segments();
  }
  for (int i = 0; i < 100; ++i) sweep_segments();
  EXPECT_TRUE(exists(path));
  ::kill(pid, SIGKILL);
  ::waitpid(pid, nullptr, 0);
  EXPECT_TRUE(exists(path)) << "nothing is left to sweep";
  EXPECT_GE(sweep_segments(), 1u);
  EXPECT_FALSE(exists(path));
}

// Creators that begin while others sweep all the time: the name is there for as long as they live.
TEST(Sweep, NeverTakesASegmentThatIsJustBeingMade) {
  for (int i = 0; i < 50; ++i) {
    const std::string name = "/shoal." + std::to_string(::getpid()) + ".5eed." + std::to_string(i);
    const pid_t pid = creator(name);
    bool seen = false, lost = false;
    for (int turn = 0; turn < 2000 && !lost; ++turn) {
      sweep_segments();
      const bool here = exists("/dev/shm" + name);
      lost = seen && !here;
      seen = seen || here;
      if (seen && turn > 20) break;
    }
    EXPECT_FALSE(lost);
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
    sweep_segments();
  }
}

}  // namespace
}  // namespace shoal
