// Sampling with replacement, each sample as often as its weight says.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "e2eio/plan/order.hpp"

namespace e2eio {

// Draws from a fixed distribution in O(1), by an alias table (Walker, ACM Trans. Math. Softw. 3
// (1977) 253; built as in Vose, IEEE Trans. Softw. Eng. 17 (1991) 972). Weights and table are
// integers: nothing is rounded, and every platform draws the same.
// Thread rule: immutable; any thread.
class AliasTable {
 public:
  // Throws: Error(kInvalidArgument) for no weights, 2^31 or more of them, one above 2^32, or
  // nothing but zeros.
  explicit AliasTable(std::span<const std::uint64_t> weights);

  [[nodiscard]] std::uint64_t size() const noexcept { return columns_.size(); }

  // The element for two random words. An element of weight 0 never comes.
  [[nodiscard]] std::uint64_t draw(std::uint64_t column_word,
                                   std::uint64_t level_word) const noexcept;

 private:
  struct Column {
    std::uint64_t level = 0;  // below it the column's own element, above it the alias
    std::uint32_t alias = 0;
  };
  std::uint64_t height_ = 0;  // of every column: the sum of the weights
  std::vector<Column> columns_;
};

// Place p of an epoch is a draw of its own, from words 2 p and 2 p + 1 of the epoch's key.
// Thread rule: immutable; any thread.
class WeightedOrder final : public Order {
 public:
  // Throws: as AliasTable.
  WeightedOrder(std::span<const std::uint64_t> weights, std::uint64_t key, std::uint64_t n_places)
      : table_(weights), key_(key), n_places_(n_places) {}

  [[nodiscard]] std::uint64_t n_places() const noexcept override { return n_places_; }
  [[nodiscard]] std::uint64_t end_id() const noexcept override { return table_.size(); }
  void fill(std::uint64_t epoch, std::uint64_t first, std::span<std::uint64_t> ids) const override;

 private:
  AliasTable table_;
  std::uint64_t key_;
  std::uint64_t n_places_;
};

}  // namespace e2eio
