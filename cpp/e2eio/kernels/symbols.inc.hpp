// Prefix codes of the lanes to symbols.

// The mark comes down as symbols are taken: how far says how many bits they had.
constexpr std::uint64_t kMark = std::uint64_t{1} << 63U;

// The next 57 bits of a lane, or more, below the mark.
inline std::uint64_t window_at(const std::uint8_t* record, std::uint64_t at_bits) noexcept {
  std::uint64_t window = 0;
  std::memcpy(&window, record + at_bits / 8, 8);
  return window >> at_bits % 8 | kMark;
}

// The same near the end of the record, where eight bytes are not always left.
inline std::uint64_t last_window(const LaneSet& set, std::uint64_t at_bits) noexcept {
  std::uint64_t window = 0;
  for (unsigned k = 0; k < 8; ++k) {
    const std::uint64_t at = at_bits / 8 + k;
    window |= std::uint64_t{at < set.record_bytes ? set.record[at] : std::uint8_t{0}} << 8 * k;
  }
  return window >> at_bits % 8 | kMark;
}

inline std::uint64_t taken_bits(std::uint64_t window) noexcept {
  return static_cast<std::uint64_t>(std::countl_zero(window));
}

// The length of an entry is its low byte, so that it serves as a shift count as it is.
inline std::uint8_t take_symbol(std::uint64_t& window, const std::uint16_t* table,
                                std::uint64_t mask) noexcept {
  const std::uint32_t entry = table[window & mask];
  window >>= entry % 64;
  return static_cast<std::uint8_t>(entry >> 8U);
}

// The windows of the lanes, by name: compilers keep an array of them in memory.
// Thread rule: local to a call.
struct Windows {
  std::uint64_t w0;
  std::uint64_t w1;
  std::uint64_t w2;
  std::uint64_t w3;

  // A symbol of each lane.
  void take_step(const std::uint16_t* table, std::uint64_t mask, std::uint8_t* symbols) noexcept {
    symbols[0] = take_symbol(w0, table, mask);
    symbols[1] = take_symbol(w1, table, mask);
    symbols[2] = take_symbol(w2, table, mask);
    symbols[3] = take_symbol(w3, table, mask);
  }

  // A symbol of each of the first lanes, n < kLanes.
  void take_some(std::size_t n, const std::uint16_t* table, std::uint64_t mask,
                 std::uint8_t* symbols) noexcept {
    if (n > 0) {
      symbols[0] = take_symbol(w0, table, mask);
    }
    if (n > 1) {
      symbols[1] = take_symbol(w1, table, mask);
    }
    if (n > 2) {
      symbols[2] = take_symbol(w2, table, mask);
    }
  }
};

template <std::size_t... kStep>
inline void take_steps(Windows& windows, const std::uint16_t* table, std::uint64_t mask,
                       std::uint8_t* symbols, std::index_sequence<kStep...> /*steps*/) noexcept {
  (windows.take_step(table, mask, symbols + kStep * kLanes), ...);
}

// kSteps symbols of a lane per window: as many as 56 bits hold for sure.
template <std::size_t kSteps>
void decode_lanes(LaneSet& set, const std::uint16_t* table, unsigned bits, std::size_t n,
                  std::uint8_t* symbols) noexcept {
  static_assert(kLanes == 4);
  constexpr std::size_t kAtOnce = kSteps * kLanes;
  const std::uint64_t mask = (std::uint64_t{1} << bits) - 1;
  const std::uint8_t* const record = set.record;
  const std::uint64_t safe_bits = set.record_bytes < 8 ? 0 : 8 * (set.record_bytes - 8);
  auto [at0, at1, at2, at3] = set.at_bits;
  const std::uint8_t* const end = symbols + n;
  while (symbols < end) {
    const std::uint64_t furthest = std::max(std::max(at0, at1), std::max(at2, at3));
    const auto left = static_cast<std::size_t>(end - symbols);
    const bool safe = furthest < safe_bits;
    const auto load = [&]() noexcept {
      return Windows{window_at(record, at0), window_at(record, at1), window_at(record, at2),
                     window_at(record, at3)};
    };
    const auto advance = [&](const Windows& windows) noexcept {
      at0 += taken_bits(windows.w0);
      at1 += taken_bits(windows.w1);
      at2 += taken_bits(windows.w2);
      at3 += taken_bits(windows.w3);
    };
    if (safe && left >= kAtOnce) {
      // So many rounds begin where eight bytes are left, whatever is in them.
      std::size_t rounds =
          std::min<std::size_t>(left / kAtOnce, 1 + (safe_bits - 1 - furthest) / (kSteps * bits));
      for (; rounds > 0; --rounds, symbols += kAtOnce) {
        Windows windows = load();
        take_steps(windows, table, mask, symbols, std::make_index_sequence<kSteps>());
        advance(windows);
      }
      continue;
    }
    set.at_bits = {at0, at1, at2, at3};
    Windows windows = safe ? load()
                           : Windows{last_window(set, at0), last_window(set, at1),
                                     last_window(set, at2), last_window(set, at3)};
    const std::size_t some = std::min(left, kAtOnce);
    for (std::size_t step = 0; step < some / kLanes; ++step, symbols += kLanes) {
      windows.take_step(table, mask, symbols);
    }
    windows.take_some(some % kLanes, table, mask, symbols);
    symbols += some % kLanes;
    advance(windows);
  }
  set.at_bits = {at0, at1, at2, at3};
}

void decode_symbols(LaneSet& set, const std::uint16_t* table, unsigned bits, std::size_t n,
                    std::uint8_t* symbols) noexcept {
  if (bits == 0) {  // the code of one symbol, which takes no bits
    std::fill_n(symbols, n, static_cast<std::uint8_t>(table[0] >> 8U));
  } else if (bits <= 8) {
    decode_lanes<7>(set, table, bits, n, symbols);
  } else {
    decode_lanes<5>(set, table, bits, n, symbols);
  }
}
