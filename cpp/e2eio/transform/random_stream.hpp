// Random numbers that are a pure function of (key, epoch, sample, operation, counter).
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>

#include "e2eio/plan/permutation.hpp"

namespace e2eio {

// Which sample of which epoch is being decoded.
struct SampleKey {
  std::uint64_t epoch = 0;
  std::uint64_t sample = 0;  // id within the dataset, whatever rank, batch or thread has it
};

// Counter-based: draw i is output i of SplitMix64 (see mix64) started at a state that mixes the
// four words of the key one after the other. No draw depends on another one having been made.
// Thread rule: immutable; any thread.
class RandomStream {
 public:
  RandomStream(std::uint64_t key, const SampleKey& sample, std::uint64_t operation) noexcept
      : state_(mix64(mix64(mix64(mix64(key) ^ sample.epoch) ^ sample.sample) ^ operation)) {}

  [[nodiscard]] std::uint64_t word(std::uint64_t counter) const noexcept {
    return mix64(state_ + counter * 0x9E3779B97F4A7C15ULL);
  }

  // In [0, 1), a multiple of 2^-53.
  [[nodiscard]] double uniform(std::uint64_t counter) const noexcept {
    return static_cast<double>(word(counter) >> 11U) * 0x1p-53;
  }

  // In [least, most]. Requires: least <= most, both within 32 bits.
  [[nodiscard]] std::int64_t integer(std::uint64_t counter, std::int64_t least,
                                     std::int64_t most) const noexcept {
    const auto n = static_cast<double>(most - least + 1);
    return least + static_cast<std::int64_t>(uniform(counter) * n);
  }

  // Standard normal, from draws 2 * counter and 2 * counter + 1 (Box and Muller, Ann. Math. Stat.
  // 29 (1958) 610).
  [[nodiscard]] double normal(std::uint64_t counter) const noexcept {
    const double radius = std::sqrt(-2.0 * std::log(1.0 - uniform(2 * counter)));
    return radius * std::cos(2.0 * std::numbers::pi * uniform(2 * counter + 1));
  }

 private:
  std::uint64_t state_;
};

}  // namespace e2eio
