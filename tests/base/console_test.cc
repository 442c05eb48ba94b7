// Standard output and error that nobody reads, or that are closed; the log that goes there.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <functional>
#include <sstream>
#include <thread>

#include "base/check.h"
#include "base/console.h"
#include "base/descriptor.h"
#include "base/file.h"
#include "base/log.h"
#include "tests/support/support.h"

namespace shoal {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;

double seconds_since(steady_clock::time_point begin) {
  return to_seconds(steady_clock::now() - begin);
}

// Two ends; the writer's takes nothing any more.
struct FullPipe {
  Descriptor reader, writer;
  explicit FullPipe(bool sockets = false) {
    int ends[2];
    EXPECT_EQ(sockets ? ::socketpair(AF_UNIX, SOCK_STREAM, 0, ends) : ::pipe(ends), 0);
    reader = Descriptor(ends[0]);
    writer = Descriptor(ends[1]);
    ::fcntl(ends[1], F_SETFL, O_NONBLOCK);
    const std::string piece(4096, '-');
    while (::write(ends[1], piece.data(), piece.size()) > 0) {
    }
    while (::write(ends[1], "-", 1) > 0) {
    }
    ::fcntl(ends[1], F_SETFL, 0);
  }
  // Everything that comes until `wanted` does, without the filling.
  std::string read_until(const std::string& wanted) {
    ::fcntl(reader.get(), F_SETFL, O_NONBLOCK);
    std::string all;
    const auto begin = steady_clock::now();
    while (all.find(wanted) == std::string::npos && seconds_since(begin) < 20) {
      char buffer[65536];
      const ssize_t got = ::read(reader.get(), buffer, sizeof(buffer));
      if (got > 0) all.append(buffer, static_cast<size_t>(got));
      if (got <= 0) std::this_thread::sleep_for(milliseconds(1));
    }
    return all.substr(std::min(all.find_first_not_of('-'), all.size()));
  }
};

// Exit status of a child that runs `body` with this standard error; −1: it hung.
int child(int standard_error, const std::function<void()>& body) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::dup2(standard_error, STDERR_FILENO);
    body();
    ::_exit(0);
  }
  const auto begin = steady_clock::now();
  int status = 0;
  while (::waitpid(pid, &status, WNOHANG) == 0) {
    if (seconds_since(begin) > 20) {
      ::kill(pid, SIGKILL);
      ::waitpid(pid, &status, 0);
      return -1;
    }
    std::this_thread::sleep_for(milliseconds(5));
  }
  return status;
}

TEST(Console, AFullPipeOrSocketIsNotWaitedForLongerThanSaid) {
  for (const bool sockets : {false, true}) {
    FullPipe full(sockets);
    const auto begin = steady_clock::now();
    EXPECT_EQ(write_within(full.writer.get(), "text", Duration::zero()), 0u);
    EXPECT_EQ(write_within(full.writer.get(), "text", milliseconds(100)), 0u);
    EXPECT_GE(seconds_since(begin), 0.1);
    EXPECT_LT(seconds_since(begin), 10);
    // Others who share the pipe find it as it was.
    EXPECT_EQ(::fcntl(full.writer.get(), F_GETFL) & O_NONBLOCK, 0);
  }
}

TEST(Console, WhatASlowReaderTakesArrivesWhole) {
  for (const bool sockets : {false, true}) {
    FullPipe full(sockets);
    std::string text;
    for (int i = 0; i < 30000; ++i) text += std::to_string(i) + "\n";
    std::string got;
    std::thread reader([&] { got = full.read_until("29999\n"); });
    EXPECT_EQ(write_within(full.writer.get(), text, seconds(20)), text.size());
    reader.join();
    EXPECT_EQ(got, text);
  }
}

TEST(Console, WritesToFilesWhereOthersLeftOff) {
  testing::TempDir dir;
  const std::string path = dir.path() + "/out";
  const Descriptor file(::open(path.c_str(), O_CREAT | O_WRONLY, 0600));
  EXPECT_EQ(::write(file.get(), "one ", 4), 4);
  EXPECT_EQ(write_within(file.get(), "two ", Duration::zero()), 4u);
  EXPECT_EQ(::write(file.get(), "three", 5), 5);
  EXPECT_EQ(testing::read_file(path), "one two three");
}

TEST(Console, NobodyIsThere) {
  const Descriptor full(::open("/dev/full", O_WRONLY));
  EXPECT_EQ(write_within(full.get(), "text", seconds(20)), 0u);
  EXPECT_EQ(write_within(9999, "text", milliseconds(10)), 0u);
}

// Every subset of 0, 1 and 2 closed: files opened later have other numbers.
TEST(Console, ClosedStandardDescriptorsAreOpenedOnNull) {
  for (int subset = 0; subset < 8; ++subset) {
    const int status = child(STDERR_FILENO, [&] {
      for (int fd = 0; fd < 3; ++fd) {
        if (subset & 1 << fd) ::close(fd);
      }
      open_standard_descriptors();
      struct stat null {
      }, there{};
      ::stat("/dev/null", &null);
      for (int fd = 0; fd < 3; ++fd) {
        if (::fstat(fd, &there) != 0) ::_exit(10 + fd);
        if ((subset & 1 << fd) && there.st_rdev != null.st_rdev) ::_exit(20 + fd);
      }
      if (::open("/dev/zero", O_RDONLY) < 3) ::_exit(30);
    });
    EXPECT_EQ(status, 0) << "closed: " << subset;
  }
}

