#include "base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

#include <fmt/core.h>

#include "base/check.h"
#include "base/quote.h"

namespace shoal {
namespace {

Status errno_status(const std::string& what) {
  const int error = errno;
  const Code code = error == ENOENT ? Code::kNotFound : Code::kUnavailable;
  return {code, what + ": " + std::strerror(error)};
}

const char* kind_of(mode_t mode) {
  if (S_ISDIR(mode)) return "a folder";
  if (S_ISFIFO(mode)) return "a named pipe";
  if (S_ISSOCK(mode)) return "a socket";
  if (S_ISCHR(mode)) return "a character device";
  if (S_ISBLK(mode)) return "a block device";
  return "of an unknown kind";
}

Status check_regular(const std::string& path, const struct stat& info) {
  if (S_ISREG(info.st_mode)) return Status::ok();
  return invalid_argument(excerpt(path) + " is " + kind_of(info.st_mode) + ", not a regular file");
}

// Whatever has no end or no beginning until somebody writes to it (a pipe, a terminal, a device) is
// refused, and never waited for: asked for its kind before, since opening a device may do
// something, and after, since the path may be another file by then; O_NONBLOCK for what it is in
// between.
Result<Descriptor> open_regular(const std::string& path, int flags) {
  struct stat info {};
  if (::stat(path.c_str(), &info) != 0) return errno_status("cannot open " + excerpt(path));
  SHOAL_TRY(check_regular(path, info));
  constexpr int kNeverWait = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
  Descriptor file(::open(path.c_str(), kNeverWait | flags));
  if (!file.valid()) return errno_status("cannot open " + excerpt(path));
  if (::fstat(file.get(), &info) != 0) return errno_status("cannot stat " + excerpt(path));
  SHOAL_TRY(check_regular(path, info));
  // File systems of the user's own may heed the flag when they read.
  if (::fcntl(file.get(), F_SETFL, flags) != 0) return errno_status("cannot open " + excerpt(path));
  return file;
}

Status write_all(int fd, const std::string& text, const std::string& what) {
  size_t done = 0;
  while (done < text.size()) {
    const ssize_t wrote = ::write(fd, text.data() + done, text.size() - done);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) return errno_status(what);
    done += static_cast<size_t>(wrote);
  }
  return Status::ok();
}

}  // namespace

Result<File> File::open(const std::string& path) {
  SHOAL_ASSIGN(Descriptor file, open_regular(path, 0));
  struct stat info {};
  if (::fstat(file.get(), &info) != 0) return errno_status("cannot stat " + excerpt(path));
  int direct_fd = -1;
  if (auto direct = open_regular(path, O_DIRECT)) {
    struct stat there {};
    // Whoever replaced the path meanwhile does not change what is read.
    const bool same = ::fstat(direct->get(), &there) == 0 && there.st_ino == info.st_ino &&
                      there.st_dev == info.st_dev;
    if (same) direct_fd = direct->release();
  }
  return File(file.release(), direct_fd, path, static_cast<uint64_t>(info.st_size));
}

