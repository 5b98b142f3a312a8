#include "e2eio/pipeline/late_shards.hpp"

#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>

namespace e2eio {

namespace {

enum class Stage : std::uint8_t { kMissing, kInWork, kThere, kFailed };

struct Entry {
  Stage stage = Stage::kMissing;
  bool put_off = false;
  bool settled = false;  // there, or failed for good
  std::size_t n_waiters = 0;
  std::optional<Error> error;
  std::shared_ptr<const ShardReader> owner;
};

}  // namespace

// Everything but `process` and the owners of shards that are there is guarded by `mutex`.
struct LateShards::State {
  explicit State(std::size_t n_shards, std::size_t n_ahead)
      : entries(n_shards), ahead(std::min(n_ahead, n_shards)) {}

  // Requires the lock. The next shard to make; null: none at present.
  std::optional<Wanted> pick(std::size_t touched_end) {
    while (!queue.empty()) {
      const std::size_t index = queue.front();
      queue.pop_front();
      if (entries[index].stage == Stage::kMissing && entries[index].n_waiters > 0) {
        return Wanted{.index = index, .awaited = true};
      }
    }
    for (std::size_t i = 0; touched_end > 0 && i < ahead; ++i) {
      const std::size_t index = (touched_end + i) % entries.size();
      if (entries[index].stage == Stage::kMissing && !entries[index].put_off) {
        return Wanted{.index = index};
      }
    }
    return std::nullopt;
  }

  // Requires the lock.
  void register_waiter(std::span<const std::size_t> indices) {
    for (const std::size_t index : indices) {
      Entry& entry = entries[index];
      if (++entry.n_waiters == 1 && entry.stage == Stage::kMissing) {
        queue.push_back(index);
      }
    }
  }

  void forget_waiter(std::span<const std::size_t> indices) {
    for (const std::size_t index : indices) {
      Entry& entry = entries[index];
      if (--entry.n_waiters == 0) {
        may_try_again(entry);
      }
    }
  }

  // Requires: nobody waits for the entry.
  static void may_try_again(Entry& entry) {
    if (entry.stage == Stage::kFailed && entry.error && entry.error->kind() == ErrorKind::kIo) {
      entry.stage = Stage::kMissing;
      entry.put_off = true;  // not over and over, ahead of need
      entry.error.reset();
    }
  }

  void settle(Entry& entry) {
    n_settled += entry.settled ? 0 : 1;
    entry.settled = true;
  }

  [[nodiscard]] const Entry* first_failed(std::span<const std::size_t> indices) const {
    for (const std::size_t index : indices) {
      if (entries[index].stage == Stage::kFailed) {
        return &entries[index];
      }
    }
    return nullptr;
  }

