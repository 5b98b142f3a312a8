// Which sample stands at which place of an epoch.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "e2eio/plan/permutation.hpp"

namespace e2eio {

// The key of everything random in one epoch of an order.
[[nodiscard]] constexpr std::uint64_t epoch_key(std::uint64_t key, std::uint64_t epoch) noexcept {
  return mix64(key ^ mix64(epoch));
}

// A pure function of the epoch and the place; docs/plan.md defines each kind.
// Thread rule: immutable; any thread.
class Order {
 public:
  Order() = default;
  Order(const Order&) = delete;
  Order& operator=(const Order&) = delete;
  virtual ~Order() = default;

  // Places of an epoch, the same in every epoch.
  [[nodiscard]] virtual std::uint64_t n_places() const noexcept = 0;

  // Every sample is below it.
  [[nodiscard]] virtual std::uint64_t end_id() const noexcept = 0;

  // Stretches of places whose samples lie near each other in the dataset, one after the other from
  // place 0 on; 0: there are none. Requires: place < n_places(), window <= n_windows().
  [[nodiscard]] virtual std::uint64_t n_windows() const noexcept { return 0; }
  [[nodiscard]] virtual std::uint64_t window_of(std::uint64_t /*place*/) const noexcept {
    return 0;
  }
  [[nodiscard]] virtual std::uint64_t begin_of(std::uint64_t /*window*/) const noexcept {
    return 0;
  }

  // Puts the samples of places [first, first + ids.size()) into `ids`.
  // Requires: first + ids.size() <= n_places().
  virtual void fill(std::uint64_t epoch, std::uint64_t first,
                    std::span<std::uint64_t> ids) const = 0;
};

// Sample i at place i. Thread rule: immutable; any thread.
class FileOrder final : public Order {
 public:
  explicit FileOrder(std::uint64_t n) noexcept : n_(n) {}
  [[nodiscard]] std::uint64_t n_places() const noexcept override { return n_; }
  [[nodiscard]] std::uint64_t end_id() const noexcept override { return n_; }
  void fill(std::uint64_t epoch, std::uint64_t first, std::span<std::uint64_t> ids) const override;

 private:
  std::uint64_t n_;
};

// Another exact permutation of all samples in every epoch, in O(1) memory.
// Thread rule: immutable; any thread.
class ShuffledOrder final : public Order {
 public:
  ShuffledOrder(std::uint64_t n, std::uint64_t key) noexcept : n_(n), key_(key) {}
  [[nodiscard]] std::uint64_t n_places() const noexcept override { return n_; }
  [[nodiscard]] std::uint64_t end_id() const noexcept override { return n_; }
  void fill(std::uint64_t epoch, std::uint64_t first, std::span<std::uint64_t> ids) const override;

 private:
  std::uint64_t n_;
  std::uint64_t key_;
};

// Another order over some samples of a dataset only: what it calls sample i is selected[i].
// Thread rule: immutable; any thread.
class SelectedOrder final : public Order {
 public:
  using Ids = std::vector<std::uint64_t>;

  // `selected` is shared, not copied. Throws: Error(kInvalidArgument) if the order goes beyond it.
  SelectedOrder(std::shared_ptr<const Order> order, std::shared_ptr<const Ids> selected);
  [[nodiscard]] std::uint64_t n_places() const noexcept override { return order_->n_places(); }
  [[nodiscard]] std::uint64_t end_id() const noexcept override { return end_id_; }
  [[nodiscard]] std::uint64_t n_windows() const noexcept override { return order_->n_windows(); }
  [[nodiscard]] std::uint64_t window_of(std::uint64_t place) const noexcept override {
    return order_->window_of(place);
  }
  [[nodiscard]] std::uint64_t begin_of(std::uint64_t window) const noexcept override {
    return order_->begin_of(window);
  }
  void fill(std::uint64_t epoch, std::uint64_t first, std::span<std::uint64_t> ids) const override;

 private:
  std::shared_ptr<const Order> order_;
  std::shared_ptr<const Ids> selected_;
  std::uint64_t end_id_ = 0;
};

}  // namespace e2eio