File::File(File&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      direct_fd_(std::exchange(other.direct_fd_, -1)),
      path_(std::move(other.path_)),
      size_(other.size_) {}

File& File::operator=(File&& other) noexcept {
  if (this != &other) {
    close();
    fd_ = std::exchange(other.fd_, -1);
    direct_fd_ = std::exchange(other.direct_fd_, -1);
    path_ = std::move(other.path_);
    size_ = other.size_;
  }
  return *this;
}

File::~File() { close(); }

void File::close() {
  if (fd_ >= 0) ::close(fd_);
  if (direct_fd_ >= 0) ::close(direct_fd_);
}

Status File::check_range(uint64_t offset, uint64_t bytes) const {
  if (offset <= size_ && bytes <= size_ - offset) return Status::ok();
  return data_loss(excerpt(path_) + ": read of " + std::to_string(bytes) + " bytes at offset " +
                   std::to_string(offset) + " runs past the end (" + std::to_string(size_) +
                   " bytes)");
}

Status File::read_at(uint64_t offset, std::span<uint8_t> out) const {
  SHOAL_TRY(check_range(offset, out.size()));
  uint64_t done = 0;
  while (done < out.size()) {
    const ssize_t got =
        ::pread(fd_, out.data() + done, out.size() - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0)
      return errno_status("read of " + excerpt(path_) + " at offset " +
                          std::to_string(offset + done));
    if (got == 0) {
      return data_loss(excerpt(path_) + " was truncated while being read: nothing at offset " +
                       std::to_string(offset + done));
    }
    done += static_cast<uint64_t>(got);
  }
  return Status::ok();
}

// `out` covers whole pages, but for the end of the file, where a read comes back short.
bool File::read_direct(uint64_t offset, std::span<uint8_t> out) const {
  const uint64_t wanted = std::min<uint64_t>(out.size(), size_ - offset);
  uint64_t done = 0;
  while (done < wanted) {
    const ssize_t got = ::pread(direct_fd_, out.data() + done, out.size() - done,
                                static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    done += static_cast<uint64_t>(got);
    if (done < wanted && done % kPage != 0) return false;
  }
  return true;
}

Result<std::span<uint8_t>> File::read_past_cache(uint64_t offset, uint64_t bytes,
                                                 std::span<uint8_t> memory) const {
  SHOAL_CHECK(
      reinterpret_cast<uintptr_t>(memory.data()) % kPage == 0 && bytes + 2 * kPage <= memory.size(),
      "memory for a direct read is not aligned or too small");
  SHOAL_TRY(check_range(offset, bytes));
  const uint64_t first = offset / kPage * kPage;
  const std::span<uint8_t> out = memory.subspan(offset - first, bytes);
  if (direct_fd_ >= 0) {
    iovec vector{out.data(), out.size()};
    const ssize_t cached = ::preadv2(fd_, &vector, 1, static_cast<off_t>(offset), RWF_NOWAIT);
    if (cached >= 0 && static_cast<uint64_t>(cached) == bytes) return out;
    const uint64_t end = (offset + bytes + kPage - 1) / kPage * kPage;
    if (read_direct(first, memory.first(end - first))) return out;
  }
  SHOAL_TRY(read_at(offset, out));  // also finds the words for what went wrong
  return out;
}

void File::drop_cache(uint64_t offset, uint64_t bytes) const {
  ::posix_fadvise(fd_, static_cast<off_t>(offset), static_cast<off_t>(bytes), POSIX_FADV_DONTNEED);
}

Result<std::string> read_text_file(const std::string& path, uint64_t max_bytes) {
  SHOAL_ASSIGN(File file, File::open(path));
  if (file.size() > max_bytes) {
    return invalid_argument(excerpt(path) + " has " + std::to_string(file.size()) +
                            " bytes; at most " + std::to_string(max_bytes) + " are accepted");
  }
  std::string text(file.size(), '\0');
  SHOAL_TRY(file.read_at(0, {reinterpret_cast<uint8_t*>(text.data()), text.size()}));
  return text;
}

Result<std::string> absolute_path(const std::string& path) {
  std::error_code error;
  const std::filesystem::path absolute = std::filesystem::absolute(path, error);
  if (error) {
    return failed_precondition(fmt::format("{}: the working folder it is relative to: {}",
                                           excerpt(path), error.message()));
  }
  return absolute.lexically_normal().string();
}

Result<Descriptor> make_sealed_file(const std::string& name, const std::string& text) {
  Descriptor file(::memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!file.valid()) return errno_status("cannot make a file in memory");
  SHOAL_TRY(write_all(file.get(), text, "cannot write a file in memory"));
  constexpr int kSeals = F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL;
  if (::fchmod(file.get(), 0600) != 0 || ::fcntl(file.get(), F_ADD_SEALS, kSeals) != 0)
    return errno_status("cannot seal a file in memory");
  return file;
}

Status write_file_atomically(const std::string& path, const std::string& text, unsigned mode) {
  std::string temporary = path + ".XXXXXX";
  const int fd = ::mkostemp(temporary.data(), O_CLOEXEC);
  if (fd < 0) return errno_status("cannot create a file beside " + excerpt(path));
  Status status = write_all(fd, text, "cannot write " + excerpt(path));
  if (status && ::fchmod(fd, mode) != 0)
    status = errno_status("cannot set the mode of " + excerpt(path));
  if (status && ::fsync(fd) != 0) status = errno_status("cannot write " + excerpt(path));
  ::close(fd);
  if (status && ::rename(temporary.c_str(), path.c_str()) != 0) {
    status = errno_status("cannot rename to " + excerpt(path));
  }
  if (!status) ::unlink(temporary.c_str());
  return status;
}

}  // namespace shoal
