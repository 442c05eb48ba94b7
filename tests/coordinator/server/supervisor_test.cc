// Children that end, refuse, cannot be executed; what they inherit. The children are /bin/sh.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <mutex>
#include <thread>

#include "base/file.h"
#include "coordinator/server/child_process.h"
#include "coordinator/server/model_watch.h"
#include "coordinator/server/supervisor.h"
#include "tests/support/support.h"

namespace shoal {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

std::vector<std::string> shell(const std::string& script) { return {"/bin/sh", "-c", script}; }

template <typename Condition>
bool within(double seconds, Condition condition) {
  const auto deadline = steady_clock::now() + std::chrono::duration<double>(seconds);
  while (steady_clock::now() < deadline) {
    if (condition()) return true;
    std::this_thread::sleep_for(milliseconds(5));
  }
  return condition();
}

// A supervisor whose exits are kept.
class Watched {
 public:
  Watched(const std::string& script, Supervisor::Options options) {
    options.on_exit = [this](const ChildExit& exit) {
      std::lock_guard lock(mutex_);
      exits_.push_back(exit);
    };
    supervisor = Supervisor::start({{"w1", shell(script), nullptr}}, options).value();
  }
  std::vector<ChildExit> exits() {
    std::lock_guard lock(mutex_);
    return exits_;
  }
  bool seen(size_t count) {
    return within(20, [&] { return exits().size() >= count; });
  }

 private:
  std::mutex mutex_;
  std::vector<ChildExit> exits_;

 public:
  std::unique_ptr<Supervisor> supervisor;
};

Supervisor::Options quick() {
  Supervisor::Options options;
  options.first_backoff_seconds = 0.001;
  options.max_backoff_seconds = 0.008;
  return options;
}

TEST(Supervisor, NeverGivesUpAndPausesAtMostSoLong) {
  Watched watched("exit 1", quick());
  ASSERT_TRUE(watched.seen(9));
  const auto exits = watched.exits();
  const double pauses[] = {0.001, 0.002, 0.004, 0.008, 0.008, 0.008, 0.008, 0.008, 0.008};
  for (int i = 0; i < 9; ++i) {
    EXPECT_EQ(exits[i].failures, i + 1);
    EXPECT_EQ(exits[i].refusals, 0);
    EXPECT_EQ(exits[i].how, "exited with 1");
    EXPECT_DOUBLE_EQ(exits[i].next_try_seconds, pauses[i]);
  }
}

TEST(Supervisor, DefaultPausesReachAMinute) {
  const Supervisor::Options options;
  EXPECT_EQ(options.first_backoff_seconds, 0.1);
  EXPECT_EQ(options.max_backoff_seconds, 60);
}

TEST(Supervisor, ALongLifeBeginsAnew) {
  testing::TempDir dir;
  // Fails three times at once, then lives for a while, then fails again.
  Supervisor::Options options = quick();
  options.stable_seconds = 0.3;
  Watched watched("echo >> " + dir.path() + "/n; [ $(wc -l < " + dir.path() +
                      "/n) -eq 4 ] && sleep 0.5; exit 3",
                  options);
  ASSERT_TRUE(watched.seen(5));
  std::vector<int> failures;
  for (const ChildExit& exit : watched.exits()) failures.push_back(exit.failures);
  failures.resize(5);
  EXPECT_EQ(failures, (std::vector<int>{1, 2, 3, 1, 2}));
}

TEST(Supervisor, CountsRefusalsInARow) {
  testing::TempDir dir;
  const std::string file = dir.path() + "/n";
  Watched watched("echo >> " + file + "; [ $(wc -l < " + file + ") -eq 3 ] && exit 1; exit 2",
                  quick());
  ASSERT_TRUE(watched.seen(5));
  std::vector<int> refusals;
  for (const ChildExit& exit : watched.exits()) refusals.push_back(exit.refusals);
  refusals.resize(5);
  EXPECT_EQ(refusals, (std::vector<int>{1, 2, 0, 1, 2}));
}

TEST(Supervisor, SaysWhoWaitsAndForHowLong) {
  Supervisor::Options options;
  options.first_backoff_seconds = options.max_backoff_seconds = 30;
  Watched watched("exit 1", options);
  ASSERT_TRUE(watched.seen(1));
  const std::string text = watched.supervisor->waiting();
  EXPECT_TRUE(text == "worker w1 failed 1 time, next try in 30 s" ||
              text == "worker w1 failed 1 time, next try in 29 s")
      << text;
}

TEST(Supervisor, HopeEndsThePause) {
  std::atomic<uint64_t> hope{0};
  Supervisor::Options options;
  options.first_backoff_seconds = options.max_backoff_seconds = 3600;
  options.hope = [&] { return hope.load(); };
  Watched watched("exit 1", options);
  ASSERT_TRUE(watched.seen(1));
  std::this_thread::sleep_for(milliseconds(300));
  ASSERT_EQ(watched.exits().size(), 1u) << "it was started without a reason";
  ++hope;
  ASSERT_TRUE(watched.seen(2));
  EXPECT_EQ(watched.exits()[1].failures, 1) << "hope forgets failures";
}

TEST(ModelWatch, CountsWhateverHappensToAnyPart) {
  testing::TempDir dir;
  const std::vector<std::string> parts = {dir.path() + "/1", dir.path() + "/2"};
  for (const std::string& part : parts) {
    ASSERT_TRUE(write_file_atomically(part, "content", 0600).is_ok());
  }
  const ModelWatch watch(parts, milliseconds(10));
  std::this_thread::sleep_for(milliseconds(100));
  EXPECT_EQ(watch.changes(), 0u);
  uint64_t seen = 0;
  const auto noticed = [&](const char* what) {
    EXPECT_TRUE(within(10, [&] { return watch.changes() > seen; })) << what;
    std::this_thread::sleep_for(milliseconds(100));
    seen = watch.changes();
  };
  ASSERT_EQ(::truncate(parts[1].c_str(), 3), 0);
  noticed("cut short");
  ASSERT_TRUE(write_file_atomically(parts[1], "content", 0600).is_ok());
  noticed("replaced");
  ASSERT_EQ(::unlink(parts[0].c_str()), 0);
  noticed("removed");
  ASSERT_TRUE(write_file_atomically(parts[0], "content", 0600).is_ok());
  noticed("there again");
  EXPECT_EQ(watch.changes(), seen) << "nothing happened";
}

TEST(Supervisor, AProgramThatCannotBeExecutedIsAnErrorAtOnce) {
  testing::TempDir dir;
  const std::string text = dir.path() + "/text";
  ASSERT_TRUE(write_file_atomically(text, "no program", 0600).is_ok());
  const struct {
    std::string program, why;
  } cases[] = {{dir.path() + "/none", "No such file or directory"},
               {text, "Permission denied"},
               {dir.path(), "Permission denied"}};
  for (const auto& c : cases) {
    const auto started = Supervisor::start({{"w1", {c.program}, nullptr}}, {});
    ASSERT_FALSE(started.is_ok()) << c.program;
    EXPECT_EQ(started.status().code(), Code::kFailedPrecondition);
    EXPECT_EQ(started.status().message(), "worker w1: cannot execute " + c.program + ": " + c.why);
  }
}

TEST(Supervisor, AProgramThatGoesAwayIsTriedAgain) {
  testing::TempDir dir;
  const std::string program = dir.path() + "/program";
  const std::string script = "#!/bin/sh\necho >> " + dir.path() + "/runs; exit 1\n";
  ASSERT_TRUE(write_file_atomically(program, script, 0700).is_ok());
  const auto runs = [&] {
    std::ifstream in(dir.path() + "/runs");
    int lines = 0;
    for (std::string line; std::getline(in, line);) ++lines;
    return lines;
  };
  const auto supervisor = Supervisor::start({{"w1", {program}, nullptr}}, quick()).value();
  ASSERT_TRUE(within(10, [&] { return runs() >= 1; }));
  ::unlink(program.c_str());
  std::this_thread::sleep_for(milliseconds(200));
  const int before = runs();
  ASSERT_TRUE(write_file_atomically(program, script, 0700).is_ok());
  EXPECT_TRUE(within(10, [&] { return runs() > before; }));
}

// ---- what a child starts with

// What `script` printed to a file; waits for its end.
std::string output_of(const std::string& script, int inherited = -1) {
  testing::TempDir dir;
  const std::string out = dir.path() + "/out";
  const auto pid = start_child(shell("exec > " + out + "; " + script), inherited);
  EXPECT_TRUE(pid.is_ok()) << pid.status().to_string();
  int status = -1;
  EXPECT_EQ(::waitpid(*pid, &status, 0), *pid);
  EXPECT_EQ(status, 0);
  return testing::read_file(out);
}

TEST(Child, HasNoneOfItsParentsDescriptors) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);  // not close-on-exec, as libraries open them
  const int far = ::fcntl(ends[0], F_DUPFD, 300);
  ASSERT_EQ(far, 300);
  // 3 is the folder that ls itself reads.
  EXPECT_EQ(output_of("ls /proc/self/fd"), "0\n1\n2\n3\n");
  EXPECT_EQ(output_of("readlink /proc/self/fd/0"), "/dev/null\n");
  for (const int fd : {ends[0], ends[1], far}) ::close(fd);
}

