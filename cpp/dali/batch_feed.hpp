// The batches of a pipeline, epoch after epoch, from any place on.
#pragma once

#include <chrono>
#include <cstdint>
#include <exception>
#include <memory>

#include "e2eio/pipeline/batch_pipeline.hpp"

namespace e2eio::dali_plugin {

// Before batch `batch` of an epoch; at its end if there is no such batch.
struct Place {
  std::uint64_t epoch = 0;
  std::uint64_t batch = 0;

  bool operator==(const Place&) const = default;
};

// Thread rule: one thread at a time calls next() and seek(). No thread runs before the first
// next(), none outlives the feed. Batches outlive it.
class BatchFeed {
 public:
  // `timeout`: of one batch; 0: none. Throws: Error(kInvalidArgument).
  BatchFeed(const std::shared_ptr<const ShardSet>& shards, const PipelineConfig& config,
            Place first, std::chrono::duration<double> timeout);

  // Per epoch.
  [[nodiscard]] std::uint64_t n_batches() const noexcept { return pipeline_.n_batches(); }
  // Of one rank.
  [[nodiscard]] std::uint64_t samples_per_epoch() const noexcept;
  // Samples in a batch of any epoch. Requires: batch < n_batches().
  [[nodiscard]] std::uint64_t samples_in(std::uint64_t batch) const noexcept;

  // Where next() goes on; after the last batch of an epoch: its end.
  [[nodiscard]] Place place() const noexcept { return place_; }
  void seek(Place place);

  // The next batch, that of the next epoch after the last one. Throws what a decoding thread threw
  // in that batch's place, then the same again until seek(): the threads have ended by then.
  // Throws: Error(kInvalidArgument) if epochs have no batches; Error(kIo) after the timeout.
  [[nodiscard]] std::unique_ptr<Batch> next();

 private:
  [[nodiscard]] std::unique_ptr<Batch> wait();

  BatchPipeline pipeline_;
  std::uint64_t batch_size_;
  std::uint64_t last_batch_size_ = 0;
  std::chrono::duration<double> timeout_;
  Place place_;
  EpochPlan plan_;
  bool started_ = false;  // the pipeline makes the batches from place_ on
  std::exception_ptr failure_;
};

// `place` with the end of an epoch as the begin of the next one.
[[nodiscard]] inline Place begin_after_end(Place place, std::uint64_t n_batches) noexcept {
  return place.batch < n_batches ? place : Place{place.epoch + 1, 0};
}

}  // namespace e2eio::dali_plugin
