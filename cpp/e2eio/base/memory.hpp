// Large zeroed memory, aligned to pages, in huge pages where the system gives them.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

namespace e2eio {

// Asks the system for huge pages inside `memory` that was not written yet: fewer page faults and
// TLB misses where it gives them. Advice only.
void advise_huge_pages(std::span<std::byte> memory) noexcept;

// How memory is locked to its pages so that a device can read it by itself: two functions of the
// device's runtime, called with the address (and size and flags); 0 is success. Null: not locked.
// For CUDA: cudaHostRegister with the flag "portable", and cudaHostUnregister. Both work in the
// calling thread's context, and make one on the first device for a thread that has none; so they
// are called between enter(context) and leave(null): cuCtxPushCurrent and cuCtxPopCurrent.
struct PageLock {
  int (*lock)(void* memory, std::size_t n_bytes, unsigned flags) = nullptr;
  int (*unlock)(void* memory) = nullptr;
  unsigned flags = 0;
  int (*enter)(void* context) = nullptr;  // null: no context is needed
  int (*leave)(void** left) = nullptr;
  void* context = nullptr;
};

// Thread rule: as a vector; the memory is freed by the destructor. Starts as zeros. Memory that is
// page-locked is not there in forked children.
// Throws: std::bad_alloc if the system has no memory.
class ZeroedMemory {
 public:
  explicit ZeroedMemory(std::size_t n_bytes, const PageLock& page_lock = {});
  [[nodiscard]] std::byte* data() const noexcept { return memory_.get(); }
  [[nodiscard]] std::size_t n_bytes() const noexcept { return n_bytes_; }
  // False if nobody asked for it, or the system refused.
  [[nodiscard]] bool page_locked() const noexcept {
    return memory_.get_deleter().lock.unlock != nullptr;
  }

 private:
  struct Unmap {
    std::size_t mapped_bytes = 0;
    PageLock lock = {};  // without functions: not locked
    int owner = 0;       // the process that locked it
    void operator()(std::byte* memory) const noexcept;
  };
  std::size_t n_bytes_;
  std::unique_ptr<std::byte, Unmap> memory_;
};

}  // namespace e2eio
