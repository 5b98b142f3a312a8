// Cache lines of one register each; inside a target region.

void store_zeros(std::byte* out) noexcept { _mm512_store_si512(out, _mm512_setzero_si512()); }

// Moves a line and leaves zeros behind.
void store_line(std::byte* staged, std::byte* out) noexcept {
  _mm512_store_si512(out, _mm512_load_si512(staged));
  store_zeros(staged);
}

void stream_line(std::byte* staged, std::byte* out) noexcept {
  _mm512_stream_si512(reinterpret_cast<__m512i*>(out), _mm512_load_si512(staged));
  store_zeros(staged);
}

// 64 flags of 0 or 1 as a mask; clears them.
std::uint64_t take_flags(std::uint8_t* flags) noexcept {
  const __m512i all = _mm512_loadu_si512(flags);
  const std::uint64_t mask = _mm512_test_epi8_mask(all, all);
  _mm512_storeu_si512(flags, _mm512_setzero_si512());  // cheaper than a branch that is missed
  return mask;
}

// base + number of each set bit, ascending; may write up to 64 past the last.
std::size_t list_bits(std::uint64_t mask, std::uint16_t base, std::uint16_t* out) noexcept {
  alignas(64) static constexpr std::array<std::uint16_t, 32> kFirst = [] {
    std::array<std::uint16_t, 32> numbers{};
    for (std::uint16_t i = 0; i < 32; ++i) {
      numbers[i] = i;
    }
    return numbers;
  }();
  const __m512i numbers = _mm512_add_epi16(_mm512_load_si512(kFirst.data()),
                                           _mm512_set1_epi16(static_cast<std::int16_t>(base)));
  const auto low = static_cast<__mmask32>(mask);
  const auto high = static_cast<__mmask32>(mask >> 32U);
  const auto n_low = static_cast<std::size_t>(std::popcount(low));
  _mm512_storeu_si512(out, _mm512_maskz_compress_epi16(low, numbers));
  _mm512_storeu_si512(out + n_low, _mm512_maskz_compress_epi16(
                                       high, _mm512_add_epi16(numbers, _mm512_set1_epi16(32))));
  return n_low + static_cast<std::size_t>(std::popcount(high));
}
