#include <bit>

#include "e2eio/kernels/kernel_set.hpp"

namespace e2eio {
namespace {

#include "e2eio/kernels/generic.inc.hpp"

constexpr KernelSet kSet = make_kernel_set("scalar");

}  // namespace

const KernelSet* scalar_kernels() noexcept { return &kSet; }

}  // namespace e2eio
