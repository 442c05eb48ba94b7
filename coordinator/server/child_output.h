// What child processes print, line by line: each has a pipe of its own, so that lines never tear
// into each other or into those of the parent.
#pragma once

#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/clock.h"
#include "base/descriptor.h"
#include "base/status.h"
#include "coordinator/server/repeated_lines.h"

namespace shoal {

class ChildOutput {
 public:
  // `children`: how many there are at a time. `sink` is called on a thread of this object's, or the
  // one that calls drain(), with a line as it is to be shown; it must not block.
  ChildOutput(size_t children, std::function<void(std::string_view line)> sink);
  // Drains what ended; what a child that lives still prints goes nowhere.
  ~ChildOutput();
  ChildOutput(const ChildOutput&) = delete;
  ChildOutput& operator=(const ChildOutput&) = delete;

  // What `name`'s process is to have as its standard output and error; to be closed here once it
  // runs.
  Result<Descriptor> add(const std::string& name);
  // Waits, at most so long, until all that `name`'s ended processes have said is with the sink.
  void drain(const std::string& name, Duration patience);

  static constexpr size_t kMaxLineBytes = 8192;  // of what is no log; longer lines are cut up

 private:
  struct Pipe {
    std::string name;
    Descriptor reader;
    std::string pending;  // a line without its end
    bool ended = false;
  };

  void run();
  void read_from(Pipe& pipe);
  void say(const std::vector<std::string>& lines);
  void wake();

  const std::function<void(std::string_view line)> sink_;
  std::mutex mutex_;  // guards what follows; the sink is called with it
  std::condition_variable changed_;
  RepeatedLines lines_;
  std::vector<Pipe> pipes_;
  bool stopping_ = false;
  Descriptor wake_reader_, wake_writer_;
  std::thread thread_;
};

}  // namespace shoal
