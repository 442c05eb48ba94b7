// The three functions of libshoal-cuda.so (library_abi.h).
#include "kernels/cuda/library_abi.h"

#include <cuda_runtime.h>

#include <cstdio>
#include <string>

#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/launch_cuda.cuh"

#include "kernels/cuda/gpu_device.h"

namespace {

using shoal::CudaLibraryError;

void report(const std::string& text, CudaLibraryError why, char* error, int* code) {
  std::snprintf(error, shoal::kCudaErrorBytes, "%s", text.c_str());
  *code = static_cast<int>(why);
}

std::string version(int number) {
  return std::to_string(number / 1000) + "." + std::to_string(number % 1000 / 10);
}

int count_devices(char* error, int* code) {
  int driver = 0, runtime = 0, count = 0;
  (void)cudaDriverGetVersion(&driver);
  (void)cudaRuntimeGetVersion(&runtime);
  const cudaError_t found = cudaGetDeviceCount(&count);
  if (driver == 0) {
    report("there is no NVIDIA driver on this machine; CUDA " + version(runtime) +
               " needs one of version 580 or later",
           CudaLibraryError::kDriver, error, code);
    return 0;
  }
  if (found == cudaErrorInsufficientDriver) {
    report("the NVIDIA driver speaks CUDA " + version(driver) + ", this build needs " +
               version(runtime) + ": install a driver of version 580 or later",
           CudaLibraryError::kDriver, error, code);
    return 0;
  }
  if (found == cudaErrorNoDevice || (found == cudaSuccess && count == 0)) {
    report("the NVIDIA driver sees no card", CudaLibraryError::kNoDevice, error, code);
    return 0;
  }
  if (found != cudaSuccess) {
    report(std::string("looking for cards: ") + cudaGetErrorString(found), CudaLibraryError::kOther,
           error, code);
    return 0;
  }
  return count;
}

}  // namespace

extern "C" {

__attribute__((visibility("default"))) const char* shoal_cuda_abi() {
  return shoal::kCudaLibraryAbi;
}

__attribute__((visibility("default"))) int shoal_cuda_count(char* error, int* code) {
  return count_devices(error, code);
}

__attribute__((visibility("default"))) void* shoal_cuda_open(int index, char* error, int* code) {
  const int count = count_devices(error, code);
  if (count == 0) return nullptr;
  if (index < 0 || index >= count) {
    report("there is no cuda:" + std::to_string(index) + "; this machine has " +
               std::to_string(count) + " card(s), cuda:0 to cuda:" + std::to_string(count - 1),
           CudaLibraryError::kIndex, error, code);
    return nullptr;
  }
  auto backend = shoal::gpu::CudaBackend::open(index);
  if (!backend) {
    report(backend.status().message(), CudaLibraryError::kOther, error, code);
    return nullptr;
  }
  using GpuDevice = shoal::gpu::GpuDevice<shoal::gpu::CudaBackend>;
  return static_cast<shoal::Device*>(new GpuDevice(std::move(backend).value()));
}

}  // extern "C"
