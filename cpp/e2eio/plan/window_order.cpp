#include "e2eio/plan/window_order.hpp"

#include <algorithm>
#include <array>

#include "e2eio/base/error.hpp"

namespace e2eio {

WindowOrder::WindowOrder(std::uint64_t n, std::uint64_t key, std::uint64_t extent)
    : n_(n), key_(key) {
  if (extent == 0) {
    throw Error(ErrorKind::kInvalidArgument, "extent is 0 samples, expected at least 1");
  }
  const std::uint64_t window = std::min(extent, n / kStrata + 1) * kStrata;
  n_windows_ = std::max<std::uint64_t>(1, n / window + (n % window != 0 ? 1 : 0));
  extent_ = n / (n_windows_ * kStrata);
  n_tail_ = n - extent_ * n_windows_ * kStrata;
}

std::uint64_t WindowOrder::tail_begin(std::uint64_t window) const noexcept {
  return window * (n_tail_ / n_windows_) + std::min(window, n_tail_ % n_windows_);
}

std::uint64_t WindowOrder::begin_of(std::uint64_t window) const noexcept {
  return window * kStrata * extent_ + tail_begin(window);
}

std::uint64_t WindowOrder::window_of(std::uint64_t place) const noexcept {
  const std::uint64_t small = n_ / n_windows_;  // the first n % n_windows windows have one more
  const std::uint64_t n_large = n_ % n_windows_;
  const std::uint64_t in_large = n_large * (small + 1);
  return place < in_large ? place / (small + 1) : n_large + (place - in_large) / small;
}

void WindowOrder::fill(std::uint64_t epoch, std::uint64_t first,
                       std::span<std::uint64_t> ids) const {
  const std::uint64_t key = epoch_key(key_, epoch);
  while (!ids.empty()) {
    const std::uint64_t window = window_of(first);
    const std::uint64_t n = std::min<std::uint64_t>(ids.size(), begin_of(window + 1) - first);
    fill_from(window, key, first - begin_of(window), ids.first(n));
    first += n;
    ids = ids.subspan(n);
  }
}

void WindowOrder::fill_from(std::uint64_t window, std::uint64_t key, std::uint64_t offset,
                            std::span<std::uint64_t> ids) const {
  std::array<std::uint64_t, kStrata> begins{};
  for (std::uint64_t stratum = 0; stratum < kStrata; ++stratum) {
    const Permutation extents(n_windows_, mix64(key ^ mix64(stratum)));
    begins[stratum] = (stratum * n_windows_ + extents(window)) * extent_;
  }
  const std::uint64_t n_whole = kStrata * extent_;
  const std::uint64_t shift = n_tail_ == 0 ? 0 : mix64(key ^ mix64(kStrata)) % n_tail_;
  const Permutation order(n_of(window), mix64(key ^ mix64(kStrata + 1 + window)));
  for (std::uint64_t& id : ids) {
    const std::uint64_t i = order(offset++);
    id = i < n_whole
             ? begins[i / extent_] + i % extent_
             : n_whole * n_windows_ + (tail_begin(window) + (i - n_whole) + shift) % n_tail_;
  }
}

}  // namespace e2eio
