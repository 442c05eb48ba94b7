#include "coordinator/gateway/handler_pool.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <exception>
#include <utility>

#include "base/log.h"

namespace shoal::gateway {
namespace {

void lower_priority(int nice) {
  const auto thread = static_cast<id_t>(::gettid());  // of Linux: each thread has its own
  errno = 0;
  const int own = ::getpriority(PRIO_PROCESS, thread);
  if (errno != 0 || ::setpriority(PRIO_PROCESS, thread, std::min(own + nice, 19)) != 0) {
    log_warn(fmt::format("http: a thread's priority cannot be lowered: {}", std::strerror(errno)));
  }
}

}  // namespace

HandlerPool::HandlerPool(const Options& options)
    : options_(options), running_since_(options.threads, TimePoint::max()) {
  for (size_t i = 0; i < options_.threads; ++i) {
    threads_.emplace_back([this, i] { work(i); });
  }
}

HandlerPool::~HandlerPool() { stop(); }

bool HandlerPool::submit(uint64_t bytes, std::function<void()> task) {
  const std::lock_guard lock(mutex_);
  if (stopping_ || waiting_.size() >= options_.max_waiting ||
      bytes > options_.max_waiting_bytes - waiting_bytes_) {
    return false;
  }
  waiting_.push_back({std::move(task), bytes, SteadyClock().now()});
  waiting_bytes_ += bytes;
  changed_.notify_one();
  return true;
}

void HandlerPool::work(size_t thread) {
  if (options_.nice != 0) lower_priority(options_.nice);
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
    if (waiting_.empty()) return;
    Task task = std::move(waiting_.front());
    waiting_.pop_front();
    waiting_bytes_ -= task.bytes;
    running_since_[thread] = SteadyClock().now();
    lock.unlock();
    try {
      task.run();
    } catch (const std::exception& error) {  // the exchange it drops answers 500
      log_error(fmt::format("http: a handler failed: {}", error.what()));
    }
    task.run = nullptr;  // what it held is freed outside the lock
    lock.lock();
    running_since_[thread] = TimePoint::max();
  }
}

PoolState HandlerPool::state() const {
  const TimePoint now = SteadyClock().now();
  const std::lock_guard lock(mutex_);
  PoolState out;
  out.waiting = waiting_.size();
  out.waiting_bytes = waiting_bytes_;
  if (!waiting_.empty()) out.longest_wait_seconds = to_seconds(now - waiting_.front().since);
  for (const TimePoint since : running_since_) {
    if (since == TimePoint::max()) continue;
    ++out.running;
    out.longest_run_seconds = std::max(out.longest_run_seconds, to_seconds(now - since));
  }
  out.longest_wait_seconds = std::max(out.longest_wait_seconds, 0.0);
  return out;
}

void HandlerPool::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
}

}  // namespace shoal::gateway
