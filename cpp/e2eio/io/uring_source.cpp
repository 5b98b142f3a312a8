#include "e2eio/io/uring_source.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <system_error>
#include <vector>

#include "e2eio/base/error.hpp"

#ifdef E2EIO_HAVE_URING
#include <liburing.h>

#include <chrono>
#include <thread>
#endif

namespace e2eio {

#ifdef E2EIO_HAVE_URING

namespace {

// Reads under way at once. Enough for one NVMe device (docs/design/0004-reading.md); the rings of
// all threads take a few KiB of kernel memory each.
constexpr unsigned kDepth = 64;

// The largest read that is asked for in one go; the kernel's own limit is a little under 2 GiB.
constexpr std::size_t kMaxRead = std::size_t{1} << 30U;

// Thread rule: the thread that made it.
class Ring {
 public:
  // Returns null and sets errno if the kernel refuses.
  static std::unique_ptr<Ring> make() {
    auto made = std::make_unique<Ring>();
    const int error = -::io_uring_queue_init(kDepth, &made->ring_, 0);
    if (error != 0) {
      errno = error;
      return nullptr;
    }
    made->open_ = true;
    return made;
  }
  Ring() = default;
  Ring(const Ring&) = delete;
  Ring& operator=(const Ring&) = delete;
  ~Ring() {
    if (open_) {
      ::io_uring_queue_exit(&ring_);  // in a forked child: drops the child's share of it
    }
  }

  // What went wrong, if `error_number` or `ended` is set.
  struct Outcome {
    std::size_t n_waited = 0;
    std::size_t failed = 0;  // number of the request
    int error_number = 0;
    bool ended = false;
    bool broken = false;  // the ring itself: nothing is under way, do the reads in another way
  };
  Outcome read(int descriptor, std::span<const ReadRequest> requests);

  // False in a forked child: the ring is the parent's.
  [[nodiscard]] bool is_ours() const noexcept { return owner_ == ::getpid(); }

  // The bytes that are read of a request; valid after read().
  [[nodiscard]] std::size_t n_done(std::size_t request) const { return n_done_[request]; }

 private:
  [[nodiscard]] bool submit();
  void ask(int descriptor, const ReadRequest& request, std::size_t number);
  void reap(std::span<const ReadRequest> requests, Outcome& outcome);
  void drain();

