#include "e2eio/pipeline/sparse_pool.hpp"

#include <algorithm>
#include <utility>

namespace e2eio {
namespace {

// A guess: jets have some two pixels of 20 bytes for each stored one of 4 to 8.
constexpr std::uint64_t kCooShare = 8;

}  // namespace

SparsePool::SparsePool(const BatchGeometry& geometry, bool with_coordinates, std::size_t n_kept,
                       std::uint64_t wire_bytes, std::uint64_t memory_limit_bytes,
                       const PageLock& page_lock)
    : geometry_(geometry),
      with_coordinates_(with_coordinates),
      n_kept_(n_kept),
      page_lock_(page_lock),
      wire_bytes_(wire_bytes),
      batch_bytes_(with_coordinates ? kCooShare * wire_bytes : wire_bytes),
      memory_limit_bytes_(memory_limit_bytes) {}

bool SparsePool::exhausted() const noexcept {
  const bool may_be_first = n_batches_ == 0 && !has_learnt_;
  return free_.empty() && memory_limit_bytes_ > 0 && !may_be_first &&
         held_bytes_ + batch_bytes_ > memory_limit_bytes_;
}

void SparsePool::count(SparseBatch& batch, std::uint64_t n_bytes) noexcept {
  held_bytes_ += n_bytes;
  held_bytes_ -= batch.counted_bytes();
  batch.set_counted_bytes(n_bytes);
}

std::unique_ptr<SparseBatch> SparsePool::acquire() {
  if (!free_.empty()) {
    std::unique_ptr<SparseBatch> batch = std::move(free_.back());
    free_.pop_back();
    return batch;
  }
  if (exhausted()) {
    return nullptr;
  }
  auto batch = std::make_unique<SparseBatch>(geometry_, with_coordinates_, wire_bytes_, page_lock_);
  count(*batch, std::max(batch->n_bytes(), batch_bytes_));
  ++n_batches_;
  ++n_made_;
  return batch;
}

void SparsePool::learn(SparseBatch& batch) noexcept {
  count(batch, batch.n_bytes());
  batch_bytes_ = has_learnt_ ? std::max(batch_bytes_, batch.n_bytes()) : batch.n_bytes();
  wire_bytes_ = std::max<std::uint64_t>(wire_bytes_, batch.wire().size());
  has_learnt_ = true;
}

std::unique_ptr<SparseBatch> SparsePool::give_back(std::unique_ptr<SparseBatch> batch) {
  count(*batch, batch->n_bytes());
  const bool over = memory_limit_bytes_ > 0 && held_bytes_ > memory_limit_bytes_;
  if (free_.size() >= n_kept_ || over) {
    count(*batch, 0);
    --n_batches_;
    return batch;
  }
  free_.push_back(std::move(batch));
  return nullptr;
}

}  // namespace e2eio
