// Runs of equal pixels for AVX2 and wider; inside a target region.

// Overlapping stores fill any run of 8 bytes or more without a loop over its pixels.
template <typename T>
inline void fill_run(T* run, T value, std::uint32_t n) noexcept {
  const std::size_t n_bytes = n * sizeof(T);
  auto* const begin = reinterpret_cast<std::byte*>(run);
  std::byte* const end = begin + n_bytes;
  __m256i wide;  // NOLINT(*-member-init): set in both branches
  if constexpr (sizeof(T) == 4) {
    wide = _mm256_set1_epi32(static_cast<int>(value));
  } else {
    wide = _mm256_set1_epi16(static_cast<short>(value));  // NOLINT(google-runtime-int)
  }
  const __m128i half = _mm256_castsi256_si128(wide);
  if (n_bytes >= 32) {
    for (std::byte* at = begin; at + 32 < end; at += 32) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(at), wide);
    }
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(end - 32), wide);
  } else if (n_bytes >= 16) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(begin), half);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(end - 16), half);
  } else if (n_bytes >= 8) {
    _mm_storel_epi64(reinterpret_cast<__m128i*>(begin), half);
    _mm_storel_epi64(reinterpret_cast<__m128i*>(end - 8), half);
  } else {
    for (std::uint32_t i = 0; i < n; ++i) {
      run[i] = value;
    }
  }
}
