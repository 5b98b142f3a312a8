// Where the decoding threads get their records from: read by themselves while the page cache has
// them, and by threads that run ahead of them along the plan once the storage has to be waited for.
//
//   plan -> units -> reader threads (few, asleep or not there while the page cache is warm)
//                       |  at most `limit_bytes` of units that are being read or waiting
//                       v
//   decoding thread -> RecordTap::take(): a unit read ahead, or else it reads on its own
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "e2eio/pipeline/record_fetcher.hpp"
#include "e2eio/plan/schedule.hpp"

namespace e2eio {

struct ReadAheadConfig {
  int readers = 8;  // threads that read ahead; 0: none
  // Bytes read ahead of decoding, at most. 32 MiB keep a server busy that answers after 30 ms with
  // 1 GB/s.
  std::uint64_t limit_bytes = std::uint64_t{32} << 20U;
};

struct ReadStats {
  std::string kind;                 // of the first shard's Source
  std::uint64_t reads = 0;          // calls of the storage, neighbours merged
  std::uint64_t bytes = 0;          // read, gaps between neighbours too
  std::uint64_t records = 0;        // that these bytes were read for
  std::uint64_t records_ahead = 0;  // of these: by reader threads
  std::uint64_t waits = 0;          // reads that the page cache did not have
  std::uint64_t retries = 0;        // of reads that a server has failed at first
  double wait_s = 0;              // decoding threads spent reading or waiting for reads, all added
  std::uint64_t readers = 0;      // reader threads that exist
  std::uint64_t ahead_bytes = 0;  // held by units read ahead, now
  std::uint64_t ahead_limit_bytes = 0;
  [[nodiscard]] double records_per_read() const noexcept {
    return reads == 0 ? 0 : static_cast<double>(records) / static_cast<double>(reads);
  }
};

// Thread rule: any thread; start(), cancel() and close() by one thread at a time. Starts no thread
// before a read has waited (or, where every read waits, before the first one).
class ReadAhead {
 public:
  ReadAhead(const ShardSet& shards, std::uint64_t batch_size, const ReadAheadConfig& config);
  ReadAhead(const ReadAhead&) = delete;
  ReadAhead& operator=(const ReadAhead&) = delete;
  ~ReadAhead() { close(); }

  // Samples of a batch that are read together: claims do not straddle a multiple of it.
  [[nodiscard]] std::size_t unit_samples() const noexcept { return unit_samples_; }

  [[nodiscard]] std::uint64_t limit_bytes() const noexcept { return config_.limit_bytes; }

  // Drops what was read, and goes on with these batches. Requires: no thread is within a RecordTap.
  void start(std::shared_ptr<const Schedule> schedule);

  // More batches of the schedule are known.
  void see_more();

  // Ends all waiting for the storage that can be ended, until start().
  void cancel() noexcept;

  // Cancels and joins; idempotent.
  void close() noexcept;

  [[nodiscard]] ReadStats stats() const;

 private:
  friend class RecordTap;
  struct Unit {
    FetchedRecords records;
    std::exception_ptr error;
    std::size_t n_left = 0;  // samples to decode yet
    std::uint64_t n_bytes = 0;
    bool done = false;
  };
  struct Counters {  // no lock: every claim adds to them
    std::atomic<std::uint64_t> reads, bytes, records, records_ahead, waits, retries, wait_ns;
  };

  void run(const std::stop_token& stop);
  void launch();  // under the lock
  void wake(std::uint64_t next_key);
  [[nodiscard]] bool may_read() const;
  void begin(RecordFetcher& fetcher, std::unique_lock<std::mutex>& lock);
  void finish(std::uint64_t key, const std::shared_ptr<Unit>& unit,
              const RecordFetcher::Report& report);
  [[nodiscard]] std::vector<std::uint64_t> unit_ids(std::uint64_t key) const;
  [[nodiscard]] std::uint64_t key_of(std::uint64_t batch, std::size_t first) const;
  [[nodiscard]] std::size_t offset_of(std::uint64_t batch, std::size_t first) const;
  [[nodiscard]] std::uint64_t end_key() const;
  [[nodiscard]] bool expects(std::uint64_t key) const;
  [[nodiscard]] std::shared_ptr<Unit> await(std::uint64_t key, std::unique_lock<std::mutex>& lock);
  void note(const RecordFetcher::Report& report, bool ahead);
  void give_back(std::uint64_t key, const std::shared_ptr<Unit>& unit, std::size_t n_samples);
  void drop_units();

  const ShardSet* shards_;
  const ReadAheadConfig config_;
  const bool always_waits_;
  std::size_t unit_samples_;
  std::uint64_t units_per_batch_;
  std::uint64_t batch_size_;

  mutable std::mutex mutex_;  // guards what follows, up to the counters
  std::size_t n_readers_;     // wanted
  std::condition_variable_any may_read_changed_;
  std::condition_variable_any unit_done_;
  // By key: batch * units_per_batch_ + n, or the number of a group of batches.
  std::map<std::uint64_t, std::shared_ptr<Unit>> units_;
  bool grouped_ = false;  // units are groups of batches
  std::vector<std::shared_ptr<Unit>> spare_;
  std::shared_ptr<const Schedule> schedule_;
  std::uint64_t next_key_ = 0;  // before it everything is claimed, by a reader or a decoding thread
  bool cancelled_ = true;       // readers begin nothing new
  std::uint64_t held_bytes_ = 0;
  std::uint64_t sized_key_ = ~std::uint64_t{0};  // the unit of this key did not fit ...
  std::uint64_t sized_bytes_ = 0;                // ... with these bytes
  std::size_t n_warm_ = 0;                       // units in a row that the page cache had
  bool awake_ = false;
  std::stop_source stop_;  // of this start
  std::vector<std::jthread> readers_;
  Counters counters_{};
};

// One decoding thread's way to its records. Thread rule: one thread.
class RecordTap {
 public:
  explicit RecordTap(ReadAhead& ahead);

  // The records of samples `ids`, which are [first, first + ids.size()) of the batch; valid until
  // drop(), which has to follow, after an error too.
  // Throws: Error(kIo), Error(kCorrupt), as Source::read; Error(kInternal) after cancel().
  [[nodiscard]] std::span<const Record> take(std::uint64_t batch, std::size_t first,
                                             std::span<const std::uint64_t> ids);
  void drop();

 private:
  [[nodiscard]] std::span<const Record> read(std::uint64_t key, std::span<const std::uint64_t> ids,
                                             const std::stop_token& stop);

  ReadAhead* ahead_;
  RecordFetcher fetcher_;
  FetchedRecords own_;
  std::shared_ptr<ReadAhead::Unit> unit_;
  std::uint64_t key_ = 0;
  std::size_t n_taken_ = 0;
};

}  // namespace e2eio
