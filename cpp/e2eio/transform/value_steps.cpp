#include "e2eio/transform/value_steps.hpp"

#include <array>
#include <bit>
#include <cmath>
#include <utility>

namespace e2eio {
namespace {

constexpr std::array<std::pair<std::string_view, ValueOp>, 12> kNames{{
    {"scale", ValueOp::kScale},
    {"divide", ValueOp::kDivide},
    {"offset", ValueOp::kOffset},
    {"below", ValueOp::kBelow},
    {"abs_below", ValueOp::kAbsBelow},
    {"above", ValueOp::kAbove},
    {"abs_above", ValueOp::kAbsAbove},
    {"clip", ValueOp::kClip},
    {"log1p", ValueOp::kLog1p},
    {"sqrt", ValueOp::kSqrt},
    {"asinh", ValueOp::kAsinh},
    {"standardise", ValueOp::kStandardise},
}};

// `function` takes the float and returns the float.
template <typename Function>
void map(std::span<std::uint32_t> words, Function function) noexcept {
  for (std::uint32_t& word : words) {
    word = std::bit_cast<std::uint32_t>(function(std::bit_cast<float>(word)));
  }
}

// `choose` takes the float and its bits and returns bits: what it keeps, it keeps bit for bit.
template <typename Choose>
void select(std::span<std::uint32_t> words, Choose choose) noexcept {
  for (std::uint32_t& word : words) {
    word = choose(std::bit_cast<float>(word), word);
  }
}

// For functions that take +0.0 to -0.0.
template <typename Function>
void map_stored(std::span<std::uint32_t> words, Function function) noexcept {
  select(words, [function](float x, std::uint32_t bits) {
    return bits == 0 ? bits : std::bit_cast<std::uint32_t>(function(x));
  });
}

}  // namespace

std::optional<ValueOp> value_op_named(std::string_view name) noexcept {
  for (const auto& [known, op] : kNames) {
    if (known == name) {
      return op;
    }
  }
  return std::nullopt;
}

void apply(const ValueStep& step, const KernelSet& kernels,
           std::span<std::uint32_t> words) noexcept {
  std::uint32_t* const data = words.data();
  const std::size_t n = words.size();
  const float a = step.a;
  const float b = step.b;
  const auto b_bits = std::bit_cast<std::uint32_t>(b);
  switch (step.op) {
    case ValueOp::kScale:
      map_stored(words, [a](float x) { return x * a; });
      break;
    case ValueOp::kDivide:
      map_stored(words, [a](float x) { return x / a; });
      break;
    case ValueOp::kOffset:
      kernels.affine(data, n, 1, a);  // x * 1 is x
      break;
    case ValueOp::kBelow:
      kernels.replace_below(data, n, a, 0);
      break;
    case ValueOp::kAbsBelow:
      kernels.replace_small(data, n, a, 0);
      break;
    case ValueOp::kAbove:
      kernels.replace_above(data, n, a, b);
      break;
    case ValueOp::kAbsAbove:
      select(words, [=](float x, std::uint32_t bits) { return std::fabs(x) > a ? b_bits : bits; });
      break;
    case ValueOp::kClip:
      kernels.clip(data, n, a, b);
      break;
    case ValueOp::kLog1p:
      kernels.log1p(data, n);
      break;
    case ValueOp::kSqrt:
      map(words, [](float x) { return std::sqrt(x); });
      break;
    case ValueOp::kAsinh:
      kernels.asinh(data, n, a);
      break;
    case ValueOp::kStandardise:
      map(words, [a, b](float x) { return (x - a) / b; });
      break;
  }
}

}  // namespace e2eio
