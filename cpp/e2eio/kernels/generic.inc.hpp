// The text of every kernel set. Included once per target, inside that target's region and an
// unnamed namespace, after all standard headers.

// How many pixels ahead a cache line is asked for: 16 to 24 measured best where every pixel misses.
constexpr std::size_t kPrefetchAhead = 20;

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

// Calls write(element index, i) for all image pixels of all n positions.
template <typename T, typename Value>
void visit_pixels(const PixelTarget& target, const std::uint32_t* positions, std::size_t n,
                  Value value) noexcept {
  T* const plane = reinterpret_cast<T*>(target.plane);
  const std::size_t stride = target.stride;
  if (target.block == 1) {
    for (std::size_t i = 0; i < n; ++i) {
      if (i + kPrefetchAhead < n) {
        __builtin_prefetch(plane + positions[i + kPrefetchAhead] * stride, 1);
      }
      plane[positions[i] * stride] = value(i);
    }
    return;
  }
  const std::size_t row = std::size_t{target.width} * stride;
  // A block touches `block` rows: fewer blocks ahead cover the same number of lines.
  const std::size_t ahead = 1 + kPrefetchAhead / target.block;
  for (std::size_t i = 0; i < n; ++i) {
    if (i + ahead < n) {
      T* const first = plane + positions[i + ahead] * stride;
      for (std::uint32_t y = 0; y < target.block; ++y) {
        __builtin_prefetch(first + y * row, 1);
      }
    }
    T* line = plane + positions[i] * stride;
    const T filled = value(i);
    for (std::uint32_t y = 0; y < target.block; ++y, line += row) {
      for (std::uint32_t x = 0; x < target.block; ++x) {
        line[x * stride] = filled;
      }
    }
  }
}

void scatter32(const PixelTarget& target, const std::uint32_t* positions,
               const std::uint32_t* values, std::size_t n) noexcept {
  visit_pixels<std::uint32_t>(target, positions, n, [values](std::size_t i) { return values[i]; });
}

void scatter16(const PixelTarget& target, const std::uint32_t* positions,
               const std::uint16_t* values, std::size_t n) noexcept {
  visit_pixels<std::uint16_t>(target, positions, n, [values](std::size_t i) { return values[i]; });
}

void clear32(const PixelTarget& target, const std::uint32_t* positions, std::size_t n) noexcept {
  visit_pixels<std::uint32_t>(target, positions, n, [](std::size_t) { return std::uint32_t{0}; });
}

void clear16(const PixelTarget& target, const std::uint32_t* positions, std::size_t n) noexcept {
  visit_pixels<std::uint16_t>(target, positions, n, [](std::size_t) { return std::uint16_t{0}; });
}

constexpr KernelSet make_kernel_set(std::string_view name) {
  return KernelSet{name,          decode_gaps, merge_float32, merge_float16, cast_float16,
                   cast_bfloat16, scatter32,   scatter16,     clear32,       clear16};
}
