#include "e2eio/pipeline/slot_ring.hpp"

#include <utility>

namespace e2eio {

SlotRing::SlotRing(const BatchGeometry& geometry, std::size_t samples_per_slot, std::size_t n_kept,
                   std::uint64_t memory_limit_bytes)
    : geometry_(geometry),
      samples_per_slot_(samples_per_slot),
      n_kept_(n_kept),
      memory_limit_bytes_(memory_limit_bytes),
      slot_bytes_(samples_per_slot * geometry.sample_bytes()) {}

bool SlotRing::exhausted() const noexcept {
  return free_.empty() && memory_limit_bytes_ > 0 &&
         (n_slots_ + 1) * slot_bytes_ > memory_limit_bytes_;
}

std::unique_ptr<Slot> SlotRing::acquire() {
  if (!free_.empty()) {
    std::unique_ptr<Slot> slot = std::move(free_.back());
    free_.pop_back();
    return slot;
  }
  if (exhausted()) {
    return nullptr;
  }
  auto slot = std::make_unique<Slot>(geometry_, samples_per_slot_);
  ++n_slots_;
  ++n_made_;
  return slot;
}

void SlotRing::give_back(std::unique_ptr<Slot> slot) {
  if (free_.size() >= n_kept_) {
    --n_slots_;
    return;
  }
  free_.push_back(std::move(slot));
}

}  // namespace e2eio
