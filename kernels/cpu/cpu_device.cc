#include "kernels/cpu/cpu_device.h"

#include <fmt/core.h>
#include <gnu/libc-version.h>

#include <algorithm>

namespace shoal {

CpuDevice::CpuDevice(const KernelSet& set, int threads, const CpuOptions& options)
    : set_(set),
      pool_(threads, options.cores),
      int8_(options.int8_activations &&
            set.quant_dot[static_cast<uint32_t>(TensorType::kQ8_0)] != nullptr) {}

std::string CpuDevice::describe() const {
  return fmt::format("cpu: {} thread{}, {} kernels, {} activations", pool_.threads(),
                     pool_.threads() == 1 ? "" : "s", set_.name, int8_ ? "int8" : "float");
}

std::string CpuDevice::arithmetic() const {
  // exp and log are libm's. Whether activations are int8 is the plan's choice, on all ranks alike.
  return fmt::format("cpu {}, glibc {}", set_.name, gnu_get_libc_version());
}

Result<std::unique_ptr<Device>> make_cpu_device(const CpuOptions& options) {
  int count = 0;
  const KernelSet* const* sets = available_kernel_sets(&count);
  const KernelSet* chosen = nullptr;
  std::string names;
  for (int i = 0; i < count; ++i) {
    if (chosen == nullptr && (options.isa.empty() || options.isa == sets[i]->name))
      chosen = sets[i];
    names += (i ? ", " : "") + std::string(sets[i]->name);
  }
  if (chosen == nullptr) {
    return invalid_argument("no kernel set '" + options.isa +
                            "' for this processor; there are: " + names);
  }
  const std::vector<int> usable = usable_cores();
  for (const int core : options.cores) {
    if (!std::binary_search(usable.begin(), usable.end(), core)) {
      return invalid_argument(
          fmt::format("core {} is not among the {} this process may run on (taskset, cgroup)", core,
                      usable.size()));
    }
  }
  const int threads = options.threads > 0 ? options.threads : static_cast<int>(usable.size());
  constexpr int kMaxThreads = 1024;
  if (threads > kMaxThreads)
    return invalid_argument(fmt::format("{} threads; at most {}", threads, kMaxThreads));
  return std::unique_ptr<Device>(std::make_unique<CpuDevice>(*chosen, threads, options));
}

}  // namespace shoal
