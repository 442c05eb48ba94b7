// A read-only file with a known size; every read is bounded by it. pread, never mmap: a file
// truncated under a mapping is a SIGBUS, a short pread is a Status.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "base/descriptor.h"
#include "base/status.h"

namespace shoal {

class File {
 public:
  // kInvalidArgument: a pipe, a device, a folder or a socket, named as what it is; never waits for
  // somebody to write to one.
  static Result<File> open(const std::string& path);
  File(File&& other) noexcept;
  File& operator=(File&& other) noexcept;
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File();

  const std::string& path() const { return path_; }
  uint64_t size() const { return size_; }  // bytes, at open

  // Fills `out` from byte `offset`, or an error naming path and offset. Thread-safe.
  Status read_at(uint64_t offset, std::span<uint8_t> out) const;
  // The same for large reads that will not be repeated: what the page cache has comes from there,
  // the rest straight from the disk, past the cache, where the file system can do that. `memory`
  // starts at a multiple of kPage and has room for bytes + 2 · kPage; the result lies in it.
  // Thread-safe.
  static constexpr uint64_t kPage = 4096;
  Result<std::span<uint8_t>> read_past_cache(uint64_t offset, uint64_t bytes,
                                             std::span<uint8_t> memory) const;
  // Tells the kernel the pages in [offset, offset+bytes) will not be needed again.
  void drop_cache(uint64_t offset, uint64_t bytes) const;

 private:
  File(int fd, int direct_fd, std::string path, uint64_t size)
      : fd_(fd), direct_fd_(direct_fd), path_(std::move(path)), size_(size) {}
  Status check_range(uint64_t offset, uint64_t bytes) const;
  bool read_direct(uint64_t offset, std::span<uint8_t> out) const;
  void close();

  int fd_ = -1;
  int direct_fd_ = -1;  // O_DIRECT; −1 where the file system has none
  std::string path_;
  uint64_t size_ = 0;
};

// The whole of a small text file; error if larger than `max_bytes`.
Result<std::string> read_text_file(const std::string& path, uint64_t max_bytes);

// `path` from the root of the file system, without dots. Error: it is relative and the working
// folder is gone or cannot be named.
Result<std::string> absolute_path(const std::string& path);

// A file without a name that holds `text`, of mode 0600, which nobody can change any more: for a
// child process. It is gone with the last descriptor; /proc/self/fd/N opens it anew. `name` is what
// /proc shows.
Result<Descriptor> make_sealed_file(const std::string& name, const std::string& text);

// Writes `text` to `path` through a temporary file and a rename, with these permission bits.
Status write_file_atomically(const std::string& path, const std::string& text, unsigned mode);

}  // namespace shoal
