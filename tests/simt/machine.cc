#include "tests/simt/machine.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <numeric>
#include <thread>
#include <utility>

#include "base/check.h"

namespace shoal::emulator {
namespace {

std::string text(const simt::Dim3& d) {
  return "(" + std::to_string(d.x) + ", " + std::to_string(d.y) + ", " + std::to_string(d.z) + ")";
}

// One of the set bits, any.
uint32_t pick_bit(uint32_t bits, uint64_t random) {
  const int turn = static_cast<int>(random & 31);
  return (static_cast<uint32_t>(std::countr_zero(std::rotr(bits, turn))) + turn) & 31;
}

}  // namespace

std::string where(const Site& site) {
  const std::string file = site.file_name();
  return file.substr(file.rfind('/') + 1) + ":" + std::to_string(site.line());
}

Launch::Launch(const Plan& plan, const Options& options, Blocks& blocks)
    : plan_(plan),
      options_(options),
      rng_(mix64(options.seed) + plan.number),
      blocks_(blocks),
      deadline_(std::chrono::steady_clock::now() + options.deadline) {
  for (const auto& block : blocks_) block->threads = 0;
}

Status Launch::run() {
  const simt::Dim3& grid = plan_.shape.grid;
  const uint64_t count = uint64_t{grid.x} * grid.y * grid.z;
  first_serial_ = plan_.checked ? plan_.memory->take_serials(count) : 1;
  std::vector<uint64_t> order(count);
  std::iota(order.begin(), order.end(), uint64_t{0});
  for (uint64_t i = count; i > 1; --i) std::swap(order[i - 1], order[rng_.below(i)]);

  const uint64_t resident = std::min<uint64_t>(count, std::max(1u, options_.resident_blocks));
  while (blocks_.size() < resident) blocks_.push_back(std::make_unique<Block>());
  uint64_t started = 0, live = 0;
  for (; started < resident; ++started, ++live) {
    start_block(*blocks_[started], started, order[started]);
  }
  while (live > 0 && !failed_) {
    Thread* next = next_thread();
    if (next == nullptr) {
      stop(stuck());
      break;
    }
    Fiber::switch_to(main_, next->fiber);
    if (failed_ || finished_ == nullptr) continue;
    Block& block = *std::exchange(finished_, nullptr);
    --live;
    if (started < count) {
      start_block(block, started, order[started]);
      ++started, ++live;
    }
  }
  drain_system_stores();
  return failed_ ? internal_error(failure_) : Status::ok();
}

void Launch::start_block(Block& block, uint64_t number, uint64_t index) {
  const simt::Dim3& grid = plan_.shape.grid;
  block.index = {static_cast<uint32_t>(index % grid.x),
                 static_cast<uint32_t>(index / grid.x % grid.y),
                 static_cast<uint32_t>(index / grid.x / grid.y)};
  block.serial = first_serial_ + number;
  block.threads = plan_.shape.block.x;
  block.exited = block.at_barrier = 0;
  block.acquired.clear();
  const uint64_t bytes = plan_.shape.shared_bytes;
  if (block.arena_memory.size() < bytes + 256) {
    block.arena_memory.assign(bytes + 256, 0);
    block.arena.shadow.reset();
  }
  block.arena.name = "shared memory";
  block.arena.kind = MemoryKind::kShared;
  block.arena.base = block.arena_memory.data() +
                     (256 - reinterpret_cast<uintptr_t>(block.arena_memory.data()) % 256);
  block.arena.bytes = bytes;
  if (plan_.checked) {
    std::memset(block.arena.base, static_cast<int>(rng_() | 0x80), bytes);
    if (!block.arena.shadow) {
      block.arena.shadow = std::make_unique<Shadow>(block.arena_memory.size(), true);
    }
    // Serial numbers start again when they run out, and in another card's memory.
    if (number < blocks_.size()) block.arena.shadow->clear();
  }
  block.warps.assign((block.threads + 31) / 32, Warp{});
  while (block.pool.size() < block.threads) {
    block.pool.push_back(std::make_unique<Thread>(block.pool.size()));
  }
  for (uint32_t i = 0; i < block.threads; ++i) start_thread(*block.pool[i], block, i);
  for (Warp& warp : block.warps) {
    warp.block = &block;
    make_ready(warp, warp.lanes);
  }
}

void Launch::start_thread(Thread& thread, Block& block, uint32_t index) {
  Warp& warp = block.warps[index / 32];
  thread.launch = this;
  thread.block = &block;
  thread.warp = &warp;
  thread.index = index;
  thread.lane = index % 32;
  thread.exited = false;
  thread.view = View{};
  thread.view.first_serial = first_serial_;
  thread.view.now.serial = block.serial;
  thread.view.now.thread = index;
  thread.view.block_acquired = &block.acquired;
  thread.partial.reset();
  thread.fenced.clear();
  thread.has_fenced = false;
  thread.pending_acquire.clear();
  thread.acquired.clear();
  thread.view.acquired = &thread.acquired;
  thread.copies.clear();
  thread.copy_group = 0;
  warp.lanes |= 1u << thread.lane;
  warp.threads[thread.lane] = &thread;
  thread.fiber.reset(&Launch::enter, &thread);
}

void Launch::enter(void* argument) {
  Thread& self = *static_cast<Thread*>(argument);
  Launch& launch = *self.launch;
  try {
    launch.plan_.body(self);
    launch.finish_thread(self);
  } catch (const Fault& fault) {
    launch.stop(fault.what);
  }
  // Nothing may be left on this stack: it is never entered again.
  Thread* next = launch.failed_ || launch.finished_ != nullptr ? nullptr : launch.next_thread();
  if (next == nullptr && !launch.failed_ && launch.finished_ == nullptr) {
    launch.stop(launch.stuck());
  }
  Fiber::leave(self.fiber, next != nullptr ? next->fiber : launch.main_);
}

void Launch::finish_thread(Thread& self) {
  Warp& warp = *self.warp;
  Block& block = *self.block;
  if (!self.copies.empty()) fail(self, "left with async copies it has not waited for");
  for (const WarpOp& op : warp.ops) {
    if ((op.mask >> self.lane & 1) != 0) {
      fail(self, std::string("left although its warp waits for it at ") + op.name + ", " +
                     where(op.site));
    }
  }
  if (block.at_barrier > 0) {
    fail(self,
         "left although its block waits for it at sync_threads, " + where(block.barrier_site));
  }
  self.exited = true;
  warp.exited |= 1u << self.lane;
  if (++block.exited == block.threads) finished_ = &block;
}

void Launch::stop(std::string why) {
  failed_ = true;
  if (failure_.empty()) failure_ = std::move(why);
}

void Launch::fail(const Thread& thread, const std::string& what) {
  throw Fault{name() + ", block " + text(thread.block->index) + ", thread " +
              std::to_string(thread.index) + ": " + what};
}

std::string Launch::name() const {
  return std::string("kernel ") + plan_.kernel + ", launch " + std::to_string(plan_.number) +
         ", seed " + std::to_string(options_.seed);
}

std::string Launch::stuck() const {
  std::string message = name() + ": no thread can go on";
  int listed = 0;
  for (const auto& block : blocks_) {
    for (uint32_t i = 0; i < block->threads && listed < 4; ++i) {
      const Thread& thread = *block->pool[i];
      if (thread.launch != this || thread.exited) continue;
      message += (listed++ == 0 ? ": block " : "; block ") + text(block->index) + ", thread " +
                 std::to_string(i) + " waits for " + thread.waits_for + ", " +
                 where(thread.waits_at);
    }
  }
  return message;
}

// ---- who goes next

void Launch::make_ready(Warp& warp, uint32_t lanes) {
  if (lanes == 0) return;
  if (warp.ready == 0) {
    warp.ready_index = ready_.size();
    ready_.push_back(&warp);
  }
  warp.ready |= lanes;
}

void Launch::remove_ready(Warp& warp) {
  ready_.back()->ready_index = warp.ready_index;
  ready_[warp.ready_index] = ready_.back();
  ready_.pop_back();
}

// Mostly another lane of the same warp, whose stacks are in the cache.
Thread* Launch::next_thread() {
  if (ready_.empty()) return nullptr;
  const uint64_t random = rng_();
  if (current_ == nullptr || current_->ready == 0 || (random & 15) == 0) {
    current_ = ready_[(random >> 16) % ready_.size()];
  }
  const uint32_t lane = pick_bit(current_->ready, random >> 8);
  current_->ready &= ~(1u << lane);
  if (current_->ready == 0) remove_ready(*current_);
  return current_->threads[lane];
}

void Launch::switch_from(Thread& self) {
  step_background(self);
  Thread* next = next_thread();
  if (next == &self) return;
  if (next == nullptr) stop(stuck());
  Fiber::switch_to(self.fiber, next != nullptr ? next->fiber : main_);
}

void Launch::wait(Thread& self, const char* what, const Site& site) {
  self.waits_for = what;
  self.waits_at = site;
  switch_from(self);
}

void Launch::pause(Thread& self) {
  if (++pauses_ % 256 == 0) {
    if (std::chrono::steady_clock::now() > deadline_) {
      fail(self, "waits in a loop for longer than the launch's deadline (" +
                     std::to_string(options_.resident_blocks) + " blocks run at a time)");
    }
    std::this_thread::yield();
  }
  make_ready(*self.warp, 1u << self.lane);
  current_ = nullptr;
  switch_from(self);
}

// ---- barriers and warps

void Launch::sync_threads(Thread& self, const Site& site) {
  Block& block = *self.block;
  if (block.exited > 0) {
    fail(self, "sync_threads, " + where(site) + ": threads of the block have left");
  }
  if (block.at_barrier == 0) block.barrier_site = site;
  if (!same_place(block.barrier_site, site)) {
    fail(self, "sync_threads, " + where(site) + ": others of the block wait at " +
                   where(block.barrier_site));
  }
  if (++block.at_barrier < block.threads) return wait(self, "sync_threads", site);
  if (checked()) pass_barrier(block);
  block.at_barrier = 0;
  for (Warp& warp : block.warps) {
    make_ready(warp, &warp == self.warp ? warp.lanes & ~(1u << self.lane) : warp.lanes);
  }
}

void Launch::pass_barrier(Block& block) {
  for (uint32_t i = 0; i < block.threads; ++i) {
    Thread& thread = *block.pool[i];
    View& view = thread.view;
    if (view.now.epoch == Stamp::kMaxEpoch) fail(thread, "more sync_threads than can be counted");
    view.now.epoch = view.now.epoch + 1;
    view.now.clock = 0;
    view.full_clock = 0;
    view.partial = nullptr;
    if (!thread.acquired.empty()) merge(block.acquired, thread.acquired);
  }
}

void Launch::sync_warp(Thread& self, uint32_t mask, const Site& site) {
  warp_op(self, "sync_warp", mask, site, [&](Warp& warp) {
    if (!checked()) return;
    uint32_t clock = 0;
    Releases acquired;
    for (uint32_t lane = 0; lane < 32; ++lane) {
      if ((mask >> lane & 1) == 0) continue;
      clock = std::max<uint32_t>(clock, warp.threads[lane]->view.now.clock + 1);
      merge(acquired, warp.threads[lane]->acquired);
    }
    if (clock > Stamp::kMaxClock) {
      fail(self, "more sync_warps between two sync_threads than can be counted");
    }
    std::array<uint32_t, 32> known = {};
    for (uint32_t lane = 0; lane < 32; ++lane) {
      const Thread* thread = warp.threads[lane];
      if ((mask >> lane & 1) == 0) continue;
      known[lane] = std::max(known[lane], clock);
      if (thread->view.partial == nullptr) continue;
      for (int i = 0; i < 32; ++i) known[i] = std::max(known[i], (*thread->partial)[i]);
    }
    for (uint32_t lane = 0; lane < 32; ++lane) {
      if ((mask >> lane & 1) == 0) continue;
      Thread& thread = *warp.threads[lane];
      thread.view.now.clock = clock;
      if (!acquired.empty()) thread.acquired = acquired;
      if (mask == warp.lanes) {
        thread.view.full_clock = clock;
        thread.view.partial = nullptr;
      } else {
        if (!thread.partial) thread.partial = std::make_unique<std::array<uint32_t, 32>>();
        *thread.partial = known;
        thread.view.partial = thread.partial.get();
      }
    }
  });
}

size_t Launch::join(Thread& self, const char* name, uint32_t mask, const Site& site) {
  Warp& warp = *self.warp;
  const auto refuse = [&](const std::string& what) {
    fail(self, std::string(name) + ", " + where(site) + ": " + what);
  };
  const uint32_t own = 1u << self.lane;
  if ((mask & own) == 0) refuse("the mask does not name the calling lane");
  if ((mask & ~warp.lanes) != 0) refuse("the mask names lanes the block does not have");
  if ((mask & warp.exited) != 0) refuse("the mask names a lane that has left");
  for (size_t i = 0; i < warp.ops.size(); ++i) {
    WarpOp& op = warp.ops[i];
    if ((op.mask & mask) == 0) continue;
    if (op.mask != mask) {
      // Elsewhere in the text a lane may be awaited by one group and first meet another.
      if (!same_place(op.site, site)) continue;
      refuse("other lanes wait here with another mask");
    }
    if (!same_place(op.site, site) || op.name != name) {
      refuse(std::string("other lanes of the mask wait at ") + op.name + ", " + where(op.site));
    }
    op.arrived |= own;
    return i;
  }
  warp.ops.push_back({mask, own, name, site});
  return warp.ops.size() - 1;
}

}  // namespace shoal::emulator
