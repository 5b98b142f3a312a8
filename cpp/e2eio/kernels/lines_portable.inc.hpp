// Cache lines for the baseline.

// Moves a line and leaves zeros behind.
void store_line(std::byte* staged, std::byte* out) noexcept {
  std::memcpy(out, staged, 64);
  std::memset(staged, 0, 64);
}

#if defined(__x86_64__)
// SSE2 is part of the baseline.
void stream_line(std::byte* staged, std::byte* out) noexcept {
  auto* const from = reinterpret_cast<__m128i*>(staged);
  auto* const to = reinterpret_cast<__m128i*>(out);
  for (int i = 0; i < 4; ++i) {
    _mm_stream_si128(to + i, _mm_load_si128(from + i));
    _mm_store_si128(from + i, _mm_setzero_si128());
  }
}
#else
void stream_line(std::byte* staged, std::byte* out) noexcept { store_line(staged, out); }
#endif
