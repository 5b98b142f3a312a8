#include "e2eio/pipeline/batch_pipeline.hpp"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <exception>
#include <mutex>
#include <utility>

#include "e2eio/pipeline/pipeline_state.hpp"

namespace e2eio {

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
  std::unique_lock lock(state_->mutex);
  const BatchMemory surplus = state_->store.give_back(std::move(memory_));
  --state_->stats.slots_lent;
  const bool awaited = state_->n_idle > 0 && state_->has_room();  // the memory limit was reached
  lock.unlock();
  if (awaited) {
    state_->work_changed.notify_one();
  }
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
    // They cannot be joined here, nor detached (the system says that there are none).
    struct Parents {
      std::vector<std::jthread> threads;
      std::shared_ptr<detail::PipelineState> state;
    };
    [[maybe_unused]] auto* const leaked =
        std::make_unique<Parents>(Parents{std::move(threads_), std::move(state_)}).release();
    return;
  }
  close();
}

void BatchPipeline::check_owner() const {
  const pid_t here = ::getpid();
  if (here != state_->owner) {
    throw Error(
        ErrorKind::kForked,
        cat("loader used after fork: its threads run in process ", state_->owner, ", used in ",
            here, "; begin a new iteration, or make the loader, in the child"));
  }
}

std::uint64_t BatchPipeline::n_batches() const noexcept { return state_->plan.n_batches(); }

std::uint64_t BatchPipeline::last_batch_size() const {
  return n_batches() == 0 ? 0 : state_->plan.batch_ids(0, n_batches() - 1).size();
}

