// The baseline: plain C++ for the instruction set that the build is for.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <utility>

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

#include "e2eio/kernels/kernel_set.hpp"

namespace e2eio {
namespace {

#include "e2eio/kernels/flags_portable.inc.hpp"
#include "e2eio/kernels/gaps_portable.inc.hpp"
#include "e2eio/kernels/lines_portable.inc.hpp"
#include "e2eio/kernels/nonzero_portable.inc.hpp"
#include "e2eio/kernels/runs_portable.inc.hpp"
#include "e2eio/kernels/word.inc.hpp"
// Then what is written in terms of these.
#include "e2eio/kernels/gaps_scalar.inc.hpp"
#include "e2eio/kernels/words_portable.inc.hpp"
// And what is written in terms of those.
#include "e2eio/kernels/generic.inc.hpp"
constexpr KernelSet kSet = make_kernel_set("scalar");

}  // namespace

const KernelSet* scalar_kernels() noexcept { return &kSet; }

}  // namespace e2eio
