// Which samples a rank sees in which batch of which epoch.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "e2eio/plan/order.hpp"

namespace e2eio {

struct PlanConfig {
  // The order of the epochs; null: n_samples in file order, or shuffled by the key.
  std::shared_ptr<const Order> order = nullptr;
  std::uint64_t n_samples = 0;
  std::uint64_t batch_size = 1;  // per rank
  std::uint64_t rank = 0;
  std::uint64_t world_size = 1;
  bool shuffle = false;
  bool drop_last = false;
  std::uint64_t key = 0;  // from the dataset's digest and the seed
};

// A pure function of its configuration, the epoch, and the place of the epoch's order at which the
// run begins. In global step t all ranks together take the next world_size * batch_size places,
// rank r the r-th run of batch_size of them:
//
//   n = 10, world_size = 2, batch_size = 2      step 0     step 1     step 2 (last)
//   rank 0                                      0 1        4 5        8
//   rank 1                                      2 3        6 7        9
//
// Without drop_last the last step splits the m places left into runs of ceil(m / world_size); what
// is missing for the last ranks is taken from the start of the epoch's order again, so every rank
// has the same number of batches, of the same sizes. With drop_last that step does not take place.
//
// A run that begins at place `begin` (0 .. n) treats the places from there on in the same way. So
// after any number of steps, the place reached is all there is to know: the rest of the epoch goes
// on from it with any world_size and batch_size:
//
//   the same, from begin = 4 on with world_size = 3, batch_size = 1
//   rank 0                                      4          7
//   rank 1                                      5          8
//   rank 2                                      6          9
//
// Thread rule: immutable; any thread.
class EpochPlan {
 public:
  // Throws: Error(kInvalidArgument) for batch_size 0, world_size 0, rank >= world_size, and more
  // than 2^63 samples per step.
  explicit EpochPlan(const PlanConfig& config);

  [[nodiscard]] std::uint64_t n_places() const noexcept { return n_places_; }

  [[nodiscard]] const Order& order() const noexcept { return *order_; }

  // Places that all ranks together take in a step.
  [[nodiscard]] std::uint64_t step() const noexcept { return step_; }

  // Every sample is below it.
  [[nodiscard]] std::uint64_t end_id() const noexcept { return order_->end_id(); }

  [[nodiscard]] std::uint64_t n_batches(std::uint64_t begin = 0) const noexcept;

  // Sample ids of a batch of this rank, counted from `begin`, in order.
  // Requires: batch < n_batches(begin).
  [[nodiscard]] std::vector<std::uint64_t> batch_ids(std::uint64_t epoch, std::uint64_t batch,
                                                     std::uint64_t begin = 0) const;

  // The place reached after so many batches: where a run that goes on begins.
  // Requires: batches <= n_batches(begin).
  [[nodiscard]] std::uint64_t place_after(std::uint64_t batches,
                                          std::uint64_t begin = 0) const noexcept;

 private:
  [[nodiscard]] std::uint64_t n_left(std::uint64_t begin) const noexcept;

  std::shared_ptr<const Order> order_;
  std::uint64_t batch_size_;
  std::uint64_t rank_;
  std::uint64_t world_size_;
  bool drop_last_;
  std::uint64_t n_places_ = 0;
  std::uint64_t step_ = 1;
};

}  // namespace e2eio
