// Several orders in fixed proportions.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "e2eio/plan/order.hpp"

namespace e2eio {

// Every block of sum(shares) places has shares[i] samples of part i, spread evenly over it:
//
//   shares 3 1 1      0 1 0 2 0 | 0 1 0 2 0 | 0 1 ...
//
// A part goes through its order once, then through the order's next epoch, and so on, across the
// ends of this order's epochs: no sample comes again before its part is used up.
// Thread rule: immutable; any thread.
class MixedOrder final : public Order {
 public:
  using Parts = std::vector<std::shared_ptr<const Order>>;

  static constexpr std::uint64_t kMostBlock = 65536;

  // Throws: Error(kInvalidArgument) for no parts, an empty part, a share of 0, another number of
  // shares than of parts, or a block of more than kMostBlock places.
  MixedOrder(Parts parts, const std::vector<std::uint64_t>& shares, std::uint64_t n_places);

  [[nodiscard]] std::uint64_t n_places() const noexcept override { return n_places_; }
  [[nodiscard]] std::uint64_t end_id() const noexcept override { return end_id_; }
  void fill(std::uint64_t epoch, std::uint64_t first, std::span<std::uint64_t> ids) const override;

 private:
  struct Step {
    std::uint32_t part = 0;
    std::uint32_t n_before = 0;  // of this part, in the block
  };
  struct Part {
    std::shared_ptr<const Order> order;
    std::uint64_t share = 0;
    std::uint64_t per_epoch = 0;
  };
  std::vector<Part> parts_;
  std::vector<Step> block_;
  std::uint64_t n_places_;
  std::uint64_t end_id_ = 0;
};

}  // namespace e2eio
