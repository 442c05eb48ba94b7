#include "cli/model_watch.h"

#include <sys/stat.h>

#include <array>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>

namespace shoal {
namespace {

// Device, inode, size, seconds and nanoseconds of the last change; all zero: not there.
using Stamp = std::array<uint64_t, 5>;

Stamp stamp_of(const std::string& path) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return {};
  return {info.st_dev, info.st_ino, static_cast<uint64_t>(info.st_size),
          static_cast<uint64_t>(info.st_mtim.tv_sec), static_cast<uint64_t>(info.st_mtim.tv_nsec)};
}

}  // namespace

struct ModelWatch::State {
  std::vector<std::string> paths;
  Duration period{};
  std::atomic<uint64_t> changes{0};
  std::mutex mutex;  // guards stopping
  std::condition_variable stopped;
  bool stopping = false;

  std::vector<Stamp> look() const {
    std::vector<Stamp> stamps;
    for (const std::string& path : paths) stamps.push_back(stamp_of(path));
    return stamps;
  }

  void watch() {
    std::vector<Stamp> last = look();
    for (;;) {
      {
        std::unique_lock lock(mutex);
        if (stopped.wait_for(lock, period, [this] { return stopping; })) return;
      }
      std::vector<Stamp> now = look();
      if (now != last) ++changes;
      last = std::move(now);
    }
  }
};

ModelWatch::ModelWatch(std::vector<std::string> paths, Duration period)
    : state_(std::make_shared<State>()) {
  state_->paths = std::move(paths);
  state_->period = period;
  std::thread([state = state_] { state->watch(); }).detach();
}

ModelWatch::~ModelWatch() {
  std::lock_guard lock(state_->mutex);
  state_->stopping = true;
  state_->stopped.notify_all();
}

uint64_t ModelWatch::changes() const { return state_->changes.load(); }

}  // namespace shoal
