// The batches of one run of a pipeline, by number: planned ahead, or fed as they become known.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <mutex>
#include <vector>

#include "e2eio/plan/epoch_plan.hpp"

namespace e2eio {

// Thread rule: any thread.
class Schedule {
 public:
  explicit Schedule(std::uint64_t epoch) : epoch_(epoch) {}
  Schedule(const Schedule&) = delete;
  Schedule& operator=(const Schedule&) = delete;
  virtual ~Schedule() = default;

  // Part of the key of random transforms.
  [[nodiscard]] std::uint64_t epoch() const noexcept { return epoch_; }

  // Batches of smaller numbers may be asked for. Never falls.
  [[nodiscard]] virtual std::uint64_t n_known() const noexcept = 0;

  // n_known() has its last value.
  [[nodiscard]] virtual bool complete() const noexcept = 0;

  // Sample ids of a batch, in order; none if it has been forgotten. Requires: number < n_known().
  [[nodiscard]] virtual std::vector<std::uint64_t> batch_ids(std::uint64_t number) const = 0;

  // Groups of batches that are best read together, one after the other from batch 0 on; 0: none.
  // Group g has the batches [group_begin(g), group_begin(g + 1)), all but the last one of them
  // full. Requires: batch < n_known(), group <= n_groups().
  [[nodiscard]] virtual std::uint64_t n_groups() const noexcept { return 0; }
  [[nodiscard]] virtual std::uint64_t group_of(std::uint64_t batch) const noexcept { return batch; }
  [[nodiscard]] virtual std::uint64_t group_begin(std::uint64_t group) const noexcept {
    return group;
  }

 private:
  const std::uint64_t epoch_;
};

// An epoch of a plan, from a place of its order on. Thread rule: immutable; any thread.
class PlannedEpoch final : public Schedule {
 public:
  // Throws: Error(kInvalidArgument) for a place behind the last one.
  PlannedEpoch(const EpochPlan& plan, std::uint64_t epoch, std::uint64_t begin);

  [[nodiscard]] std::uint64_t n_known() const noexcept override;
  [[nodiscard]] bool complete() const noexcept override { return true; }
  [[nodiscard]] std::vector<std::uint64_t> batch_ids(std::uint64_t number) const override;
  // The batches that begin in the same window of the order.
  [[nodiscard]] std::uint64_t n_groups() const noexcept override;
  [[nodiscard]] std::uint64_t group_of(std::uint64_t batch) const noexcept override;
  [[nodiscard]] std::uint64_t group_begin(std::uint64_t group) const noexcept override;

 private:
  const EpochPlan plan_;
  const std::uint64_t begin_;
  std::uint64_t first_window_ = 0;
};

// Batches that somebody else decides on, one after the other.
// Thread rule: any thread; feed(), end() and forget_below() by one thread at a time.
class FedBatches final : public Schedule {
 public:
  using Schedule::Schedule;

  // Requires: end() was not called.
  void feed(std::vector<std::uint64_t> ids);
  void end() noexcept { ended_ = true; }
  // Batches of smaller numbers are asked for no more.
  void forget_below(std::uint64_t number);

  [[nodiscard]] std::uint64_t n_known() const noexcept override { return n_fed_; }
  [[nodiscard]] bool complete() const noexcept override { return ended_; }
  [[nodiscard]] std::vector<std::uint64_t> batch_ids(std::uint64_t number) const override;

 private:
  std::atomic<std::uint64_t> n_fed_ = 0;
  std::atomic<bool> ended_ = false;
  mutable std::mutex mutex_;  // guards what follows
  std::deque<std::vector<std::uint64_t>> batches_;
  std::uint64_t n_forgotten_ = 0;
};

}  // namespace e2eio
