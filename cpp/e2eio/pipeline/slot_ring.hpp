// The slots that exist: free ones wait here, lent ones come back.
#pragma once

#include <memory>
#include <vector>

#include "e2eio/pipeline/slot.hpp"

namespace e2eio {

// Thread rule: none of its own; the pipeline calls it under its lock.
class SlotRing {
 public:
  SlotRing(const BatchGeometry& geometry, std::size_t samples_per_slot, std::size_t n_kept,
           std::uint64_t memory_limit_bytes);

  // A free slot, or a fresh one; null if that would pass the memory limit.
  [[nodiscard]] std::unique_ptr<Slot> acquire();

  // Keeps the slot for the next acquire(), or frees its memory if more than n_kept wait already.
  void give_back(std::unique_ptr<Slot> slot);

  // True if acquire() would return null.
  [[nodiscard]] bool exhausted() const noexcept;

  [[nodiscard]] std::uint64_t slot_bytes() const noexcept { return slot_bytes_; }
  [[nodiscard]] std::size_t n_slots() const noexcept { return n_slots_; }
  [[nodiscard]] std::size_t n_free() const noexcept { return free_.size(); }
  [[nodiscard]] std::uint64_t n_made() const noexcept { return n_made_; }
  [[nodiscard]] std::uint64_t memory_limit_bytes() const noexcept { return memory_limit_bytes_; }

 private:
  BatchGeometry geometry_;
  std::size_t samples_per_slot_;
  std::size_t n_kept_;
  std::uint64_t memory_limit_bytes_;
  std::uint64_t slot_bytes_;
  std::size_t n_slots_ = 0;
  std::uint64_t n_made_ = 0;
  std::vector<std::unique_ptr<Slot>> free_;
};

}  // namespace e2eio
