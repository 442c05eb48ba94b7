#include "tests/simt/shadow.h"

#include <algorithm>
#include <bit>

namespace shoal::emulator {
namespace {

uint64_t key(Stamp at) { return (static_cast<uint64_t>(at.serial) << 16) | at.thread; }
uint64_t word(Stamp at) { return std::bit_cast<uint64_t>(at); }

bool covers(const Release& release, Stamp other) {
  const Stamp at = release.at;
  if (at.serial != other.serial) return false;
  if (other.epoch != at.epoch) return other.epoch < at.epoch;
  return other.thread == at.thread || (other.warp() == at.warp() && other.clock < at.clock);
}

// The same for all the readers a cell stands for.
bool covers_readers(const Release& release, Stamp other) {
  const Stamp at = release.at;
  if (at.serial != other.serial || other.level == kSeveralBlocks) return false;
  if (other.epoch != at.epoch) return other.epoch < at.epoch;
  if (other.level == kOneThread) return covers(release, other);
  return other.level == kOneWarp && other.warp() == at.warp() && other.clock < at.clock;
}

template <class Covers>
bool any_covers(const Releases* releases, Stamp other, Covers&& by) {
  if (releases == nullptr) return false;
  const uint64_t serial = other.serial;
  for (auto it = releases->lower_bound(serial << 16);
       it != releases->end() && it->first >> 16 == serial; ++it) {
    if (by(it->second, other)) return true;
  }
  return false;
}

}  // namespace

void merge(Releases& into, Stamp at) {
  const auto [it, added] = into.try_emplace(key(at), Release{at});
  if (added) return;
  Stamp& old = it->second.at;
  if (at.epoch > old.epoch || (at.epoch == old.epoch && at.clock > old.clock)) old = at;
}

void merge(Releases& into, const Releases& from) {
  for (const auto& [unused, release] : from) merge(into, release.at);
}

bool View::after(Stamp other) const {
  if (other.serial < first_serial) return true;
  if (other.serial == now.serial) {
    if (other.epoch != now.epoch) return other.epoch < now.epoch;
    if (other.thread == now.thread) return true;
    if (other.warp() == now.warp() &&
        (other.clock < full_clock ||
         (partial != nullptr && other.clock < (*partial)[other.thread % 32]))) {
      return true;
    }
  }
  return any_covers(acquired, other, covers) || any_covers(block_acquired, other, covers);
}

bool View::after_readers(Stamp other) const {
  if (other.level == kOneThread) return after(other);
  if (other.serial < first_serial) return true;
  if (other.level == kSeveralBlocks) return false;
  if (other.serial == now.serial) {
    if (other.epoch != now.epoch) return other.epoch < now.epoch;
    if (other.level == kOneWarp && other.warp() == now.warp() && other.clock < full_clock) {
      return true;
    }
  }
  return any_covers(acquired, other, covers_readers) ||
         any_covers(block_acquired, other, covers_readers);
}

Shadow::Shadow(uint64_t bytes, bool forget_others)
    : forget_others_(forget_others), cells_((bytes + 3) / 4) {}

void Shadow::clear() {
  std::fill(cells_.begin(), cells_.end(), Cell{});
  split_.clear();
}

template <class F>
Race Shadow::each_cell(uint64_t first, uint64_t bytes, F&& f) {
  const uint64_t begin = bytes < 4 ? first % 4 : 0, end = bytes < 4 ? begin + bytes : 4;
  for (uint64_t index = first / 4; index < (first + bytes + 3) / 4; ++index) {
    Cell& cell = cells_[index];
    if (cell.writer.serial != kSplit && bytes >= 4) {
      if (const Race race = f(cell); race != Race::kNone) return race;
      continue;
    }
    if (cell.writer.serial != kSplit) {
      split_.push_back({cell, cell, cell, cell});
      cell.writer.serial = kSplit;
      cell.reader = std::bit_cast<Stamp>(static_cast<uint64_t>(split_.size() - 1));
    }
    auto& parts = split_[word(cell.reader)];
    for (uint64_t part = begin; part < end; ++part) {
      if (const Race race = f(parts[part]); race != Race::kNone) return race;
    }
  }
  return Race::kNone;
}

Race Shadow::read_cell(const View& view, Cell& cell, Stamp* other) {
  // The common case, on whole words: written before the block's latest barrier, and this read adds
  // nothing to what is known of the readers.
  constexpr uint64_t kSerial = Stamp::kMaxSerial;
  constexpr uint64_t kSerialEpoch = kSerial | Stamp::kMaxEpoch << Stamp::kSerialBits;
  const uint64_t w = word(cell.writer), r = word(cell.reader), n = word(view.now);
  if ((w & kSerial) == (n & kSerial) && (w & kSerialEpoch) < (n & kSerialEpoch) &&
      (r == n || ((r & kSerialEpoch) == (n & kSerialEpoch) && r >> 62 == kOneBlock)) &&
      w >> 62 != kPending) {
    return Race::kNone;
  }
  const Stamp writer = cell.writer;
  *other = writer;
  if (forget_others_) {
    if (writer.serial != view.now.serial) return Race::kUninitialised;
    if (cell.reader.serial != view.now.serial) cell.reader = Stamp{};
  }
  if (writer.level == kPending && writer.serial >= view.first_serial) return Race::kPendingCopy;
  if (!view.after(writer)) return Race::kWrite;
  Stamp& reader = cell.reader;
  if (view.after_readers(reader)) {
    reader = view.now;
    return Race::kNone;
  }
  // Several threads have read it and no barrier is between them: keep the widest of what they are.
  const uint64_t relation = reader.serial != view.now.serial   ? kSeveralBlocks
                            : reader.warp() != view.now.warp() ? kOneBlock
                                                               : kOneWarp;
  const uint64_t level = std::max<uint64_t>(reader.level, relation);
  const uint64_t clock = std::max<uint64_t>(reader.clock, view.now.clock);
  reader.clock = clock;
  reader.level = level;
  return Race::kNone;
}

Race Shadow::write_cell(const View& view, Cell& cell, Written how, Stamp* other) {
  const Stamp writer = cell.writer;
  const bool stale = forget_others_ && writer.serial != view.now.serial;
  *other = writer;
  if (!stale) {
    const bool pending = writer.level == kPending && writer.serial >= view.first_serial;
    if (pending) return Race::kPendingCopy;
    const bool both_atomic = how == kAtomic && writer.level == kAtomic;
    if (!both_atomic && !view.after(writer)) return Race::kWrite;
  } else if (how == kAtomic) {
    return Race::kUninitialised;
  }
  if (!(forget_others_ && cell.reader.serial != view.now.serial) &&
      !view.after_readers(cell.reader)) {
    *other = cell.reader;
    return Race::kRead;
  }
  cell.writer = view.now;
  cell.writer.level = how;
  cell.reader = Stamp{};
  return Race::kNone;
}

Race Shadow::read(const View& view, uint64_t first, uint64_t bytes, Stamp* other) {
  return each_cell(first, bytes, [&](Cell& cell) { return read_cell(view, cell, other); });
}

Race Shadow::write(const View& view, uint64_t first, uint64_t bytes, Written how, Stamp* other) {
  return each_cell(first, bytes, [&](Cell& cell) { return write_cell(view, cell, how, other); });
}

void Shadow::land(const View& view, uint64_t first, uint64_t bytes) {
  each_cell(first, bytes, [&](Cell& cell) {
    cell.writer = view.now;
    return Race::kNone;
  });
}

std::string describe(Stamp stamp, uint64_t first_serial) {
  if (stamp.serial < first_serial) return "an earlier launch";
  return "thread " + std::to_string(stamp.thread) + " of the block started as number " +
         std::to_string(stamp.serial - first_serial) + ", after " + std::to_string(stamp.epoch) +
         " sync_threads";
}

}  // namespace shoal::emulator
