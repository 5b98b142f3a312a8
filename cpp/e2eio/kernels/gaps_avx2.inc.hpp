// Gaps to positions, 8 at a time; inside a target region, after gaps_portable.inc.hpp.

// Row [mask]: the numbers of the bits that are set, ascending.
alignas(64) constexpr std::array<std::array<std::uint8_t, 8>, 256> kSetBits = [] {
  std::array<std::array<std::uint8_t, 8>, 256> rows{};
  for (unsigned mask = 0; mask < 256; ++mask) {
    std::size_t n = 0;
    for (unsigned bit = 0; bit < 8; ++bit) {
      if ((mask >> bit & 1U) != 0) {
        rows[mask][n++] = static_cast<std::uint8_t>(bit);
      }
    }
  }
  return rows;
}();

inline __m128i load_eight(const std::uint8_t* from) noexcept {
  return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
}

// Inclusive, of eight moves of at most 256.
inline __m256i sum_narrow(__m128i moves) noexcept {
  moves = _mm_add_epi16(moves, _mm_slli_si128(moves, 2));
  moves = _mm_add_epi16(moves, _mm_slli_si128(moves, 4));
  return _mm256_cvtepu16_epi32(_mm_add_epi16(moves, _mm_slli_si128(moves, 8)));
}

// Inclusive, of eight gaps of 16 bits, each but an escape one more.
inline __m256i sum_wide(__m128i gaps, __m128i escapes) noexcept {
  __m256i sums = _mm256_add_epi32(_mm256_cvtepu16_epi32(gaps), _mm256_set1_epi32(1));
  sums = _mm256_add_epi32(sums, _mm256_cvtepi16_epi32(escapes));
  sums = _mm256_add_epi32(sums, _mm256_slli_si256(sums, 4));
  sums = _mm256_add_epi32(sums, _mm256_slli_si256(sums, 8));
  const __m256i carry = _mm256_permutevar8x32_epi32(sums, _mm256_set1_epi32(3));
  return _mm256_add_epi32(sums, _mm256_blend_epi32(_mm256_setzero_si256(), carry, 0xF0));
}

template <bool kWide>
GapResult decode_gap_vectors(const std::uint8_t* low, const std::uint8_t* high,
                             std::uint32_t n_entries, std::uint32_t* positions) noexcept {
  std::uint32_t next = 0;  // one past the last position
  std::uint32_t count = 0;
  std::uint32_t i = 0;
  for (; i + 8 <= n_entries; i += 8) {
    __m128i gaps = load_eight(low + i);
    __m128i escapes;  // NOLINT(*-member-init): set in both branches
    __m256i ends;     // NOLINT(*-member-init): set in both branches
    if constexpr (kWide) {
      gaps = _mm_unpacklo_epi8(gaps, load_eight(high + i));
      escapes = _mm_cmpeq_epi16(gaps, _mm_set1_epi16(-1));
      ends = sum_wide(gaps, escapes);
    } else {
      gaps = _mm_cvtepu8_epi16(gaps);
      escapes = _mm_cmpeq_epi16(gaps, _mm_set1_epi16(kNarrowEscapes));
      ends = sum_narrow(_mm_add_epi16(_mm_add_epi16(gaps, _mm_set1_epi16(1)), escapes));
    }
    const auto skipped =
        static_cast<unsigned>(_mm_movemask_epi8(_mm_packs_epi16(escapes, _mm_setzero_si128())));
    const unsigned stored = ~skipped & 0xFFU;
    const __m256i at = _mm256_add_epi32(ends, _mm256_set1_epi32(static_cast<int>(next - 1)));
    const __m256i order = _mm256_cvtepu8_epi32(load_eight(kSetBits[stored].data()));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(positions + count),
                        _mm256_permutevar8x32_epi32(at, order));
    count += static_cast<std::uint32_t>(std::popcount(stored));
    next += static_cast<std::uint32_t>(_mm256_extract_epi32(ends, 7));
  }
  return decode_gaps_from(low, high, i, n_entries, {next, count}, positions);
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
