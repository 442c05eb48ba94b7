#include "parallel/collective/shm_sweep.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstddef>
#include <memory>
#include <string_view>
#include <vector>

#include "base/descriptor.h"
#include "parallel/collective/slot_layout.h"

namespace shoal {
namespace {

constexpr std::string_view kPrefix = "shoal.";
// Names looked at: a folder full of strange files must not delay a start.
constexpr size_t kMaxNames = 4096;

// What membership's plans name segments: "shoal.", the coordinator's mark and an epoch.
bool is_our_name(std::string_view name) {
  if (!name.starts_with(kPrefix)) return false;
  name.remove_prefix(kPrefix.size());
  size_t dots = 0, digits = 0;
  for (const char c : name) {
    const bool digit = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
    if (!digit && (c != '.' || digits == 0)) return false;
    dots += digit ? 0 : 1;
    digits = digit ? digits + 1 : 0;
  }
  return dots >= 1 && digits > 0;
}

bool is_our_kind(const struct stat& info) {
  return S_ISREG(info.st_mode) && (info.st_mode & 07777) == 0600 && info.st_uid == ::geteuid() &&
         info.st_nlink == 1;
}

// A creator that was killed early has written nothing: then all is zero.
bool is_our_content(int fd, const struct stat& info) {
  if (info.st_size == 0) return true;
  uint64_t magic = 0;
  static_assert(offsetof(SegmentHeader, magic) == 0);
  return static_cast<uint64_t>(info.st_size) >= sizeof(SegmentHeader) &&
         ::pread(fd, &magic, sizeof(magic), 0) == sizeof(magic) &&
         (magic == kSegmentMagic || magic == 0);
}

bool remove_if_left(int folder, const char* name) {
  struct stat info {};
  if (::fstatat(folder, name, &info, AT_SYMLINK_NOFOLLOW) != 0 || !is_our_kind(info)) return false;
  const Descriptor file(
      ::openat(folder, name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  if (!file.valid() || ::fstat(file.get(), &info) != 0 || !is_our_kind(info)) return false;
  if (::flock(file.get(), LOCK_EX | LOCK_NB) != 0) return false;  // its creator lives
  struct stat named {};
  const bool same = ::fstatat(folder, name, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
                    named.st_ino == info.st_ino && named.st_dev == info.st_dev;
  return same && is_our_content(file.get(), info) && ::unlinkat(folder, name, 0) == 0;
}

}  // namespace

size_t sweep_segments(const std::string& folder) {
  const std::unique_ptr<DIR, int (*)(DIR*)> open(::opendir(folder.c_str()), &::closedir);
  if (open == nullptr) return 0;
  size_t removed = 0, seen = 0;
  for (const dirent* entry; seen < kMaxNames && (entry = ::readdir(open.get())) != nullptr;
       ++seen) {
    if (is_our_name(entry->d_name) && remove_if_left(::dirfd(open.get()), entry->d_name)) ++removed;
  }
  return removed;
}

}  // namespace shoal
