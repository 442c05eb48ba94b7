#include "parallel/collective/shm_segment.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <thread>

#include <fmt/core.h>

namespace shoal {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr Duration kPoll = milliseconds(1);
constexpr Duration kNameCheck = milliseconds(20);
constexpr Duration kVanished = milliseconds(200);  // unlinked but not formed: the creator died

// Where shm_open() has its names.
constexpr const char* kShmFolder = "/dev/shm";

double mib(uint64_t bytes) { return static_cast<double>(bytes) / (1 << 20); }

}  // namespace

ShmSegment::ShmSegment(const ShmOptions& options, const ProcessIdentity& self)
    : options_(options),
      self_(self),
      layout_(SegmentLayout::make(options.world, options.slot_bytes)) {}

ShmSegment::~ShmSegment() {
  if (owns_name_) shm_unlink(options_.name.c_str());
  unmap();
}

Result<std::shared_ptr<ShmSegment>> ShmSegment::form(const ShmOptions& options,
                                                     const ProcessIdentity& self) {
  std::shared_ptr<ShmSegment> segment(new ShmSegment(options, self));
  SHOAL_TRY(options.rank == 0 ? segment->create() : segment->attach());
  return segment;
}

Status ShmSegment::os_error(const char* what, int error) const {
  return {error == EACCES || error == EPERM ? Code::kFailedPrecondition : Code::kInternal,
          fmt::format("shared memory {}: {}: {}", options_.name, what, std::strerror(error))};
}

bool ShmSegment::late() const { return steady_clock::now() >= options_.deadline; }

Status ShmSegment::check_stopped() const {
  if (options_.stop == nullptr || !options_.stop->load()) return Status::ok();
  return cancelled(fmt::format("shared memory {}: the group is no longer wanted", options_.name));
}

Status ShmSegment::map(uint64_t bytes) {
  void* base = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, 0);
  if (base == MAP_FAILED) return os_error("mmap", errno);
  base_ = base;
  mapped_ = bytes;
  return Status::ok();
}

void ShmSegment::unmap() {
  if (base_ != nullptr) munmap(base_, mapped_);
  if (fd_ >= 0) close(fd_);
  base_ = nullptr;
  fd_ = -1;
}

void ShmSegment::take_place() {
  RankControl& control = view().control(options_.rank);
  control.pid = self_.pid;
  control.pid_namespace = self_.pid_namespace;
  control.start_time = self_.start_time;
  control.attached.store(2, std::memory_order_release);
}

std::string ShmSegment::missing_ranks() const {
  std::string missing;
  for (int rank = 0; rank < options_.world; ++rank) {
    if (view().control(rank).attached.load(std::memory_order_acquire) == 2) continue;
    missing += fmt::format("{}{}", missing.empty() ? "" : ", ", rank);
  }
  return missing;
}

// ---- rank 0

Status ShmSegment::create() {
  SHOAL_TRY(create_exclusively());
  owns_name_ = true;
  SHOAL_TRY(reserve());
  SHOAL_TRY(map(layout_.total_bytes()));
  SegmentHeader& header = view().header();
  header.version = kSegmentVersion;
  header.world = layout_.world;
  header.epoch = options_.epoch;
  header.slot_bytes = layout_.slot_bytes;
  header.total_bytes = layout_.total_bytes();
  view().control(0).attached.store(1, std::memory_order_relaxed);
  take_place();
  header.magic.store(kSegmentMagic, std::memory_order_release);
  SHOAL_TRY(wait_for_all());
  shm_unlink(options_.name.c_str());
  owns_name_ = false;
  header.formed.store(1, std::memory_order_release);
  close(fd_);  // and with it the lock
  fd_ = -1;
  return Status::ok();
}

