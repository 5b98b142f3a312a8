// What a pipeline, its threads and its lent batches share; the threads' side of it.
#pragma once

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "e2eio/pipeline/autotuner.hpp"
#include "e2eio/pipeline/batch_pipeline.hpp"
#include "e2eio/pipeline/batch_store.hpp"
#include "e2eio/pipeline/read_ahead.hpp"
#include "e2eio/pipeline/sample_decoder.hpp"

namespace e2eio::detail {

// A batch in the making. Threads claim runs of samples without a lock: once to decode them and, if
// coordinates are made of them, once more. `error` and `done` are guarded by PipelineState::mutex.
struct Job {
  Job(std::uint64_t batch, std::vector<std::uint64_t> sample_ids, BatchMemory into,
      std::size_t run_length, std::uint64_t key, std::uint64_t of_epoch)
      : number(batch),
        n_samples(sample_ids.size()),
        run(run_length),
        canary_key(key),
        epoch(of_epoch),
        ids(std::move(sample_ids)),
        memory(std::move(into)) {}

  const std::uint64_t number;  // of the batch
  const std::size_t n_samples;
  const std::size_t run;
  const std::uint64_t canary_key;
  const std::uint64_t epoch;
  // Handed over when the batch is delivered: only for whoever has claimed a run, or holds the lock.
  std::vector<std::uint64_t> ids;
  BatchMemory memory;
  std::atomic<std::size_t> n_claimed{0};
  std::atomic<std::size_t> n_filled{0};
  std::atomic<bool> expanding{false};  // the second time; set before n_claimed begins anew
  std::exception_ptr error;
  bool done = false;

  [[nodiscard]] bool open() const noexcept {
    return n_claimed.load(std::memory_order_relaxed) < n_samples;
  }
};

// What a thread has of its own. Thread rule: one thread.
struct Worker {
  SampleDecoder decoder;
  RecordTap tap;
};

// Shared by the pipeline, its threads and the lent batches, whichever lives longest.
// Thread rule: everything below `mutex` is guarded by it.
struct PipelineState {
  PipelineState(std::shared_ptr<const ShardSet> set, const PipelineConfig& configured);

  // One thread; those of a higher index than there are threads wanted are parked.
  void work(int index);
  // A job with samples to claim, made if there is room; null: the thread is to end.
  std::shared_ptr<Job> wait_for_job(std::unique_lock<std::mutex>& lock, int index);
  std::shared_ptr<Job> open_job();
  // Fills samples until all are claimed, the thread is to park, or the epoch is dropped. Returns
  // the record bytes read. Requires: the lock is not held.
  std::uint64_t fill_some(Job& job, Worker& worker, int index, bool& finished);
  static std::uint64_t fill_run(Job& job, Worker& worker, std::size_t first, std::size_t count);
  // All samples of the job are filled: makes it done, or ready to be claimed again. Unlocks for a
  // moment.
  void finish_round(std::unique_lock<std::mutex>& lock, Job& job);
  [[nodiscard]] bool has_room() const;
  [[nodiscard]] bool all_delivered() const;
  [[nodiscard]] std::size_t helpers_for(const Job& job) const;
  void measure(std::chrono::steady_clock::time_point now, const Job& job, int n_ready);
  void adopt(PipelineSetting setting);
  void drop_jobs();
  void take_back(Job& job);  // requires: no thread works on it

  const std::shared_ptr<const ShardSet> shards;
  const PipelineConfig config;
  const BatchGeometry geometry;
  const KernelSet* const kernels;
  const EpochPlan plan;  // of batches that are not fed
  const pid_t owner = ::getpid();

  std::atomic<bool> running = false;  // written under the mutex
  std::atomic<int> n_wanted = 0;      // threads; written under the mutex

  std::mutex mutex;
  std::condition_variable work_changed;    // for idle threads
  std::condition_variable parked_changed;  // for parked ones
  std::condition_variable ready_changed;   // for next() and start()
  BatchStore store;
  ReadAhead ahead;  // has a lock of its own, taken after `mutex` where both are
  std::deque<std::shared_ptr<Job>> jobs;
  std::shared_ptr<const Schedule> schedule;
  std::shared_ptr<FedBatches> fed;  // the schedule, if it is fed
  std::uint64_t next_batch = 0;     // of the schedule
  std::uint64_t n_jobs = 0;
  std::size_t prefetch = 0;
  std::size_t n_active = 0;   // threads inside fill_some()
  std::size_t n_idle = 0;     // threads that wait for work_changed
  std::size_t n_waiting = 0;  // callers that wait for ready_changed
  bool stopping = false;
  PipelineStats stats;

  Autotuner tuner;
  double busy_s = 0;
  // Since the delivery before, unless the epoch has just begun.
  bool measuring = false;
  std::chrono::steady_clock::time_point delivered_at;
  double busy_before_s = 0;
  double stall_before_s = 0;
};

[[nodiscard]] double seconds_between(std::chrono::steady_clock::time_point begin,
                                     std::chrono::steady_clock::time_point end);

}  // namespace e2eio::detail
