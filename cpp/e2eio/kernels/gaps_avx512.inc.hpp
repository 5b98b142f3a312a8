// Gaps to positions, 16 at a time; inside a target region.

inline __m512i prefix_sums(__m512i x) noexcept {
  const __m512i zero = _mm512_setzero_si512();
  x = _mm512_add_epi32(x, _mm512_alignr_epi32(x, zero, 15));
  x = _mm512_add_epi32(x, _mm512_alignr_epi32(x, zero, 14));
  x = _mm512_add_epi32(x, _mm512_alignr_epi32(x, zero, 12));
  return _mm512_add_epi32(x, _mm512_alignr_epi32(x, zero, 8));
}

inline __m512i gap_bytes(const std::uint8_t* from, __mmask16 valid) noexcept {
  return _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(valid, from));
}

template <bool kWide>
GapResult decode_gap_vectors(const std::uint8_t* low, const std::uint8_t* high,
                             std::uint32_t n_entries, std::uint32_t escape,
                             std::uint32_t* positions) noexcept {
  const __m512i escapes = _mm512_set1_epi32(static_cast<int>(escape));
  const __m512i one = _mm512_set1_epi32(1);
  const __m512i last = _mm512_set1_epi32(15);
  __m512i next = _mm512_setzero_si512();   // one past the last position, in all elements
  __m512i total = _mm512_setzero_si512();  // sums of 64 bits: positions may wrap, this does not
  std::uint32_t count = 0;
  for (std::uint32_t i = 0; i < n_entries; i += 16) {
    const std::uint32_t left = n_entries - i;
    const auto valid = static_cast<__mmask16>(left >= 16 ? 0xFFFFU : (1U << left) - 1U);
    __m512i gaps = gap_bytes(low + i, valid);  // zeros beyond the last
    if constexpr (kWide) {
      gaps = _mm512_or_si512(gaps, _mm512_slli_epi32(gap_bytes(high + i, valid), 8));
    }
    const __mmask16 stored = _mm512_mask_cmpneq_epi32_mask(valid, gaps, escapes);
    const __m512i moves = _mm512_mask_add_epi32(gaps, stored, gaps, one);
    const __m512i ends = _mm512_add_epi32(next, prefix_sums(moves));
    _mm512_storeu_si512(positions + count,
                        _mm512_maskz_compress_epi32(stored, _mm512_sub_epi32(ends, one)));
    count += static_cast<std::uint32_t>(std::popcount(static_cast<std::uint32_t>(stored)));
    next = _mm512_permutexvar_epi32(last, ends);
    total = _mm512_add_epi64(total, _mm512_and_si512(moves, _mm512_set1_epi64(0xFFFFFFFF)));
    total = _mm512_add_epi64(total, _mm512_srli_epi64(moves, 32));
  }
  return {static_cast<std::uint64_t>(_mm512_reduce_add_epi64(total)), count};
}

GapResult decode_gaps(const std::uint8_t* low, const std::uint8_t* high, std::uint32_t n_entries,
                      std::uint32_t* positions) noexcept {
  return high == nullptr
             ? decode_gap_vectors<false>(low, nullptr, n_entries, 0xFFU, positions)
             : decode_gap_vectors<true>(low, high, n_entries, 0xFFFFU, positions);
}
