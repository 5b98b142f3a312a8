// Gaps to positions, 16 at a time; inside a target region, after gaps_portable.inc.hpp.

// Inclusive, of 16 moves of at most 256.
inline __m512i sum_narrow(__m256i moves) noexcept {
  moves = _mm256_add_epi16(moves, _mm256_slli_si256(moves, 2));
  moves = _mm256_add_epi16(moves, _mm256_slli_si256(moves, 4));
  moves = _mm256_add_epi16(moves, _mm256_slli_si256(moves, 8));
  const __m256i carry = _mm256_maskz_permutexvar_epi16(0xFF00, _mm256_set1_epi16(7), moves);
  return _mm512_cvtepu16_epi32(_mm256_add_epi16(moves, carry));
}

inline __m512i sum_wide(__m512i moves) noexcept {
  const __m512i zero = _mm512_setzero_si512();
  moves = _mm512_add_epi32(moves, _mm512_alignr_epi32(moves, zero, 15));
  moves = _mm512_add_epi32(moves, _mm512_alignr_epi32(moves, zero, 14));
  moves = _mm512_add_epi32(moves, _mm512_alignr_epi32(moves, zero, 12));
  return _mm512_add_epi32(moves, _mm512_alignr_epi32(moves, zero, 8));
}

template <bool kWide>
GapResult decode_gap_vectors(const std::uint8_t* low, const std::uint8_t* high,
                             std::uint32_t n_entries, std::uint32_t* positions) noexcept {
  std::uint32_t next = 0;  // one past the last position
  std::uint32_t count = 0;
  for (std::uint32_t i = 0; i < n_entries; i += 16) {
    const std::uint32_t left = n_entries - i;
    const auto valid = static_cast<__mmask16>(left >= 16 ? 0xFFFFU : (1U << left) - 1U);
    // Zeros beyond the last entry, which move nothing.
    const __m256i low_bytes = _mm256_cvtepu8_epi16(_mm_maskz_loadu_epi8(valid, low + i));
    __mmask16 stored = 0;
    __m512i ends;  // NOLINT(*-member-init): set in both branches
    if constexpr (kWide) {
      const __m256i high_bytes = _mm256_cvtepu8_epi16(_mm_maskz_loadu_epi8(valid, high + i));
      const __m256i gaps = _mm256_or_si256(low_bytes, _mm256_slli_epi16(high_bytes, 8));
      stored = _mm256_mask_cmpneq_epi16_mask(valid, gaps, _mm256_set1_epi16(-1));
      const __m512i wide = _mm512_cvtepu16_epi32(gaps);
      ends = sum_wide(_mm512_mask_add_epi32(wide, stored, wide, _mm512_set1_epi32(1)));
    } else {
      stored = _mm256_mask_cmpneq_epi16_mask(valid, low_bytes, _mm256_set1_epi16(kNarrowEscapes));
      ends = sum_narrow(_mm256_mask_add_epi16(low_bytes, stored, low_bytes, _mm256_set1_epi16(1)));
    }
    const __m512i at = _mm512_add_epi32(ends, _mm512_set1_epi32(static_cast<int>(next - 1)));
    _mm512_storeu_si512(positions + count, _mm512_maskz_compress_epi32(stored, at));
    count += static_cast<std::uint32_t>(std::popcount(static_cast<std::uint32_t>(stored)));
    next += static_cast<std::uint32_t>(_mm_extract_epi32(_mm512_extracti32x4_epi32(ends, 3), 3));
  }
  return {next, count};
}

GapResult decode_gaps(const std::uint8_t* low, const std::uint8_t* high, std::uint32_t n_entries,
                      std::uint32_t* positions) noexcept {
  // So few that sums of 32 bits hold.
  if (high == nullptr && n_entries < 1U << 24U) {
    return decode_gap_vectors<false>(low, nullptr, n_entries, positions);
  }
  if (high != nullptr && n_entries < 1U << 16U) {
    return decode_gap_vectors<true>(low, high, n_entries, positions);
  }
  return decode_gaps_from(low, high, 0, n_entries, {}, positions);
}
