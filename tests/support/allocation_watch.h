// What the program takes through operator new: link allocation_watch.cc, which replaces it.
// Thread-safe.
#pragma once

#include <cstddef>

namespace shoal::testing {

void reset_largest_allocation();
size_t largest_allocation();  // bytes, of the largest single request so far

size_t live_bytes();  // allocated and not freed, as the allocator rounds them
void reset_peak_bytes();
size_t peak_bytes();  // most live at once since then

// From now on every request of this many bytes or more throws std::bad_alloc, but for those of the
// calling thread, which is the test; 0: none does.
void fail_allocations_from(size_t bytes);

}  // namespace shoal::testing
