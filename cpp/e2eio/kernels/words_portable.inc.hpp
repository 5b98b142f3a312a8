// Byte planes to float32 bits, and these to the narrower floats, one after another; after
// word.inc.hpp.

void merge_float32(const std::array<const std::uint8_t*, 4>& planes, std::size_t n,
                   std::uint32_t* words) noexcept {
  const std::uint8_t* const p0 = planes[0];
  const std::uint8_t* const p1 = planes[1];
  const std::uint8_t* const p2 = planes[2];
  const std::uint8_t* const p3 = planes[3];
  for (std::size_t i = 0; i < n; ++i) {
    words[i] = merge_bytes(p0[i], p1[i], p2[i], p3[i]);
  }
}

void merge_float16(const std::array<const std::uint8_t*, 2>& planes, std::size_t n,
                   std::uint32_t* words) noexcept {
  const std::uint8_t* const low = planes[0];
  const std::uint8_t* const high = planes[1];
  for (std::size_t i = 0; i < n; ++i) {
    words[i] = widen_float16(merge_bytes(low[i], high[i]));
  }
}

void cast_float16(const std::uint32_t* words, std::size_t n, std::uint16_t* out) noexcept {
  for (std::size_t i = 0; i < n; ++i) {
    out[i] = narrow_float16(words[i]);
  }
}

void cast_bfloat16(const std::uint32_t* words, std::size_t n, std::uint16_t* out) noexcept {
  for (std::size_t i = 0; i < n; ++i) {
    out[i] = narrow_bfloat16(words[i]);
  }
}
