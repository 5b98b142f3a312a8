// Makes a source slow, so that a slow disk or a distant server can be reproduced anywhere.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>

#include "e2eio/io/source.hpp"

namespace e2eio {

struct Throttle {
  double bytes_per_s = 0;  // of all threads together; 0: as fast as the source is
  double seek_s = 0;       // added to a read that does not begin where the last one ended
};

// A tool for measurements and tests. Bandwidth is shared by all threads that read this source (a
// token bucket without a reserve: what was not used is lost). Seeks overlap, those of several
// threads and those of one read_many(), as they do on a server or a solid-state disk.
// Thread rule: as Source. Holds no lock, so that a forked child can use it.
class ThrottledSource final : public Source {
 public:
  // Throws: Error(kInvalidArgument) if a number is negative or not finite.
  ThrottledSource(std::unique_ptr<const Source> source, const Throttle& throttle);

  void read(std::uint64_t offset_bytes, std::span<std::byte> to) const override;
  // A stop ends the waiting at once.
  ReadReport read_many(std::span<const ReadRequest> requests,
                       const std::stop_token& stop) const override;
  [[nodiscard]] bool always_waits() const noexcept override { return true; }
  void advise(std::uint64_t offset_bytes, std::uint64_t n_bytes,
              Advice advice) const noexcept override {
    source_->advise(offset_bytes, n_bytes, advice);
  }
  [[nodiscard]] std::uint64_t n_bytes() const noexcept override { return source_->n_bytes(); }
  [[nodiscard]] const std::string& path() const noexcept override { return source_->path(); }
  [[nodiscard]] std::string kind() const override { return "throttled " + source_->kind(); }

  // The most reads that were under way at once so far.
  [[nodiscard]] int max_under_way() const noexcept { return max_under_way_; }

 private:
  // Books the bandwidth for a read that begins now; returns when it is over, by the steady clock.
  [[nodiscard]] std::int64_t book(std::uint64_t offset_bytes, std::size_t n_bytes,
                                  std::int64_t now_ns) const;

  std::unique_ptr<const Source> source_;
  std::chrono::nanoseconds seek_;
  double ns_per_byte_;
  mutable std::atomic<std::int64_t> busy_until_ns_ = 0;  // of the steady clock
  mutable std::atomic<std::uint64_t> last_end_ = 0;
  mutable std::atomic<int> under_way_ = 0;
  mutable std::atomic<int> max_under_way_ = 0;
};

}  // namespace e2eio
