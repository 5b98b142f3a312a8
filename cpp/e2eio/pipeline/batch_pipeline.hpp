// Decodes batches in threads, ahead of need, and delivers them in order.
//
//   plan -> jobs (at most `prefetch`) -> threads claim runs of samples -> ready -> next()
//                 |                                                          |
//             SlotRing  <----------------- release() ------------------------+
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "e2eio/pipeline/batch_store.hpp"
#include "e2eio/pipeline/read_ahead.hpp"
#include "e2eio/pipeline/shard_set.hpp"
#include "e2eio/plan/schedule.hpp"
#include "e2eio/transform/transform_program.hpp"

namespace e2eio {

struct PipelineConfig {
  PlanConfig plan;  // without an order, n_samples is taken from the shards
  bool fed =
      false;  // batches come by feed(), of at most plan.batch_size samples; else from the plan
  std::vector<std::uint32_t> channels;
  std::shared_ptr<const TransformProgram> transforms;  // null: none
  DType dtype = DType::kFloat32;
  bool channels_last = false;
  BatchForm form = BatchForm::kDense;
  bool writable = false;  // each delivered batch is cleared in full before its slot is used again
  bool verify = true;
  int threads = 1;
  int prefetch = 2;                      // batches being made or waiting, at most
  bool auto_threads = false;             // threads is the limit; as many work as are of use
  bool auto_prefetch = false;            // prefetch is the limit
  std::uint64_t memory_limit_bytes = 0;  // of all slots, lent ones too, and reads ahead; 0: none
  ReadAheadConfig read_ahead;
  PageLock page_lock;  // of the memory of dense and wire batches
};

struct PipelineStats {
  std::uint64_t batches = 0;
  std::uint64_t samples = 0;
  std::uint64_t record_bytes = 0;  // read
  double stall_s = 0;              // next() waited
  std::uint64_t slots = 0;
  std::uint64_t slots_lent = 0;
  std::uint64_t slots_made = 0;  // since the start: more than prefetch + 2 if batches were held
  std::uint64_t slot_bytes = 0;  // sparse forms: of the largest batch so far
  int threads = 0;  // working now, or waiting for work; the others of the limit are parked
  int prefetch = 0;
  int threads_limit = 0;
  int prefetch_limit = 0;
  std::uint64_t setting_changes = 0;  // by the autotuner, its trials included
  std::string kernels;
  ReadStats reads;
};

namespace detail {
struct PipelineState;
}

// A delivered batch: lends a slot until release() or the destructor. Outlives the pipeline.
// Thread rule: any thread; release() once.
class Batch {
 public:
  Batch(std::shared_ptr<detail::PipelineState> state, BatchMemory memory,
        std::vector<std::uint64_t> ids);
  Batch(Batch&&) = default;
  Batch& operator=(Batch&&) = delete;
  Batch(const Batch&) = delete;
  Batch& operator=(const Batch&) = delete;
  ~Batch();

  [[nodiscard]] const std::vector<std::uint64_t>& ids() const noexcept { return ids_; }
  // The dense batch; null for the other forms.
  [[nodiscard]] std::byte* data() const noexcept { return memory_.data(); }
  // A device can read the memory by itself.
  [[nodiscard]] bool page_locked() const noexcept { return memory_.page_locked(); }
  // The batch of the forms coo and wire; null for dense ones.
  [[nodiscard]] const SparseBatch* sparse() const noexcept { return memory_.sparse.get(); }
  [[nodiscard]] const BatchGeometry& geometry() const noexcept;

  // Gives the memory back. `dirty`: it was written into, and is to be cleared in full.
  void release(bool dirty) noexcept;

 private:
  std::shared_ptr<detail::PipelineState> state_;
  BatchMemory memory_;
  std::vector<std::uint64_t> ids_;
};

// Thread rule: any thread, but one at a time where the order of batches is to mean something; each
// batch is delivered once. close() ends the waiting of others in next(). No thread runs before
// start(). In a forked child everything but close(), which does nothing there, throws
// Error(kForked), and destroying it is safe.
class BatchPipeline {
 public:
  // Throws: Error(kInvalidArgument).
  BatchPipeline(std::shared_ptr<const ShardSet> shards, const PipelineConfig& config);
  BatchPipeline(const BatchPipeline&) = delete;
  BatchPipeline& operator=(const BatchPipeline&) = delete;
  ~BatchPipeline();

  [[nodiscard]] std::uint64_t n_batches() const noexcept;
  // Samples of the last batch of an epoch; 0 without batches. Requires: not config.fed.
  [[nodiscard]] std::uint64_t last_batch_size() const;
  [[nodiscard]] const BatchGeometry& geometry() const noexcept;

  // Drops what is in flight and goes on at place `begin` of `epoch`. Requires: not config.fed.
  void start(std::uint64_t epoch, std::uint64_t begin);

  // The same with batches that feed() adds, until end_feed(). Requires: config.fed.
  void start_fed(std::uint64_t epoch);
  // Throws: Error(kInvalidArgument) for no samples, too many, a sample that does not exist, or
  // if the feeding has not begun or is over.
  void feed(std::vector<std::uint64_t> ids);
  void end_feed();

  // The next batch; null if none is ready within the timeout, or the epoch is over (exhausted()).
  // Throws what a thread threw, in that batch's place.
  [[nodiscard]] std::unique_ptr<Batch> next(std::chrono::duration<double> timeout);

  [[nodiscard]] bool exhausted() const;

  // next() would return a batch, or throw, without waiting.
  [[nodiscard]] bool ready() const;

  [[nodiscard]] PipelineStats stats() const;

  // Stops and joins the threads; idempotent. Lent batches stay valid.
  void close();

 private:
  void check_owner() const;
  void launch();
  void stop_threads();
  void start_with(std::shared_ptr<const Schedule> schedule, std::shared_ptr<FedBatches> fed);

  std::shared_ptr<detail::PipelineState> state_;
  std::mutex control_;  // held by start() and close(); guards threads_
  std::vector<std::jthread> threads_;
};

}  // namespace e2eio
