#include "e2eio/io/throttled_source.hpp"

#include <algorithm>
#include <cmath>
#include <condition_variable>
#include <mutex>
#include <utility>

#include "e2eio/base/error.hpp"

namespace e2eio {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::nanoseconds;

bool sleep_until(Clock::time_point end, const std::stop_token& stop) {
  std::mutex mutex;
  std::condition_variable_any woken;
  std::unique_lock lock(mutex);
  (void)woken.wait_until(lock, stop, end, [] { return false; });
  return !stop.stop_requested();
}

bool is_amount(double value) { return std::isfinite(value) && value >= 0; }

}  // namespace

ThrottledSource::ThrottledSource(std::unique_ptr<const Source> source, const Throttle& throttle)
    : source_(std::move(source)) {
  if (!is_amount(throttle.bytes_per_s) || !is_amount(throttle.seek_s) || throttle.seek_s > 3600) {
    throw Error(ErrorKind::kInvalidArgument,
                cat("throttle of ", throttle.bytes_per_s, " bytes/s and ", throttle.seek_s,
                    " s per seek, expected numbers of at least 0, and at most an hour"));
  }
  seek_ = std::chrono::duration_cast<nanoseconds>(std::chrono::duration<double>(throttle.seek_s));
  ns_per_byte_ = throttle.bytes_per_s > 0 ? 1e9 / throttle.bytes_per_s : 0;
}

std::int64_t ThrottledSource::book(std::uint64_t offset_bytes, std::size_t n_bytes,
                                   std::int64_t now_ns) const {
  // A day is long enough, and keeps the sums within 64 bits.
  const auto transfer =
      static_cast<std::int64_t>(std::min(static_cast<double>(n_bytes) * ns_per_byte_, 86400e9));
  std::int64_t before = busy_until_ns_.load();
  std::int64_t end = 0;
  do {
    end = std::max(before, now_ns) + transfer;
  } while (!busy_until_ns_.compare_exchange_weak(before, end));
  const bool seeks = last_end_.exchange(offset_bytes + n_bytes) != offset_bytes;
  return seeks ? std::max(end, now_ns + seek_.count() + transfer) : end;
}

void ThrottledSource::read(std::uint64_t offset_bytes, std::span<std::byte> to) const {
  const ReadRequest request{offset_bytes, to};
  (void)read_many({&request, 1}, {});
}

ReadReport ThrottledSource::read_many(std::span<const ReadRequest> requests,
                                      const std::stop_token& stop) const {
  const std::int64_t now = nanoseconds(Clock::now().time_since_epoch()).count();
  std::int64_t end = now;
  for (const ReadRequest& request : requests) {
    end = std::max(end, book(request.offset_bytes, request.to.size(), now));
  }
  const auto n_new = static_cast<int>(requests.size());
  const int n = under_way_ += n_new;
  int most = max_under_way_.load();
  while (most < n && !max_under_way_.compare_exchange_weak(most, n)) {
  }
  const bool waited = sleep_until(Clock::time_point(nanoseconds(end)), stop);
  under_way_ -= n_new;
  const bool stopped = !waited || source_->read_many(requests, stop).stopped;
  return {.n_waited = requests.size(), .stopped = stopped};
}

}  // namespace e2eio