  io_uring ring_{};
  bool open_ = false;
  pid_t owner_ = ::getpid();
  std::size_t n_unsent_ = 0;     // asked for, and not taken by the kernel yet
  std::size_t n_under_way_ = 0;  // taken by the kernel
  std::vector<std::size_t> n_done_;
  std::vector<std::size_t> again_;  // requests to ask for (once more)
};

void Ring::ask(int descriptor, const ReadRequest& request, std::size_t number) {
  io_uring_sqe* const entry = ::io_uring_get_sqe(&ring_);  // kDepth bounds what is asked for
  const std::size_t n_done = n_done_[number];
  ::io_uring_prep_read(entry, descriptor, request.to.data() + n_done,
                       static_cast<unsigned>(std::min(request.to.size() - n_done, kMaxRead)),
                       request.offset_bytes + n_done);
  ::io_uring_sqe_set_data(entry, reinterpret_cast<void*>(number));  // older ones have no data64
  ++n_unsent_;
}

bool Ring::submit() {
  while (n_unsent_ > 0) {
    const int taken = ::io_uring_submit(&ring_);
    if (taken < 0) {
      const bool later = taken == -EINTR || taken == -EAGAIN || taken == -EBUSY;
      if (later && (taken == -EINTR || n_under_way_ == 0)) {
        continue;
      }
      return later;  // the next submission follows when some reads are done
    }
    n_under_way_ += static_cast<std::size_t>(taken);
    n_unsent_ -= static_cast<std::size_t>(taken);
  }
  return true;
}

void Ring::reap(std::span<const ReadRequest> requests, Outcome& outcome) {
  io_uring_cqe* entry = nullptr;
  while (::io_uring_peek_cqe(&ring_, &entry) == 0) {
    const auto number = reinterpret_cast<std::size_t>(::io_uring_cqe_get_data(entry));
    const int result = entry->res;
    ::io_uring_cqe_seen(&ring_, entry);
    --n_under_way_;
    if (result == -EINTR || result == -EAGAIN) {
      again_.push_back(number);
      continue;
    }
    if (result <= 0) {
      outcome.failed = number;
      outcome.error_number = -result;
      outcome.ended = result == 0;
      continue;
    }
    n_done_[number] += static_cast<std::size_t>(result);
    if (n_done_[number] < requests[number].to.size()) {
      again_.push_back(number);
    }
  }
}

// The kernel writes into memory of ours for as long as a read is under way.
void Ring::drain() {
  while (n_under_way_ > 0) {
    io_uring_cqe* entry = nullptr;
    if (::io_uring_wait_cqe(&ring_, &entry) == 0) {
      ::io_uring_cqe_seen(&ring_, entry);
      --n_under_way_;
    } else {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
  }
}

Ring::Outcome Ring::read(int descriptor, std::span<const ReadRequest> requests) {
  Outcome outcome;
  n_done_.assign(requests.size(), 0);
  again_.clear();
  std::size_t next = 0;
  while (!outcome.ended && outcome.error_number == 0) {
    while (n_under_way_ + n_unsent_ < kDepth && (!again_.empty() || next < requests.size())) {
      std::size_t number = next;
      if (again_.empty()) {
        ++next;
      } else {
        number = again_.back();
        again_.pop_back();
      }
      if (!requests[number].to.empty()) {
        ask(descriptor, requests[number], number);
      }
    }
    if (n_under_way_ + n_unsent_ == 0) {
      return outcome;
    }
    if (!submit()) {
      outcome.broken = true;
      break;
    }
    // What the page cache had is done within the submission.
    const std::size_t n_ready = ::io_uring_cq_ready(&ring_);
    outcome.n_waited = std::min(requests.size(),
                                outcome.n_waited + n_under_way_ - std::min(n_under_way_, n_ready));
    if (n_ready == 0) {
      io_uring_cqe* entry = nullptr;
      const int error =
          -::io_uring_wait_cqe_nr(&ring_, &entry, static_cast<unsigned>(n_under_way_));
      if (error != 0 && error != EINTR && error != EAGAIN) {
        outcome.broken = true;
        break;
      }
    }
    reap(requests, outcome);
  }
  drain();
  outcome.broken = outcome.broken || n_unsent_ > 0;  // entries of this call must not run later
  return outcome;
}

// This thread's ring, made anew in a forked child; null if the kernel refuses.
std::unique_ptr<Ring>& thread_ring() {
  thread_local std::unique_ptr<Ring> ring;
  if (ring == nullptr || !ring->is_ours()) {
    ring = Ring::make();
  }
  return ring;
}

}  // namespace

const std::string& uring_refusal() {
  static const std::string refusal = [] {
    return Ring::make() != nullptr
               ? std::string()
               : cat("the kernel refuses io_uring: ", std::generic_category().message(errno));
  }();
  return refusal;
}

ReadReport UringSource::read_many(std::span<const ReadRequest> requests,
                                  const std::stop_token& stop) const {
  std::unique_ptr<Ring>& ring = thread_ring();
  if (ring == nullptr) {
    refused_ = true;
    return file_.read_many(requests, stop);
  }
  const Ring::Outcome outcome = ring->read(file_.descriptor(), requests);
  const std::size_t n_done = requests.empty() ? 0 : ring->n_done(outcome.failed);
  if (outcome.broken) {
    ring.reset();
  }
  if (outcome.ended) {
    file_.throw_ended(requests[outcome.failed], n_done);
  }
  if (outcome.error_number != 0) {
    file_.throw_refused(requests[outcome.failed], outcome.error_number);
  }
  if (outcome.broken) {
    refused_ = true;
    return file_.read_many(requests, stop);
  }
  return {.n_waited = outcome.n_waited};
}

#else

const std::string& uring_refusal() {
  static const std::string refusal = "e2eio was built without liburing";
  return refusal;
}

ReadReport UringSource::read_many(std::span<const ReadRequest> requests,
                                  const std::stop_token& stop) const {
  refused_ = true;
  return file_.read_many(requests, stop);
}

#endif

std::string UringSource::kind() const { return refused_ ? file_.kind() : "uring"; }

}  // namespace e2eio
