// The POSIX shared memory segment of one group: created by rank 0, found by the others, unlinked
// when all are attached.
//
// A predecessor that crashed while forming may have left the name behind. The creator holds a lock
// (flock) on the segment from before it has a name until the group has formed, and the kernel drops
// it with the process: a name whose segment can be locked is stale and rank 0 replaces it, or any
// worker that starts removes it (shm_sweep.h). Another rank that attached to
// the stale one sees the name point to another inode and starts over.
#pragma once

#include <memory>
#include <string>

#include "base/clock.h"
#include "base/status.h"
#include "parallel/collective/collective.h"
#include "parallel/collective/process_identity.h"
#include "parallel/collective/slot_layout.h"

namespace shoal {

class ShmSegment {
 public:
  // Creates or attaches, writes this rank's identity, and returns when all ranks have attached.
  static Result<std::shared_ptr<ShmSegment>> form(const ShmOptions& options,
                                                  const ProcessIdentity& self);
  ~ShmSegment();
  ShmSegment(const ShmSegment&) = delete;
  ShmSegment& operator=(const ShmSegment&) = delete;
  SegmentView view() const { return SegmentView(base_, layout_); }

 private:
  enum class Found { kYes, kNotYet, kReplaced };

  ShmSegment(const ShmOptions& options, const ProcessIdentity& self);
  Status create();
  int create_locked();
  Status create_exclusively();
  Status remove_stale();
  Status reserve();
  Status wait_for_all();

  Status attach();
  Result<Found> try_attach(std::string& problem);
  Status check_header() const;
  Result<Found> wait_formed();
  bool name_points_here() const;

  Status map(uint64_t bytes);
  void unmap();
  void take_place();
  std::string missing_ranks() const;
  Status os_error(const char* what, int error) const;
  bool late() const;
  Status check_stopped() const;

  const ShmOptions options_;
  const ProcessIdentity self_;
  const SegmentLayout layout_;
  int fd_ = -1;
  void* base_ = nullptr;
  uint64_t mapped_ = 0;
  bool owns_name_ = false;
};

}  // namespace shoal
