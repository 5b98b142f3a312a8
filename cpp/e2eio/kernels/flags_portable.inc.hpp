// Flags of lines to numbers of lines, without intrinsics of an instruction set.

// 64 flags of 0 or 1 as a mask; clears them.
std::uint64_t take_flags(std::uint8_t* flags) noexcept {
  std::uint64_t mask = 0;
  for (unsigned i = 0; i < 8; ++i) {
    std::uint64_t eight = 0;
    std::memcpy(&eight, flags + std::size_t{8} * i, 8);
    // Bit 0 of byte k moves to bit 56 + k; no two products meet.
    mask |= (eight * 0x0102040810204080U >> 56U) << (8 * i);
  }
  if (mask != 0) {
    std::memset(flags, 0, 64);
  }
  return mask;
}

// base + number of each set bit, ascending; may write up to 64 past the last.
std::size_t list_bits(std::uint64_t mask, std::uint16_t base, std::uint16_t* out) noexcept {
  const auto n = static_cast<std::size_t>(std::popcount(mask));
  // Eight at a time without looking: a branch per bit costs more than the stores.
  for (std::size_t i = 0; i < n; i += 8) {
    for (std::size_t k = 0; k < 8; ++k) {
      out[i + k] = static_cast<std::uint16_t>(base + std::countr_zero(mask));
      mask &= mask - 1;
    }
  }
  return n;
}
