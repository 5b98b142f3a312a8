// The same text, compiled for AVX2 inside a target region: no flag of the build raises the
// baseline.
#include <bit>

#include "e2eio/kernels/kernel_set.hpp"

namespace e2eio {

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
namespace {

#pragma GCC push_options
#pragma GCC target("avx2,bmi2")
#include "e2eio/kernels/generic.inc.hpp"
constexpr KernelSet kSet = make_kernel_set("avx2");
#pragma GCC pop_options

}  // namespace

const KernelSet* avx2_kernels() noexcept {
  const bool runs = __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("bmi2") != 0;
  return runs ? &kSet : nullptr;
}
#else
const KernelSet* avx2_kernels() noexcept { return nullptr; }
#endif

}  // namespace e2eio
