// What the program and libshoal-cuda.so say to each other: three C functions.
#pragma once

namespace shoal {

// Changes whenever kernels/device.h or a type in it does; the compiler's version is in it because
// C++ objects cross the border.
inline constexpr const char kCudaLibraryAbi[] = "shoal-cuda 2, g++ " __VERSION__;

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
