// Whether the calling thread should give up its wait: somebody outside the core may know.
#pragma once

#include <utility>

namespace e2eio {

// For the thread that makes it, as long as it lives: `check` says whether to give up. It may be
// called several times a second. Thread rule: one thread.
class InterruptScope {
 public:
  using Check = bool (*)();
  explicit InterruptScope(Check check) noexcept : before_(std::exchange(current(), check)) {}
  InterruptScope(const InterruptScope&) = delete;
  InterruptScope& operator=(const InterruptScope&) = delete;
  ~InterruptScope() { current() = before_; }

  // Of the calling thread; nullptr: it cannot be interrupted.
  [[nodiscard]] static Check& current() noexcept {
    thread_local Check check = nullptr;
    return check;
  }

 private:
  Check before_;
};

}  // namespace e2eio