const BatchGeometry& BatchPipeline::geometry() const noexcept { return state_->geometry; }

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
      threads_.emplace_back([state = state_, i] { state->work(i); });
    }
  } catch (...) {
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    stop_threads();
    throw;
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void BatchPipeline::start(std::uint64_t epoch, std::uint64_t begin) {
  if (state_->config.fed) {
    throw Error(ErrorKind::kInternal, "this pipeline is fed, it has no plan to start");
  }
  start_with(std::make_shared<const PlannedEpoch>(state_->plan, epoch, begin), nullptr);
}

void BatchPipeline::start_fed(std::uint64_t epoch) {
  if (!state_->config.fed) {
    throw Error(ErrorKind::kInternal, "this pipeline has a plan, it cannot be fed");
  }
  const auto fed = std::make_shared<FedBatches>(epoch);
  start_with(fed, fed);
}

void BatchPipeline::start_with(std::shared_ptr<const Schedule> schedule,
                               std::shared_ptr<FedBatches> fed) {
  check_owner();
  const std::lock_guard control(control_);
  detail::PipelineState& s = *state_;
  {
    std::unique_lock lock(s.mutex);
    s.stopping = false;
    s.running = false;
    ++s.n_waiting;
    s.ahead.cancel();
    s.ready_changed.wait(lock, [&] { return s.n_active == 0; });
    --s.n_waiting;
    s.measuring = false;
    s.drop_jobs();
    s.ahead.start(schedule);
    s.schedule = std::move(schedule);
    s.fed = std::move(fed);
    s.next_batch = 0;
    s.running = true;
  }
  launch();
  s.work_changed.notify_all();
}

void BatchPipeline::feed(std::vector<std::uint64_t> ids) {
  check_owner();
  detail::PipelineState& s = *state_;
  const auto refuse = [](const std::string& text) {
    throw Error(ErrorKind::kInvalidArgument, text);
  };
  if (ids.empty() || ids.size() > s.config.plan.batch_size) {
    refuse(cat("a batch of ", ids.size(), " samples, expected 1 to ", s.config.plan.batch_size));
  }
  const std::uint64_t largest = *std::max_element(ids.begin(), ids.end());
  if (largest >= s.shards->n_samples()) {
    refuse(cat("sample ", largest, " of a dataset of ", s.shards->n_samples()));
  }
  bool awaited = false;
  {
    const std::lock_guard lock(s.mutex);
    if (!s.running || s.fed == nullptr || s.fed->complete()) {
      refuse("a batch was fed to a pipeline that expects none");
    }
    s.fed->feed(std::move(ids));
    awaited = s.n_idle > 0 && s.has_room();
  }
  s.ahead.see_more();
  if (awaited) {
    s.work_changed.notify_one();
  }
}

void BatchPipeline::end_feed() {
  check_owner();
  const std::lock_guard lock(state_->mutex);
  if (state_->fed != nullptr) {
    state_->fed->end();
  }
}

std::unique_ptr<Batch> BatchPipeline::next(std::chrono::duration<double> timeout) {
  check_owner();
  detail::PipelineState& s = *state_;
  const auto begin = std::chrono::steady_clock::now();
  std::unique_lock lock(s.mutex);
  const auto starved = [&s] {
    return s.jobs.empty() && s.next_batch < s.schedule->n_known() && s.store.exhausted();
  };
  const auto n_ready =
      std::count_if(s.jobs.begin(), s.jobs.end(), [](const auto& job) { return job->done; });
  ++s.n_waiting;
  s.ready_changed.wait_for(lock, timeout, [&] {
    return !s.running || s.all_delivered() || starved() ||
           (!s.jobs.empty() && s.jobs.front()->done);
  });
  --s.n_waiting;
  const auto now = std::chrono::steady_clock::now();
  s.stats.stall_s += detail::seconds_between(begin, now);
  if (s.running && starved()) {
    throw Error(ErrorKind::kInvalidArgument,
                cat("memory_limit of ", s.config.memory_limit_bytes,
                    " bytes reached: ", s.stats.slots_lent, " batches of ", s.store.batch_bytes(),
                    " bytes are still held; drop them, copy what you keep, or raise the limit"));
  }
  if (!s.running || s.jobs.empty() || !s.jobs.front()->done) {
    return nullptr;
  }
  const std::shared_ptr<detail::Job> job = std::move(s.jobs.front());
  s.jobs.pop_front();
  if (job->error != nullptr) {
    s.take_back(*job);
  } else {
    ++s.stats.batches;
    s.stats.samples += job->ids.size();
    ++s.stats.slots_lent;
    s.measure(now, *job, static_cast<int>(n_ready));
  }
  const bool awaited = s.n_idle > 0 && s.has_room();
  const bool others_wait = s.n_waiting > 0;
  lock.unlock();
  if (awaited) {
    s.work_changed.notify_one();
  }
  if (others_wait) {
    s.ready_changed.notify_all();  // the batch behind this one may be done, or this was the last
  }
  if (job->error != nullptr) {
    std::rethrow_exception(job->error);
  }
  return std::make_unique<Batch>(state_, std::move(job->memory), std::move(job->ids));
}

bool BatchPipeline::exhausted() const {
  check_owner();
  const std::lock_guard lock(state_->mutex);
  return !state_->running || state_->all_delivered();
}

bool BatchPipeline::ready() const {
  const std::lock_guard lock(state_->mutex);
  return state_->running && !state_->jobs.empty() && state_->jobs.front()->done;
}

PipelineStats BatchPipeline::stats() const {
  check_owner();
  const std::lock_guard lock(state_->mutex);
  PipelineStats stats = state_->stats;
  stats.slots = state_->store.n_batches();
  stats.slots_made = state_->store.n_made();
  stats.slot_bytes = state_->store.batch_bytes();
  stats.threads = state_->n_wanted;
  stats.prefetch = static_cast<int>(state_->prefetch);
  stats.threads_limit = state_->tuner.most().threads;
  stats.prefetch_limit = state_->tuner.most().prefetch;
  stats.setting_changes = state_->tuner.n_changes();
  stats.kernels = std::string(state_->kernels->name);
  stats.reads = state_->ahead.stats();
  return stats;
}

void BatchPipeline::close() {
  if (::getpid() != state_->owner) {
    return;
  }
  const std::lock_guard control(control_);
  stop_threads();
}

void BatchPipeline::stop_threads() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stopping = true;
    state_->running = false;
  }
  state_->work_changed.notify_all();
  state_->parked_changed.notify_all();
  state_->ready_changed.notify_all();
  state_->ahead.cancel();
  threads_.clear();  // joins
  state_->ahead.close();
  const std::lock_guard lock(state_->mutex);
  state_->drop_jobs();
}

}  // namespace e2eio
