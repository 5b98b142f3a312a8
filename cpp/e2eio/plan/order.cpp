#include "e2eio/plan/order.hpp"

#include <algorithm>
#include <numeric>
#include <utility>

#include "e2eio/base/error.hpp"

namespace e2eio {

void FileOrder::fill(std::uint64_t /*epoch*/, std::uint64_t first,
                     std::span<std::uint64_t> ids) const {
  std::iota(ids.begin(), ids.end(), first);
}

void ShuffledOrder::fill(std::uint64_t epoch, std::uint64_t first,
                         std::span<std::uint64_t> ids) const {
  const Permutation order(n_, epoch_key(key_, epoch));
  for (std::uint64_t& id : ids) {
    id = order(first++);
  }
}

SelectedOrder::SelectedOrder(std::shared_ptr<const Order> order,
                             std::shared_ptr<const Ids> selected)
    : order_(std::move(order)), selected_(std::move(selected)) {
  if (order_->end_id() > selected_->size()) {
    throw Error(ErrorKind::kInvalidArgument, cat("an order of ", order_->end_id(), " samples, ",
                                                 selected_->size(), " selected"));
  }
  for (const std::uint64_t id : *selected_) {
    end_id_ = std::max(end_id_, std::max(id, id + 1));  // the largest number has no next one
  }
}

void SelectedOrder::fill(std::uint64_t epoch, std::uint64_t first,
                         std::span<std::uint64_t> ids) const {
  order_->fill(epoch, first, ids);
  for (std::uint64_t& id : ids) {
    id = (*selected_)[id];
  }
}

}  // namespace e2eio
