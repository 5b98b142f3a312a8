#include "e2eio/plan/epoch_plan.hpp"

#include <algorithm>
#include <span>

#include "e2eio/base/error.hpp"

namespace e2eio {
namespace {

std::shared_ptr<const Order> order_of(const PlanConfig& config) {
  if (config.order != nullptr) {
    return config.order;
  }
  if (config.shuffle) {
    return std::make_shared<const ShuffledOrder>(config.n_samples, config.key);
  }
  return std::make_shared<const FileOrder>(config.n_samples);
}

}  // namespace

EpochPlan::EpochPlan(const PlanConfig& config)
    : order_(order_of(config)),
      batch_size_(config.batch_size),
      rank_(config.rank),
      world_size_(config.world_size),
      drop_last_(config.drop_last),
      n_places_(order_->n_places()) {
  if (batch_size_ == 0) {
    throw Error(ErrorKind::kInvalidArgument, "batch_size is 0, expected at least 1");
  }
  if (rank_ >= world_size_) {
    throw Error(ErrorKind::kInvalidArgument,
                cat("rank is ", rank_, ", expected less than world_size ", world_size_));
  }
  constexpr std::uint64_t kMostSamples = std::uint64_t{1} << 63U;
  if (batch_size_ > kMostSamples / world_size_) {
    throw Error(ErrorKind::kInvalidArgument,
                cat("batch_size ", batch_size_, " on ", world_size_,
                    " ranks is more than 2^63 samples in one step; lower it"));
  }
  step_ = batch_size_ * world_size_;
}

std::uint64_t EpochPlan::n_left(std::uint64_t begin) const noexcept {
  return n_places_ - std::min(begin, n_places_);
}

std::uint64_t EpochPlan::n_batches(std::uint64_t begin) const noexcept {
  const std::uint64_t left = n_left(begin);
  return left / step_ + (left % step_ != 0 && !drop_last_ ? 1 : 0);
}

std::uint64_t EpochPlan::place_after(std::uint64_t batches, std::uint64_t begin) const noexcept {
  const std::uint64_t full = n_left(begin) / step_;
  return batches > full ? n_places_ : begin + batches * step_;
}

std::vector<std::uint64_t> EpochPlan::batch_ids(std::uint64_t epoch, std::uint64_t batch,
                                                std::uint64_t begin) const {
  const std::uint64_t full = n_left(begin) / step_;
  const std::uint64_t rest = n_left(begin) % step_;
  const std::uint64_t size =
      batch < full ? batch_size_ : rest / world_size_ + (rest % world_size_ != 0 ? 1 : 0);
  std::vector<std::uint64_t> ids(size);
  std::uint64_t place = (begin + batch * step_ + rank_ * size) % n_places_;
  for (std::span<std::uint64_t> left(ids); !left.empty(); place = 0) {
    const std::uint64_t n = std::min<std::uint64_t>(left.size(), n_places_ - place);
    order_->fill(epoch, place, left.first(n));
    left = left.subspan(n);
  }
  return ids;
}

}  // namespace e2eio
