// What the program and libshoal-cuda.so say to each other: three C functions.
#pragma once

namespace shoal {

// C++ objects cross the border: the text of kernels/device.h and of the headers whose types it has
// (SHOAL_DEVICE_DIGEST, kernels/CMakeLists.txt) and the compiler's version must be the same.
inline constexpr const char kCudaLibraryAbi[] =
    "shoal-cuda " SHOAL_DEVICE_DIGEST ", g++ " __VERSION__;

inline constexpr int kCudaErrorBytes = 1024;
enum class CudaLibraryError : int { kOther = 0, kDriver, kNoDevice, kIndex };

// const char* ()                          kCudaLibraryAbi of the library
inline constexpr const char kCudaAbiSymbol[] = "shoal_cuda_abi";
// int (char* error, int* code)            cards, or 0 with the reason
inline constexpr const char kCudaCountSymbol[] = "shoal_cuda_count";
// void* (int index, char* error, int* code)   a shoal::Device made with new, or null with the
// reason
inline constexpr const char kCudaOpenSymbol[] = "shoal_cuda_open";

}  // namespace shoal
