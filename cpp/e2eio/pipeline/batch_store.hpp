// The memory of batches of either kind: dense ones in slots of the ring, sparse ones from the pool.
#pragma once

#include <memory>
#include <utility>

#include "e2eio/pipeline/slot_ring.hpp"
#include "e2eio/pipeline/sparse_pool.hpp"

namespace e2eio {

enum class BatchForm : std::uint8_t {
  kDense,  // a Slot
  kCoo,    // a SparseBatch with coordinates
  kWire,   // a SparseBatch without
};

// One of the two, or none. Thread rule: as a unique_ptr.
struct BatchMemory {
  std::unique_ptr<Slot> slot = {};
  std::unique_ptr<SparseBatch> sparse = {};

  [[nodiscard]] bool empty() const noexcept { return slot == nullptr && sparse == nullptr; }
  [[nodiscard]] std::byte* data() const noexcept {
    return slot != nullptr ? slot->data() : nullptr;
  }
  [[nodiscard]] bool page_locked() const noexcept {
    return slot != nullptr ? slot->page_locked() : sparse != nullptr && sparse->page_locked();
  }
  // The holder may have written anywhere. A sparse batch is written from end to end anyway.
  void distrust() const noexcept {
    if (slot != nullptr) {
      slot->distrust();
    }
  }
  // For forked children, in which nothing can be given back.
  void leak() noexcept {
    [[maybe_unused]] Slot* const leaked_slot = slot.release();
    [[maybe_unused]] SparseBatch* const leaked_batch = sparse.release();
  }
};

// Thread rule: none of its own; the pipeline calls it under its lock.
class BatchStore {
 public:
  // `expected_bytes`: a guess at the wire form of a batch.
  BatchStore(BatchForm form, const BatchGeometry& geometry, std::size_t samples_per_batch,
             std::uint64_t expected_bytes, std::uint64_t memory_limit_bytes,
             const PageLock& page_lock)
      : dense_(form == BatchForm::kDense),
        ring_(geometry, samples_per_batch, 0, memory_limit_bytes, page_lock),
        pool_(geometry, form == BatchForm::kCoo, 0, expected_bytes, memory_limit_bytes, page_lock) {
  }

  // How many batches are kept at least.
  void need(std::size_t n_batches) noexcept {
    ring_.need(n_batches);
    pool_.need(n_batches);
  }

  void limit_memory(std::uint64_t n_bytes) noexcept {
    ring_.limit_memory(n_bytes);
    pool_.limit_memory(n_bytes);
  }

  // Free memory, or fresh; empty if that would pass the memory limit.
  [[nodiscard]] BatchMemory acquire() {
    BatchMemory memory;
    if (dense_) {
      memory.slot = ring_.acquire();
    } else {
      memory.sparse = pool_.acquire();
    }
    return memory;
  }
  // Keeps the memory for the next acquire(), or returns it to be freed without the lock.
  [[nodiscard]] BatchMemory give_back(BatchMemory memory) {
    BatchMemory surplus;
    if (memory.slot != nullptr) {
      surplus.slot = ring_.give_back(std::move(memory.slot));
    } else if (memory.sparse != nullptr) {
      surplus.sparse = pool_.give_back(std::move(memory.sparse));
    }
    return surplus;
  }
  void learn(SparseBatch& batch) noexcept { pool_.learn(batch); }

  // True if acquire() would return nothing.
  [[nodiscard]] bool exhausted() const noexcept {
    return dense_ ? ring_.exhausted() : pool_.exhausted();
  }
  [[nodiscard]] std::uint64_t batch_bytes() const noexcept {
    return dense_ ? ring_.slot_bytes() : pool_.batch_bytes();
  }
  [[nodiscard]] std::size_t n_batches() const noexcept {
    return dense_ ? ring_.n_slots() : pool_.n_batches();
  }
  [[nodiscard]] std::uint64_t n_made() const noexcept {
    return dense_ ? ring_.n_made() : pool_.n_made();
  }

 private:
  bool dense_;
  SlotRing ring_;
  SparsePool pool_;
};

}  // namespace e2eio
