// Cache lines of four registers each.

void store_zeros(std::byte* out) noexcept {
  auto* const to = reinterpret_cast<std::uint8_t*>(out);
  const uint8x16_t zero = vdupq_n_u8(0);
  for (std::size_t at = 0; at < 64; at += 16) {
    vst1q_u8(to + at, zero);
  }
}

// No intrinsic has the store that does not stay in the caches.
inline void stream_pair(std::byte* out, uint8x16_t first, uint8x16_t second) noexcept {
  __asm__("stnp %q1, %q2, [%0]" : : "r"(out), "w"(first), "w"(second) : "memory");
}

// Moves a line and leaves zeros behind.
void store_line(std::byte* staged, std::byte* out) noexcept {
  const auto* const from = reinterpret_cast<const std::uint8_t*>(staged);
  auto* const to = reinterpret_cast<std::uint8_t*>(out);
  for (std::size_t at = 0; at < 64; at += 16) {
    vst1q_u8(to + at, vld1q_u8(from + at));
  }
  store_zeros(staged);
}

void stream_line(std::byte* staged, std::byte* out) noexcept {
  const auto* const from = reinterpret_cast<const std::uint8_t*>(staged);
  stream_pair(out, vld1q_u8(from), vld1q_u8(from + 16));
  stream_pair(out + 32, vld1q_u8(from + 32), vld1q_u8(from + 48));
  store_zeros(staged);
}
