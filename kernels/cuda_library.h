// CUDA devices without linking CUDA: libshoal-cuda.so, which has the kernels, is opened when a
// worker asks for a card.
#pragma once

#include <memory>
#include <string>

#include "base/status.h"
#include "kernels/device.h"

namespace shoal {

// Cards this process can use. Why there are none is an error: no library beside the program
// (kNotFound), no driver or one that is too old (kFailedPrecondition), no card (kUnavailable).
// $SHOAL_CUDA_LIBRARY names another library than the one beside the program.
Result<int> cuda_device_count();

// Card `index` as a Device; the library stays open. Errors as above, and kOutOfRange if there is no
// such card.
Result<std::unique_ptr<Device>> make_cuda_device(int index);

// What program and library must agree on: the layout of everything in kernels/device.h.
std::string cuda_library_abi();

}  // namespace shoal
