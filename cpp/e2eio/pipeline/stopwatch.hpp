// Time that is spent somewhere, added up over threads.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

namespace e2eio {

// Adds the time until it dies. Thread rule: one thread.
class Stopwatch {
 public:
  explicit Stopwatch(std::atomic<std::uint64_t>& nanoseconds) : nanoseconds_(&nanoseconds) {}
  Stopwatch(const Stopwatch&) = delete;
  Stopwatch& operator=(const Stopwatch&) = delete;
  ~Stopwatch() {
    const auto passed = std::chrono::steady_clock::now() - begin_;
    *nanoseconds_ += static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::nanoseconds>(passed).count());
  }

 private:
  std::atomic<std::uint64_t>* nanoseconds_;
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

}  // namespace e2eio
