// How often the files of a model have changed: reason to start workers again that failed because of
// them. They are looked at once a second on a thread of its own: a disk that hangs stops nobody.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"

namespace shoal {

class ModelWatch {
 public:
  // `paths`: of all parts. What is seen of them is name, size, time and inode, no content.
  explicit ModelWatch(std::vector<std::string> paths, Duration period = std::chrono::seconds(1));
  ~ModelWatch();  // does not wait for a look that hangs
  ModelWatch(const ModelWatch&) = delete;
  ModelWatch& operator=(const ModelWatch&) = delete;

  // Looks at which some part was not what it was at the look before. Thread-safe, does not block.
  uint64_t changes() const;

 private:
  struct State;
  const std::shared_ptr<State> state_;  // the thread has it too
};

}  // namespace shoal
