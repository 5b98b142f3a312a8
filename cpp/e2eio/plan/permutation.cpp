#include "e2eio/plan/permutation.hpp"

#include <algorithm>
#include <bit>

namespace e2eio {

Permutation::Permutation(std::uint64_t n, std::uint64_t key) noexcept : n_(n) {
  const auto bits = static_cast<unsigned>(std::bit_width(n - 1));
  half_bits_ = std::max(1U, (bits + 1) / 2);
  half_mask_ = (std::uint64_t{1} << half_bits_) - 1;
  for (std::uint64_t& round_key : keys_) {
    key = mix64(key);
    round_key = key;
  }
}

std::uint64_t Permutation::operator()(std::uint64_t i) const noexcept {
  do {
    std::uint64_t left = i >> half_bits_;
    std::uint64_t right = i & half_mask_;
    for (const std::uint64_t key : keys_) {
      const std::uint64_t next = left ^ (mix64(right ^ key) & half_mask_);
      left = right;
      right = next;
    }
    i = left << half_bits_ | right;
  } while (i >= n_);
  return i;
}

}  // namespace e2eio
