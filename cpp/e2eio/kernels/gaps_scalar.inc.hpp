// Gaps to positions where vectors do not pay; in terms of gaps_portable.inc.hpp.

GapResult decode_gaps(const std::uint8_t* low, const std::uint8_t* high, std::uint32_t n_entries,
                      std::uint32_t* positions) noexcept {
  return decode_gaps_from(low, high, 0, n_entries, {}, positions);
}
