// The machine that runs a launch: threads as fibers, warps, blocks, and who goes next. Everything
// of one launch happens on one OS thread, in an order drawn from the seed: a thread runs until it
// waits for others, then another ready one goes on.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <source_location>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/rng.h"
#include "base/status.h"
#include "kernels/cuda/simt.h"
#include "tests/simt/fiber.h"
#include "tests/simt/memory.h"
#include "tests/simt/shadow.h"

namespace shoal::emulator {

// A place in a kernel's text.
using Site = std::source_location;

struct Options {
  uint64_t seed = 1;
  uint32_t resident_blocks = 3;  // run at the same time; blocks that wait for each other need all
  Duration deadline = std::chrono::seconds(60);  // of a launch in which threads wait in loops
};

struct Block;
struct Warp;
struct Thread;
class Launch;

// What a kernel did wrong; ends the launch. Thrown on the thread's own stack.
struct Fault {
  std::string what;
};

struct AsyncCopy {
  uint8_t* to = nullptr;
  const uint8_t* from = nullptr;
  uint32_t bytes = 0;
  uint32_t valid = 0;  // the rest becomes 0
  uint32_t group = 0;  // counted per thread
  Region* region = nullptr;
  bool landed = false;
};

struct Thread {
  explicit Thread(size_t colour) : fiber(colour) {}

  Launch* launch = nullptr;
  Block* block = nullptr;
  Warp* warp = nullptr;
  uint32_t index = 0;  // in the block
  uint32_t lane = 0;
  bool exited = false;
  Site waits_at;  // while not ready
  const char* waits_for = "";

  View view;                                          // for the shadow
  std::unique_ptr<std::array<uint32_t, 32>> partial;  // clocks learnt from partial sync_warps
  Releases fenced;  // what the latest thread_fence covers; released by atomics
  bool has_fenced = false;
  Releases pending_acquire;  // seen by atomics, in force at the next thread_fence
  Releases acquired;

  std::vector<AsyncCopy> copies;  // issued, not waited for
  uint32_t copy_group = 0;        // the open one

  Fiber fiber;
};

// A warp-wide operation that some of its lanes have come to.
struct WarpOp {
  uint32_t mask = 0;
  uint32_t arrived = 0;
  const char* name = "";
  Site site;
};

struct Warp {
  // What a lane brings to an operation and takes from it.
  struct alignas(16) Slot {
    uint32_t words[10];
  };
  Block* block = nullptr;
  uint32_t lanes = 0;  // that exist
  uint32_t ready = 0;  // that could run now
  uint32_t exited = 0;
  size_t ready_index = 0;  // in the launch's list, if any lane is ready
  std::vector<WarpOp> ops;
  std::array<Slot, 32> slots;
  std::array<Thread*, 32> threads;
};

struct Block {
  simt::Dim3 index;
  uint64_t serial = 0;
  uint32_t threads = 0;
  uint32_t exited = 0;
  uint32_t at_barrier = 0;
  Site barrier_site;
  Region arena;
  std::vector<uint8_t> arena_memory;
  std::vector<Warp> warps;
  std::vector<std::unique_ptr<Thread>> pool;  // the first `threads` run
  Releases acquired;
};
using Blocks = std::vector<std::unique_ptr<Block>>;  // kept from launch to launch

class Launch {
 public:
  struct Plan {
    const char* kernel = "";
    uint64_t number = 0;  // of the launch on its stream
    simt::LaunchShape shape;
    bool checked = true;
    Memory* memory = nullptr;
    std::function<void(Thread&)> body;
  };
  Launch(const Plan& plan, const Options& options, Blocks& blocks);

  Status run();

  const char* kernel() const { return plan_.kernel; }
  const simt::LaunchShape& shape() const { return plan_.shape; }
  Memory& memory() { return *plan_.memory; }
  bool checked() const { return plan_.checked; }
  Rng& rng() { return rng_; }

  // ---- for a running thread
  [[noreturn]] void fail(const Thread& thread, const std::string& what);
  // Lets others go on: in a loop that waits for them.
  void pause(Thread& self);
  void sync_threads(Thread& self, const Site& site);
  void sync_warp(Thread& self, uint32_t mask, const Site& site);

  // Joins a warp-wide operation of exactly the lanes of `mask`. The last lane to come runs
  // complete(warp) and goes on; the others wait for it.
  template <class F>
  void warp_op(Thread& self, const char* name, uint32_t mask, const Site& site, F&& complete) {
    const size_t op = join(self, name, mask, site);
    Warp& warp = *self.warp;
    if (warp.ops[op].arrived != mask) return wait(self, name, site);
    complete(warp);
    warp.ops[op] = warp.ops.back();
    warp.ops.pop_back();
    make_ready(warp, mask & ~(1u << self.lane));
  }

  // Release and acquire through an atomic's address.
  void fence(Thread& self);
  void atomic_access(Thread& self, const void* address);

  void copy_async(Thread& self, const AsyncCopy& copy);
  void copy_async_wait(Thread& self, uint32_t pending_groups);

  // Stores to system memory leave in any order.
  void store_system(Thread& self, void* to, const void* value, uint32_t bytes);
  void load_system(Thread& self, const void* from, void* value, uint32_t bytes);
  void drain_system_stores();

 private:
  struct SystemStore {
    void* to;
    uint32_t bytes;
    alignas(16) uint8_t value[16];
    const Thread* by;
  };

  static void enter(void* thread);
  void start_block(Block& block, uint64_t number, uint64_t index);
  void start_thread(Thread& thread, Block& block, uint32_t index);
  void finish_thread(Thread& thread);
  void wait(Thread& self, const char* what, const Site& site);
  void make_ready(Warp& warp, uint32_t lanes);
  size_t join(Thread& self, const char* name, uint32_t mask, const Site& site);
  Thread* next_thread();
  void switch_from(Thread& self);
  void remove_ready(Warp& warp);
  void step_background(Thread& self);
  void drain_one(size_t at);
  void pass_barrier(Block& block);
  void stop(std::string why);
  std::string name() const;
  std::string stuck() const;

  Plan plan_;
  Options options_;
  Rng rng_;
  uint64_t first_serial_ = 0;
  Blocks& blocks_;
  std::vector<Warp*> ready_;
  Warp* current_ = nullptr;
  Fiber main_;
  Block* finished_ = nullptr;
  bool failed_ = false;
  std::string failure_;
  uint64_t pauses_ = 0;
  TimePoint deadline_;
  std::vector<SystemStore> system_stores_;
  std::map<const void*, Releases> released_;  // by an atomic's address
};

std::string where(const Site& site);
inline bool same_place(const Site& a, const Site& b) {
  return a.line() == b.line() && a.column() == b.column() && a.file_name() == b.file_name();
}

}  // namespace shoal::emulator