// 0, or the error.
int ShmSegment::create_locked() {
  const std::string path = kShmFolder + options_.name;
  fd_ = open(kShmFolder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (fd_ >= 0 && flock(fd_, LOCK_EX | LOCK_NB) == 0) {
    const std::string self = fmt::format("/proc/self/fd/{}", fd_);
    if (linkat(AT_FDCWD, self.c_str(), AT_FDCWD, path.c_str(), AT_SYMLINK_FOLLOW) == 0) return 0;
    if (errno == EEXIST) return EEXIST;
  }
  // A system without files that have no name yet: locked a moment later.
  unmap();
  fd_ = shm_open(options_.name.c_str(), O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
  if (fd_ < 0) return errno;
  return flock(fd_, LOCK_EX | LOCK_NB) == 0 && name_points_here() ? 0 : EEXIST;
}

Status ShmSegment::create_exclusively() {
  for (int attempt = 0; attempt < 3; ++attempt) {
    const int error = create_locked();
    if (error == 0) return Status::ok();
    unmap();
    if (error != EEXIST) return os_error("cannot create", error);
    SHOAL_TRY(remove_stale());
  }
  return {Code::kAlreadyExists,
          fmt::format("shared memory {} is made again as soon as it is removed; two groups use one "
                      "name",
                      options_.name)};
}

Status ShmSegment::remove_stale() {
  const int fd = shm_open(options_.name.c_str(), O_RDWR | O_CLOEXEC, 0);
  if (fd < 0) return errno == ENOENT ? Status::ok() : os_error("cannot open", errno);
  const bool stale = flock(fd, LOCK_EX | LOCK_NB) == 0;
  if (stale) shm_unlink(options_.name.c_str());
  close(fd);
  if (stale) return Status::ok();
  return {Code::kAlreadyExists,
          fmt::format("shared memory {} belongs to a group that is forming now; every group needs "
                      "a name of its own",
                      options_.name)};
}

Status ShmSegment::reserve() {
  const uint64_t bytes = layout_.total_bytes();
  struct statvfs space {};
  if (fstatvfs(fd_, &space) != 0) return os_error("statvfs", errno);
  const uint64_t free = static_cast<uint64_t>(space.f_bavail) * space.f_frsize;
  const auto refuse = [&] {
    return resource_exhausted(
        fmt::format("a group of {} ranks needs {:.1f} MiB of shared memory but /dev/shm has {:.1f} "
                    "MiB free; enlarge it (containers: --shm-size, or a memory emptyDir)",
                    options_.world, mib(bytes), mib(free)));
  };
  if (free < bytes) return refuse();
  // Reserve the pages now: a write to one that cannot be had later is a SIGBUS.
  const int error = posix_fallocate(fd_, 0, static_cast<off_t>(bytes));
  if (error == ENOSPC || error == ENOMEM) return refuse();
  return error == 0 ? Status::ok() : os_error("posix_fallocate", error);
}

Status ShmSegment::wait_for_all() {
  for (;;) {
    const std::string missing = missing_ranks();
    if (missing.empty()) return Status::ok();
    SHOAL_TRY(check_stopped());
    if (late()) {
      return deadline_exceeded(fmt::format("shared memory {}: rank {} of {} did not attach in time",
                                           options_.name, missing, options_.world));
    }
    std::this_thread::sleep_for(kPoll);
  }
}

// ---- other ranks

Status ShmSegment::attach() {
  std::string problem = "rank 0 has not created it";
  for (;;) {
    SHOAL_ASSIGN(Found found, try_attach(problem));
    if (found == Found::kYes) {
      SHOAL_ASSIGN(found, wait_formed());
      if (found == Found::kYes) return Status::ok();
      problem = "the group it belonged to is gone";
    }
    unmap();
    SHOAL_TRY(check_stopped());
    if (late()) {
      return deadline_exceeded(
          fmt::format("shared memory {}: {}; gave up at the deadline", options_.name, problem));
    }
    std::this_thread::sleep_for(kPoll);
  }
}

Result<ShmSegment::Found> ShmSegment::try_attach(std::string& problem) {
  fd_ = shm_open(options_.name.c_str(), O_RDWR | O_CLOEXEC, 0);
  if (fd_ < 0) {
    if (errno == ENOENT) return Found::kNotYet;
    return os_error("cannot open", errno);
  }
  struct stat info {};
  if (fstat(fd_, &info) != 0) return os_error("fstat", errno);
  if (info.st_uid != geteuid()) {
    return failed_precondition(fmt::format("shared memory {} belongs to user {}, not {}",
                                           options_.name, info.st_uid, geteuid()));
  }
  const auto bytes = static_cast<uint64_t>(info.st_size);
  if (bytes < sizeof(SegmentHeader)) return Found::kNotYet;
  SHOAL_TRY(map(bytes));
  if (view().header().magic.load(std::memory_order_acquire) != kSegmentMagic) return Found::kNotYet;
  SHOAL_TRY(check_header());
  if (bytes != layout_.total_bytes()) {
    return data_loss(fmt::format("shared memory {} has {} bytes, its header asks for {}",
                                 options_.name, bytes, layout_.total_bytes()));
  }
  uint32_t expected = 0;
  if (!view().control(options_.rank).attached.compare_exchange_strong(expected, 1)) {
    problem = fmt::format("a process is attached as rank {} already", options_.rank);
    return Found::kNotYet;
  }
  take_place();
  return Found::kYes;
}

Status ShmSegment::check_header() const {
  const SegmentHeader& header = view().header();
  const auto differs = [&](const char* what, uint64_t theirs, uint64_t mine) {
    return failed_precondition(fmt::format("shared memory {}: {} {} here but {} at rank 0",
                                           options_.name, what, mine, theirs));
  };
  if (header.version != kSegmentVersion) {
    return differs("layout version", header.version, kSegmentVersion);
  }
  if (header.epoch != options_.epoch) return differs("plan epoch", header.epoch, options_.epoch);
  if (header.world != layout_.world) return differs("group size", header.world, layout_.world);
  if (header.slot_bytes != layout_.slot_bytes) {
    return differs("slot size", header.slot_bytes, layout_.slot_bytes);
  }
  return Status::ok();
}

bool ShmSegment::name_points_here() const {
  const int fd = shm_open(options_.name.c_str(), O_RDONLY | O_CLOEXEC, 0);
  if (fd < 0) return false;
  struct stat there {
  }, here{};
  const bool same = fstat(fd, &there) == 0 && fstat(fd_, &here) == 0 &&
                    there.st_ino == here.st_ino && there.st_dev == here.st_dev;
  close(fd);
  return same;
}

Result<ShmSegment::Found> ShmSegment::wait_formed() {
  TimePoint next_check = steady_clock::now() + kNameCheck;
  TimePoint last_seen = steady_clock::now();
  for (;;) {
    if (view().header().formed.load(std::memory_order_acquire) != 0) {
      close(fd_);
      fd_ = -1;
      return Found::kYes;
    }
    SHOAL_TRY(check_stopped());
    const TimePoint now = steady_clock::now();
    if (now >= options_.deadline) {
      return deadline_exceeded(fmt::format("shared memory {}: rank {} of {} did not attach in time",
                                           options_.name, missing_ranks(), options_.world));
    }
    if (now >= next_check) {
      if (name_points_here()) last_seen = now;
      // Between unlink and `formed` the name is gone for a moment.
      if (now - last_seen > kVanished) return Found::kReplaced;
      next_check = now + kNameCheck;
    }
    std::this_thread::sleep_for(kPoll);
  }
}

}  // namespace shoal
