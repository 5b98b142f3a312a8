#include "e2eio/pipeline/batch_pipeline.hpp"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <utility>

#include "e2eio/pipeline/sample_decoder.hpp"
#include "e2eio/plan/permutation.hpp"

namespace e2eio {
namespace detail {

// A loop holds its batch until the next one is in its hands: two are lent for a moment.
constexpr std::size_t kLentAtOnce = 2;

// The wire form of a sample, before one is seen, in records: jets take 2.5, other data may not.
constexpr std::uint64_t kWirePerRecord = 3;

// A batch in the making. Fields are guarded by PipelineState::mutex. The samples are claimed once
// to be decoded and, if coordinates are made of them, once more.
struct Job {
  std::vector<std::uint64_t> ids;
  BatchMemory memory;
  bool expanding = false;  // the second time
  std::size_t n_claimed = 0;
  std::size_t n_done = 0;
  bool complete = false;
  std::exception_ptr error;
  [[nodiscard]] bool ready() const noexcept { return complete; }
};

// Shared by the pipeline, its threads and the lent batches, whichever lives longest.
// Thread rule: everything below `mutex` is guarded by it.
struct PipelineState {
  PipelineState(std::shared_ptr<const ShardSet> set, const PipelineConfig& configured)
      : shards(std::move(set)),
        config(configured),
        geometry(batch_geometry(shards->schema(), config.channels, config.dtype,
                                config.channels_last, config.transforms.get())),
        kernels(&selected_kernels()),
        plan(with_samples(config.plan, shards->n_samples())),
        store(config.form, geometry, slot_samples(config.plan, shards->n_samples()),
              static_cast<std::size_t>(config.prefetch) + kLentAtOnce,
              kWirePerRecord * slot_samples(config.plan, shards->n_samples()) *
                  (shards->n_bytes() / std::max<std::uint64_t>(1, shards->n_samples())),
              config.memory_limit_bytes) {}

  static PlanConfig with_samples(PlanConfig plan, std::uint64_t n_samples) {
    plan.n_samples = n_samples;
    return plan;
  }
  static std::size_t slot_samples(const PlanConfig& plan, std::uint64_t n_samples) {
    return static_cast<std::size_t>(
        std::clamp<std::uint64_t>(plan.batch_size, 1, std::max<std::uint64_t>(1, n_samples)));
  }

  void work();
  // A run of samples to decode, making a new job if there is room; count 0: nothing to do.
  struct Claim {
    std::shared_ptr<Job> job;
    std::size_t first = 0;
    std::size_t count = 0;
    std::uint64_t canary_key = 0;
    bool expands = false;
    std::uint64_t epoch = 0;
  };
  Claim claim();
  std::uint64_t fill(SampleDecoder& decoder, const Claim& claimed) const;
  // All runs of the job are done: makes it complete, or ready to be claimed again. Unlocks for a
  // moment.
  void finish_round(std::unique_lock<std::mutex>& lock, Job& job);
  void drop_jobs();
  void take_back(Job& job);  // requires: no thread works on it

  const std::shared_ptr<const ShardSet> shards;
  const PipelineConfig config;
  const BatchGeometry geometry;
  const KernelSet* const kernels;
  const EpochPlan plan;
  const pid_t owner = ::getpid();

