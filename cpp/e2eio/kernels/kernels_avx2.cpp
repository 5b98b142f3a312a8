// AVX2, BMI2 and F16C (Haswell, Zen and later).
// No flag of the build raises the baseline: the target holds for this region alone.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <utility>

#include "e2eio/kernels/kernel_set.hpp"

#if defined(__x86_64__) && defined(__GNUC__)
#include <cpuid.h>
#include <immintrin.h>
#define E2EIO_HAVE_AVX2 1
#endif

namespace e2eio {

#ifdef E2EIO_HAVE_AVX2
namespace {

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,bmi,bmi2,f16c,lzcnt,popcnt"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,bmi,bmi2,f16c,lzcnt,popcnt")
#endif
#include "e2eio/kernels/gaps_portable.inc.hpp"
#include "e2eio/kernels/runs_avx2.inc.hpp"
#include "e2eio/kernels/word.inc.hpp"
// Then what is written in terms of these.
#include "e2eio/kernels/gaps_avx2.inc.hpp"
#include "e2eio/kernels/lines_avx2.inc.hpp"
#include "e2eio/kernels/nonzero_portable.inc.hpp"
#include "e2eio/kernels/words_avx2.inc.hpp"
// And what is written in terms of those.
#include "e2eio/kernels/generic.inc.hpp"
constexpr KernelSet kSet = make_kernel_set("avx2");
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

}  // namespace

const KernelSet* avx2_kernels() noexcept {
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  // Not every compiler's __builtin_cpu_supports() knows "f16c".
  const bool f16c = __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
  const bool runs = f16c && __builtin_cpu_supports("avx2") != 0 &&
                    __builtin_cpu_supports("bmi") != 0 && __builtin_cpu_supports("bmi2") != 0 &&
                    __builtin_cpu_supports("popcnt") != 0;
  return runs ? &kSet : nullptr;
}
#else
const KernelSet* avx2_kernels() noexcept { return nullptr; }
#endif

}  // namespace e2eio
