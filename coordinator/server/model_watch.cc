#include "coordinator/server/model_watch.h"

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>

#include "model/file_watch.h"

namespace shoal {

struct ModelWatch::State {
  std::vector<std::string> paths;
  Duration period{};
  std::atomic<uint64_t> changes{0};
  std::mutex mutex;  // guards stopping
  std::condition_variable stopped;
  bool stopping = false;

  void watch() {
    std::vector<FileStamp> last = stamp_files(paths);
    for (;;) {
      {
        std::unique_lock lock(mutex);
        if (stopped.wait_for(lock, period, [this] { return stopping; })) return;
      }
      std::vector<FileStamp> now = stamp_files(paths);
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
