// Prefix codes of the lanes to symbols.

// The next 57 bits or more of a lane: five symbols of at most 11.
inline std::uint64_t window_at(const std::uint8_t* record, std::uint64_t at_bits) noexcept {
  std::uint64_t window = 0;
  std::memcpy(&window, record + at_bits / 8, 8);
  return window >> at_bits % 8;
}

// The same near the end of the record, where eight bytes are not always left.
inline std::uint64_t last_window(const LaneSet& set, std::uint64_t at_bits) noexcept {
  std::uint64_t window = 0;
  for (unsigned k = 0; k < 8; ++k) {
    const std::uint64_t at = at_bits / 8 + k;
    window |= std::uint64_t{at < set.record_bytes ? set.record[at] : std::uint8_t{0}} << 8 * k;
  }
  return window >> at_bits % 8;
}

constexpr std::size_t kSteps = 5;  // symbols of a lane per window

// `length` of an entry is its low byte, so that it serves as a shift count as it is.
inline std::uint32_t next_entry(std::uint64_t& window, const std::uint16_t* table,
                                std::uint64_t mask) noexcept {
  const std::uint32_t entry = table[window & mask];
  window >>= entry % 64;
  return entry;
}

// Up to kSteps * kLanes symbols, wherever the lanes are.
void decode_last_symbols(LaneSet& set, const std::uint16_t* table, std::uint64_t mask,
                         std::size_t n, std::uint8_t* symbols) noexcept {
  for (std::size_t k = 0; k < kLanes; ++k) {
    std::uint64_t window = last_window(set, set.at_bits[k]);
    for (std::size_t i = k; i < n; i += kLanes) {
      const std::uint32_t entry = next_entry(window, table, mask);
      symbols[i] = static_cast<std::uint8_t>(entry >> 8U);
      set.at_bits[k] += entry & 0xFFU;
    }
  }
}

// One symbol of each of the first `kActive` lanes.
template <std::size_t kActive>
inline void take_step(std::array<std::uint64_t, kLanes>& windows,
                      std::array<std::uint32_t, kLanes>& sums, const std::uint16_t* table,
                      std::uint64_t mask, std::uint8_t* symbols) noexcept {
  std::array<std::uint32_t, kActive> entries;  // NOLINT(*-member-init): set below
  for (std::size_t k = 0; k < kActive; ++k) {
    entries[k] = next_entry(windows[k], table, mask);
    sums[k] += entries[k];
  }
  for (std::size_t k = 0; k < kActive; ++k) {
    symbols[k] = static_cast<std::uint8_t>(entries[k] >> 8U);
  }
}

void decode_symbols(LaneSet& set, const std::uint16_t* table, unsigned bits, std::size_t n,
                    std::uint8_t* symbols) noexcept {
  static_assert(kLanes == 4);
  const std::uint64_t mask = (std::uint64_t{1} << bits) - 1;
  const std::uint8_t* const record = set.record;
  const std::uint64_t safe_bits = set.record_bytes < 8 ? 0 : 8 * (set.record_bytes - 8);
  std::array<std::uint64_t, kLanes> at = set.at_bits;
  constexpr std::size_t kAtOnce = kSteps * kLanes;
  const std::uint8_t* const end = symbols + n;
  while (symbols < end &&
         std::max(std::max(at[0], at[1]), std::max(at[2], at[3])) < safe_bits) {
    std::array<std::uint64_t, kLanes> windows{window_at(record, at[0]), window_at(record, at[1]),
                                              window_at(record, at[2]), window_at(record, at[3])};
    std::array<std::uint32_t, kLanes> sums{};  // lengths add up in the low bytes: at most 55
    const auto left = static_cast<std::size_t>(end - symbols);
    if (left >= kAtOnce) {
      for (std::size_t step = 0; step < kSteps; ++step, symbols += kLanes) {
        take_step<kLanes>(windows, sums, table, mask, symbols);
      }
    } else {
      for (std::size_t step = 0; step < left / kLanes; ++step, symbols += kLanes) {
        take_step<kLanes>(windows, sums, table, mask, symbols);
      }
      switch (left % kLanes) {
        case 3:
          take_step<3>(windows, sums, table, mask, symbols);
          break;
        case 2:
          take_step<2>(windows, sums, table, mask, symbols);
          break;
        case 1:
          take_step<1>(windows, sums, table, mask, symbols);
          break;
        default:
          break;
      }
      symbols += left % kLanes;
    }
    for (std::size_t k = 0; k < kLanes; ++k) {
      at[k] += sums[k] & 0xFFU;
    }
  }
  set.at_bits = at;
  while (symbols < end) {
    const std::size_t some = std::min(static_cast<std::size_t>(end - symbols), kAtOnce);
    decode_last_symbols(set, table, mask, some, symbols);
    symbols += some;
  }
}
