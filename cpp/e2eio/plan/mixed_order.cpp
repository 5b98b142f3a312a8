#include "e2eio/plan/mixed_order.hpp"

#include <algorithm>
#include <utility>

#include "e2eio/base/error.hpp"

namespace e2eio {
namespace {

void check(const MixedOrder::Parts& parts, const std::vector<std::uint64_t>& shares) {
  if (parts.empty() || parts.size() != shares.size()) {
    throw Error(ErrorKind::kInvalidArgument,
                cat(shares.size(), " shares of ", parts.size(), " parts, expected one of each"));
  }
  std::uint64_t n_block = 0;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (parts[i] == nullptr || parts[i]->n_places() == 0 || shares[i] == 0) {
      throw Error(ErrorKind::kInvalidArgument,
                  cat("part ", i, " is empty, or its share is 0; leave it out"));
    }
    n_block += std::min(shares[i], MixedOrder::kMostBlock + 1);
    if (n_block > MixedOrder::kMostBlock) {
      throw Error(ErrorKind::kInvalidArgument,
                  cat("shares add up to more than ", MixedOrder::kMostBlock));
    }
  }
}

}  // namespace

MixedOrder::MixedOrder(Parts parts, const std::vector<std::uint64_t>& shares,
                       std::uint64_t n_places)
    : n_places_(n_places) {
  check(parts, shares);
  std::uint64_t n_block = 0;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    end_id_ = std::max(end_id_, parts[i]->end_id());
    parts_.push_back({std::move(parts[i]), shares[i], 0});
    n_block += shares[i];
  }
  // The part that is furthest behind its share comes next; of several, the first one.
  std::vector<std::uint32_t> n_taken(parts_.size());
  for (std::uint64_t place = 1; place <= n_block; ++place) {
    std::uint32_t next = 0;
    std::int64_t most_behind = 0;
    for (std::uint32_t i = 0; i < parts_.size(); ++i) {
      const auto behind = static_cast<std::int64_t>(shares[i] * place) -
                          static_cast<std::int64_t>(n_block * n_taken[i]);
      if (behind > most_behind) {
        most_behind = behind;
        next = i;
      }
    }
    block_.push_back({next, n_taken[next]++});
  }
  for (Part& part : parts_) {
    part.per_epoch = n_places / n_block * part.share;
  }
  for (std::uint64_t i = 0; i < n_places % n_block; ++i) {
    ++parts_[block_[i].part].per_epoch;
  }
}

void MixedOrder::fill(std::uint64_t epoch, std::uint64_t first,
                      std::span<std::uint64_t> ids) const {
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const std::uint64_t place = first + i;
    const Step& step = block_[place % block_.size()];
    const Part& part = parts_[step.part];
    const std::uint64_t turn =
        epoch * part.per_epoch + place / block_.size() * part.share + step.n_before;
    const std::uint64_t n = part.order->n_places();
    part.order->fill(turn / n, turn % n, ids.subspan(i, 1));
  }
}

}  // namespace e2eio
