#include "cli/device_choice.h"

#include <fmt/core.h>

#include <charconv>

#include "base/log.h"
#include "base/quote.h"
#include "kernels/cuda_library.h"

namespace shoal {

Result<DeviceChoice> parse_device(const std::string& text) {
  constexpr int kMaxIndex = 63;
  const size_t colon = text.find(':');
  const std::string kind = text.substr(0, colon);
  DeviceChoice choice;
  if (text == "cpu") return choice;
  choice.kind = kind == "auto" ? DeviceChoice::kAuto : DeviceChoice::kCuda;
  bool good = kind == "auto" || kind == "cuda";
  if (good && colon != std::string::npos) {
    const char* end = text.data() + text.size();
    const auto [rest, error] = std::from_chars(text.data() + colon + 1, end, choice.index);
    good = error == std::errc() && rest == end && choice.index >= 0 && choice.index <= kMaxIndex;
  }
  if (good) return choice;
  return invalid_argument("device " + in_quotes(text) +
                          ": expected cpu, cuda:N or auto:N with N from 0 to 63");
}

Result<std::unique_ptr<Device>> open_device(const DeviceChoice& choice, const CpuOptions& cpu) {
  if (choice.kind == DeviceChoice::kCuda) return make_cuda_device(choice.index);
  if (choice.kind == DeviceChoice::kAuto) {
    const auto count = cuda_device_count();
    if (count && choice.index < *count) return make_cuda_device(choice.index);
    log_info("computing on the CPU: " +
             (count
                  ? fmt::format("there are {} CUDA cards, this is worker {}", *count, choice.index)
                  : count.status().message()));
  }
  return make_cpu_device(cpu);
}

}  // namespace shoal
