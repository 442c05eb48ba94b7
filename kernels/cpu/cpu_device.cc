#include "kernels/cpu/cpu_device.h"

#include <sched.h>

#include <fmt/core.h>

namespace shoal {

CpuDevice::CpuDevice(const KernelSet& set, int threads, const CpuOptions& options)
    : set_(set),
      pool_(threads, options.cores),
      int8_(options.int8_activations && set.quant_dot[8] != nullptr) {}

std::string CpuDevice::describe() const {
  return fmt::format("cpu: {} thread{}, {} kernels, {} activations", pool_.threads(),
                     pool_.threads() == 1 ? "" : "s", set_.name, int8_ ? "int8" : "float");
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
  int threads = options.threads;
  if (threads <= 0) {
    cpu_set_t usable;
    CPU_ZERO(&usable);
    threads = ::sched_getaffinity(0, sizeof(usable), &usable) == 0 ? CPU_COUNT(&usable) : 1;
  }
  constexpr int kMaxThreads = 1024;
  if (threads > kMaxThreads)
    return invalid_argument(fmt::format("{} threads; at most {}", threads, kMaxThreads));
  return std::unique_ptr<Device>(std::make_unique<CpuDevice>(*chosen, threads, options));
}

}  // namespace shoal
