#include "e2eio/plan/schedule.hpp"

#include <algorithm>
#include <utility>

namespace e2eio {

PlannedEpoch::PlannedEpoch(const EpochPlan& plan, std::uint64_t epoch, std::uint64_t first_batch)
    : Schedule(epoch), plan_(plan), first_batch_(std::min(first_batch, plan.n_batches())) {}

std::uint64_t PlannedEpoch::n_known() const noexcept { return plan_.n_batches() - first_batch_; }

std::vector<std::uint64_t> PlannedEpoch::batch_ids(std::uint64_t number) const {
  return plan_.batch_ids(epoch(), first_batch_ + number);
}

void FedBatches::feed(std::vector<std::uint64_t> ids) {
  const std::lock_guard lock(mutex_);
  batches_.push_back(std::move(ids));
  ++n_fed_;
}

void FedBatches::forget_below(std::uint64_t number) {
  const std::lock_guard lock(mutex_);
  for (; n_forgotten_ < number && !batches_.empty(); ++n_forgotten_) {
    batches_.pop_front();
  }
}

std::vector<std::uint64_t> FedBatches::batch_ids(std::uint64_t number) const {
  const std::lock_guard lock(mutex_);
  if (number < n_forgotten_ || number - n_forgotten_ >= batches_.size()) {
    return {};
  }
  return batches_[static_cast<std::size_t>(number - n_forgotten_)];
}

}  // namespace e2eio
