// Runs of equal pixels.

// Overlapping stores fill any run of 8 bytes or more without a loop over its pixels.
template <typename T>
inline void fill_run(T* run, T value, std::uint32_t n) noexcept {
  const std::size_t n_bytes = n * sizeof(T);
  auto* const begin = reinterpret_cast<std::uint8_t*>(run);
  std::uint8_t* const end = begin + n_bytes;
  uint8x16_t wide;  // NOLINT(*-member-init): set in both branches
  if constexpr (sizeof(T) == 4) {
    wide = vreinterpretq_u8_u32(vdupq_n_u32(value));
  } else {
    wide = vreinterpretq_u8_u16(vdupq_n_u16(value));
  }
  if (n_bytes >= 16) {
    for (std::uint8_t* at = begin; at + 16 < end; at += 16) {
      vst1q_u8(at, wide);
    }
    vst1q_u8(end - 16, wide);
  } else if (n_bytes >= 8) {
    vst1_u8(begin, vget_low_u8(wide));
    vst1_u8(end - 8, vget_low_u8(wide));
  } else {
    for (std::uint32_t i = 0; i < n; ++i) {
      run[i] = value;
    }
  }
}
