// Cache lines of two registers each; inside a target region.

void store_zeros(std::byte* out) noexcept {
  auto* const to = reinterpret_cast<__m256i*>(out);
  _mm256_store_si256(to, _mm256_setzero_si256());
  _mm256_store_si256(to + 1, _mm256_setzero_si256());
}

// Moves a line and leaves zeros behind.
void store_line(std::byte* staged, std::byte* out) noexcept {
  auto* const from = reinterpret_cast<__m256i*>(staged);
  auto* const to = reinterpret_cast<__m256i*>(out);
  _mm256_store_si256(to, _mm256_load_si256(from));
  _mm256_store_si256(to + 1, _mm256_load_si256(from + 1));
  store_zeros(staged);
}

void stream_line(std::byte* staged, std::byte* out) noexcept {
  auto* const from = reinterpret_cast<__m256i*>(staged);
  auto* const to = reinterpret_cast<__m256i*>(out);
  _mm256_stream_si256(to, _mm256_load_si256(from));
  _mm256_stream_si256(to + 1, _mm256_load_si256(from + 1));
  store_zeros(staged);
}

// 64 flags of 0 or 1 as a mask; clears them.
std::uint64_t take_flags(std::uint8_t* flags) noexcept {
  auto* const at = reinterpret_cast<__m256i*>(flags);
  const __m256i low = _mm256_loadu_si256(at);
  const __m256i high = _mm256_loadu_si256(at + 1);
  const auto mask_of = [](__m256i eight) {
    return static_cast<std::uint32_t>(_mm256_movemask_epi8(_mm256_slli_epi16(eight, 7)));
  };
  const std::uint64_t mask = mask_of(low) | std::uint64_t{mask_of(high)} << 32U;
  if (mask != 0) {
    _mm256_storeu_si256(at, _mm256_setzero_si256());
    _mm256_storeu_si256(at + 1, _mm256_setzero_si256());
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
