// Cache lines and runs of pixels without intrinsics of an instruction set; the text of
// generic.inc.hpp is written in terms of these.

void store_zeros(std::byte* out) noexcept { std::memset(out, 0, 64); }

// Moves a line and leaves zeros behind.
void store_line(std::byte* staged, std::byte* out) noexcept {
  std::memcpy(out, staged, 64);
  std::memset(staged, 0, 64);
}

#if defined(__x86_64__)
// SSE2 is part of the baseline.
void stream_zeros(std::byte* out) noexcept {
  auto* const to = reinterpret_cast<__m128i*>(out);
  for (int i = 0; i < 4; ++i) {
    _mm_stream_si128(to + i, _mm_setzero_si128());
  }
}

void stream_line(std::byte* staged, std::byte* out) noexcept {
  auto* const from = reinterpret_cast<__m128i*>(staged);
  auto* const to = reinterpret_cast<__m128i*>(out);
  for (int i = 0; i < 4; ++i) {
    _mm_stream_si128(to + i, _mm_load_si128(from + i));
    _mm_store_si128(from + i, _mm_setzero_si128());
  }
}
#else
void stream_zeros(std::byte* out) noexcept { store_zeros(out); }
void stream_line(std::byte* staged, std::byte* out) noexcept { store_line(staged, out); }
#endif

// 64 flags of 0 or 1 as a mask; clears them.
std::uint64_t take_flags(std::uint8_t* flags) noexcept {
  std::uint64_t mask = 0;
  for (unsigned i = 0; i < 8; ++i) {
    std::uint64_t eight = 0;
    std::memcpy(&eight, flags + std::size_t{8} * i, 8);
    // Bit 0 of byte k moves to bit 56 + k; no two products meet.
    mask |= (eight * 0x0102040810204080U >> 56U) << (8 * i);
  }
  if (mask != 0) {
    std::memset(flags, 0, 64);
  }
  return mask;
}

// base + number of each set bit, ascending; may write up to 64 past the last.
std::size_t list_bits(std::uint64_t mask, std::uint16_t base, std::uint16_t* out) noexcept {
  const auto n = static_cast<std::size_t>(std::popcount(mask));
  // Eight at a time without looking: a branch per bit costs more than the stores.
  for (std::size_t i = 0; i < n; i += 8) {
    for (std::size_t k = 0; k < 8; ++k) {
      out[i + k] = static_cast<std::uint16_t>(base + std::countr_zero(mask));
      mask &= mask - 1;
    }
  }
  return n;
}

template <typename T>
inline void fill_run(T* run, T value, std::uint32_t n) noexcept {
  for (std::uint32_t i = 0; i < n; ++i) {
    run[i] = value;
  }
}
