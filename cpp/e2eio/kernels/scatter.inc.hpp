// Pixels into a staged sample; fill_run() comes from the set.

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

// kStride: elements from pixel to pixel, or 0 where it is that of the target.
template <typename T, std::size_t kStride>
void scatter_pixels(const PixelTarget& target, const std::uint32_t* positions, const T* values,
                    std::size_t n) noexcept {
  T* const plane = reinterpret_cast<T*>(target.plane);
  const auto shift = static_cast<std::size_t>(target.plane - target.origin);
  std::uint8_t* const touched = target.touched;
  const std::size_t stride = kStride == 0 ? target.stride : kStride;
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
  if (target.block == 1 && target.stride == 1) {
    scatter_pixels<T, 1>(target, positions, values, n);
  } else if (target.block == 1) {
    scatter_pixels<T, 0>(target, positions, values, n);
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
