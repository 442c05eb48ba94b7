// Mutants: kernels made wrong while a test runs, to prove that the test notices. mutants.py runs
// them; nothing happens without these environment variables, read once per process:
//
//   SHOAL_MUTANT_SITES=FILE   appends a line for each place the test came to:
//                             "KERNEL KIND FILE:LINE:COLUMN", KIND as below; KERNEL without what
//                             tells instances of one text apart
//   SHOAL_MUTANT=LINE         does what KIND says at such a place, in every thread and launch
//   SHOAL_MUTANT=edit:N       edited(N) is true: the other side of an edit that mutants.py made
#pragma once

#include <source_location>

namespace shoal::emulator {

inline constexpr const char* kDropSyncThreads = "drop_sync_threads";
inline constexpr const char* kDropSyncWarp = "drop_sync_warp";
inline constexpr const char* kDropWait = "drop_copy_async_wait";    // as if it were not there
inline constexpr const char* kLooseWait = "loose_copy_async_wait";  // for one group less
inline constexpr const char* kDropFence = "drop_thread_fence";

extern const bool kMutants;  // whether any of the variables is set

// Whether this place is the mutant's. Only to be asked where kMutants.
bool mutated(const char* kernel, const char* kind, const std::source_location& site);

bool edited(int number);

}  // namespace shoal::emulator
