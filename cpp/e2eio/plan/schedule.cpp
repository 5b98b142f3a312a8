#include "e2eio/plan/schedule.hpp"

#include <algorithm>
#include <utility>

#include "e2eio/base/error.hpp"

namespace e2eio {

PlannedEpoch::PlannedEpoch(const EpochPlan& plan, std::uint64_t epoch, std::uint64_t begin)
    : Schedule(epoch), plan_(plan), begin_(begin) {
  if (begin > plan.n_places()) {
    throw Error(ErrorKind::kInvalidArgument,
                cat("place ", begin, " of an epoch of ", plan.n_places()));
  }
  first_window_ = begin < plan.n_places() ? plan.order().window_of(begin) : 0;
}

std::uint64_t PlannedEpoch::n_groups() const noexcept {
  return plan_.order().n_windows() - (plan_.order().n_windows() == 0 ? 0 : first_window_);
}

std::uint64_t PlannedEpoch::group_of(std::uint64_t batch) const noexcept {
  return plan_.order().window_of(begin_ + batch * plan_.step()) - first_window_;
}

std::uint64_t PlannedEpoch::group_begin(std::uint64_t group) const noexcept {
  const std::uint64_t place = plan_.order().begin_of(first_window_ + group);
  const std::uint64_t batch =
      place <= begin_ ? 0 : (place - begin_ + plan_.step() - 1) / plan_.step();
  return std::min(batch, n_known());
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
