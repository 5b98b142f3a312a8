// The slots that exist: free ones wait here, lent ones come back.
#pragma once

#include <memory>
#include <vector>

#include "e2eio/pipeline/slot.hpp"

namespace e2eio {

// Slots of batches that were held stay for the next that are: as many exist as were in use at once
// of late, which is at least what the pipeline needs itself. Thread rule: none of its own; the
// pipeline calls it under its lock.
class SlotRing {
 public:
  SlotRing(const BatchGeometry& geometry, std::size_t samples_per_slot, std::size_t n_needed,
           std::uint64_t memory_limit_bytes, const PageLock& page_lock = {});

  // A free slot, or a fresh one; null if that would pass the memory limit.
  [[nodiscard]] std::unique_ptr<Slot> acquire();

  // Keeps the slot for the next acquire(). Returns it if there are more than were needed of late;
  // freeing its memory takes long, and is best done without the lock.
  [[nodiscard]] std::unique_ptr<Slot> give_back(std::unique_ptr<Slot> slot);

  // How many slots are kept at least.
  void need(std::size_t n_slots) noexcept { n_needed_ = n_slots; }

  // True if acquire() would return null.
  [[nodiscard]] bool exhausted() const noexcept;

  void limit_memory(std::uint64_t n_bytes) noexcept { memory_limit_bytes_ = n_bytes; }

  [[nodiscard]] std::uint64_t slot_bytes() const noexcept { return slot_bytes_; }
  [[nodiscard]] std::size_t n_slots() const noexcept { return n_slots_; }
  [[nodiscard]] std::size_t n_free() const noexcept { return free_.size(); }
  [[nodiscard]] std::uint64_t n_made() const noexcept { return n_made_; }
  [[nodiscard]] std::uint64_t memory_limit_bytes() const noexcept { return memory_limit_bytes_; }

 private:
  BatchGeometry geometry_;
  std::size_t samples_per_slot_;
  std::size_t n_needed_;
  PageLock page_lock_;
  std::uint64_t memory_limit_bytes_;
  std::uint64_t slot_bytes_;
  std::size_t n_slots_ = 0;
  std::uint64_t n_made_ = 0;
  std::uint64_t n_acquired_ = 0;
  std::size_t peak_ = 0;         // in use at once, in this period
  std::size_t peak_before_ = 0;  // in the one before
  std::vector<std::unique_ptr<Slot>> free_;
};

}  // namespace e2eio
