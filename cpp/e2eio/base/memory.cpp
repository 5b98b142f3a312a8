#include "e2eio/base/memory.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <new>

namespace e2eio {
namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20U;

std::size_t round_up(std::size_t n_bytes) {
  const std::size_t wanted = n_bytes == 0 ? 1 : n_bytes;
  return (wanted + kHugePage - 1) / kHugePage * kHugePage;
}

std::byte* map_zeroed(std::size_t mapped_bytes) {
  void* memory = ::mmap(nullptr, mapped_bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) {
    throw std::bad_alloc();
  }
  // Advice only: without huge pages everything works, with more TLB misses.
  (void)::madvise(memory, mapped_bytes, MADV_HUGEPAGE);
  return static_cast<std::byte*>(memory);
}

// What `call` returns, called in the lock's context; the thread's own is current again afterwards.
template <typename Call>
int in_context(const PageLock& lock, const Call& call) {
  if (lock.enter == nullptr) {
    return call();
  }
  if (const int failed = lock.enter(lock.context); failed != 0) {
    return failed;
  }
  const int result = call();
  (void)lock.leave(nullptr);
  return result;
}

}  // namespace

void advise_huge_pages(std::span<std::byte> memory) noexcept {
  void* first = memory.data();
  std::size_t n_bytes = memory.size();
  if (std::align(kHugePage, kHugePage, first, n_bytes) != nullptr) {
    (void)::madvise(first, n_bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
  }
}

void ZeroedMemory::Unmap::operator()(std::byte* memory) const noexcept {
  if (lock.unlock != nullptr && ::getpid() != owner) {
    return;  // a forked child does not have it
  }
  if (lock.unlock != nullptr) {
    // Fails at the end of a process whose driver has gone, and need not work.
    (void)in_context(lock, [&] { return lock.unlock(memory); });
  }
  (void)::munmap(memory, mapped_bytes);
}

ZeroedMemory::ZeroedMemory(std::size_t n_bytes, const PageLock& page_lock)
    : n_bytes_(n_bytes), memory_(map_zeroed(round_up(n_bytes)), Unmap{round_up(n_bytes)}) {
  const auto lock = [&] {
    return page_lock.lock(memory_.get(), round_up(n_bytes), page_lock.flags);
  };
  if (n_bytes > 0 && page_lock.lock != nullptr && in_context(page_lock, lock) == 0) {
    memory_.get_deleter().lock = page_lock;
    memory_.get_deleter().owner = ::getpid();
    // After a fork, older kernels give whoever writes first a copy of the page: the process would
    // go on in the copy, and the device would go on reading the old one.
    (void)::madvise(memory_.get(), round_up(n_bytes), MADV_DONTFORK);
  }
}

}  // namespace e2eio