  const pid_t process = ::getpid();
  std::mutex mutex;
  std::condition_variable_any came;   // for those who wait for shards
  std::condition_variable_any asked;  // for makers
  std::vector<Entry> entries;
  std::deque<std::size_t> queue;  // that somebody waited for when they came in
  const std::size_t ahead;
  std::size_t n_settled = 0;
  bool closed = false;
};

LateShards::LateShards(Schema schema, std::vector<std::uint64_t> n_samples, std::size_t ahead)
    : schema_(std::move(schema)),
      n_samples_(std::move(n_samples)),
      there_(n_samples_.size()),
      n_missing_(n_samples_.size()),
      state_(std::make_unique<State>(n_samples_.size(), ahead)) {
  if (n_samples_.empty() || std::count(n_samples_.begin(), n_samples_.end(), 0) > 0) {
    throw Error(ErrorKind::kInvalidArgument, "no shards, or one without samples");
  }
}

LateShards::~LateShards() {
  if (::getpid() != state_->process) {
    // A forked child: threads of the parent may wait, as far as the conditions know.
    [[maybe_unused]] auto* const leaked = state_.release();
    return;
  }
  close();
}

std::shared_ptr<const ShardReader> LateShards::reader(std::size_t index) const {
  return find(index) == nullptr ? nullptr : state_->entries[index].owner;
}

bool LateShards::all_there(std::span<const std::size_t> indices) const noexcept {
  return std::all_of(indices.begin(), indices.end(),
                     [this](std::size_t index) { return find(index) != nullptr; });
}

template <typename Wait>
bool LateShards::await_with(std::span<const std::size_t> indices, const Wait& wait) {
  if (n_missing_.load(std::memory_order_acquire) == 0 || indices.empty()) {
    return true;
  }
  const std::size_t end = *std::max_element(indices.begin(), indices.end()) + 1;
  const bool is_further = end > touched_end_.load(std::memory_order_relaxed);
  if (!is_further && all_there(indices)) {
    return true;
  }
  State& state = *state_;
  std::unique_lock lock(state.mutex);
  touched_end_ = std::max(end, touched_end_.load(std::memory_order_relaxed));
  state.asked.notify_all();
  if (all_there(indices)) {
    return true;
  }
  state.register_waiter(indices);
  const bool over = wait(state.came, lock, [&] {
    return state.closed || state.first_failed(indices) != nullptr || all_there(indices);
  });
  const Entry* const failed = state.first_failed(indices);
  const std::optional<Error> error = failed == nullptr ? std::nullopt : failed->error;
  const bool closed = state.closed && !all_there(indices);
  state.forget_waiter(indices);
  if (error) {
    throw Error(*error);
  }
  if (over && closed) {
    throw Error(ErrorKind::kInternal, "a shard was asked for after the dataset was closed");
  }
  return over;
}

bool LateShards::await(std::span<const std::size_t> indices, const std::stop_token& stop) {
  return await_with(indices, [&stop](auto& came, auto& lock, const auto& done) {
    return came.wait(lock, stop, done);
  });
}

bool LateShards::await(std::span<const std::size_t> indices,
                       std::chrono::duration<double> timeout) {
  return await_with(indices, [timeout](auto& came, auto& lock, const auto& done) {
    return came.wait_for(lock, timeout, done);
  });
}

std::optional<LateShards::Wanted> LateShards::next_wanted() {
  State& state = *state_;
  std::unique_lock lock(state.mutex);
  std::optional<Wanted> wanted;
  state.asked.wait(lock, [&] {
    if (state.closed || state.n_settled == n_shards()) {
      return true;
    }
    wanted = state.pick(touched_end_.load(std::memory_order_relaxed));
    return wanted.has_value();
  });
  if (state.closed || !wanted) {
    return std::nullopt;
  }
  state.entries[wanted->index].stage = Stage::kInWork;
  return wanted;
}

void LateShards::attach(std::size_t index, std::shared_ptr<const ShardReader> shard) {
  if (shard->schema() != schema_ || shard->n_samples() != n_samples_[index]) {
    throw Error(ErrorKind::kCorrupt,
                cat("wrong shard: ", shard->path(), ": found ", shard->n_samples(),
                    " samples of its schema, expected ", n_samples_[index], " of the dataset's"),
                Where{.path = shard->path()});
  }
  State& state = *state_;
  const std::lock_guard lock(state.mutex);
  Entry& entry = state.entries[index];
  if (entry.stage == Stage::kThere) {
    return;  // it stays what others read from already
  }
  entry.stage = Stage::kThere;
  entry.error.reset();
  entry.owner = std::move(shard);
  there_[index].store(entry.owner.get(), std::memory_order_release);
  --n_missing_;
  state.settle(entry);
  state.came.notify_all();
  state.asked.notify_all();
}

void LateShards::fail(std::size_t index, const Error& error) {
  State& state = *state_;
  const std::lock_guard lock(state.mutex);
  Entry& entry = state.entries[index];
  if (entry.stage == Stage::kThere) {
    return;
  }
  entry.stage = Stage::kFailed;
  entry.error = error;
  if (error.kind() != ErrorKind::kIo) {
    state.settle(entry);
  } else if (entry.n_waiters == 0) {
    State::may_try_again(entry);
  }
  state.came.notify_all();
  state.asked.notify_all();
}

void LateShards::put_off(std::size_t index) {
  State& state = *state_;
  const std::lock_guard lock(state.mutex);
  Entry& entry = state.entries[index];
  if (entry.stage != Stage::kInWork) {
    return;
  }
  entry.stage = Stage::kMissing;
  entry.put_off = true;
  if (entry.n_waiters > 0) {
    state.queue.push_back(index);
    state.asked.notify_all();
  }
}

void LateShards::close() {
  State& state = *state_;
  const std::lock_guard lock(state.mutex);
  state.closed = true;
  state.came.notify_all();
  state.asked.notify_all();
}

std::uint64_t LateShard::n_bytes() const noexcept {
  const ShardReader* const shard = find();
  return shard != nullptr ? shard->n_bytes() : n_samples() * LateShards::kRecordBytes;
}

}  // namespace e2eio
