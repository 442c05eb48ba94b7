// The largest single memory request of the program so far: link allocation_watch.cc, which replaces
// operator new.
#pragma once

#include <cstddef>

namespace shoal::testing {

void reset_largest_allocation();
size_t largest_allocation();  // bytes

}  // namespace shoal::testing
