#include "kernels/cpu/kernel_set.h"

namespace shoal {

extern const KernelSet kGenericSet;
#if defined(SHOAL_X86_KERNELS)
extern const KernelSet kAvx2Set;
extern const KernelSet kAvx512Set;
#endif

const KernelSet* const* available_kernel_sets(int* count) {
  struct Found {
    const KernelSet* sets[3] = {};
    int count = 0;
  };
  static const Found found = [] {
    Found f;
#if defined(SHOAL_X86_KERNELS)
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                      __builtin_cpu_supports("f16c");
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni");
    if (avx512) f.sets[f.count++] = &kAvx512Set;
    if (avx2) f.sets[f.count++] = &kAvx2Set;
#endif
    f.sets[f.count++] = &kGenericSet;
    return f;
  }();
  *count = found.count;
  return found.sets;
}

}  // namespace shoal
