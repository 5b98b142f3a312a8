// The text of every kernel set. Included once per target, inside that target's region and an
// unnamed namespace, after all standard headers.

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

__extension__ using Wide = unsigned __int128;

void place_blocks(std::uint32_t* positions, std::size_t n, std::uint32_t columns,
                  std::uint32_t width, std::uint32_t block) noexcept {
  // Exact for 32 bits: D. Lemire et al., Faster remainder by direct computation (2019).
  const Wide reciprocal = Wide{~std::uint64_t{0} / columns} + 1;
  const std::uint32_t skipped = width * block - columns * block;
  for (std::size_t i = 0; i < n; ++i) {
    const auto row = static_cast<std::uint32_t>(reciprocal * positions[i] >> 64U);
    // (row * width + (position - row * columns)) * block
    positions[i] = positions[i] * block + row * skipped;
  }
}

void merge_float32(const std::array<const std::uint8_t*, 4>& planes, std::size_t n,
                   std::uint32_t* words) noexcept {
  const std::uint8_t* const p0 = planes[0];
  const std::uint8_t* const p1 = planes[1];
  const std::uint8_t* const p2 = planes[2];
  const std::uint8_t* const p3 = planes[3];
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint32_t rotated = std::uint32_t{p0[i]} | std::uint32_t{p1[i]} << 8U |
                                  std::uint32_t{p2[i]} << 16U | std::uint32_t{p3[i]} << 24U;
    words[i] = std::rotr(rotated, 1);
  }
}

// binary16 bits to binary32 bits of the same value; exact for all of them.
std::uint32_t widen_float16(std::uint32_t half) noexcept {
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

void merge_float16(const std::array<const std::uint8_t*, 2>& planes, std::size_t n,
                   std::uint32_t* words) noexcept {
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint32_t rotated = std::uint32_t{planes[0][i]} | std::uint32_t{planes[1][i]} << 8U;
    words[i] = widen_float16((rotated >> 1U | rotated << 15U) & 0xFFFFU);
  }
}

std::uint16_t narrow_float16(std::uint32_t bits) noexcept {
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

void cast_float16(const std::uint32_t* words, std::size_t n, std::uint16_t* out) noexcept {
  for (std::size_t i = 0; i < n; ++i) {
    out[i] = narrow_float16(words[i]);
  }
}

void cast_bfloat16(const std::uint32_t* words, std::size_t n, std::uint16_t* out) noexcept {
  for (std::size_t i = 0; i < n; ++i) {
    const std::uint32_t bits = words[i];
    const std::uint32_t rounded = (bits + 0x7FFFU + (bits >> 16U & 1U)) >> 16U;
    const bool is_nan = (bits & 0x7FFFFFFFU) > 0x7F800000U;
    out[i] = static_cast<std::uint16_t>(is_nan ? (bits >> 16U | 0x40U) : rounded);
  }
}

template <typename T>
void scatter_pixels(const PixelTarget& target, const std::uint32_t* positions, const T* values,
                    std::size_t n) noexcept {
  T* const plane = reinterpret_cast<T*>(target.plane);
  const auto shift = static_cast<std::size_t>(target.plane - target.origin);
  std::uint8_t* const touched = target.touched;
  const std::size_t stride = target.stride;
  for (std::size_t i = 0; i < n; ++i) {
    const std::size_t element = positions[i] * stride;
    plane[element] = values[i];
    touched[(shift + element * sizeof(T)) / 64] = 1;
  }
}

// Pixels side by side; kBlock: the edge, or 0 where it is not one that detectors have.
template <typename T, std::uint32_t kBlock>
void scatter_blocks(const PixelTarget& target, const std::uint32_t* positions, const T* values,
                    std::size_t n) noexcept {
  const std::uint32_t block = kBlock == 0 ? target.block : kBlock;
  const std::size_t row_bytes = target.width * sizeof(T);
  const std::size_t run_bytes = block * sizeof(T);
  const auto shift = static_cast<std::size_t>(target.plane - target.origin);
  std::byte* const plane = target.plane;
  std::uint8_t* const touched = target.touched;
  for (std::size_t i = 0; i < n; ++i) {
    const T value = values[i];
    std::size_t at = positions[i] * sizeof(T);
    for (std::uint32_t y = 0; y < block; ++y, at += row_bytes) {
      fill_run(reinterpret_cast<T*>(plane + at), value, block);
      const std::size_t first = (shift + at) / 64;
      const std::size_t last = (shift + at + run_bytes - 1) / 64;
      touched[first] = 1;
      touched[last] = 1;
      if (last > first + 1) {
        std::memset(touched + first + 1, 1, last - first - 1);
      }
    }
  }
}

template <typename T>
void scatter_strided_blocks(const PixelTarget& target, const std::uint32_t* positions,
                            const T* values, std::size_t n) noexcept {
  T* const plane = reinterpret_cast<T*>(target.plane);
  const auto shift = static_cast<std::size_t>(target.plane - target.origin);
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t y = 0; y < target.block; ++y) {
      for (std::size_t x = 0; x < target.block; ++x) {
        const std::size_t element = (positions[i] + y * target.width + x) * target.stride;
        plane[element] = values[i];
        target.touched[(shift + element * sizeof(T)) / 64] = 1;
      }
    }
  }
}