TEST(Console, LastWordsAndFailedChecksEndInTime) {
  FullPipe full;
  EXPECT_EQ(child(full.writer.get(), [] { print_error("nobody hears"); }), 0);
  EXPECT_EQ(child(full.writer.get(), [] { SHOAL_CHECK(false, "nobody hears"); }), SIGABRT);
  EXPECT_EQ(child(full.writer.get(),
                  [] {
                    init_logging(LogLevel::kInfo, "test");
                    for (int i = 0; i < 10000; ++i) log_info("nobody hears");
                    SHOAL_CHECK(false, "nobody hears");
                  }),
            SIGABRT);
  EXPECT_EQ(child(full.writer.get(),
                  [] {
                    init_logging(LogLevel::kInfo, "test");
                    log_error("nobody hears");
                    std::exit(0);
                  }),
            0);
}

TEST(Log, LastLinesAreWrittenBeforeTheEnd) {
  const auto said = [](const std::function<void()>& body) {
    int ends[2];
    EXPECT_EQ(::pipe(ends), 0);
    const Descriptor reader(ends[0]);
    Descriptor writer(ends[1]);
    (void)child(writer.get(), body);
    writer.close();
    std::string text;
    char buffer[4096];
    for (ssize_t got; (got = ::read(reader.get(), buffer, sizeof(buffer))) > 0;) {
      text.append(buffer, static_cast<size_t>(got));
    }
    return text;
  };
  const auto three_lines = [] {
    init_logging(LogLevel::kWarn, "worker 7");
    log_info("not said");
    log_warn("first");
    log_error("second");
  };
  const auto ends_with = [](const std::string& text, const std::string& end) {
    return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
  };
  const std::string at_exit = said([&] {
    three_lines();
    std::exit(0);
  });
  EXPECT_TRUE(ends_with(at_exit, " error [worker 7] second\n")) << at_exit;
  EXPECT_NE(at_exit.find(" warning [worker 7] first\n"), std::string::npos) << at_exit;
  EXPECT_EQ(at_exit.find("not said"), std::string::npos);
  const std::string at_check = said([&] {
    three_lines();
    SHOAL_CHECK(1 == 2, "third");
  });
  EXPECT_TRUE(ends_with(at_check, "check failed: 1 == 2: third\n")) << at_check;
  EXPECT_NE(at_check.find("second\n"), std::string::npos);
  const std::string at_error = said([&] {
    three_lines();
    print_error("third");
  });
  EXPECT_TRUE(ends_with(at_error, "second\nthird\n")) << at_error;
}

// In a child: logging starts once in a process.
TEST(Log, NeverWaitsDropsAndSaysHowMuch) {
  FullPipe full;
  constexpr int kLines = 100000;
  testing::TempDir dir;
  const std::string path = dir.path() + "/figures";
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::dup2(full.writer.get(), STDERR_FILENO);
    full.writer.close();
    full.reader.close();
    init_logging(LogLevel::kInfo, "test");
    for (int i = 0; i < kLines; ++i) log_info("line " + std::to_string(i));
    std::ofstream(path + ".new") << log_dropped();
    ::rename((path + ".new").c_str(), path.c_str());
    flush_log(seconds(20));
    log_info("after");
    flush_log(seconds(20));
    ::_exit(0);
  }
  full.writer.close();
  const auto begin = steady_clock::now();
  while (::access(path.c_str(), F_OK) != 0 && seconds_since(begin) < 20) {
    std::this_thread::sleep_for(milliseconds(5));
  }
  ASSERT_EQ(::access(path.c_str(), F_OK), 0) << "logging waits for its reader";
  const std::string dropped = testing::read_file(path);
  const std::string text = full.read_until("after\n");
  int status = -1;
  ::waitpid(pid, &status, 0);
  EXPECT_EQ(status, 0);
  // What was not dropped came whole and in order: at most what the queue holds twice over.
  std::istringstream lines(text);
  int count = 0, last = -1, said = 0;
  for (std::string line; std::getline(lines, line);) {
    if (const size_t end = line.find(" lines of the log were dropped here"); end != line.npos) {
      said += std::stoi(line.substr(line.rfind(' ', end - 1) + 1));  // once for each gap
    }
    const size_t at = line.find("] line ");
    if (at == std::string::npos) continue;
    const int number = std::stoi(line.substr(at + 7));
    EXPECT_GT(number, last);
    last = number;
    ++count;
  }
  EXPECT_EQ(said, std::stoi(dropped));
  EXPECT_EQ(count + std::stoi(dropped), kLines);
  EXPECT_LE(count, static_cast<int>(2 * kMaxLogLines));
}

TEST(File, WhatIsNoRegularFileIsRefusedByItsKindAtOnce) {
  testing::TempDir dir;
  const std::string pipe = dir.path() + "/pipe", link = dir.path() + "/link";
  const std::string socket = dir.path() + "/socket";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  ASSERT_EQ(::symlink(pipe.c_str(), link.c_str()), 0);
  ASSERT_EQ(::mknod(socket.c_str(), S_IFSOCK | 0600, 0), 0);
  const struct {
    std::string path, kind;
  } cases[] = {{pipe, "a named pipe"},
               {link, "a named pipe"},
               {socket, "a socket"},
               {dir.path(), "a folder"},
               {"/dev/zero", "a character device"},
               {"/dev/ptmx", "a character device"}};
  for (const auto& c : cases) {
    // In a child: the old way waited for ever.
    const int status = child(STDERR_FILENO, [&] {
      const auto file = File::open(c.path);
      const auto text = read_text_file(c.path, 100);
      const std::string wanted = c.path + " is " + c.kind + ", not a regular file";
      ::_exit(file.status().message() == wanted && text.status().message() == wanted ? 0 : 1);
    });
    EXPECT_EQ(status, 0) << c.path;
  }
}

}  // namespace
}  // namespace shoal
