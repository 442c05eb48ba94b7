// libshoal-cuda.so with emulated cards: whole servers on cards without a card. Two of them, or as
// many as SHOAL_EMULATED_CARDS says.
#include <cstdio>
#include <cstdlib>

#include "kernels/cuda/library_abi.h"
#include "tests/simt/gpu_support.h"

namespace {

int cards() {
  const char* wanted = std::getenv("SHOAL_EMULATED_CARDS");
  return wanted == nullptr ? 2 : std::atoi(wanted);
}

}  // namespace

extern "C" {

__attribute__((visibility("default"))) const char* shoal_cuda_abi() {
  return shoal::kCudaLibraryAbi;
}

__attribute__((visibility("default"))) int shoal_cuda_count(char* error, int* code) {
  if (cards() > 0) return cards();
  std::snprintf(error, shoal::kCudaErrorBytes, "the emulator has no card");
  *code = static_cast<int>(shoal::CudaLibraryError::kNoDevice);
  return 0;
}

__attribute__((visibility("default"))) void* shoal_cuda_open(int index, char* error, int* code) {
  if (index >= 0 && index < cards())
    return shoal::testing::make_emulated_device(1, false).release();
  std::snprintf(error, shoal::kCudaErrorBytes, "there is no emulated cuda:%d", index);
  *code = static_cast<int>(shoal::CudaLibraryError::kIndex);
  return nullptr;
}

}  // extern "C"
