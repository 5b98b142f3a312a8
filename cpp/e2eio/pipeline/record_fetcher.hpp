// Reads the records of some samples with few reads, whatever the order of the samples.
#pragma once

#include <cstdint>
#include <span>
#include <stop_token>
#include <vector>

#include "e2eio/base/bytes.hpp"
#include "e2eio/pipeline/shard_set.hpp"

namespace e2eio {

// The stored bytes of one sample, and where it lies.
struct Record {
  ShardSet::Place place;
  ByteView bytes;
};

// The bytes of some records, kept while they are decoded. Thread rule: none of its own.
class FetchedRecords {
 public:
  // In the order in which they were asked for; valid until the next fetch into this object.
  [[nodiscard]] std::span<const Record> all() const noexcept { return records_; }
  // Memory that it takes, in bytes.
  [[nodiscard]] std::uint64_t n_bytes() const noexcept { return buffer_.capacity(); }

 private:
  friend class RecordFetcher;
  std::vector<Record> records_;
  Bytes buffer_;  // grows, and is used again
};

// Thread rule: one thread at a time (scratch memory); make one per thread.
class RecordFetcher {
 public:
  // What reads cost; sums of these are the statistics.
  struct Report {
    std::uint64_t n_records = 0;
    std::uint64_t n_reads = 0;
    std::uint64_t n_bytes = 0;   // read, those of the gaps too
    std::uint64_t n_waited = 0;  // reads that waited for the storage
    std::uint64_t n_retries = 0;
    bool stopped = false;  // the records are not there
  };

  // Records of a shard that lie at most `gap_bytes` apart are read together, with what lies
  // between; where a read is dear, what lies further apart too (Source::merge_gap_bytes).
  RecordFetcher(const ShardSet& shards, std::uint64_t gap_bytes)
      : shards_(&shards), gap_bytes_(gap_bytes) {}

  // From the next plan on.
  void set_gap(std::uint64_t gap_bytes) noexcept { gap_bytes_ = gap_bytes; }

  // Finds out what to read for the records of `ids` (in any order, repetitions allowed), without
  // reading it. Returns the bytes of memory that read() will need. Requires: their shards are
  // there.
  std::uint64_t plan(std::span<const std::uint64_t> ids);

  // Reads what was planned into `to`. Throws: Error(kIo), Error(kCorrupt), as Source::read.
  [[nodiscard]] Report read(FetchedRecords& to, const std::stop_token& stop);

  // Waits for late shards, plans and reads. Throws: as read(); what making a shard gave.
  [[nodiscard]] Report fetch(std::span<const std::uint64_t> ids, FetchedRecords& to,
                             const std::stop_token& stop) {
    if (!shards_->await(ids, stop)) {
      return {.stopped = true};
    }
    plan(ids);
    return read(to, stop);
  }

 private:
  struct Extent {
    const Source* source = nullptr;
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    std::size_t at = 0;  // in the buffer
  };
  void read_extents(Bytes& buffer, const std::stop_token& stop, Report& report);

  const ShardSet* shards_;
  std::uint64_t gap_bytes_;
  std::vector<ShardSet::Place> places_;
  std::vector<std::uint32_t> order_;   // numbers of records, by shard and offset
  std::vector<std::uint32_t> extent_;  // extent of each record
  std::vector<Extent> extents_;
  std::size_t n_bytes_ = 0;  // of all extents
  std::vector<ReadRequest> requests_;
};

}  // namespace e2eio
