#include "e2eio/pipeline/pipeline_state.hpp"

#include <algorithm>

#include "e2eio/plan/permutation.hpp"

namespace e2eio::detail {
namespace {

// A loop holds its batch until the next one is in its hands: two are lent for a moment.
constexpr std::size_t kLentAtOnce = 2;

// The wire form of a sample, before one is seen, in records: jets take 2.5, other data may not.
constexpr std::uint64_t kWirePerRecord = 3;

// Slots of an adaptive prefetch take no more than this, if no memory limit says otherwise.
constexpr std::uint64_t kAutoRingBytes = std::uint64_t{1} << 30U;

// Runs short enough that the threads finish a batch together, long enough that neighbouring records
// are read together; they do not straddle the units that are read ahead.
std::size_t run_length(std::size_t n_samples, int n_threads, std::size_t unit) {
  std::size_t run =
      std::clamp<std::size_t>(n_samples / (4 * static_cast<std::size_t>(n_threads)), 1, 16);
  while (unit % run != 0) {
    --run;
  }
  return run;
}

// Under a memory limit, reads ahead get what the batches in use leave over.
ReadAheadConfig read_ahead_within(const PipelineConfig& config, const BatchStore& store) {
  ReadAheadConfig ahead = config.read_ahead;
  const std::uint64_t limit = config.memory_limit_bytes;
  if (limit == 0) {
    return ahead;
  }
  if (config.form != BatchForm::kDense) {  // what batches take is not known yet
    ahead.limit_bytes = std::min(ahead.limit_bytes, limit / 4);
    return ahead;
  }
  const std::uint64_t fit = limit / std::max<std::uint64_t>(1, store.batch_bytes());
  const std::uint64_t used =
      std::min<std::uint64_t>(fit, static_cast<std::uint64_t>(config.prefetch) + kLentAtOnce);
  ahead.limit_bytes = std::min(ahead.limit_bytes, limit - used * store.batch_bytes());
  return ahead;
}

Autotuner make_tuner(const PipelineConfig& config, std::uint64_t slot_bytes) {
  PipelineSetting most{config.threads, config.prefetch};
  PipelineSetting least = most;
  PipelineSetting start = most;
  if (config.auto_threads) {
    least.threads = 1;
  }
  if (config.auto_prefetch) {
    const std::uint64_t bytes =
        config.memory_limit_bytes > 0 ? config.memory_limit_bytes : kAutoRingBytes;
    const std::uint64_t slots = bytes / std::max<std::uint64_t>(1, slot_bytes);
    const auto fitting = static_cast<int>(
        std::clamp<std::uint64_t>(slots, 2 + kLentAtOnce, 1U << 20U) - kLentAtOnce);
    most.prefetch = std::min(most.prefetch, fitting);
    least.prefetch = std::min(2, most.prefetch);
    // Small batches: enough of them for each thread to have two samples to work on.
    const std::uint64_t wanted = 2 * static_cast<std::uint64_t>(config.threads) /
                                 std::max<std::uint64_t>(1, config.plan.batch_size);
    start.prefetch = std::max(least.prefetch, static_cast<int>(std::min<std::uint64_t>(
                                                  wanted, static_cast<unsigned>(most.prefetch))));
  }
  return {start, least, most};
}

PlanConfig with_samples(PlanConfig plan, std::uint64_t n_samples) {
  if (plan.order != nullptr && plan.order->end_id() > n_samples) {
    throw Error(ErrorKind::kInvalidArgument, cat("an order over ", plan.order->end_id(),
                                                 " samples of a dataset of ", n_samples));
  }
  plan.n_samples = n_samples;
  return plan;
}

std::size_t slot_samples(const PipelineConfig& config, const EpochPlan& plan) {
  const std::uint64_t wanted = std::max<std::uint64_t>(1, config.plan.batch_size);
  // Fed batches may have a sample more than once.
  return static_cast<std::size_t>(
      config.fed ? wanted : std::min(wanted, std::max<std::uint64_t>(1, plan.n_places())));
}

}  // namespace

double seconds_between(std::chrono::steady_clock::time_point begin,
                       std::chrono::steady_clock::time_point end) {
  return std::chrono::duration<double>(end - begin).count();
}

PipelineState::PipelineState(std::shared_ptr<const ShardSet> set, const PipelineConfig& configured)
    : shards(std::move(set)),
      config(configured),
      geometry(batch_geometry(shards->schema(), config.channels, config.dtype, config.channels_last,
                              config.transforms.get())),
      kernels(&selected_kernels()),
      plan(with_samples(config.plan, shards->n_samples())),
      store(config.form, geometry, slot_samples(config, plan),
            kWirePerRecord * slot_samples(config, plan) *
                (shards->n_bytes() / std::max<std::uint64_t>(1, shards->n_samples())),
            config.memory_limit_bytes, config.page_lock),
      ahead(*shards, config.plan.batch_size, read_ahead_within(config, store)),
      tuner(make_tuner(config, store.batch_bytes())) {
  if (config.memory_limit_bytes > 0) {
    store.limit_memory(config.memory_limit_bytes - ahead.limit_bytes());
  }
  adopt(tuner.setting());
}

bool PipelineState::has_room() const {
  return running && next_batch < schedule->n_known() && jobs.size() < prefetch;
}

bool PipelineState::all_delivered() const {
  return jobs.empty() && schedule->complete() && next_batch >= schedule->n_known();
}

std::shared_ptr<Job> PipelineState::open_job() {
  const auto open =
      std::find_if(jobs.begin(), jobs.end(), [](const auto& job) { return job->open(); });
  if (open != jobs.end() || !has_room()) {
    return open != jobs.end() && running ? *open : nullptr;
  }
  BatchMemory memory = store.acquire();
  if (memory.empty()) {
    return nullptr;
  }
  const std::uint64_t number = next_batch++;
  std::vector<std::uint64_t> ids = schedule->batch_ids(number);
  if (fed != nullptr) {
    fed->forget_below(next_batch);
  }
  if (memory.sparse != nullptr) {
    memory.sparse->begin(ids.size());
  }
  const std::size_t run = run_length(ids.size(), n_wanted, ahead.unit_samples());
  jobs.push_back(std::make_shared<Job>(number, std::move(ids), std::move(memory), run,
                                       mix64(n_jobs++), schedule->epoch()));
  return jobs.back();
}

std::shared_ptr<Job> PipelineState::wait_for_job(std::unique_lock<std::mutex>& lock, int index) {
  while (!stopping) {
    if (index >= n_wanted) {
      parked_changed.wait(lock);
    } else if (std::shared_ptr<Job> job = open_job()) {
      return job;
    } else {
      ++n_idle;
      work_changed.wait(lock);
      --n_idle;
    }
  }
  return nullptr;
}

std::size_t PipelineState::helpers_for(const Job& job) const {
  const std::size_t n_runs = (job.n_samples + job.run - 1) / job.run;
  return std::min(n_idle, n_runs - 1 + (has_room() ? 1 : 0));
}

std::uint64_t PipelineState::fill_run(Job& job, Worker& worker, std::size_t first,
                                      std::size_t count) {
  if (job.expanding.load(std::memory_order_relaxed)) {
    job.memory.sparse->expand(first, count);
    return 0;
  }
  const auto ids = std::span(job.ids).subspan(first, count);
  const SampleRun run{.first = first,
                      .ids = ids,
                      .records = worker.tap.take(job.number, first, ids),
                      .epoch = job.epoch};
  return job.memory.slot != nullptr ? worker.decoder.fill(*job.memory.slot, run, job.canary_key)
                                    : worker.decoder.fill(*job.memory.sparse, run);
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
      job.n_filled = 0;
      job.n_claimed.store(0, std::memory_order_release);  // from now on it is claimed again
      for (std::size_t n_woken = helpers_for(job); n_woken > 0; --n_woken) {
        work_changed.notify_one();
      }
      return;
    }
  }
  job.done = true;
}

