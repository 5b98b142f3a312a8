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

void apply(const ValueStep& step, std::span<std::uint32_t> words) noexcept {
  const float a = step.a;
  const float b = step.b;
  const auto a_bits = std::bit_cast<std::uint32_t>(a);
  const auto b_bits = std::bit_cast<std::uint32_t>(b);
  switch (step.op) {
    case ValueOp::kScale:
      map_stored(words, [a](float x) { return x * a; });
      break;
    case ValueOp::kDivide:
      map_stored(words, [a](float x) { return x / a; });
      break;
    case ValueOp::kOffset:
      map(words, [a](float x) { return x + a; });
      break;
    case ValueOp::kBelow:
      select(words, [a](float x, std::uint32_t bits) { return x < a ? 0U : bits; });
      break;
    case ValueOp::kAbsBelow:
      select(words, [a](float x, std::uint32_t bits) { return std::fabs(x) < a ? 0U : bits; });
      break;
    case ValueOp::kAbove:
      select(words, [=](float x, std::uint32_t bits) { return x > a ? b_bits : bits; });
      break;
    case ValueOp::kAbsAbove:
      select(words, [=](float x, std::uint32_t bits) { return std::fabs(x) > a ? b_bits : bits; });
      break;
    case ValueOp::kClip:
      select(words, [=](float x, std::uint32_t bits) {
        const std::uint32_t low = x < a ? a_bits : bits;
        return x > b ? b_bits : low;
      });
      break;
    case ValueOp::kLog1p:
      map(words, [](float x) { return std::log1p(x); });
      break;
    case ValueOp::kSqrt:
      map(words, [](float x) { return std::sqrt(x); });
      break;
    case ValueOp::kAsinh:
      map(words, [a](float x) { return std::asinh(x / a); });
      break;
    case ValueOp::kStandardise:
      map(words, [a, b](float x) { return (x - a) / b; });
      break;
  }
}

}  // namespace e2eio
