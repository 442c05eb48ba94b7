// Whether the files of a model that could not be loaded have changed since: a copy that was cut
// short and is complete now, a file that was missing and is there. By name, size, time and inode;
// no content is read. Single-threaded.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/clock.h"

namespace shoal {

// The files of a model: `path` itself, or every part if it is named PREFIX-00001-of-0000N.gguf.
std::vector<std::string> model_files(const std::string& path);

struct FileStamp {
  bool exists = false;
  uint64_t device = 0, inode = 0, size = 0;
  int64_t modified_ns = 0;
  friend bool operator==(const FileStamp&, const FileStamp&) = default;
};
std::vector<FileStamp> stamp_files(const std::vector<std::string>& paths);

class FileWatch {
 public:
  // `paths` could not be used as they were at `seen`, which was taken before the attempt.
  void begin(std::vector<std::string> paths, std::vector<FileStamp> seen);
  void end() { paths_.clear(); }
  // True once, when the files are not what they were and have stood still for a poll: a file that
  // is being copied changes all the time, and is of no use before it is complete. To be called
  // often; looks at the files once a second.
  bool changed(TimePoint now);

  static constexpr Duration kInterval = std::chrono::seconds(1);

 private:
  std::vector<std::string> paths_;        // empty: nothing is watched
  std::vector<FileStamp> failed_, last_;  // as they were when they failed, at the last poll
  TimePoint next_{};
};

}  // namespace shoal
