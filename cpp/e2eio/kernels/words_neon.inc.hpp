// Byte planes to float32 bits, and these to the narrower floats; after word.inc.hpp.

// Calls step(first word) so that all n words are done, kAtOnce at a time; the last ones may be
// done twice. Requires: n >= kAtOnce.
template <std::size_t kAtOnce, typename Step>
inline void by_vectors(std::size_t n, Step step) noexcept {
  std::size_t i = 0;
  for (; i + kAtOnce <= n; i += kAtOnce) {
    step(i);
  }
  if (i < n) {
    step(n - kAtOnce);
  }
}

void merge_float32(const std::array<const std::uint8_t*, 4>& planes, std::size_t n,
                   std::uint32_t* words) noexcept {
  const std::uint8_t* const p0 = planes[0];
  const std::uint8_t* const p1 = planes[1];
  const std::uint8_t* const p2 = planes[2];
  const std::uint8_t* const p3 = planes[3];
  if (n < 16) {
    for (std::size_t i = 0; i < n; ++i) {
      words[i] = merge_bytes(p0[i], p1[i], p2[i], p3[i]);
    }
    return;
  }
  by_vectors<16>(n, [=](std::size_t i) {
    const uint8x16_t b0 = vld1q_u8(p0 + i);
    const uint8x16_t b1 = vld1q_u8(p1 + i);
    const uint8x16_t b2 = vld1q_u8(p2 + i);
    const uint8x16_t b3 = vld1q_u8(p3 + i);
    // Words rotate while they are planes still: each byte takes a bit of the next.
    const uint8x16x4_t rotated{
        {vsliq_n_u8(vshrq_n_u8(b0, 1), b1, 7), vsliq_n_u8(vshrq_n_u8(b1, 1), b2, 7),
         vsliq_n_u8(vshrq_n_u8(b2, 1), b3, 7), vsliq_n_u8(vshrq_n_u8(b3, 1), b0, 7)}};
    vst4q_u8(reinterpret_cast<std::uint8_t*>(words + i), rotated);
  });
}

// The conversion sets the first bit of a signalling NaN; here all bits are those of the source.
inline uint32x4_t widen_four(uint16x4_t halves) noexcept {
  const uint32x4_t widened = vreinterpretq_u32_f32(vcvt_f32_f16(vreinterpret_f16_u16(halves)));
  const uint16x4_t exponent = vdup_n_u16(0x7C00);
  const uint16x4_t special = vceq_u16(vand_u16(halves, exponent), exponent);
  const uint32x4_t all = vreinterpretq_u32_s32(vmovl_s16(vreinterpret_s16_u16(special)));
  const uint32x4_t quiet = vandq_u32(all, vdupq_n_u32(0x400000));
  return vbslq_u32(quiet, vshll_n_u16(halves, 13), widened);
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
  by_vectors<8>(n, [=](std::size_t i) {
    const uint16x8_t rotated =
        vorrq_u16(vmovl_u8(vld1_u8(low + i)), vshll_n_u8(vld1_u8(high + i), 8));
    const uint16x8_t halves = vsliq_n_u16(vshrq_n_u16(rotated, 1), rotated, 15);
    vst1q_u32(words + i, widen_four(vget_low_u16(halves)));
    vst1q_u32(words + i + 4, widen_four(vget_high_u16(halves)));
  });
}

// The conversion does what narrow_float16() does, NaN included.
void cast_float16(const std::uint32_t* words, std::size_t n, std::uint16_t* out) noexcept {
  if (n < 4) {
    for (std::size_t i = 0; i < n; ++i) {
      out[i] = narrow_float16(words[i]);
    }
    return;
  }
  by_vectors<4>(n, [=](std::size_t i) {
    const float32x4_t values = vreinterpretq_f32_u32(vld1q_u32(words + i));
    vst1_u16(out + i, vreinterpret_u16_f16(vcvt_f16_f32(values)));
  });
}

void cast_bfloat16(const std::uint32_t* words, std::size_t n, std::uint16_t* out) noexcept {
  if (n < 4) {
    for (std::size_t i = 0; i < n; ++i) {
      out[i] = narrow_bfloat16(words[i]);
    }
    return;
  }
  by_vectors<4>(n, [=](std::size_t i) {
    const uint32x4_t bits = vld1q_u32(words + i);
    const uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
    const uint32x4_t rounded = vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7FFF)));
    const uint32x4_t magnitude = vandq_u32(bits, vdupq_n_u32(0x7FFFFFFF));
    const uint32x4_t is_nan = vcgtq_u32(magnitude, vdupq_n_u32(0x7F800000));
    const uint32x4_t quiet = vorrq_u32(bits, vdupq_n_u32(0x400000));
    vst1_u16(out + i, vshrn_n_u32(vbslq_u32(is_nan, quiet, rounded), 16));
  });
}
