// NEON, which every aarch64 has.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <utility>

#include "e2eio/kernels/kernel_set.hpp"

#if defined(__aarch64__) && defined(__GNUC__) && defined(__ARM_NEON)
#include <arm_neon.h>
#define E2EIO_HAVE_NEON 1
#endif

namespace e2eio {

#ifdef E2EIO_HAVE_NEON
namespace {

#include "e2eio/kernels/flags_portable.inc.hpp"
#include "e2eio/kernels/gaps_portable.inc.hpp"
#include "e2eio/kernels/lines_neon.inc.hpp"
#include "e2eio/kernels/nonzero_portable.inc.hpp"
#include "e2eio/kernels/runs_neon.inc.hpp"
#include "e2eio/kernels/word.inc.hpp"
// Then what is written in terms of these.
#include "e2eio/kernels/gaps_scalar.inc.hpp"
#include "e2eio/kernels/words_neon.inc.hpp"
// And what is written in terms of those.
#include "e2eio/kernels/generic.inc.hpp"
constexpr KernelSet kSet = make_kernel_set("neon");

}  // namespace

const KernelSet* neon_kernels() noexcept { return &kSet; }
#else
const KernelSet* neon_kernels() noexcept { return nullptr; }
#endif

}  // namespace e2eio
