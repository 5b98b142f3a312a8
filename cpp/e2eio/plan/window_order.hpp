// A shuffle that reads whole stretches of a dataset.
#pragma once

#include <cstdint>
#include <span>

#include "e2eio/plan/order.hpp"

namespace e2eio {

// The dataset is cut into n_windows * kStrata extents of the same size, and a tail that is left
// over. Each window of the epoch is an exact permutation of kStrata extents, one from each of
// kStrata equal stretches (strata) of the dataset, and of a piece of the tail; in every epoch
// other extents come together:
//
//   extents    0  1  2 | 3  4  5 | 6  7  8 | 9 10 11 | tail      3 windows, shown with 4 strata
//   window 0      1           5    6             10    t0        permuted as one
//   window 1   0         3            7              11 t1
//   window 2         2      4             8    9        t2
//
// So a window takes few and long reads, holds a fair share of every part of the dataset, however
// that is sorted, and no sample twice. O(1) memory; equal extents make each place computable on
// its own. Thread rule: immutable; any thread.
class WindowOrder final : public Order {
 public:
  static constexpr std::uint64_t kStrata = 16;

  // `extent`: samples that are to be read together; they become no more, and few less.
  // Throws: Error(kInvalidArgument) for extent 0.
  WindowOrder(std::uint64_t n, std::uint64_t key, std::uint64_t extent);

  [[nodiscard]] std::uint64_t n_places() const noexcept override { return n_; }
  [[nodiscard]] std::uint64_t end_id() const noexcept override { return n_; }
  void fill(std::uint64_t epoch, std::uint64_t first, std::span<std::uint64_t> ids) const override;

  // Samples of an extent, and of the largest window.
  [[nodiscard]] std::uint64_t extent_samples() const noexcept { return extent_; }
  [[nodiscard]] std::uint64_t window_samples() const noexcept { return n_of(0); }

  [[nodiscard]] std::uint64_t n_windows() const noexcept override { return n_windows_; }
  [[nodiscard]] std::uint64_t window_of(std::uint64_t place) const noexcept override;
  [[nodiscard]] std::uint64_t begin_of(std::uint64_t window) const noexcept override;

 private:
  [[nodiscard]] std::uint64_t n_of(std::uint64_t window) const noexcept {
    return begin_of(window + 1) - begin_of(window);
  }
  [[nodiscard]] std::uint64_t tail_begin(std::uint64_t window) const noexcept;
  void fill_from(std::uint64_t window, std::uint64_t key, std::uint64_t offset,
                 std::span<std::uint64_t> ids) const;

  std::uint64_t n_;
  std::uint64_t key_;
  std::uint64_t n_windows_ = 1;
  std::uint64_t extent_ = 0;
  std::uint64_t n_tail_ = 0;
};

}  // namespace e2eio
