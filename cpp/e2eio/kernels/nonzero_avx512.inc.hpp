// Words that are not zero: a cache line is tested at a time, and its words are moved together.

std::size_t list_nonzero32(const std::byte* from, std::size_t n, std::uint32_t first,
                           std::uint32_t* positions, std::uint32_t* words) noexcept {
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  std::size_t count = 0;
  const auto keep = [&](std::size_t at, __m512i line) {
    const __mmask16 held = _mm512_test_epi32_mask(line, line);
    const __m512i numbers =
        _mm512_add_epi32(lanes, _mm512_set1_epi32(static_cast<std::int32_t>(first + at)));
    // Into registers first: a compressing store takes many times as long on some CPUs.
    _mm512_storeu_si512(positions + count, _mm512_maskz_compress_epi32(held, numbers));
    _mm512_storeu_si512(words + count, _mm512_maskz_compress_epi32(held, line));
    count += static_cast<std::size_t>(std::popcount(static_cast<unsigned>(held)));
  };
  std::size_t i = 0;
  for (; i + 32 <= n; i += 32) {
    const __m512i a = _mm512_loadu_si512(from + 4 * i);
    const __m512i b = _mm512_loadu_si512(from + 4 * i + 64);
    const __m512i any = _mm512_or_si512(a, b);
    if (_mm512_test_epi32_mask(any, any) != 0) {
      keep(i, a);
      keep(i + 16, b);
    }
  }
  for (; i < n; i += 16) {
    const std::size_t left = std::min<std::size_t>(16, n - i);
    keep(i, _mm512_maskz_loadu_epi32(static_cast<__mmask16>((1U << left) - 1U), from + 4 * i));
  }
  return count;
}

std::size_t list_nonzero64(const std::byte* from, std::size_t n, std::uint32_t first,
                           std::uint32_t* positions, std::uint64_t* words) noexcept {
  const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  std::size_t count = 0;
  const auto keep = [&](std::size_t at, __m512i line) {
    const __mmask8 held = _mm512_test_epi64_mask(line, line);
    const __m256i numbers =
        _mm256_add_epi32(lanes, _mm256_set1_epi32(static_cast<std::int32_t>(first + at)));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(positions + count),
                        _mm256_maskz_compress_epi32(held, numbers));
    _mm512_storeu_si512(words + count, _mm512_maskz_compress_epi64(held, line));
    count += static_cast<std::size_t>(std::popcount(static_cast<unsigned>(held)));
  };
  std::size_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const __m512i a = _mm512_loadu_si512(from + 8 * i);
    const __m512i b = _mm512_loadu_si512(from + 8 * i + 64);
    const __m512i any = _mm512_or_si512(a, b);
    if (_mm512_test_epi64_mask(any, any) != 0) {
      keep(i, a);
      keep(i + 8, b);
    }
  }
  for (; i < n; i += 8) {
    const std::size_t left = std::min<std::size_t>(8, n - i);
    keep(i, _mm512_maskz_loadu_epi64(static_cast<__mmask8>((1U << left) - 1U), from + 8 * i));
  }
  return count;
}
