// AVX-512 with VBMI2 (Ice Lake, Zen 4 and later).
// No flag of the build raises the baseline: the target holds for this region alone.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <utility>

#include "e2eio/kernels/kernel_set.hpp"

#if defined(__x86_64__) && defined(__GNUC__)
#include <immintrin.h>
#define E2EIO_HAVE_AVX512 1
#endif

namespace e2eio {

#ifdef E2EIO_HAVE_AVX512
namespace {

#if defined(__clang__)
#pragma clang attribute push(                                                                           \
    __attribute__((target(                                                                              \
        "avx2,bmi,bmi2,f16c,lzcnt,popcnt,avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2"))), \
    apply_to = function)
#else
#pragma GCC push_options
// GCC 12 to 14 take the undefined registers of their own headers for mistakes (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC target( \
    "avx2,bmi,bmi2,f16c,lzcnt,popcnt,avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2")
#endif
#include "e2eio/kernels/gaps_portable.inc.hpp"
#include "e2eio/kernels/runs_avx2.inc.hpp"
// Then what is written in terms of these.
#include "e2eio/kernels/gaps_avx512.inc.hpp"
#include "e2eio/kernels/lines_avx512.inc.hpp"
#include "e2eio/kernels/nonzero_avx512.inc.hpp"
#include "e2eio/kernels/words_avx512.inc.hpp"
// And what is written in terms of those.
#include "e2eio/kernels/generic.inc.hpp"
constexpr KernelSet kSet = make_kernel_set("avx512");
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

}  // namespace

const KernelSet* avx512_kernels() noexcept {
  const bool runs =
      __builtin_cpu_supports("avx512bw") != 0 && __builtin_cpu_supports("avx512dq") != 0 &&
      __builtin_cpu_supports("avx512vl") != 0 && __builtin_cpu_supports("avx512vbmi") != 0 &&
      __builtin_cpu_supports("avx512vbmi2") != 0 && __builtin_cpu_supports("bmi2") != 0;
  return runs ? &kSet : nullptr;
}
#else
const KernelSet* avx512_kernels() noexcept { return nullptr; }
#endif

}  // namespace e2eio
