// Operations on one pixel at a time, whose result depends on that pixel alone.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "e2eio/kernels/kernel_set.hpp"

namespace e2eio {

enum class ValueOp : std::uint8_t {
  kScale,
  kDivide,
  kOffset,
  kBelow,
  kAbsBelow,
  kAbove,
  kAbsAbove,
  kClip,
  kLog1p,
  kSqrt,
  kAsinh,
  kStandardise,
};

// One operation with its constants (transform_spec.hpp says which).
struct ValueStep {
  ValueOp op = ValueOp::kScale;
  float a = 0;
  float b = 0;
};

// The operation of this name in transform_spec.hpp, if it is one of these.
[[nodiscard]] std::optional<ValueOp> value_op_named(std::string_view name) noexcept;

// Maps float32 bits in place, each in IEEE float32 arithmetic without contraction: bit-equal to
// numpy's float32. log1p and asinh are within 1 ulp of the true value, the same on every CPU. A
// pixel that is +0.0 never becomes -0.0: a negative factor leaves empty pixels as they are. NaN
// stays NaN; comparisons with it are false, so below, above and clip keep it bit for bit.
void apply(const ValueStep& step, const KernelSet& kernels,
           std::span<std::uint32_t> words) noexcept;

}  // namespace e2eio
