#include "kernels/cuda_library.h"

#include <dlfcn.h>
#include <unistd.h>

#include <climits>
#include <cstdlib>
#include <mutex>
#include <vector>

#include "base/file.h"
#include "kernels/cuda/library_abi.h"

namespace shoal {
namespace {

constexpr const char* kLibraryName = "libshoal-cuda.so";

std::string program_folder() {
  char path[PATH_MAX];
  const ssize_t length = ::readlink("/proc/self/exe", path, sizeof(path));
  if (length <= 0) return "";
  const std::string program(path, static_cast<size_t>(length));
  return program.substr(0, program.rfind('/') + 1);
}

struct Library {
  const char* (*abi)() = nullptr;
  int (*count)(char* error, int* code) = nullptr;
  void* (*open)(int index, char* error, int* code) = nullptr;
};

Result<Library> load() {
  std::vector<std::string> places;
  if (const char* named = std::getenv("SHOAL_CUDA_LIBRARY"); named != nullptr && *named != '\0') {
    places = {named};
  } else {
    places = {program_folder() + kLibraryName, program_folder() + "../lib/" + kLibraryName};
  }
  void* handle = nullptr;
  std::string why;
  for (const std::string& place : places) {
    if (::access(place.c_str(), F_OK) != 0) continue;
    const Status readable = File::open(place).status();  // dlopen waits for a pipe's other end
    if (readable) handle = ::dlopen(place.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle != nullptr) break;
    why += (why.empty() ? "" : "; ") + (readable ? ::dlerror() : readable.message());
  }
  if (handle == nullptr) {
    if (!why.empty()) return failed_precondition("opening the CUDA kernels: " + why);
    return not_found("there are no CUDA kernels at " + places[0] +
                     "; a build on a machine with nvcc makes them");
  }
  Library library;
  const auto symbol = [&](const char* name, auto& to) {
    to = reinterpret_cast<std::remove_reference_t<decltype(to)>>(::dlsym(handle, name));
    return to != nullptr;
  };
  const bool complete = symbol(kCudaAbiSymbol, library.abi) &&
                        symbol(kCudaCountSymbol, library.count) &&
                        symbol(kCudaOpenSymbol, library.open);
  if (!complete || library.abi() != cuda_library_abi()) {
    return failed_precondition(std::string(kLibraryName) +
                               " is of another build than this program; build both together");
  }
  return library;
}

const Result<Library>& library() {
  static const Result<Library> loaded = load();
  return loaded;
}

Status error_of(int code, const char* text) {
  switch (static_cast<CudaLibraryError>(code)) {
    case CudaLibraryError::kDriver:
      return failed_precondition(text);
    case CudaLibraryError::kNoDevice:
      return unavailable(text);
    case CudaLibraryError::kIndex:
      return out_of_range(text);
    default:
      return internal_error(text);
  }
}

}  // namespace

std::string cuda_library_abi() { return kCudaLibraryAbi; }

Result<int> cuda_device_count() {
  if (!library()) return library().status();
  char error[kCudaErrorBytes] = "";
  int code = 0;
  const int count = library()->count(error, &code);
  if (count <= 0) return error_of(code, error);
  return count;
}

Result<std::unique_ptr<Device>> make_cuda_device(int index) {
  if (!library()) return library().status();
  char error[kCudaErrorBytes] = "";
  int code = 0;
  auto* device = static_cast<Device*>(library()->open(index, error, &code));
  if (device == nullptr) return error_of(code, error);
  return std::unique_ptr<Device>(device);
}

}  // namespace shoal
