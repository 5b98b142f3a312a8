#include "e2eio/io/read_queue.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <map>
#include <mutex>
#include <utility>

#include "e2eio/base/interrupt.hpp"
#include "e2eio/io/file_descriptor.hpp"

namespace e2eio {
namespace {

constexpr std::chrono::milliseconds kInterruptInterval{50};

// The reads that one call waits for.
struct Group {
  std::size_t n_left = 0;
  std::size_t n_retries = 0;
  std::optional<Error> error;
};

struct Waiting {
  std::span<std::byte> to;
  std::uint64_t source = 0;
  Group* group = nullptr;
  bool taken = false;
  bool copying = false;  // bytes are on their way into `to`
};

}  // namespace

struct ReadQueue::State {
  const pid_t pid = ::getpid();
  FileDescriptor event{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  std::mutex mutex;  // guards what follows
  std::condition_variable_any changed;
  std::uint64_t next_id = 1;
  std::map<std::uint64_t, Waiting> waiting;  // by ticket
  News news;
  std::map<std::uint64_t, Error> failed;  // sources
  std::optional<Error> closed;

  State() {
    if (event.get() < 0) {
      throw_io("cannot make an event descriptor", "a queue of reads", errno);
    }
  }

  void tell() const noexcept {
    const std::uint64_t one = 1;
    (void)!::write(event.get(), &one, sizeof one);  // full only if nobody has taken news for ages
  }

  void check(std::uint64_t source) const {
    if (closed) {
      throw Error(*closed);
    }
    if (const auto found = failed.find(source); found != failed.end()) {
      throw Error(found->second);
    }
  }

  void end(std::map<std::uint64_t, Waiting>::iterator at, const Error& error) {
    if (!at->second.group->error) {
      at->second.group->error = error;
    }
  }

  // Leaves no ticket of [first, end) behind, and no copy into its destination under way.
  void abandon(std::uint64_t first, std::uint64_t end, std::unique_lock<std::mutex>& lock) {
    bool any_taken = false;
    for (std::uint64_t id = first; id < end; ++id) {
      changed.wait(lock, [&] {
        const auto at = waiting.find(id);
        return at == waiting.end() || !at->second.copying;
      });
      const auto at = waiting.find(id);
      if (at == waiting.end()) {
        continue;
      }
      if (at->second.taken) {
        news.abandoned.push_back(id);
        any_taken = true;
      }
      waiting.erase(at);
    }
    std::erase_if(news.tickets, [&](const Ticket& t) { return t.id >= first && t.id < end; });
    if (any_taken) {
      tell();
    }
  }
};

ReadQueue::ReadQueue() : state_(std::make_unique<State>().release()) {}

ReadQueue::~ReadQueue() {
  State* const state = state_.load();
  // In a forked child it stays: its condition would wait for the parent's threads.
  if (state->pid == ::getpid()) {
    const std::unique_ptr<State> own(state);
  }
}

ReadQueue::State& ReadQueue::state() {
  State* state = state_.load();
  if (state->pid == ::getpid()) {
    return *state;
  }
  auto own = std::make_unique<State>();
  if (state_.compare_exchange_strong(state, own.get())) {
    return *own.release();
  }
  return *state;
}

std::uint64_t ReadQueue::add_source() {
  ++n_sources_;
  return next_source_++;
}

void ReadQueue::remove_source(std::uint64_t source) noexcept {
  State& own = state();
  const std::lock_guard lock(own.mutex);
  --n_sources_;
  own.failed.erase(source);
  own.news.removed.push_back(source);
  own.tell();
}

ReadReport ReadQueue::read(std::uint64_t source, std::span<const ReadRequest> requests,
                           bool past_cache, const std::stop_token& stop) {
  State& own = state();
  Group group;
  std::unique_lock lock(own.mutex);
  own.check(source);
  const std::uint64_t first = own.next_id;
  for (const ReadRequest& request : requests) {
    if (request.to.empty()) {
      continue;
    }
    const std::uint64_t id = own.next_id++;
    own.waiting.emplace(id, Waiting{request.to, source, &group});
    own.news.tickets.push_back({id, source, request.offset_bytes, request.to.size(), past_cache});
    ++group.n_left;
  }
  const std::uint64_t end = own.next_id;
  if (group.n_left == 0) {
    return {};
  }
  own.tell();
  const auto over = [&] { return group.n_left == 0 || group.error.has_value(); };
  bool done = false;
  if (const InterruptScope::Check interrupted = InterruptScope::current()) {
    while (!(done = own.changed.wait_for(lock, stop, kInterruptInterval, over)) &&
           !stop.stop_requested() && !group.error) {
      lock.unlock();
      const bool give_up = interrupted();
      lock.lock();
      if (give_up) {
        group.error = Error(ErrorKind::kInterrupted, "reading was interrupted");
      }
    }
  } else {
    done = own.changed.wait(lock, stop, over);
  }
  own.abandon(first, end, lock);
  if (group.error) {
    throw Error(*group.error);
  }
  return {.n_waited = requests.size(), .n_retries = group.n_retries, .stopped = !done};
}

int ReadQueue::descriptor() { return state().event.get(); }

ReadQueue::News ReadQueue::take() {
  State& own = state();
  const std::lock_guard lock(own.mutex);
  std::uint64_t count = 0;
  (void)!::read(own.event.get(), &count, sizeof count);
  for (const Ticket& ticket : own.news.tickets) {
    own.waiting.at(ticket.id).taken = true;
  }
  return std::exchange(own.news, {});
}

void ReadQueue::complete(std::uint64_t id, ByteView bytes, std::size_t n_retries) {
  State& own = state();
  std::unique_lock lock(own.mutex);
  const auto at = own.waiting.find(id);
  if (at == own.waiting.end()) {
    return;
  }
  Waiting& waiting = at->second;
  if (bytes.size() != waiting.to.size()) {
    own.end(at, Error(ErrorKind::kInternal, cat("a read of ", waiting.to.size(),
                                                " bytes was served with ", bytes.size())));
    own.changed.notify_all();
    return;
  }
  waiting.copying = true;  // the reader stays until it is over
  lock.unlock();
  std::memcpy(waiting.to.data(), bytes.data(), bytes.size());
  lock.lock();
  --waiting.group->n_left;
  waiting.group->n_retries += n_retries;
  own.waiting.erase(at);
  own.changed.notify_all();
}

void ReadQueue::fail(std::uint64_t id, const Error& error) {
  State& own = state();
  const std::lock_guard lock(own.mutex);
  if (const auto at = own.waiting.find(id); at != own.waiting.end()) {
    own.end(at, error);
    own.changed.notify_all();
  }
}

void ReadQueue::fail_source(std::uint64_t source, const Error& error) {
  State& own = state();
  const std::lock_guard lock(own.mutex);
  own.failed.insert_or_assign(source, error);
  for (auto at = own.waiting.begin(); at != own.waiting.end(); ++at) {
    if (at->second.source == source) {
      own.end(at, error);
    }
  }
  own.changed.notify_all();
}

void ReadQueue::close(const Error& error) {
  State& own = state();
  const std::lock_guard lock(own.mutex);
  own.closed = error;
  for (auto at = own.waiting.begin(); at != own.waiting.end(); ++at) {
    own.end(at, error);
  }
  own.changed.notify_all();
}

}  // namespace e2eio
