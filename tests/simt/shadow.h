// Shadow memory: for every word, who wrote it last and who read it since, with the barriers each
// had passed. An access that no barrier, fence or kernel boundary orders after the others is a
// race, whatever order the emulator happened to run them in.
//
// What orders accesses: sync_threads (the block), a full or partial sync_warp (its lanes), the
// acquire and release of thread_fence around an atomic (blocks), the end of a launch. Shuffles,
// ballots and mma order nothing. Of a word that several lanes of a warp have read only the latest
// full sync_warp is known: after that a partial one does not order a write.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace shoal::emulator {

// When one thread did something, in one word so that the common comparisons are of integers.
struct Stamp {
  static constexpr int kSerialBits = 22, kEpochBits = 16, kThreadBits = 10, kClockBits = 14;
  static constexpr uint64_t kMaxSerial = (1u << kSerialBits) - 1;
  static constexpr uint64_t kMaxEpoch = (1u << kEpochBits) - 1;
  static constexpr uint64_t kMaxClock = (1u << kClockBits) - 1;

  uint64_t serial : kSerialBits = 0;  // of the block, over all launches; 0: before any
  uint64_t epoch : kEpochBits = 0;    // sync_threads the block has passed
  uint64_t thread : kThreadBits = 0;  // in the block
  uint64_t clock : kClockBits = 0;    // sync_warps since that barrier
  uint64_t level : 2 = 0;             // of a writer: Written; of readers: Readers

  uint64_t warp() const { return thread / 32; }
};
static_assert(sizeof(Stamp) == 8);

enum Written : uint64_t { kPlain = 0, kAtomic = 1, kPending = 2 };  // pending: an async copy
enum Readers : uint64_t { kOneThread = 0, kOneWarp = 1, kOneBlock = 2, kSeveralBlocks = 3 };

struct Cell {
  Stamp writer;
  Stamp reader;
};

// Accesses known to be over by whoever holds this: those of the block before `epoch`, of the thread
// in it, and of the warp before `clock` in it.
struct Release {
  Stamp at;
};
using Releases = std::map<uint64_t, Release>;  // by serial and thread
void merge(Releases& into, const Releases& from);
void merge(Releases& into, Stamp at);

// One thread's knowledge of the others.
struct View {
  Stamp now;
  uint64_t first_serial = 0;  // of this launch: everything older is over
  uint64_t full_clock = 0;    // of the warp's latest full sync_warp: all before it is over
  const std::array<uint32_t, 32>* partial = nullptr;  // by lane, from partial ones; may be null
  const Releases* acquired = nullptr;                 // by the thread; may be null
  const Releases* block_acquired = nullptr;           // by the block at its latest barrier

  bool after(Stamp other) const;          // is one thread's access over?
  bool after_readers(Stamp other) const;  // are all of a cell's readers over?
};

enum class Race { kNone, kRead, kWrite, kUninitialised, kPendingCopy };

// The shadow of one stretch of memory, word by word; words touched in parts get a cell per byte.
class Shadow {
 public:
  // forget_others: what other blocks did is over (the shared arena).
  Shadow(uint64_t bytes, bool forget_others);

  // `first` is relative to the memory's start; bytes is 1, 2, 4, 8 or 16, aligned. The other
  // access of a race goes to *other.
  Race read(const View& view, uint64_t first, uint64_t bytes, Stamp* other);
  Race write(const View& view, uint64_t first, uint64_t bytes, Written how, Stamp* other);
  // An async copy of this thread, waited for: from now on a plain write of it.
  void land(const View& view, uint64_t first, uint64_t bytes);
  void clear();

 private:
  static constexpr uint64_t kSplit = Stamp::kMaxSerial;

  template <class F>
  Race each_cell(uint64_t first, uint64_t bytes, F&& f);
  Race read_cell(const View& view, Cell& cell, Stamp* other);
  Race write_cell(const View& view, Cell& cell, Written how, Stamp* other);

  bool forget_others_;
  std::vector<Cell> cells_;
  std::vector<std::array<Cell, 4>> split_;  // index in the split cell's reader
};

std::string describe(Stamp stamp, uint64_t first_serial);

}  // namespace shoal::emulator
