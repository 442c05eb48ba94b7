#include "kernels/cpu/kernel_set.h"

#if defined(SHOAL_X86_KERNELS)
#include <cpuid.h>
#endif

namespace shoal {

extern const KernelSet kGenericSet;
#if defined(SHOAL_X86_KERNELS)
extern const KernelSet kAvx2Set;
extern const KernelSet kAvxVnniSet;
extern const KernelSet kAvx512Set;
#endif

const KernelSet* const* available_kernel_sets(int* count) {
  struct Found {
    const KernelSet* sets[4] = {};
    int count = 0;
  };
  static const Found found = [] {
    Found f;
#if defined(SHOAL_X86_KERNELS)
    __builtin_cpu_init();
    unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
    // F16C is bit 29 of leaf 1; clang 16's __builtin_cpu_supports does not know its name.
    const bool f16c = __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & (1u << 29)) != 0;
    const bool avx2 = f16c && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") &&
                        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni");
    // Leaf 7.1, which gcc 12's __builtin_cpu_supports does not read.
    const bool avxvnni =
        avx2 && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0 && (eax & (1u << 4)) != 0;
    if (avx512) f.sets[f.count++] = &kAvx512Set;
    if (avxvnni) f.sets[f.count++] = &kAvxVnniSet;
    if (avx2) f.sets[f.count++] = &kAvx2Set;
#endif
    f.sets[f.count++] = &kGenericSet;
    return f;
  }();
  *count = found.count;
  return found.sets;
}

}  // namespace shoal
