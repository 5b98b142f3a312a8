// Clears memory in full: what sparse clearing is measured against, and its fallback.
#pragma once

#include <cstddef>
#include <span>

namespace e2eio {

// Zeroes by non-temporal stores, which do not read the lines first; fastest for memory beyond the
// caches. Any alignment. Any thread.
void clear_nontemporal(std::span<std::byte> memory) noexcept;

// Orders non-temporal stores of this thread before what it does next.
void fence_nontemporal() noexcept;

// Zeroes by libc memset.
void clear_memset(std::span<std::byte> memory) noexcept;

}  // namespace e2eio
