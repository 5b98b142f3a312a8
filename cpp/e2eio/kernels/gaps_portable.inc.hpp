// Gaps to positions, one after another.

template <typename Entry>
GapResult decode_gap_entries(Entry entry, std::uint32_t n_entries, std::uint32_t escape,
                             std::uint32_t* positions) noexcept {
  std::uint64_t next = 0;  // one past the last position
  std::uint32_t count = 0;
  for (std::uint32_t i = 0; i < n_entries; ++i) {
    const std::uint32_t gap = entry(i);
    next += gap;
    positions[count] = static_cast<std::uint32_t>(next);  // overwritten if this is an escape
    const auto stores = static_cast<std::uint32_t>(gap != escape);
    count += stores;
    next += stores;
  }
  return {next, count};
}

GapResult decode_gaps(const std::uint8_t* low, const std::uint8_t* high, std::uint32_t n_entries,
                      std::uint32_t* positions) noexcept {
  if (high == nullptr) {
    return decode_gap_entries([low](std::uint32_t i) { return std::uint32_t{low[i]}; }, n_entries,
                              0xFFU, positions);
  }
  return decode_gap_entries(
      [low, high](std::uint32_t i) { return std::uint32_t{low[i]} | std::uint32_t{high[i]} << 8U; },
      n_entries, 0xFFFFU, positions);
}
