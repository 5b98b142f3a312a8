// Byte planes to float32 bits, and these to the narrower floats, 16 at a time; inside a target
// region.

// Of 16 words all, or those of a mask: a masked store takes many times as long as a plain one.
struct AllWords {};

inline __m128i load_bytes(AllWords /*valid*/, const std::uint8_t* from) noexcept {
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
}
inline __m128i load_bytes(__mmask16 valid, const std::uint8_t* from) noexcept {
  return _mm_maskz_loadu_epi8(valid, from);
}
inline __m512i load_words(AllWords /*valid*/, const std::uint32_t* from) noexcept {
  return _mm512_loadu_si512(from);
}
inline __m512i load_words(__mmask16 valid, const std::uint32_t* from) noexcept {
  return _mm512_maskz_loadu_epi32(valid, from);
}
inline void store_words(AllWords /*valid*/, std::uint32_t* to, __m512i words) noexcept {
  _mm512_storeu_si512(to, words);
}
inline void store_words(__mmask16 valid, std::uint32_t* to, __m512i words) noexcept {
  _mm512_mask_storeu_epi32(to, valid, words);
}
inline void store_halves(AllWords /*valid*/, std::uint16_t* to, __m256i halves) noexcept {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), halves);
}
inline void store_halves(__mmask16 valid, std::uint16_t* to, __m256i halves) noexcept {
  _mm256_mask_storeu_epi16(to, valid, halves);
}

// Calls step(first word, which of 16) so that all n words are done; the last 16 may repeat some.
template <typename Step>
inline void by_sixteens(std::size_t n, Step step) noexcept {
  if (n < 16) {
    step(0, static_cast<__mmask16>((1U << n) - 1U));
    return;
  }
  std::size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    step(i, AllWords{});
  }
  if (i < n) {
    step(n - 16, AllWords{});
  }
}

// Byte b of word w is number 16 * b + w.
alignas(64) constexpr std::array<std::uint8_t, 64> kPlaneOrder = [] {
  std::array<std::uint8_t, 64> order{};
  for (std::size_t i = 0; i < 64; ++i) {
    order[i] = static_cast<std::uint8_t>(16 * (i % 4) + i / 4);
  }
  return order;
}();

void merge_float32(const std::array<const std::uint8_t*, 4>& planes, std::size_t n,
                   std::uint32_t* words) noexcept {
  const std::uint8_t* const p0 = planes[0];
  const std::uint8_t* const p1 = planes[1];
  const std::uint8_t* const p2 = planes[2];
  const std::uint8_t* const p3 = planes[3];
  const __m512i order = _mm512_load_si512(kPlaneOrder.data());
  by_sixteens(n, [=](std::size_t i, auto valid) {
    __m512i bytes = _mm512_castsi128_si512(load_bytes(valid, p0 + i));
    bytes = _mm512_inserti32x4(bytes, load_bytes(valid, p1 + i), 1);
    bytes = _mm512_inserti32x4(bytes, load_bytes(valid, p2 + i), 2);
    bytes = _mm512_inserti32x4(bytes, load_bytes(valid, p3 + i), 3);
    const __m512i rotated = _mm512_permutexvar_epi8(order, bytes);
    store_words(valid, words + i, _mm512_ror_epi32(rotated, 1));
  });
}

void merge_float16(const std::array<const std::uint8_t*, 2>& planes, std::size_t n,
                   std::uint32_t* words) noexcept {
  const std::uint8_t* const low = planes[0];
  const std::uint8_t* const high = planes[1];
  by_sixteens(n, [=](std::size_t i, auto valid) {
    const __m256i low_bytes = _mm256_cvtepu8_epi16(load_bytes(valid, low + i));
    const __m256i high_bytes = _mm256_cvtepu8_epi16(load_bytes(valid, high + i));
    const __m256i rotated = _mm256_or_si256(low_bytes, _mm256_slli_epi16(high_bytes, 8));
    const __m256i halves =
        _mm256_or_si256(_mm256_srli_epi16(rotated, 1), _mm256_slli_epi16(rotated, 15));
    __m512i widened = _mm512_castps_si512(_mm512_cvtph_ps(halves));
    // The conversion sets the first bit of a signalling NaN; here all bits are the source's.
    const __m256i exponent = _mm256_set1_epi16(0x7C00);
    const __mmask16 special = _mm256_cmpeq_epi16_mask(_mm256_and_si256(halves, exponent), exponent);
    const __m512i bits = _mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 13);
    // Where the third operand has a one, the second decides; elsewhere the first does.
    widened =
        _mm512_mask_ternarylogic_epi32(widened, special, bits, _mm512_set1_epi32(0x400000), 0xD8);
    store_words(valid, words + i, widened);
  });
}

// The conversion does what narrow_float16() does, NaN included, whatever the rounding mode is.
void cast_float16(const std::uint32_t* words, std::size_t n, std::uint16_t* out) noexcept {
  by_sixteens(n, [=](std::size_t i, auto valid) {
    const __m512 values = _mm512_castsi512_ps(load_words(valid, words + i));
    store_halves(valid, out + i, _mm512_cvtps_ph(values, _MM_FROUND_TO_NEAREST_INT));
  });
}

// By integers: the conversion of AVX512-BF16 takes denormals for zero.
void cast_bfloat16(const std::uint32_t* words, std::size_t n, std::uint16_t* out) noexcept {
  by_sixteens(n, [=](std::size_t i, auto valid) {
    const __m512i bits = load_words(valid, words + i);
    const __m512i top = _mm512_srli_epi32(bits, 16);
    const __m512i odd = _mm512_and_si512(top, _mm512_set1_epi32(1));
    const __m512i half = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7FFF));
    const __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(bits, half), 16);
    const __m512i magnitude = _mm512_and_si512(bits, _mm512_set1_epi32(0x7FFFFFFF));
    const __mmask16 is_nan = _mm512_cmpgt_epi32_mask(magnitude, _mm512_set1_epi32(0x7F800000));
    const __m512i result = _mm512_mask_or_epi32(rounded, is_nan, top, _mm512_set1_epi32(0x40));
    store_halves(valid, out + i, _mm512_cvtepi32_epi16(result));
  });
}
