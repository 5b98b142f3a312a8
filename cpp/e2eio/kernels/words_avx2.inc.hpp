// Byte planes to float32 bits, and these to the narrower floats; inside a target region, after
// words_portable.inc.hpp.

// Calls step(first word) so that all n words are done, 8 at a time; the last 8 may repeat some.
// Requires: n >= 8.
template <typename Step>
inline void by_eights(std::size_t first, std::size_t n, Step step) noexcept {
  std::size_t i = first;
  for (; i + 8 <= n; i += 8) {
    step(i);
  }
  if (i < n) {
    step(n - 8);
  }
}

template <typename T>
inline __m256i load_wide(const T* from) noexcept {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
}

inline __m128i load_half_line(const std::uint8_t* from) noexcept {
  return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
}

inline void store_rotated(std::uint32_t* words, __m256i rotated) noexcept {
  const __m256i word =
      _mm256_or_si256(_mm256_srli_epi32(rotated, 1), _mm256_slli_epi32(rotated, 31));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(words), word);
}

void merge_float32(const std::array<const std::uint8_t*, 4>& planes, std::size_t n,
                   std::uint32_t* words) noexcept {
  const std::uint8_t* const p0 = planes[0];
  const std::uint8_t* const p1 = planes[1];
  const std::uint8_t* const p2 = planes[2];
  const std::uint8_t* const p3 = planes[3];
  if (n < 8) {
    for (std::size_t i = 0; i < n; ++i) {
      words[i] = merge_bytes(p0[i], p1[i], p2[i], p3[i]);
    }
    return;
  }
  std::size_t i = 0;
  for (; i + 32 <= n; i += 32) {
    const __m256i b0 = load_wide(p0 + i);
    const __m256i b1 = load_wide(p1 + i);
    const __m256i b2 = load_wide(p2 + i);
    const __m256i b3 = load_wide(p3 + i);
    const __m256i low_lo = _mm256_unpacklo_epi8(b0, b1);
    const __m256i low_hi = _mm256_unpackhi_epi8(b0, b1);
    const __m256i high_lo = _mm256_unpacklo_epi8(b2, b3);
    const __m256i high_hi = _mm256_unpackhi_epi8(b2, b3);
    const __m256i w0 = _mm256_unpacklo_epi16(low_lo, high_lo);  // words 0-3, 16-19
    const __m256i w1 = _mm256_unpackhi_epi16(low_lo, high_lo);  // 4-7, 20-23
    const __m256i w2 = _mm256_unpacklo_epi16(low_hi, high_hi);  // 8-11, 24-27
    const __m256i w3 = _mm256_unpackhi_epi16(low_hi, high_hi);  // 12-15, 28-31
    store_rotated(words + i, _mm256_permute2x128_si256(w0, w1, 0x20));
    store_rotated(words + i + 8, _mm256_permute2x128_si256(w2, w3, 0x20));
    store_rotated(words + i + 16, _mm256_permute2x128_si256(w0, w1, 0x31));
    store_rotated(words + i + 24, _mm256_permute2x128_si256(w2, w3, 0x31));
  }
  by_eights(i, n, [=](std::size_t k) {
    const __m128i low = _mm_unpacklo_epi8(load_half_line(p0 + k), load_half_line(p1 + k));
    const __m128i high = _mm_unpacklo_epi8(load_half_line(p2 + k), load_half_line(p3 + k));
    store_rotated(words + k,
                  _mm256_set_m128i(_mm_unpackhi_epi16(low, high), _mm_unpacklo_epi16(low, high)));
  });
}

// The conversion sets the first bit of a signalling NaN; here all bits are those of the source.
inline __m256i widen_eight(__m128i halves) noexcept {
  const __m256i widened = _mm256_castps_si256(_mm256_cvtph_ps(halves));
  const __m128i exponent = _mm_set1_epi16(0x7C00);
  const __m128i special = _mm_cmpeq_epi16(_mm_and_si128(halves, exponent), exponent);
  if (_mm_testz_si128(special, special) != 0) {
    return widened;
  }
  const __m256i quiet = _mm256_set1_epi32(0x400000);
  const __m256i bit = _mm256_and_si256(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 13), quiet);
  const __m256i mask = _mm256_and_si256(_mm256_cvtepi16_epi32(special), quiet);
  return _mm256_or_si256(_mm256_andnot_si256(mask, widened), _mm256_and_si256(bit, mask));
}

void merge_float16(const std::array<const std::uint8_t*, 2>& planes, std::size_t n,
                   std::uint32_t* words) noexcept {
  const std::uint8_t* const low = planes[0];
  const std::uint8_t* const high = planes[1];
  if (n < 8) {
    for (std::size_t i = 0; i < n; ++i) {
      words[i] = widen_float16(merge_bytes(low[i], high[i]));
    }
    return;
  }
  by_eights(0, n, [=](std::size_t k) {
    const __m128i rotated = _mm_unpacklo_epi8(load_half_line(low + k), load_half_line(high + k));
    const __m128i halves = _mm_or_si128(_mm_srli_epi16(rotated, 1), _mm_slli_epi16(rotated, 15));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(words + k), widen_eight(halves));
  });
}

// The conversion does what narrow_float16() does, NaN included, whatever the rounding mode is.
void cast_float16(const std::uint32_t* words, std::size_t n, std::uint16_t* out) noexcept {
  if (n < 8) {
    for (std::size_t i = 0; i < n; ++i) {
      out[i] = narrow_float16(words[i]);
    }
    return;
  }
  by_eights(0, n, [=](std::size_t k) {
    const __m256 values = _mm256_castsi256_ps(load_wide(words + k));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + k),
                     _mm256_cvtps_ph(values, _MM_FROUND_TO_NEAREST_INT));
  });
}

void cast_bfloat16(const std::uint32_t* words, std::size_t n, std::uint16_t* out) noexcept {
  if (n < 8) {
    for (std::size_t i = 0; i < n; ++i) {
      out[i] = narrow_bfloat16(words[i]);
    }
    return;
  }
  by_eights(0, n, [=](std::size_t k) {
    const __m256i bits = load_wide(words + k);
    const __m256i top = _mm256_srli_epi32(bits, 16);
    const __m256i odd = _mm256_and_si256(top, _mm256_set1_epi32(1));
    const __m256i half = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7FFF));
    const __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(bits, half), 16);
    const __m256i magnitude = _mm256_and_si256(bits, _mm256_set1_epi32(0x7FFFFFFF));
    const __m256i is_nan = _mm256_cmpgt_epi32(magnitude, _mm256_set1_epi32(0x7F800000));
    const __m256i quiet = _mm256_or_si256(top, _mm256_set1_epi32(0x40));
    const __m256i result = _mm256_blendv_epi8(rounded, quiet, is_nan);
    _mm_storeu_si128(
        reinterpret_cast<__m128i*>(out + k),
        _mm_packus_epi32(_mm256_castsi256_si128(result), _mm256_extracti128_si256(result, 1)));
  });
}
