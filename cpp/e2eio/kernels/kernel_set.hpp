// The hot loops, one function each, in one set per instruction set.
//
// All functions are pure, do not allocate and do not check: the caller has checked sizes and
// positions.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace e2eio {

// What a gap stream decodes to. `end` is one past the last position, in native pixels.
struct GapResult {
  std::uint64_t end = 0;
  std::uint32_t n_positions = 0;
};

// Pixels of one channel of one sample in a dense batch.
struct PixelTarget {
  std::byte* plane = nullptr;  // element of pixel 0
  std::size_t stride = 1;      // elements from one pixel of a row to the next (1, or C for NHWC)
  std::uint32_t width = 0;     // pixels in an image row
  std::uint32_t block = 1;     // edge of the square that each value fills
};

// Thread rule: constant after start-up; any thread.
struct KernelSet {
  std::string_view name;

  // Gaps of docs/format.md 3.1 to positions; `low` and `high` (null: narrow gaps) have n_entries
  // bytes, `positions` has room for n_entries.
  GapResult (*decode_gaps)(const std::uint8_t* low, const std::uint8_t* high,
                           std::uint32_t n_entries, std::uint32_t* positions) noexcept;

  // Four byte planes (lowest first) of n words, rotated back: float32 bits.
  void (*merge_float32)(const std::array<const std::uint8_t*, 4>& planes, std::size_t n,
                        std::uint32_t* words) noexcept;

  // Two byte planes of n float16 words: float32 bits of the same values.
  void (*merge_float16)(const std::array<const std::uint8_t*, 2>& planes, std::size_t n,
                        std::uint32_t* words) noexcept;

  // float32 bits to float16 or bfloat16, round to nearest even; NaN stays NaN.
  void (*cast_float16)(const std::uint32_t* words, std::size_t n, std::uint16_t* out) noexcept;
  void (*cast_bfloat16)(const std::uint32_t* words, std::size_t n, std::uint16_t* out) noexcept;

  // Writes values (4 or 2 bytes each) at positions; prefetches ahead, since each is a cache miss.
  void (*scatter32)(const PixelTarget& target, const std::uint32_t* positions,
                    const std::uint32_t* values, std::size_t n) noexcept;
  void (*scatter16)(const PixelTarget& target, const std::uint32_t* positions,
                    const std::uint16_t* values, std::size_t n) noexcept;

  // Writes zeros where scatter wrote.
  void (*clear32)(const PixelTarget& target, const std::uint32_t* positions,
                  std::size_t n) noexcept;
  void (*clear16)(const PixelTarget& target, const std::uint32_t* positions,
                  std::size_t n) noexcept;
};

// The sets this build holds and this CPU runs, best first; "scalar" is always the last.
[[nodiscard]] std::vector<const KernelSet*> available_kernels();

// The best one, or the one that the environment variable E2EIO_KERNELS names.
// Throws: Error(kInvalidArgument) if it names one that is not available.
[[nodiscard]] const KernelSet& selected_kernels();

// Sets of single instruction sets; null where the build has none.
[[nodiscard]] const KernelSet* scalar_kernels() noexcept;
[[nodiscard]] const KernelSet* avx2_kernels() noexcept;

}  // namespace e2eio
