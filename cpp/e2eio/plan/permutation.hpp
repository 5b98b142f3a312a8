// A keyed permutation of [0, n) in O(1) memory, and the random numbers it is keyed by.
#pragma once

#include <array>
#include <cstdint>

namespace e2eio {

// SplitMix64's finaliser (Steele, Lea, Flood: "Fast splittable pseudorandom number generators",
// OOPSLA 2014): a bijection of 64-bit words that mixes all bits.
[[nodiscard]] constexpr std::uint64_t mix64(std::uint64_t value) noexcept {
  value += 0x9E3779B97F4A7C15ULL;
  value = (value ^ (value >> 30U)) * 0xBF58476D1CE4E5B9ULL;
  value = (value ^ (value >> 27U)) * 0x94D049BB133111EBULL;
  return value ^ (value >> 31U);
}

// A balanced Feistel network over the smallest even number of bits that holds n, walked until it
// lands inside [0, n) (cycle walking: Black and Rogaway, CT-RSA 2002). At most 4 n values are
// walked, so 4 steps on average at the worst. Thread rule: immutable; any thread.
class Permutation {
 public:
  // Requires: n >= 1.
  Permutation(std::uint64_t n, std::uint64_t key) noexcept;

  // The i-th element. Requires: i < n.
  [[nodiscard]] std::uint64_t operator()(std::uint64_t i) const noexcept;

 private:
  static constexpr int kRounds = 6;
  std::uint64_t n_;
  unsigned half_bits_;
  std::uint64_t half_mask_;
  std::array<std::uint64_t, kRounds> keys_{};
};

}  // namespace e2eio