  std::mutex mutex;
  std::condition_variable work_changed;   // for the threads
  std::condition_variable ready_changed;  // for next() and start()
  BatchStore store;
  std::deque<std::shared_ptr<Job>> jobs;
  std::uint64_t epoch = 0;
  std::uint64_t next_batch = 0;
  std::size_t n_active = 0;  // threads inside fill()
  std::uint64_t n_claims = 0;
  bool running = false;
  bool stopping = false;
  PipelineStats stats;
};

std::uint64_t PipelineState::fill(SampleDecoder& decoder, const Claim& claimed) const {
  Job& job = *claimed.job;
  const auto ids = std::span(job.ids).subspan(claimed.first, claimed.count);
  if (job.memory.slot != nullptr) {
    return decoder.fill(*job.memory.slot, claimed.first, ids, claimed.canary_key,
                        claimed.epoch);
  }
  if (!claimed.expands) {
    return decoder.fill(*job.memory.sparse, claimed.first, ids, claimed.epoch);
  }
  job.memory.sparse->expand(claimed.first, claimed.count);
  return 0;
}

void PipelineState::finish_round(std::unique_lock<std::mutex>& lock, Job& job) {
  SparseBatch* const sparse = job.memory.sparse.get();
  if (sparse != nullptr && !job.expanding && job.error == nullptr) {
    lock.unlock();
    std::exception_ptr error;
    try {
      sparse->seal();
    } catch (...) {
      error = std::current_exception();
    }
    lock.lock();
    job.error = error;
    store.learn(*sparse);
    if (error == nullptr && sparse->with_coordinates()) {
      job.expanding = true;
      job.n_claimed = 0;
      job.n_done = 0;
      work_changed.notify_all();
      return;
    }
  }
  job.complete = true;
}

PipelineState::Claim PipelineState::claim() {
  if (!running) {
    return {};
  }
  const auto open = std::find_if(jobs.begin(), jobs.end(),
                                 [](const auto& job) { return job->n_claimed < job->ids.size(); });
  std::shared_ptr<Job> job;
  if (open != jobs.end()) {
    job = *open;
  } else if (next_batch < plan.n_batches() &&
             jobs.size() < static_cast<std::size_t>(config.prefetch)) {
    BatchMemory memory = store.acquire();
    if (memory.empty()) {
      return {};
    }
    job = std::make_shared<Job>();
    job->memory = std::move(memory);
    job->ids = plan.batch_ids(epoch, next_batch++);
    if (job->memory.sparse != nullptr) {
      job->memory.sparse->begin(job->ids.size());
    }
    jobs.push_back(job);
  } else {
    return {};
  }
  // Runs short enough that the threads finish a batch together, long enough to claim seldom.
  const std::size_t share = job->ids.size() / (4 * static_cast<std::size_t>(config.threads));
  const std::size_t run = std::clamp<std::size_t>(share, 1, 16);
  Claim result{job, job->n_claimed, std::min(run, job->ids.size() - job->n_claimed),
               mix64(n_claims++), job->expanding, epoch};
  job->n_claimed += result.count;
  return result;
}

void PipelineState::work() {
  SampleDecoder decoder(*shards, config.channels, geometry, config.verify, *kernels,
                        config.transforms.get());
  std::unique_lock lock(mutex);
  while (true) {
    Claim claimed;
    work_changed.wait(lock, [&] {
      if (!stopping) {
        claimed = claim();
      }
      return stopping || claimed.count > 0;
    });
    if (stopping) {
      return;
    }
    ++n_active;
    if (claimed.first == 0) {
      work_changed.notify_all();  // a new job has more runs to claim
    }
    lock.unlock();
    std::exception_ptr error;
    std::uint64_t n_bytes = 0;
    try {
      n_bytes = fill(decoder, claimed);
    } catch (...) {
      error = std::current_exception();
    }
    lock.lock();
    stats.record_bytes += n_bytes;
    Job& job = *claimed.job;
    job.n_done += claimed.count;
    if (error != nullptr && job.error == nullptr) {
      job.error = error;
    }
    if (job.n_done == job.ids.size()) {
      finish_round(lock, job);
    }
    --n_active;
    if (job.ready() || n_active == 0) {
      ready_changed.notify_all();
    }
  }
}

void PipelineState::take_back(Job& job) {
  if (job.error != nullptr) {
    job.memory.distrust();  // the error may be that somebody wrote into it
  }
  store.give_back(std::move(job.memory));
}

void PipelineState::drop_jobs() {
  for (const auto& job : jobs) {
    take_back(*job);
  }
  jobs.clear();
}

}  // namespace detail

Batch::Batch(std::shared_ptr<detail::PipelineState> state, BatchMemory memory,
             std::vector<std::uint64_t> ids)
    : state_(std::move(state)), memory_(std::move(memory)), ids_(std::move(ids)) {}

Batch::~Batch() { release(false); }

const BatchGeometry& Batch::geometry() const noexcept { return state_->geometry; }

void Batch::release(bool dirty) noexcept {
  if (memory_.empty()) {
    return;
  }
  if (::getpid() != state_->owner) {
    // A forked child: the lock may be held by a thread that is not here.
    memory_.leak();
    return;
  }
  if (dirty || state_->config.writable) {
    memory_.distrust();
  }
  {
    const std::lock_guard lock(state_->mutex);
    state_->store.give_back(std::move(memory_));
    --state_->stats.slots_lent;
  }
  state_->work_changed.notify_one();
}

BatchPipeline::BatchPipeline(std::shared_ptr<const ShardSet> shards, const PipelineConfig& config) {
  if (config.threads < 1 || config.prefetch < 1) {
    throw Error(ErrorKind::kInvalidArgument, cat("threads is ", config.threads, " and prefetch is ",
                                                 config.prefetch, ", expected at least 1"));
  }
  state_ = std::make_shared<detail::PipelineState>(std::move(shards), config);
  const std::uint64_t slot_bytes = state_->store.batch_bytes();
  const bool size_is_known = config.form == BatchForm::kDense;
  if (size_is_known && config.memory_limit_bytes > 0 &&
      config.memory_limit_bytes < 2 * slot_bytes) {
    throw Error(ErrorKind::kInvalidArgument,
                cat("memory_limit is ", config.memory_limit_bytes, " bytes, two batches need ",
                    2 * slot_bytes, "; raise it or lower batch_size"));
  }
}

BatchPipeline::~BatchPipeline() {
  if (::getpid() != state_->owner) {
    // A forked child: the threads live in the parent only, and the lock may be held by one of them.
    for (std::jthread& thread : threads_) {
      thread.detach();
    }
    [[maybe_unused]] auto* const leaked =
        std::make_unique<std::shared_ptr<detail::PipelineState>>(std::move(state_)).release();
    return;
  }
  close();
}

std::uint64_t BatchPipeline::n_batches() const noexcept { return state_->plan.n_batches(); }

void BatchPipeline::launch() {
  if (!threads_.empty()) {
    return;
  }
  // Signals are for Python's main thread.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  try {
    for (int i = 0; i < state_->config.threads; ++i) {
      threads_.emplace_back([state = state_] { state->work(); });
    }
  } catch (...) {
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    close();
    throw;
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void BatchPipeline::start(std::uint64_t epoch, std::uint64_t first_batch) {
  detail::PipelineState& s = *state_;
  {
    std::unique_lock lock(s.mutex);
    s.stopping = false;
    s.running = false;
    s.ready_changed.wait(lock, [&] { return s.n_active == 0; });
    s.drop_jobs();
    s.epoch = epoch;
    s.next_batch = std::min(first_batch, s.plan.n_batches());
    s.running = true;
  }
  launch();
  s.work_changed.notify_all();
}

std::unique_ptr<Batch> BatchPipeline::next(std::chrono::duration<double> timeout) {
  detail::PipelineState& s = *state_;
  const auto begin = std::chrono::steady_clock::now();
  std::unique_lock lock(s.mutex);
  const auto starved = [&s] {
    return s.jobs.empty() && s.next_batch < s.plan.n_batches() && s.store.exhausted();
  };
  s.ready_changed.wait_for(lock, timeout, [&] {
    const bool over = s.jobs.empty() && s.next_batch >= s.plan.n_batches();
    return over || !s.running || starved() || (!s.jobs.empty() && s.jobs.front()->ready());
  });
  s.stats.stall_s +=
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  if (s.running && starved()) {
    throw Error(ErrorKind::kInvalidArgument,
                cat("memory_limit of ", s.config.memory_limit_bytes,
                    " bytes reached: ", s.stats.slots_lent, " batches of ", s.store.batch_bytes(),
                    " bytes are still held; drop them, copy what you keep, or raise the limit"));
  }
  if (!s.running || s.jobs.empty() || !s.jobs.front()->ready()) {
    return nullptr;
  }
  const std::shared_ptr<detail::Job> job = std::move(s.jobs.front());
  s.jobs.pop_front();
  s.work_changed.notify_all();
  if (job->error != nullptr) {
    s.take_back(*job);
    std::rethrow_exception(job->error);
  }
  ++s.stats.batches;
  s.stats.samples += job->ids.size();
  ++s.stats.slots_lent;
  return std::make_unique<Batch>(state_, std::move(job->memory), std::move(job->ids));
}

bool BatchPipeline::exhausted() const {
  const std::lock_guard lock(state_->mutex);
  return !state_->running ||
         (state_->jobs.empty() && state_->next_batch >= state_->plan.n_batches());
}

PipelineStats BatchPipeline::stats() const {
  const std::lock_guard lock(state_->mutex);
  PipelineStats stats = state_->stats;
  stats.slots = state_->store.n_batches();
  stats.slots_made = state_->store.n_made();
  stats.slot_bytes = state_->store.batch_bytes();
  stats.threads = state_->config.threads;
  stats.prefetch = state_->config.prefetch;
  stats.kernels = std::string(state_->kernels->name);
  return stats;
}

void BatchPipeline::close() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stopping = true;
    state_->running = false;
  }
  state_->work_changed.notify_all();
  threads_.clear();  // joins
  const std::lock_guard lock(state_->mutex);
  state_->drop_jobs();
}

}  // namespace e2eio
