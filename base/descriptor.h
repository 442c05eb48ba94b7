// File descriptors: one that is closed with its owner, and how many there may be.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <utility>

namespace shoal {

class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    if (this != &other) {
      close();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() { close(); }

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  int release() { return std::exchange(fd_, -1); }
  void close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }

 private:
  int fd_ = -1;
};

// Raises the soft limit of open files towards the hard one, as far as anybody needs; returns it.
// Shells start programs with 1024 for the sake of select(), which nothing here calls. Once, at the
// start of a process; child processes inherit it.
uint64_t raise_descriptor_limit();

}  // namespace shoal