template <typename T>
void scatter(const PixelTarget& target, const std::uint32_t* positions, const T* values,
             std::size_t n) noexcept {
  if (target.block == 1) {
    scatter_pixels(target, positions, values, n);
  } else if (target.stride > 1) {
    scatter_strided_blocks(target, positions, values, n);
  } else if (target.block == 3) {  // ECAL crystals at x3
    scatter_blocks<T, 3>(target, positions, values, n);
  } else if (target.block == 5) {  // HCAL towers at x1
    scatter_blocks<T, 5>(target, positions, values, n);
  } else if (target.block == 15) {  // HCAL towers at x3
    scatter_blocks<T, 15>(target, positions, values, n);
  } else {
    scatter_blocks<T, 0>(target, positions, values, n);
  }
}

void scatter32(const PixelTarget& target, const std::uint32_t* positions,
               const std::uint32_t* values, std::size_t n) noexcept {
  scatter(target, positions, values, n);
}

void scatter16(const PixelTarget& target, const std::uint32_t* positions,
               const std::uint16_t* values, std::size_t n) noexcept {
  scatter(target, positions, values, n);
}

// Lines that are looked through before they are moved: their numbers stay in the first cache.
constexpr std::size_t kWordsAtOnce = 32;

template <void (*kCopy)(std::byte*, std::byte*), void (*kClear)(std::byte*)>
void transfer_lines(const LineTransfer& transfer) noexcept {
  std::array<std::uint16_t, 64 * kWordsAtOnce + 64> fresh;  // NOLINT(*-member-init): written first
  std::array<std::uint16_t, 64 * kWordsAtOnce + 64> stale;  // NOLINT(*-member-init): written first
  for (std::size_t first = 0; first < transfer.n_words; first += kWordsAtOnce) {
    const std::size_t n = std::min(kWordsAtOnce, transfer.n_words - first);
    std::size_t n_fresh = 0;
    std::size_t n_stale = 0;
    for (std::size_t w = 0; w < n; ++w) {
      const std::uint64_t now = take_flags(transfer.touched + 64 * (first + w));
      std::uint64_t& written = transfer.written[first + w];
      const std::uint64_t gone = written & ~now;
      if ((now | gone) == 0) {
        continue;
      }
      written = now;
      const auto base = static_cast<std::uint16_t>(64 * w);
      n_fresh += list_bits(now, base, fresh.data() + n_fresh);
      n_stale += list_bits(gone, base, stale.data() + n_stale);
    }
    std::byte* const out = transfer.out + 64 * 64 * first;
    std::byte* const staged = transfer.staged + 64 * 64 * first;
    for (std::size_t i = 0; i < n_fresh; ++i) {
      kCopy(staged + 64 * std::size_t{fresh[i]}, out + 64 * std::size_t{fresh[i]});
    }
    for (std::size_t i = 0; i < n_stale; ++i) {
      kClear(out + 64 * std::size_t{stale[i]});
    }
  }
}

void stream_lines(const LineTransfer& transfer) noexcept {
  transfer_lines<&stream_line, &stream_zeros>(transfer);
}

void store_lines(const LineTransfer& transfer) noexcept {
  transfer_lines<&store_line, &store_zeros>(transfer);
}

constexpr KernelSet make_kernel_set(std::string_view name) {
  return KernelSet{name,         decode_symbols, decode_gaps,   place_blocks, merge_float32,
                   merge_float16, cast_float16,  cast_bfloat16, scatter32,    scatter16,
                   stream_lines,  store_lines};
}
