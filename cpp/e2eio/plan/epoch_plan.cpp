#include "e2eio/plan/epoch_plan.hpp"

#include "e2eio/base/error.hpp"
#include "e2eio/plan/permutation.hpp"

namespace e2eio {

EpochPlan::EpochPlan(const PlanConfig& config) : config_(config) {
  if (config.batch_size == 0) {
    throw Error(ErrorKind::kInvalidArgument, "batch_size is 0, expected at least 1");
  }
  if (config.rank >= config.world_size) {
    throw Error(
        ErrorKind::kInvalidArgument,
        cat("rank is ", config.rank, ", expected less than world_size ", config.world_size));
  }
  const std::uint64_t step = config.batch_size * config.world_size;
  full_steps_ = config.n_samples / step;
  const bool has_rest = config.n_samples % step != 0 && !config.drop_last;
  n_batches_ = full_steps_ + (has_rest ? 1 : 0);
}

std::vector<std::uint64_t> EpochPlan::batch_ids(std::uint64_t epoch, std::uint64_t batch) const {
  const std::uint64_t step = config_.batch_size * config_.world_size;
  std::uint64_t size = config_.batch_size;
  if (batch >= full_steps_) {
    const std::uint64_t rest = config_.n_samples - full_steps_ * step;
    size = (rest + config_.world_size - 1) / config_.world_size;
  }
  const std::uint64_t first = batch * step + config_.rank * size;
  const Permutation order(config_.n_samples, mix64(config_.key ^ mix64(epoch)));
  std::vector<std::uint64_t> ids(size);
  for (std::uint64_t i = 0; i < size; ++i) {
    const std::uint64_t place = (first + i) % config_.n_samples;
    ids[i] = config_.shuffle ? order(place) : place;
  }
  return ids;
}

}  // namespace e2eio
