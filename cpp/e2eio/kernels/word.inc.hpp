// One word at a time: what the vectors of every set agree with bit by bit.

inline std::uint32_t merge_bytes(std::uint8_t b0, std::uint8_t b1, std::uint8_t b2,
                                 std::uint8_t b3) noexcept {
  return std::rotr(std::uint32_t{b0} | std::uint32_t{b1} << 8U | std::uint32_t{b2} << 16U |
                       std::uint32_t{b3} << 24U,
                   1);
}

inline std::uint32_t merge_bytes(std::uint8_t low, std::uint8_t high) noexcept {
  const std::uint32_t rotated = std::uint32_t{low} | std::uint32_t{high} << 8U;
  return (rotated >> 1U | rotated << 15U) & 0xFFFFU;
}

// binary16 bits to binary32 bits of the same value; exact for all of them.
inline std::uint32_t widen_float16(std::uint32_t half) noexcept {
  const std::uint32_t sign = (half & 0x8000U) << 16U;
  const std::uint32_t exponent = (half >> 10U) & 0x1FU;
  const std::uint32_t mantissa = half & 0x3FFU;
  if (exponent == 0x1FU) {
    return sign | 0x7F800000U | mantissa << 13U;
  }
  if (exponent != 0) {
    return sign | (exponent + 112U) << 23U | mantissa << 13U;
  }
  // A subnormal is mantissa * 2^-24: both the product and the conversion are exact.
  const float magnitude = static_cast<float>(mantissa) * 0x1p-24F;
  return sign | std::bit_cast<std::uint32_t>(magnitude);
}

inline std::uint16_t narrow_float16(std::uint32_t bits) noexcept {
  const std::uint32_t sign = (bits >> 16U) & 0x8000U;
  const std::uint32_t magnitude = bits & 0x7FFFFFFFU;
  std::uint32_t result = 0;
  if (magnitude > 0x7F800000U) {
    result = 0x7E00U | (magnitude >> 13U & 0x3FFU);  // quiet NaN, upper payload kept
  } else if (magnitude >= 0x477FF000U) {
    result = 0x7C00U;  // 65520 and above round to infinity
  } else if (magnitude >= 0x38800000U) {
    // Normal: add half of the last place kept, to even, then drop 13 bits and rebias.
    result = (magnitude - 0x38000000U + 0xFFFU + (magnitude >> 13U & 1U)) >> 13U;
  } else {
    // Subnormal: adding 0.5 makes the FPU round at 2^-24, to nearest even.
    const float sum = std::bit_cast<float>(magnitude) + 0.5F;
    result = std::bit_cast<std::uint32_t>(sum) - 0x3F000000U;
  }
  return static_cast<std::uint16_t>(sign | result);
}

inline std::uint16_t narrow_bfloat16(std::uint32_t bits) noexcept {
  const std::uint32_t rounded = (bits + 0x7FFFU + (bits >> 16U & 1U)) >> 16U;
  const bool is_nan = (bits & 0x7FFFFFFFU) > 0x7F800000U;
  return static_cast<std::uint16_t>(is_nan ? (bits >> 16U | 0x40U) : rounded);
}
