#include "e2eio/plan/schedule.hpp"

#include <utility>

#include "e2eio/base/error.hpp"

namespace e2eio {

PlannedEpoch::PlannedEpoch(const EpochPlan& plan, std::uint64_t epoch, std::uint64_t begin)
    : Schedule(epoch), plan_(plan), begin_(begin) {
  if (begin > plan.n_places()) {
    throw Error(ErrorKind::kInvalidArgument,
                cat("place ", begin, " of an epoch of ", plan.n_places()));
  }
}

std::uint64_t PlannedEpoch::n_known() const noexcept { return plan_.n_batches(begin_); }

std::vector<std::uint64_t> PlannedEpoch::batch_ids(std::uint64_t number) const {
  return plan_.batch_ids(epoch(), number, begin_);
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
