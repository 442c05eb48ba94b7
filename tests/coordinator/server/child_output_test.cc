// Lines of several children: whole, named, said once.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <map>
#include <mutex>

#include "base/rng.h"
#include "coordinator/server/child_output.h"
#include "coordinator/server/child_process.h"
#include "coordinator/server/repeated_lines.h"
#include "coordinator/server/supervisor.h"
#include "tests/support/support.h"

namespace shoal {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Lines = std::vector<std::string>;

std::string line(const std::string& name, const std::string& text,
                 const std::string& level = "info",
                 const std::string& time = "2026-01-31T12:00:00.000") {
  return time + " " + level + " [" + name + "] " + text;
}

TEST(RepeatedLines, AllSayItOnceInOrder) {
  RepeatedLines lines(2);
  const TimePoint now{};
  lines.add("w0", line("w0", "same"), now);
  EXPECT_EQ(lines.take(now), Lines{}) << "the other may still say it";
  lines.add("w0", line("w0", "own"), now);
  lines.add("w1", line("w1", "same", "info", "2026-01-31T12:00:00.100"), now + milliseconds(100));
  EXPECT_EQ(lines.take(now + milliseconds(100)), (Lines{line("w0, w1", "same")}));
  EXPECT_EQ(lines.take(now + milliseconds(249)), Lines{});
  EXPECT_EQ(lines.take(now + RepeatedLines::kWindow), (Lines{line("w0", "own")}));
  EXPECT_TRUE(lines.empty());
}

TEST(RepeatedLines, WhatDiffersIsKeptApart) {
  RepeatedLines lines(2);
  const TimePoint now{};
  lines.add("w0", line("w0", "a"), now);
  lines.add("w1", line("w1", "a", "warning"), now);
  lines.add("w1", line("w1", "b"), now);
  EXPECT_EQ(lines.take_all(),
            (Lines{line("w0", "a"), line("w1", "a", "warning"), line("w1", "b")}));
}

TEST(RepeatedLines, OneThatSaysItTwiceSaidItTwice) {
  RepeatedLines lines(2);
  const TimePoint now{};
  for (int i = 0; i < 2; ++i) lines.add("w0", line("w0", "again"), now);
  lines.add("w1", line("w1", "again"), now);
  EXPECT_EQ(lines.take_all(), (Lines{line("w0", "again"), line("w0, w1", "again")}));
}

TEST(RepeatedLines, ManyNamesAreCounted) {
  RepeatedLines lines(64);
  for (int i = 0; i < 64; ++i) {
    const std::string name = "w" + std::to_string(i);
    lines.add(name, line(name, "same"), TimePoint{});
  }
  EXPECT_EQ(lines.take(TimePoint{}), (Lines{line("w0, w1 … w63: 64 workers", "same")}));
}

TEST(RepeatedLines, OneWorkerNeverWaitsAndOtherTextGetsItsName) {
  RepeatedLines lines(1);
  lines.add("w0", line("w0", "said"), TimePoint{});
  lines.add("w0", "free(): invalid pointer", TimePoint{});
  for (const char* text :
       {"2026", "2026-01-31T12:00:00.000 ", "2026-01-31T12:00:00.000 info no name",
        "xxxx-xx-xxTxx:xx:xx.xxx info [w0] text"}) {
    lines.add("w0", text, TimePoint{});
  }
  EXPECT_EQ(lines.take(TimePoint{}),
            (Lines{line("w0", "said"), "[w0] free(): invalid pointer", "[w0] 2026",
                   "[w0] 2026-01-31T12:00:00.000 ", "[w0] 2026-01-31T12:00:00.000 info no name",
                   "[w0] xxxx-xx-xxTxx:xx:xx.xxx info [w0] text"}));
}

// What came, with a lock.
class Sink {
 public:
  std::function<void(std::string_view)> function() {
    return [this](std::string_view text) {
      std::lock_guard lock(mutex_);
      lines_.emplace_back(text);
    };
  }
  Lines lines() {
    std::lock_guard lock(mutex_);
    return lines_;
  }