TEST(Child, InheritsTheOneDescriptorItIsGiven) {
  const Descriptor file = make_sealed_file("key", "a secret").value();
  EXPECT_EQ(output_of("cat /proc/self/fd/3; ls /proc/self/fd", file.get()),
            "a secret0\n1\n2\n3\n4\n");
  // Whatever number it has here.
  const int third = ::fcntl(file.get(), F_DUPFD_CLOEXEC, kInheritedDescriptor);
  EXPECT_EQ(output_of("cat /proc/self/fd/3", third), "a secret");
  EXPECT_EQ(output_of("cat /proc/self/fd/3", file.get()), "a secret") << "a second time";
  ::close(third);
}

TEST(Child, HasNoSignalBlockedOrIgnored) {
  sigset_t set, before;
  sigfillset(&set);
  ASSERT_EQ(::pthread_sigmask(SIG_BLOCK, &set, &before), 0);
  const auto pipe = ::signal(SIGPIPE, SIG_IGN);
  const std::string text = output_of("grep -E '^Sig(Blk|Ign)' /proc/self/status");
  ::signal(SIGPIPE, pipe);
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  EXPECT_EQ(text, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
}

TEST(File, SealedIsPrivateAndCannotBeChanged) {
  const Descriptor file = make_sealed_file("key", "a secret").value();
  const std::string path = "/proc/self/fd/" + std::to_string(file.get());
  EXPECT_EQ(*read_text_file(path, 100), "a secret");
  EXPECT_EQ(::write(file.get(), "x", 1), -1);
  EXPECT_NE(::ftruncate(file.get(), 0), 0);
  EXPECT_EQ(::fcntl(file.get(), F_GETFD), FD_CLOEXEC);
}

}  // namespace
}  // namespace shoal
