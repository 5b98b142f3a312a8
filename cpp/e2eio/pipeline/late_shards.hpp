// Shards whose bytes come when they are first touched.
//
//   decoding thread -> ShardSet::await() -> LateShards::await() -> wanted -> next_wanted() -> maker
//          ^                                                                                   |
//          +--------------------- the shard, or the error that making it gave <-- attach(), fail()
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <utility>
#include <vector>

#include "e2eio/base/error.hpp"
#include "e2eio/format/shard_reader.hpp"

namespace e2eio {

// The shards of a dataset: how many samples each has is known, what they hold is made on demand by
// whoever asks next_wanted(). A shard that is there stays. Thread rule: any thread. Starts none. In
// a forked child, where the locks may be those of threads that are not there, only find(),
// reader() and the constants may be called, and destroying it is safe.
class LateShards {
 public:
  // Bytes of a record that is not there yet, about: a jet takes 3 kB.
  static constexpr std::uint64_t kRecordBytes = 3500;

  struct Wanted {
    std::size_t index = 0;
    bool awaited = false;  // else it is to be made ahead of need
  };

  // `ahead`: so many shards after the last one that was touched are made ahead of need.
  // Throws: Error(kInvalidArgument) if there is no shard, or one of no samples.
  LateShards(Schema schema, std::vector<std::uint64_t> n_samples, std::size_t ahead);
  LateShards(const LateShards&) = delete;
  LateShards& operator=(const LateShards&) = delete;
  ~LateShards();

  [[nodiscard]] const Schema& schema() const noexcept { return schema_; }
  [[nodiscard]] std::size_t n_shards() const noexcept { return n_samples_.size(); }
  [[nodiscard]] std::uint64_t n_samples(std::size_t index) const noexcept {
    return n_samples_[index];
  }
  // Shards that are not there.
  [[nodiscard]] std::size_t n_missing() const noexcept { return n_missing_; }

  // The shard, null if it is not there. Lives as long as this object.
  [[nodiscard]] const ShardReader* find(std::size_t index) const noexcept {
    return there_[index].load(std::memory_order_acquire);
  }
  [[nodiscard]] std::shared_ptr<const ShardReader> reader(std::size_t index) const;

  // Waits until all of these shards (in any order, repetitions allowed) are there; false: the stop
  // was asked for, or the time is over. Throws: what fail() was given; Error(kInternal) after
  // close().
  [[nodiscard]] bool await(std::span<const std::size_t> indices, const std::stop_token& stop);
  [[nodiscard]] bool await(std::span<const std::size_t> indices,
                           std::chrono::duration<double> timeout);

  // For makers: waits for a shard to make, those first that somebody waits for. It is the caller's
  // then, until attach(), fail() or put_off(). Null: closed, or nothing is left to make.
  [[nodiscard]] std::optional<Wanted> next_wanted();

  // Throws: Error(kCorrupt) if it is not the shard: another schema, or number of samples.
  void attach(std::size_t index, std::shared_ptr<const ShardReader> shard);
  // For all that wait for it, and, but for an Error(kIo), which may pass, for all that will.
  void fail(std::size_t index, const Error& error);
  // Somebody else makes it: do not ask for it again before it is waited for.
  void put_off(std::size_t index);

  // Ends all waiting; idempotent.
  void close();

 private:
  struct State;

  [[nodiscard]] bool all_there(std::span<const std::size_t> indices) const noexcept;
  template <typename Wait>
  [[nodiscard]] bool await_with(std::span<const std::size_t> indices, const Wait& wait);

  const Schema schema_;
  const std::vector<std::uint64_t> n_samples_;
  // Each is set once, after its owner in State.
  std::vector<std::atomic<const ShardReader*>> there_;
  std::atomic<std::size_t> n_missing_;
  std::atomic<std::size_t> touched_end_{0};  // after the last shard that was touched; 0: none
  std::unique_ptr<State> state_;
};

// One of them. Thread rule: as LateShards.
class LateShard {
 public:
  LateShard(std::shared_ptr<LateShards> of, std::size_t index)
      : of_(std::move(of)), index_(index) {}
  [[nodiscard]] LateShards& of() const noexcept { return *of_; }
  [[nodiscard]] std::size_t index() const noexcept { return index_; }
  [[nodiscard]] const ShardReader* find() const noexcept { return of_->find(index_); }
  [[nodiscard]] const Schema& schema() const noexcept { return of_->schema(); }
  [[nodiscard]] std::uint64_t n_samples() const noexcept { return of_->n_samples(index_); }
  // Of the file; about, if it is not there.
  [[nodiscard]] std::uint64_t n_bytes() const noexcept;

 private:
  std::shared_ptr<LateShards> of_;
  std::size_t index_;
};

}  // namespace e2eio
