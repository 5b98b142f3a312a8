// Gaps to positions, one after another.

inline constexpr std::uint32_t kNarrowEscapes = 0xFFU;
inline constexpr std::uint32_t kWideEscapes = 0xFFFFU;

// Entries [first, n_entries), after those that `result` is of.
template <typename Entry>
GapResult decode_gap_entries(Entry entry, std::uint32_t first, std::uint32_t n_entries,
                             std::uint32_t escape, GapResult result,
                             std::uint32_t* positions) noexcept {
  std::uint64_t next = result.end;
  std::uint32_t count = result.n_positions;
  for (std::uint32_t i = first; i < n_entries; ++i) {
    const std::uint32_t gap = entry(i);
    next += gap;
    positions[count] = static_cast<std::uint32_t>(next);  // overwritten if this is an escape
    const auto stores = static_cast<std::uint32_t>(gap != escape);
    count += stores;
    next += stores;
  }
  return {next, count};
}

inline GapResult decode_gaps_from(const std::uint8_t* low, const std::uint8_t* high,
                                  std::uint32_t first, std::uint32_t n_entries, GapResult result,
                                  std::uint32_t* positions) noexcept {
  if (high == nullptr) {
    return decode_gap_entries([low](std::uint32_t i) { return std::uint32_t{low[i]}; }, first,
                              n_entries, kNarrowEscapes, result, positions);
  }
  return decode_gap_entries(
      [low, high](std::uint32_t i) { return std::uint32_t{low[i]} | std::uint32_t{high[i]} << 8U; },
      first, n_entries, kWideEscapes, result, positions);
}
