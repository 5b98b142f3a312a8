#include "e2eio/pipeline/slot_ring.hpp"

#include <algorithm>
#include <utility>

namespace e2eio {
namespace {

// What "of late" means: this many batches, and as many before.
constexpr std::uint64_t kPeriod = 256;

}  // namespace

SlotRing::SlotRing(const BatchGeometry& geometry, std::size_t samples_per_slot,
                   std::size_t n_needed, std::uint64_t memory_limit_bytes,
                   const PageLock& page_lock)
    : geometry_(geometry),
      samples_per_slot_(samples_per_slot),
      n_needed_(n_needed),
      page_lock_(page_lock),
      memory_limit_bytes_(memory_limit_bytes),
      slot_bytes_(samples_per_slot * geometry.sample_bytes()) {}

bool SlotRing::exhausted() const noexcept {
  return free_.empty() && memory_limit_bytes_ > 0 &&
         (n_slots_ + 1) * slot_bytes_ > memory_limit_bytes_;
}

std::unique_ptr<Slot> SlotRing::acquire() {
  std::unique_ptr<Slot> slot;
  if (!free_.empty()) {
    slot = std::move(free_.back());
    free_.pop_back();
  } else if (!exhausted()) {
    slot = std::make_unique<Slot>(geometry_, samples_per_slot_, page_lock_);
    ++n_slots_;
    ++n_made_;
  } else {
    return nullptr;
  }
  if (n_acquired_++ % kPeriod == 0) {
    peak_before_ = std::exchange(peak_, 0);
  }
  peak_ = std::max(peak_, n_slots_ - free_.size());
  return slot;
}

std::unique_ptr<Slot> SlotRing::give_back(std::unique_ptr<Slot> slot) {
  if (n_slots_ > std::max({n_needed_, peak_, peak_before_})) {
    --n_slots_;
    return slot;
  }
  free_.push_back(std::move(slot));
  return nullptr;
}

}  // namespace e2eio