std::uint64_t PipelineState::fill_some(Job& job, Worker& worker, int index, bool& finished) {
  std::uint64_t n_bytes = 0;
  while (running.load(std::memory_order_relaxed) &&
         index < n_wanted.load(std::memory_order_relaxed)) {
    const std::size_t first = job.n_claimed.fetch_add(job.run, std::memory_order_acquire);
    if (first >= job.n_samples) {
      break;
    }
    const std::size_t count = std::min(job.run, job.n_samples - first);
    try {
      n_bytes += fill_run(job, worker, first, count);
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (job.error == nullptr) {
        job.error = std::current_exception();
      }
    }
    worker.tap.drop();
    // The thread that comes last sees what all of them wrote.
    finished = job.n_filled.fetch_add(count, std::memory_order_acq_rel) + count == job.n_samples;
    if (finished) {
      break;
    }
  }
  return n_bytes;
}

void PipelineState::work(int index) {
  Worker worker{SampleDecoder(*shards, config.channels, geometry, config.verify, *kernels,
                              config.transforms.get()),
                RecordTap(ahead)};
  std::unique_lock lock(mutex);
  while (const std::shared_ptr<Job> job = wait_for_job(lock, index)) {
    ++n_active;
    // Whoever begins a batch wakes as many as can help with it, and nobody else.
    std::size_t n_woken = job->n_claimed.load() == 0 ? helpers_for(*job) : 0;
    lock.unlock();
    for (; n_woken > 0; --n_woken) {
      work_changed.notify_one();
    }
    const auto begin = std::chrono::steady_clock::now();
    bool finished = false;
    const std::uint64_t n_bytes = fill_some(*job, worker, index, finished);
    const double worked_s = seconds_between(begin, std::chrono::steady_clock::now());
    lock.lock();
    stats.record_bytes += n_bytes;
    busy_s += worked_s;
    if (finished) {
      finish_round(lock, *job);
    }
    --n_active;
    if (index >= n_wanted && job->open() && n_idle > 0) {
      work_changed.notify_one();  // it parks in the middle of a batch
    }
    const bool came = !jobs.empty() && jobs.front()->done;
    if (n_waiting > 0 && (came || n_active == 0)) {
      lock.unlock();  // or it would wake up to wait for the lock
      ready_changed.notify_all();
      lock.lock();
    }
  }
}

