#include "e2eio/plan/weighted_order.hpp"

#include <algorithm>

#include "e2eio/base/error.hpp"

namespace e2eio {
namespace {

constexpr std::uint64_t kMostElements = std::uint64_t{1} << 31U;
constexpr std::uint64_t kMostWeight = std::uint64_t{1} << 32U;

// floor(word * n / 2^64): word as a fraction of 1, scaled to [0, n).
constexpr std::uint64_t scaled(std::uint64_t word, std::uint64_t n) noexcept {
  constexpr std::uint64_t kLow = 0xFFFFFFFFU;
  const std::uint64_t low = (word & kLow) * (n & kLow);
  const std::uint64_t middle = (word >> 32U) * (n & kLow) + (low >> 32U);
  const std::uint64_t other = (word & kLow) * (n >> 32U) + (middle & kLow);
  return (word >> 32U) * (n >> 32U) + (middle >> 32U) + (other >> 32U);
}

}  // namespace

AliasTable::AliasTable(std::span<const std::uint64_t> weights) {
  const std::uint64_t n = weights.size();
  if (n == 0 || n >= kMostElements) {
    throw Error(ErrorKind::kInvalidArgument, cat(n, " weights, expected 1 to 2^31 - 1"));
  }
  for (const std::uint64_t weight : weights) {
    if (weight > kMostWeight) {
      throw Error(ErrorKind::kInvalidArgument, cat("weight ", weight, " is above 2^32"));
    }
    height_ += weight;
  }
  if (height_ == 0) {
    throw Error(ErrorKind::kInvalidArgument, "all weights are 0, expected one above it");
  }
  // n columns of the same height hold n times every weight; what is missing in a low column is cut
  // off a high one.
  columns_.resize(n);
  std::vector<std::uint32_t> low;
  std::vector<std::uint32_t> high;
  for (std::uint32_t i = 0; i < n; ++i) {
    columns_[i] = {weights[i] * n, i};
    (columns_[i].level < height_ ? low : high).push_back(i);
  }
  while (!low.empty()) {
    const std::uint32_t to = low.back();
    low.pop_back();
    const std::uint32_t from = high.back();  // exists: the mean level is the height
    columns_[to].alias = from;
    columns_[from].level -= height_ - columns_[to].level;
    if (columns_[from].level < height_) {
      high.pop_back();
      low.push_back(from);
    }
  }
}

std::uint64_t AliasTable::draw(std::uint64_t column_word, std::uint64_t level_word) const noexcept {
  const std::uint64_t i = scaled(column_word, columns_.size());
  return scaled(level_word, height_) < columns_[i].level ? i : columns_[i].alias;
}

void WeightedOrder::fill(std::uint64_t epoch, std::uint64_t first,
                         std::span<std::uint64_t> ids) const {
  const std::uint64_t key = epoch_key(key_, epoch);
  for (std::uint64_t& id : ids) {
    id = table_.draw(mix64(key ^ mix64(2 * first)), mix64(key ^ mix64(2 * first + 1)));
    ++first;
  }
}

}  // namespace e2eio
