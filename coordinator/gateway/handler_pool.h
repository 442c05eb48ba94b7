// Threads that run handlers, and the queue in front of them.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "base/clock.h"

namespace shoal::gateway {

struct PoolState {
  size_t waiting = 0, running = 0;  // tasks
  uint64_t waiting_bytes = 0;
  double longest_wait_seconds = 0;  // of a task that waits now
  double longest_run_seconds = 0;   // of a task that runs now
};

// Thread-safe, but for stop(). A task that throws is logged and ended.
class HandlerPool {
 public:
  struct Options {
    unsigned threads = 2;
    size_t max_waiting = 1024;
    uint64_t max_waiting_bytes = UINT64_MAX;
    int nice = 0;  // added to the process's; > 0: others come first where cores are scarce
  };
  explicit HandlerPool(const Options& options);
  ~HandlerPool();  // stop()

  // `bytes`: what the task keeps in memory while it waits. False: the queue is full, or stop() was
  // called; the task is not taken then.
  bool submit(uint64_t bytes, std::function<void()> task);
  PoolState state() const;
  // Runs what waits, then ends the threads.
  void stop();

 private:
  struct Task {
    std::function<void()> run;
    uint64_t bytes = 0;
    TimePoint since;
  };
  void work(size_t thread);

  const Options options_;
  mutable std::mutex mutex_;  // guards the following
  std::condition_variable changed_;
  std::deque<Task> waiting_;
  uint64_t waiting_bytes_ = 0;
  std::vector<TimePoint> running_since_;  // [threads]; max(): idle
  bool stopping_ = false;

  std::vector<std::thread> threads_;
};

}  // namespace shoal::gateway
