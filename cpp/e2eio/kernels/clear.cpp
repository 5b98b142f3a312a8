#include "e2eio/kernels/clear.hpp"

#include <algorithm>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

namespace e2eio {

void clear_memset(std::span<std::byte> memory) noexcept {
  if (!memory.empty()) {
    std::memset(memory.data(), 0, memory.size());
  }
}

void fence_nontemporal() noexcept {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

void clear_nontemporal(std::span<std::byte> memory) noexcept {
#if defined(__x86_64__)
  constexpr std::size_t kLine = 64;
  const auto address = reinterpret_cast<std::uintptr_t>(memory.data());
  const std::size_t head = std::min(memory.size(), (kLine - address % kLine) % kLine);
  const std::size_t lines = (memory.size() - head) / kLine;
  clear_memset(memory.first(head));
  std::byte* at = memory.data() + head;
  const __m128i zero = _mm_setzero_si128();
  for (std::size_t i = 0; i < lines; ++i, at += kLine) {
    auto* const line = reinterpret_cast<__m128i*>(at);
    _mm_stream_si128(line, zero);
    _mm_stream_si128(line + 1, zero);
    _mm_stream_si128(line + 2, zero);
    _mm_stream_si128(line + 3, zero);
  }
  fence_nontemporal();
  clear_memset(memory.subspan(head + lines * kLine));
#else
  clear_memset(memory);
#endif
}

}  // namespace e2eio
