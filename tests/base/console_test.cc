// Standard output and error that nobody reads, or that are closed; the log that goes there.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <sys/ioctl.h>
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

// What a child prints on a terminal of so many columns.
std::string on_terminal(unsigned short columns, const std::function<void()>& body) {
  int master = -1, slave = -1;
  winsize size{.ws_row = 24, .ws_col = columns};
  EXPECT_EQ(::openpty(&master, &slave, nullptr, nullptr, &size), 0);
  const Descriptor reader(master);
  Descriptor terminal(slave);
  std::string text;
  std::thread collector([&] {
    char buffer[4096];
    for (ssize_t got; (got = ::read(reader.get(), buffer, sizeof(buffer))) > 0;)
      text.append(buffer, static_cast<size_t>(got));
  });
  EXPECT_EQ(child(terminal.get(),
                  [&] {
                    ::setenv("TERM", "xterm", 1);
                    body();
                    std::exit(0);
                  }),
            0);
  terminal.close();
  collector.join();
#ifdef SHOAL_SANITIZED
  // LeakSanitizer's word on the threads that a fork leaves behind.
  if (const size_t note = text.find("Running thread"); note != std::string::npos) {
    text.resize(text.rfind("==", text.rfind("==", note) - 1));
  }
#endif
  return text;
}

TEST(Log, AStatusLineStandsBelowAndSharesNoLine) {
  const std::string text = on_terminal(40, [] {
    init_logging(LogLevel::kInfo, "test");
    set_status_line("loading 1 of 2");
    std::this_thread::sleep_for(milliseconds(200));
    log_info("first");
    std::this_thread::sleep_for(milliseconds(200));
    log_line("2026-01-31T12:00:00.000 warning [w0] from\ra worker");
    std::this_thread::sleep_for(milliseconds(200));
    print_error("last");
  });
  const size_t first = text.find("[test] first"), second = text.find("[w0] from\\ra worker\r\n");
  const size_t last = text.find("last\r\n");
  ASSERT_NE(first, std::string::npos) << text;
  ASSERT_NE(second, std::string::npos) << text;
  ASSERT_NE(last, std::string::npos) << text;
  const auto between = [&](size_t begin, size_t end) { return text.substr(begin, end - begin); };
  // Shown, taken away, the line, shown again.
  EXPECT_EQ(text.rfind("loading 1 of 2\r\x1b[J", 0), 0u) << text;
  EXPECT_NE(between(first, second).find("first\r\nloading 1 of 2\r\x1b[J"), std::string::npos)
      << text;
  EXPECT_NE(between(second, last).find("worker\r\nloading 1 of 2\r\x1b[J"), std::string::npos)
      << text;
  EXPECT_EQ(text.substr(last), "last\r\n") << "nothing is left of it";
}

TEST(Log, AStatusLineFitsTheTerminal) {
  const std::string text = on_terminal(20, [] {
    init_logging(LogLevel::kInfo, "test");
    set_status_line("0123456789012345678901234567890");
    flush_log(milliseconds(0));
    set_status_line("東東東東東東東東東東東東東東");
    std::this_thread::sleep_for(milliseconds(200));
    const winsize narrow{.ws_row = 24, .ws_col = 8};
    ::ioctl(STDERR_FILENO, TIOCSWINSZ, &narrow);
    set_status_line("short");
    std::this_thread::sleep_for(milliseconds(200));
  });
  EXPECT_EQ(text.find("01234567890123456789"), std::string::npos) << text;
  EXPECT_NE(text.find("東東東東東東東東東\r"), std::string::npos) << text;
  EXPECT_EQ(text.find("東東東東東東東東東東"), std::string::npos) << text;
  // Eighteen columns had become three rows of eight.
  EXPECT_NE(text.find("東\r\x1b[A\x1b[A\x1b[Jshort"), std::string::npos) << text;
}

TEST(Log, NoStatusLineWhereThereIsNoTerminal) {
  testing::TempDir dir;
  const std::string path = dir.path() + "/log";
  const Descriptor file(::open(path.c_str(), O_CREAT | O_WRONLY, 0600));
  EXPECT_EQ(child(file.get(),
                  [] {
                    init_logging(LogLevel::kInfo, "test");
                    set_status_line("loading");
                    log_info("line");
                    set_status_line("loading more");
                    ::_exit(log_shows_status() ? 1 : (flush_log(seconds(5)), 0));
                  }),
            0);
  const std::string text = testing::read_file(path);
  EXPECT_EQ(text.find("loading"), std::string::npos);
  EXPECT_EQ(text.find('\r'), std::string::npos);
  EXPECT_NE(text.find("[test] line\n"), std::string::npos);
}

// Several processes with one pipe for their log.
TEST(Log, LinesOfProcessesThatShareAPipeDoNotTear) {
  constexpr int kProcesses = 4, kLines = 300;
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  const Descriptor reader(ends[0]);
  Descriptor writer(ends[1]);
  std::string text;
  std::thread collector([&] {
    char buffer[4096];
    for (ssize_t got; (got = ::read(reader.get(), buffer, sizeof(buffer))) > 0;)
      text.append(buffer, static_cast<size_t>(got));
  });
  std::vector<pid_t> pids;
  for (int i = 0; i < kProcesses; ++i) {
    const pid_t pid = ::fork();
    if (pid == 0) {
      ::dup2(writer.get(), STDERR_FILENO);
      init_logging(LogLevel::kInfo, std::string(64, static_cast<char>('a' + i)));
      for (int n = 0; n < kLines; ++n)
        log_warn(std::string(n % 9 == 0 ? 5000 : 60, static_cast<char>('a' + i)));
      flush_log(seconds(20));
      ::_exit(0);
    }
    pids.push_back(pid);
  }
  writer.close();
  for (const pid_t pid : pids) ::waitpid(pid, nullptr, 0);
  collector.join();
  std::istringstream lines(text);
  int count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    const size_t open = line.find('[');
    ASSERT_EQ(open, 32u) << line;
    const char own = line[open + 1];
    EXPECT_LT(line.size(), 4096u);
    EXPECT_EQ(line.find_first_not_of(own, line.find("] ") + 2),
              line.size() > 1000 ? line.find("…") : line.npos);
  }
  EXPECT_EQ(count, kProcesses * kLines);
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