 private:
  std::mutex mutex_;
  Lines lines_;
};

TEST(ChildOutput, LinesOfManyNeverTear) {
  constexpr int kChildren = 6, kLines = 400;
  Sink sink;
  {
    ChildOutput output(kChildren, sink.function());
    std::vector<pid_t> pids;
    for (int i = 0; i < kChildren; ++i) {
      const std::string name = "c" + std::to_string(i);
      const auto writer = output.add(name);
      ASSERT_TRUE(writer.is_ok());
      // On both descriptors, in pieces.
      const std::string script =
          "n=0; while [ $n -lt " + std::to_string(kLines) + " ]; do printf 'x%s' " + name +
          "; printf ' %s' $n >&2; echo ' end'; n=$((n+1)); done; printf 'last %s' " + name;
      const auto pid = start_child({"/bin/sh", "-c", script}, -1, writer->get());
      ASSERT_TRUE(pid.is_ok()) << pid.status().message();
      pids.push_back(*pid);
    }
    for (const pid_t pid : pids) EXPECT_EQ(::waitpid(pid, nullptr, 0), pid);
  }
  std::map<std::string, int> next;
  int last = 0;
  for (const std::string& text : sink.lines()) {
    const std::string name = text.substr(1, 2);
    if (text == "[" + name + "] last " + name) {
      ++last;
      continue;
    }
    EXPECT_EQ(text, "[" + name + "] x" + name + " " + std::to_string(next[name]) + " end");
    ++next[name];
  }
  EXPECT_EQ(last, kChildren);
  EXPECT_EQ(next.size(), size_t{kChildren});
  for (const auto& [name, lines] : next) EXPECT_EQ(lines, kLines) << name;
}

TEST(ChildOutput, DrainWaitsForWhatAnEndedChildSaidAndNoLonger) {
  Sink sink;
  ChildOutput output(2, sink.function());
  auto writer = output.add("a");
  const auto other = output.add("b");  // its child lives
  const std::string text = line("a", "last words") + "\n";
  ASSERT_EQ(::write(writer->get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
  writer->close();
  output.drain("a", seconds(20));
  EXPECT_EQ(sink.lines(), (Lines{line("a", "last words")}));
  const auto begin = std::chrono::steady_clock::now();
  output.drain("b", milliseconds(10));
  EXPECT_LT(std::chrono::steady_clock::now() - begin, seconds(10));
}

TEST(ChildOutput, ALineWithoutAnEndHasABound) {
  Sink sink;
  {
    ChildOutput output(1, sink.function());
    auto writer = output.add("a");
    const std::string text(3 * ChildOutput::kMaxLineBytes + 5, 'x');
    ASSERT_EQ(::write(writer->get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
  }
  size_t bytes = 0;
  for (const std::string& text : sink.lines()) {
    EXPECT_LE(text.size(), ChildOutput::kMaxLineBytes + 4);
    bytes += text.size() - 4;  // "[a] "
  }
  EXPECT_EQ(bytes, 3 * ChildOutput::kMaxLineBytes + 5);
}

TEST(Supervisor, LastWordsComeBeforeTheEnd) {
  Lines said;
  std::mutex mutex;
  const auto add = [&](std::string_view text) {
    std::lock_guard lock(mutex);
    said.emplace_back(text);
  };
  Supervisor::Options options;
  options.first_backoff_seconds = options.max_backoff_seconds = 3600;
  options.on_line = add;
  options.on_exit = [&](const ChildExit& exit) { add(exit.how); };
  const auto supervisor =
      Supervisor::start({{"w1", {"/bin/sh", "-c", "echo first; echo second >&2; exit 3"}, nullptr},
                         {"w2", {"/bin/sh", "-c", "exec sleep 60"}, nullptr}},
                        options)
          .value();
  const auto deadline = std::chrono::steady_clock::now() + seconds(20);
  while (std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(milliseconds(5));
    std::lock_guard lock(mutex);
    if (said.size() >= 3) break;
  }
  std::lock_guard lock(mutex);
  EXPECT_EQ(said, (Lines{"[w1] first", "[w1] second", "exited with 3"}));
}

}  // namespace
}  // namespace shoal
