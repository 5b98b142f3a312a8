// Which samples a rank sees in which batch of which epoch.
#pragma once

#include <cstdint>
#include <vector>

namespace e2eio {

struct PlanConfig {
  std::uint64_t n_samples = 0;
  std::uint64_t batch_size = 1;  // per rank
  std::uint64_t rank = 0;
  std::uint64_t world_size = 1;
  bool shuffle = false;
  bool drop_last = false;
  std::uint64_t key = 0;  // from the dataset's digest and the seed
};

// A pure function of its configuration and the epoch. In global step t all ranks together take the
// next world_size * batch_size places of the epoch's order, rank r the r-th run of batch_size of
// them:
//
//   n = 10, world_size = 2, batch_size = 2      step 0     step 1     step 2 (last)
//   rank 0                                      0 1        4 5        8
//   rank 1                                      2 3        6 7        9
//
// Without drop_last the last step splits the m places left into runs of ceil(m / world_size); what
// is missing for the last ranks is taken from the start of the order again, so every rank has the
// same number of batches, of the same sizes. With drop_last that step does not take place. Thread
// rule: immutable; any thread.
class EpochPlan {
 public:
  // Throws: Error(kInvalidArgument) for batch_size 0, world_size 0, rank >= world_size.
  explicit EpochPlan(const PlanConfig& config);

  [[nodiscard]] std::uint64_t n_batches() const noexcept { return n_batches_; }

  // Sample ids of a batch of this rank, in order. Requires: batch < n_batches().
  [[nodiscard]] std::vector<std::uint64_t> batch_ids(std::uint64_t epoch,
                                                     std::uint64_t batch) const;

 private:
  PlanConfig config_;
  std::uint64_t full_steps_ = 0;
  std::uint64_t n_batches_ = 0;
};

}  // namespace e2eio
