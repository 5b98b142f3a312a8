// The sparse batches that exist: free ones wait here, lent ones come back. What SlotRing is for
// dense batches, but their sizes vary: how large the next one will be is learnt from those before.
#pragma once

#include <memory>
#include <vector>

#include "e2eio/pipeline/sparse_batch.hpp"

namespace e2eio {

// Thread rule: none of its own; the pipeline calls it under its lock.
class SparsePool {
 public:
  // `wire_bytes`: a guess at a batch's wire form, before one has been seen.
  SparsePool(const BatchGeometry& geometry, bool with_coordinates, std::size_t n_kept,
             std::uint64_t wire_bytes, std::uint64_t memory_limit_bytes,
             const PageLock& page_lock = {});

  // A free batch, or a fresh one; null if that would pass the memory limit. The first is always
  // given: until it is complete nobody knows what batches take.
  [[nodiscard]] std::unique_ptr<SparseBatch> acquire();

  // Learns from a batch that is complete.
  void learn(SparseBatch& batch) noexcept;

  // Keeps the batch for the next acquire(), or returns it if enough of them wait already, or if it
  // grew past the memory limit: freeing its memory is best done without the lock.
  [[nodiscard]] std::unique_ptr<SparseBatch> give_back(std::unique_ptr<SparseBatch> batch);

  void limit_memory(std::uint64_t n_bytes) noexcept { memory_limit_bytes_ = n_bytes; }

  // How many batches may wait.
  void need(std::size_t n_batches) noexcept { n_kept_ = n_batches; }

  // True if acquire() would return null.
  [[nodiscard]] bool exhausted() const noexcept;

  // Expected memory of one batch.
  [[nodiscard]] std::uint64_t batch_bytes() const noexcept { return batch_bytes_; }
  [[nodiscard]] std::uint64_t held_bytes() const noexcept { return held_bytes_; }
  [[nodiscard]] std::size_t n_batches() const noexcept { return n_batches_; }
  [[nodiscard]] std::uint64_t n_made() const noexcept { return n_made_; }

 private:
  void count(SparseBatch& batch, std::uint64_t n_bytes) noexcept;

  BatchGeometry geometry_;
  bool with_coordinates_;
  std::size_t n_kept_;
  PageLock page_lock_;
  std::uint64_t wire_bytes_;
  std::uint64_t batch_bytes_;
  bool has_learnt_ = false;
  std::uint64_t memory_limit_bytes_;
  std::uint64_t held_bytes_ = 0;
  std::size_t n_batches_ = 0;
  std::uint64_t n_made_ = 0;
  std::vector<std::unique_ptr<SparseBatch>> free_;
};

}  // namespace e2eio
