// Preloaded into a program: a disk that misbehaves. Reads of files whose path contains
// $SHOAL_TEST_HANGS never come back, though signals still end the process; in workers, files whose
// path contains $SHOAL_TEST_CUT have lost their content.
#include <dlfcn.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

bool is_worker() {
  static const bool worker = [] {
    char words[256] = {};
    std::FILE* in = std::fopen("/proc/self/cmdline", "rb");
    const size_t length = in != nullptr ? std::fread(words, 1, sizeof(words) - 1, in) : 0;
    if (in != nullptr) std::fclose(in);
    const size_t first = std::strlen(words) + 1;
    return first < length && std::strcmp(words + first, "worker") == 0;
  }();
  return worker;
}

bool is_named(int fd, const char* variable) {
  const char* named = std::getenv(variable);
  if (named == nullptr) return false;
  char link[64], path[4096];
  std::snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
  const ssize_t length = ::readlink(link, path, sizeof(path) - 1);
  if (length <= 0) return false;
  path[length] = '\0';
  return std::strstr(path, named) != nullptr;
}

bool is_cut(int fd) {
  while (is_named(fd, "SHOAL_TEST_HANGS")) ::pause();
  return is_worker() && is_named(fd, "SHOAL_TEST_CUT");
}

template <typename Function>
Function next(const char* name) {
  return reinterpret_cast<Function>(::dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" {

ssize_t pread(int fd, void* to, size_t bytes, off_t offset) {
  static const auto real = next<ssize_t (*)(int, void*, size_t, off_t)>("pread");
  return is_cut(fd) ? 0 : real(fd, to, bytes, offset);
}

ssize_t pread64(int fd, void* to, size_t bytes, off_t offset) {
  static const auto real = next<ssize_t (*)(int, void*, size_t, off_t)>("pread64");
  return is_cut(fd) ? 0 : real(fd, to, bytes, offset);
}

ssize_t preadv2(int fd, const iovec* to, int count, off_t offset, int flags) {
  static const auto real = next<ssize_t (*)(int, const iovec*, int, off_t, int)>("preadv2");
  return is_cut(fd) ? 0 : real(fd, to, count, offset, flags);
}

ssize_t preadv64v2(int fd, const iovec* to, int count, off_t offset, int flags) {
  static const auto real = next<ssize_t (*)(int, const iovec*, int, off_t, int)>("preadv64v2");
  return is_cut(fd) ? 0 : real(fd, to, count, offset, flags);
}

}  // extern "C"
