// Reads that somebody outside the core does: sources put them in, a server takes them, fetches the
// bytes, and puts these where the reader waits for them.
//
//   ServedSource::read_many -> [ queue ] -> take() ... complete() or fail() -> the reader goes on
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <vector>

#include "e2eio/base/bytes.hpp"
#include "e2eio/base/error.hpp"
#include "e2eio/io/source.hpp"

namespace e2eio {

// A forked child has a queue of its own behind the same object: its parent's reads are none of its
// business, and a lock that the parent held at the fork is never waited for.
// Thread rule: any thread.
class ReadQueue {
 public:
  // Bytes [offset_bytes, offset_bytes + n_bytes) of a source.
  struct Ticket {
    std::uint64_t id = 0;
    std::uint64_t source = 0;
    std::uint64_t offset_bytes = 0;
    std::uint64_t n_bytes = 0;
    bool past_cache = false;  // what a cache has is damaged
  };
  // What has happened since the last take().
  struct News {
    std::vector<Ticket> tickets;           // to be served
    std::vector<std::uint64_t> abandoned;  // ids of tickets that nobody waits for any more
    std::vector<std::uint64_t> removed;    // sources
  };

  ReadQueue();
  ReadQueue(const ReadQueue&) = delete;
  ReadQueue& operator=(const ReadQueue&) = delete;
  ~ReadQueue();

  // The source's side. Numbers are never used again.
  [[nodiscard]] std::uint64_t add_source();
  void remove_source(std::uint64_t source) noexcept;
  // Waits until all is read, or the stop is asked for.
  // Throws: what the server says, of the first read that fails.
  [[nodiscard]] ReadReport read(std::uint64_t source, std::span<const ReadRequest> requests,
                                bool past_cache, const std::stop_token& stop);

  // The server's side. A descriptor that can be read from while there are news; of this process.
  [[nodiscard]] int descriptor();
  [[nodiscard]] News take();
  // Nothing happens if nobody waits for the ticket any more. Too few or too many bytes: an error.
  void complete(std::uint64_t id, ByteView bytes, std::size_t n_retries);
  void fail(std::uint64_t id, const Error& error);
  // All reads of the source, now and later.
  void fail_source(std::uint64_t source, const Error& error);
  // All reads, now and later: nobody serves any more.
  void close(const Error& error);
  [[nodiscard]] std::uint64_t n_sources() const noexcept { return n_sources_; }

 private:
  struct State;
  [[nodiscard]] State& state();

  // Owned; a forked child leaves its parent's alone, lock and all.
  std::atomic<State*> state_;
  std::atomic<std::uint64_t> next_source_ = 1;
  std::atomic<std::uint64_t> n_sources_ = 0;
};

}  // namespace e2eio
