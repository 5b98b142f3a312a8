#include "e2eio/pipeline/read_ahead.hpp"

#include <algorithm>
#include <system_error>
#include <utility>

#include "e2eio/base/error.hpp"
#include "e2eio/pipeline/stopwatch.hpp"

namespace e2eio {
namespace {

// A unit: samples of one batch that one reader reads together, and about so many bytes.
constexpr std::uint64_t kUnitSamples = 256;
constexpr std::uint64_t kUnitBytes = std::uint64_t{2} << 20U;

// Bytes that are read for nothing rather than in another read. From the page cache a read costs as
// much as copying 6 KiB; from a device, with many under way, as much as transferring 13 KiB
// (docs/design/0004-reading.md). A little less, since bytes also take bandwidth from others.
constexpr std::uint64_t kWarmGapBytes = 4096;
constexpr std::uint64_t kColdGapBytes = 8192;

// Groups of batches are there to have long reads: what lies between is of other ranks, which share
// the page cache, or in the batches before and after.
constexpr std::uint64_t kGroupGapBytes = 65536;

// After so many units that the page cache had, the readers leave reading to the decoding threads.
constexpr std::size_t kWarmUnits = 32;

// Units in the window, at most: enough for the readers, and little to drop at a restart.
constexpr std::size_t kMaxUnits = 64;

std::uint64_t mean_record_bytes(const ShardSet& shards) {
  // Records follow each other: the last one's end less the first one's begin is their sum.
  const ShardReader* const shard = shards.locate(0).shard;
  if (shard == nullptr) {
    return LateShards::kRecordBytes;
  }
  const std::uint64_t bytes = shard->record_end(shard->n_samples() - 1) - shard->record_begin(0);
  return std::max<std::uint64_t>(1, bytes / shard->n_samples());
}

// What the first samples are read from; null: not there yet.
const Source* first_source(const ShardSet& shards) {
  const ShardReader* const shard = shards.n_samples() > 0 ? shards.locate(0).shard : nullptr;
  return shard == nullptr ? nullptr : &shard->source();
}

[[noreturn]] void throw_stopped() { throw Error(ErrorKind::kInternal, "reading was stopped"); }

}  // namespace

ReadAhead::ReadAhead(const ShardSet& shards, std::uint64_t batch_size,
                     const ReadAheadConfig& config)
    : shards_(&shards),
      config_(config),
      always_waits_(first_source(shards) != nullptr && first_source(shards)->always_waits()),
      n_readers_(static_cast<std::size_t>(std::max(0, config.readers))) {
  const std::uint64_t record_bytes = shards.n_samples() > 0 ? mean_record_bytes(shards) : 1;
  const std::uint64_t fit = std::clamp<std::uint64_t>(kUnitBytes / record_bytes, 1, kUnitSamples);
  const std::uint64_t samples = std::clamp<std::uint64_t>(batch_size, 1, fit);
  unit_samples_ = static_cast<std::size_t>(samples);
  batch_size_ = batch_size;
  units_per_batch_ = std::max<std::uint64_t>(1, (batch_size + samples - 1) / samples);
}

void ReadAhead::start(std::shared_ptr<const Schedule> schedule) {
  cancel();
  const std::lock_guard lock(mutex_);
  drop_units();
  stop_ = std::stop_source();
  schedule_ = std::move(schedule);
  grouped_ = schedule_->n_groups() > 0;
  next_key_ = 0;
  cancelled_ = false;
  may_read_changed_.notify_all();
}

void ReadAhead::see_more() {
  const std::lock_guard lock(mutex_);
  if (awake_) {
    may_read_changed_.notify_all();
  }
}

void ReadAhead::cancel() noexcept {
  std::stop_source stop;
  {
    const std::lock_guard lock(mutex_);
    stop = stop_;
    cancelled_ = true;
  }
  stop.request_stop();
}

void ReadAhead::close() noexcept {
  cancel();
  std::vector<std::jthread> readers;
  {
    const std::lock_guard lock(mutex_);
    readers.swap(readers_);
    awake_ = false;
  }
  readers.clear();  // asks them to stop, and joins
  const std::lock_guard lock(mutex_);
  drop_units();
  spare_.clear();
}

void ReadAhead::drop_units() {
  units_.clear();
  held_bytes_ = 0;
  sized_key_ = ~std::uint64_t{0};
}

ReadStats ReadAhead::stats() const {
  ReadStats stats;
  const Source* const source = first_source(*shards_);
  stats.kind = source == nullptr ? "" : source->kind();
  stats.reads = counters_.reads;
  stats.bytes = counters_.bytes;
  stats.records = counters_.records;
  stats.records_ahead = counters_.records_ahead;
  stats.waits = counters_.waits;
  stats.retries = counters_.retries;
  stats.wait_s = static_cast<double>(counters_.wait_ns.load()) * 1e-9;
  const std::lock_guard lock(mutex_);
  stats.readers = readers_.size();
  stats.ahead_bytes = held_bytes_;
  stats.ahead_limit_bytes = config_.limit_bytes;
  return stats;
}

void ReadAhead::note(const RecordFetcher::Report& report, bool ahead) {
  const auto add = [](std::atomic<std::uint64_t>& to, std::uint64_t n) {
    to.fetch_add(n, std::memory_order_relaxed);
  };
  add(counters_.reads, report.n_reads);
  add(counters_.bytes, report.n_bytes);
  add(counters_.records, report.n_records);
  add(counters_.waits, report.n_waited);
  add(counters_.retries, report.n_retries);
  add(counters_.records_ahead, ahead ? report.n_records : 0);
}

bool ReadAhead::may_read() const {
  const std::uint64_t next_bytes = sized_key_ == next_key_ ? sized_bytes_ : 1;
  return awake_ && !cancelled_ && next_key_ < end_key() && units_.size() < kMaxUnits &&
         (held_bytes_ + next_bytes <= config_.limit_bytes || (grouped_ && held_bytes_ == 0));
}

std::uint64_t ReadAhead::key_of(std::uint64_t batch, std::size_t first) const {
  return grouped_ ? schedule_->group_of(batch) : batch * units_per_batch_ + first / unit_samples_;
}

std::size_t ReadAhead::offset_of(std::uint64_t batch, std::size_t first) const {
  if (!grouped_) {
    return first % unit_samples_;
  }
  const std::uint64_t before = batch - schedule_->group_begin(schedule_->group_of(batch));
  return static_cast<std::size_t>(before * batch_size_) + first;
}

std::uint64_t ReadAhead::end_key() const {
  return grouped_ ? schedule_->n_groups() : schedule_->n_known() * units_per_batch_;
}

std::vector<std::uint64_t> ReadAhead::unit_ids(std::uint64_t key) const {
  if (grouped_) {
    std::vector<std::uint64_t> all;
    const std::uint64_t end = schedule_->group_begin(key + 1);
    for (std::uint64_t batch = schedule_->group_begin(key); batch < end; ++batch) {
      const std::vector<std::uint64_t> ids = schedule_->batch_ids(batch);
      all.insert(all.end(), ids.begin(), ids.end());
    }
    return all;
  }
  const std::vector<std::uint64_t> ids = schedule_->batch_ids(key / units_per_batch_);
  const std::size_t first = std::min<std::size_t>(
      ids.size(), static_cast<std::size_t>(key % units_per_batch_) * unit_samples_);
  const std::size_t last = std::min(ids.size(), first + unit_samples_);
  return {ids.begin() + static_cast<std::ptrdiff_t>(first),
          ids.begin() + static_cast<std::ptrdiff_t>(last)};
}

void ReadAhead::run(const std::stop_token& stop) {
  RecordFetcher fetcher(*shards_, kColdGapBytes);
  std::unique_lock lock(mutex_);
  while (may_read_changed_.wait(lock, stop, [this] { return may_read(); })) {
    begin(fetcher, lock);
  }
}

void ReadAhead::begin(RecordFetcher& fetcher, std::unique_lock<std::mutex>& lock) {
  const std::uint64_t key = next_key_;
  const std::vector<std::uint64_t> ids = unit_ids(key);
  if (!shards_->has_all(ids)) {  // a decoding thread will wait for late shards, and read
    ++next_key_;
    unit_done_.notify_all();
    return;
  }
  fetcher.set_gap(grouped_ ? kGroupGapBytes : kColdGapBytes);
  auto unit = spare_.empty() ? std::make_shared<Unit>() : spare_.back();
  unit->n_bytes = std::max(fetcher.plan(ids), unit->records.n_bytes());
  unit->n_left = ids.size();
  if (held_bytes_ + unit->n_bytes > config_.limit_bytes) {
    if (grouped_ && held_bytes_ == 0) {  // there will never be room
      ++next_key_;
      unit_done_.notify_all();
      return;
    }
    // Until there is room. If there never is, a decoding thread reads these samples.
    sized_key_ = key;
    sized_bytes_ = unit->n_bytes;
    return;
  }
  ++next_key_;
  if (ids.empty()) {
    unit_done_.notify_all();
    return;  // a smaller batch has fewer units, and one that was forgotten has none
  }
  if (!spare_.empty()) {
    spare_.pop_back();
  }
  held_bytes_ += unit->n_bytes;
  units_.emplace(key, unit);
  const std::stop_token cut = stop_.get_token();
  lock.unlock();
  RecordFetcher::Report report;
  try {
    report = fetcher.read(unit->records, cut);
    note(report, true);
  } catch (...) {
    unit->error = std::current_exception();
  }
  lock.lock();
  finish(key, unit, report);
}

void ReadAhead::finish(std::uint64_t key, const std::shared_ptr<Unit>& unit,
                       const RecordFetcher::Report& report) {
  const auto held = units_.find(key);
  if (held == units_.end() || held->second != unit || report.stopped) {
    return;  // start() or close() has dropped it, or is about to
  }
  unit->done = true;
  n_warm_ = report.n_waited == 0 && unit->error == nullptr ? n_warm_ + 1 : 0;
  if (n_warm_ >= kWarmUnits) {
    awake_ = false;
    spare_.clear();
  }
  unit_done_.notify_all();
}

void ReadAhead::launch() {
  try {
    while (readers_.size() < n_readers_) {
      readers_.emplace_back([this](const std::stop_token& stop) { run(stop); });
    }
  } catch (const std::system_error&) {
    n_readers_ = readers_.size();  // no more to be had; the decoding threads do what these do not
  }
}

void ReadAhead::wake(std::uint64_t next_key) {
  const std::lock_guard lock(mutex_);
  n_warm_ = 0;
  if (awake_ || config_.limit_bytes == 0 || stop_.stop_requested()) {
    return;
  }
  next_key_ = std::max(next_key_, next_key);
  awake_ = true;
  launch();
  may_read_changed_.notify_all();
}

void ReadAhead::give_back(std::uint64_t key, const std::shared_ptr<Unit>& unit,
                          std::size_t n_samples) {
  const std::lock_guard lock(mutex_);
  unit->n_left -= std::min(unit->n_left, n_samples);
  if (unit->n_left > 0) {
    return;
  }
  const auto held = units_.find(key);
  if (held == units_.end() || held->second != unit) {
    return;  // dropped meanwhile
  }
  units_.erase(held);
  held_bytes_ -= unit->n_bytes;
  if (awake_ && unit->error == nullptr) {  // spare ones are used first: they add to no maximum
    unit->done = false;
    spare_.push_back(unit);
  }
  may_read_changed_.notify_all();
}

RecordTap::RecordTap(ReadAhead& ahead) : ahead_(&ahead), fetcher_(*ahead.shards_, kWarmGapBytes) {}

// Whether a reader will come to the unit: always, where there are few and long ones, so that no
// decoding thread reads in bits and pieces what a reader is about to read as a whole.
bool ReadAhead::expects(std::uint64_t key) const {
  return grouped_ && awake_ && n_readers_ > 0 && next_key_ <= key && !cancelled_;
}

std::shared_ptr<ReadAhead::Unit> ReadAhead::await(std::uint64_t key,
                                                  std::unique_lock<std::mutex>& lock) {
  auto found = units_.find(key);
  if (found == units_.end() && expects(key)) {
    const Stopwatch watch(counters_.wait_ns);
    const bool here = unit_done_.wait(lock, stop_.get_token(), [&] {
      found = units_.find(key);
      return found != units_.end() || !expects(key);
    });
    if (!here) {
      throw_stopped();
    }
  }
  if (found == units_.end()) {
    next_key_ = std::max(next_key_, key + 1);
    return nullptr;
  }
  return found->second;
}

std::span<const Record> RecordTap::take(std::uint64_t batch, std::size_t first,
                                        std::span<const std::uint64_t> ids) {
  ReadAhead& ahead = *ahead_;
  std::unique_lock lock(ahead.mutex_);
  const std::uint64_t key = ahead.key_of(batch, first);
  if (ahead.grouped_ && ahead.always_waits_ && !ahead.awake_) {
    lock.unlock();
    ahead.wake(key);
    lock.lock();
  }
  const std::stop_token stop = ahead.stop_.get_token();
  std::shared_ptr<ReadAhead::Unit> found = ahead.await(key, lock);
  if (found == nullptr) {
    lock.unlock();
    return read(key, ids, stop);
  }
  key_ = key;
  n_taken_ = ids.size();
  unit_ = std::move(found);
  const std::size_t offset = ahead.offset_of(batch, first);
  const ReadAhead::Unit& unit = *unit_;
  if (!unit.done) {
    const Stopwatch watch(ahead.counters_.wait_ns);
    if (!ahead.unit_done_.wait(lock, stop, [&unit] { return unit.done; })) {
      throw_stopped();
    }
  }
  lock.unlock();
  if (unit.error != nullptr) {
    std::rethrow_exception(unit.error);
  }
  return unit.records.all().subspan(offset, ids.size());
}

std::span<const Record> RecordTap::read(std::uint64_t key, std::span<const std::uint64_t> ids,
                                        const std::stop_token& stop) {
  if (ahead_->always_waits_) {
    ahead_->wake(key + 1);
  }
  const Stopwatch watch(ahead_->counters_.wait_ns);
  const RecordFetcher::Report report = fetcher_.fetch(ids, own_, stop);
  ahead_->note(report, false);
  if (report.stopped) {
    throw_stopped();
  }
  if (report.n_waited > 0) {
    ahead_->wake(key + 1);
  }
  return own_.all();
}

void RecordTap::drop() {
  if (unit_ != nullptr) {
    ahead_->give_back(key_, unit_, n_taken_);
    unit_.reset();
  }
}

}  // namespace e2eio