void PipelineState::adopt(PipelineSetting setting) {
  const int before = n_wanted.exchange(setting.threads);
  prefetch = static_cast<std::size_t>(setting.prefetch);
  store.need(prefetch + kLentAtOnce);
  if (setting.threads > before) {
    parked_changed.notify_all();
  } else if (setting.threads < before) {
    work_changed.notify_all();  // those that are idle park, so that no call to work is lost on them
  }
}

void PipelineState::measure(std::chrono::steady_clock::time_point now, const Job& job,
                            int n_ready) {
  if (tuner.fixed()) {
    return;
  }
  if (measuring && tuner.observe({.interval_s = seconds_between(delivered_at, now),
                                  .stall_s = stats.stall_s - stall_before_s,
                                  .busy_s = busy_s - busy_before_s,
                                  .n_samples = job.ids.size(),
                                  .n_ready = n_ready})) {
    adopt(tuner.setting());
  }
  measuring = true;
  delivered_at = now;
  stall_before_s = stats.stall_s;
  busy_before_s = busy_s;
}

void PipelineState::take_back(Job& job) {
  if (job.error != nullptr) {
    job.memory.distrust();  // the error may be that somebody wrote into it
  }
  (void)store.give_back(std::move(job.memory));
}

void PipelineState::drop_jobs() {
  for (const auto& job : jobs) {
    take_back(*job);
  }
  jobs.clear();
}

}  // namespace e2eio::detail
