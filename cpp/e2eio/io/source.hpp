// Bytes in, by position.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <stop_token>
#include <string>

namespace e2eio {

// One of several reads that are asked for together. Requires: `to` lives until the call returns.
struct ReadRequest {
  std::uint64_t offset_bytes = 0;
  std::span<std::byte> to;
};

// How a batch of reads went.
struct ReadReport {
  std::size_t n_waited = 0;   // reads whose bytes were not at hand: the storage was waited for
  std::size_t n_retries = 0;  // reads that were tried again, and how often
  bool stopped = false;       // the stop was asked for before all was read; `to` is undefined
};

// What will become of a range of bytes; the system may take no notice.
enum class Advice : std::uint8_t {
  kWillNeed,  // begin to read it into the page cache now
  kRandom,    // do not read ahead of small reads; holds for the whole source
  kDontNeed,  // drop it from the page cache
};

// Thread rule: all functions may be called by many threads at once.
class Source {
 public:
  Source() = default;
  Source(const Source&) = delete;
  Source& operator=(const Source&) = delete;
  virtual ~Source() = default;

  // Fills `to` with the bytes at `offset_bytes`.
  // Throws: Error(kIo) if the system refuses; Error(kCorrupt) if the source ends before `to` is
  // full.
  virtual void read(std::uint64_t offset_bytes, std::span<std::byte> to) const = 0;

  // Does all of the reads, in any order, at once where the source can. After a stop it returns as
  // soon as it may; without one it returns when everything is read.
  // Throws: as read(), for one of those that failed; none is under way any more then.
  virtual ReadReport read_many(std::span<const ReadRequest> requests,
                               const std::stop_token& stop) const;

  // Reads bytes whose checksum is wrong once more, past all caches of the source's own. False:
  // there is no other place to have them from. Throws: as read().
  [[nodiscard]] virtual bool read_again(std::uint64_t offset_bytes, std::span<std::byte> to) const;

  // Bytes [offset_bytes, offset_bytes + n_bytes); n_bytes 0: to the end.
  virtual void advise(std::uint64_t offset_bytes, std::uint64_t n_bytes,
                      Advice advice) const noexcept;

  // True if every read waits for the storage: no page cache lies between.
  [[nodiscard]] virtual bool always_waits() const noexcept { return false; }

  // Bytes that are better read for nothing than in another read; 0: as on a local disk.
  [[nodiscard]] virtual std::uint64_t merge_gap_bytes() const noexcept { return 0; }

  [[nodiscard]] virtual std::uint64_t n_bytes() const noexcept = 0;

  // For messages.
  [[nodiscard]] virtual const std::string& path() const noexcept = 0;

  // The way of reading, for statistics: "pread", "uring", ...
  [[nodiscard]] virtual std::string kind() const = 0;
};

}  // namespace e2eio
