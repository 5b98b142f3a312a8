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

#include "e2eio/kernels/lanes.hpp"

namespace e2eio {

// Vectors of positions are stored whole: so many entries past the last are scratch.
inline constexpr std::size_t kPositionSlack = 16;

// What a gap stream decodes to. `end` is one past the last position, in native pixels.
struct GapResult {
  std::uint64_t end = 0;
  std::uint32_t n_positions = 0;
};

// Pixels of one channel of a sample that is being put together (pipeline/staging.hpp).
struct PixelTarget {
  std::byte* plane = nullptr;  // element of pixel 0
  std::size_t stride = 1;      // elements from one pixel of a row to the next (1, or C for NHWC)
  std::uint32_t width = 0;     // pixels in an image row
  std::uint32_t block = 1;     // edge of the square that each value fills
  const std::byte* origin = nullptr;  // of cache line 0; a multiple of 64 bytes
  std::uint8_t* touched = nullptr;    // [cache line]: set to 1 where something is written
};

// Whole cache lines of a staged sample, and where they go.
struct LineTransfer {
  std::byte* staged = nullptr;  // line 0; all zero again afterwards
  std::byte* out = nullptr;     // line 0; a multiple of 64 bytes, like `staged`
  std::uint8_t* touched =
      nullptr;  // 64 * n_words flags: lines that hold something; zero afterwards
  std::uint64_t* written =
      nullptr;              // n_words masks: in, lines of `out` that are not zero; out, `touched`
  std::size_t n_words = 0;  // of 64 lines each
};

// Thread rule: constant after start-up; any thread.
struct KernelSet {
  std::string_view name;

  // The next n symbols of the lanes; `table` has 2^bits entries, symbol << 8 | length each, and
  // lengths are at most 11.
  void (*decode_symbols)(LaneSet& set, const std::uint16_t* table, unsigned bits, std::size_t n,
                         std::uint8_t* symbols) noexcept;

  // Gaps of docs/format.md 3.1 to positions; `low` and `high` (null: narrow gaps) have n_entries
  // bytes, `positions` has room for n_entries + kPositionSlack. Positions are right if `end` fits
  // 32 bits.
  GapResult (*decode_gaps)(const std::uint8_t* low, const std::uint8_t* high,
                           std::uint32_t n_entries, std::uint32_t* positions) noexcept;

  // Native pixels of a grid of `columns` to the first image pixel of each: `width` image columns,
  // `block` image pixels per native one.
  void (*place_blocks)(std::uint32_t* positions, std::size_t n, std::uint32_t columns,
                       std::uint32_t width, std::uint32_t block) noexcept;

  // Four byte planes (lowest first) of n words, rotated back: float32 bits.
  void (*merge_float32)(const std::array<const std::uint8_t*, 4>& planes, std::size_t n,
                        std::uint32_t* words) noexcept;

  // Two byte planes of n float16 words: float32 bits of the same values.
  void (*merge_float16)(const std::array<const std::uint8_t*, 2>& planes, std::size_t n,
                        std::uint32_t* words) noexcept;

  // float32 bits to float16 or bfloat16, round to nearest even; NaN stays NaN.
  void (*cast_float16)(const std::uint32_t* words, std::size_t n, std::uint16_t* out) noexcept;
  void (*cast_bfloat16)(const std::uint32_t* words, std::size_t n, std::uint16_t* out) noexcept;

  // float32 arithmetic in place, IEEE to nearest, each step rounded by itself: x * factor + offset.
  // Requires: finite factor and offset, so that NaN keeps its payload (made quiet).
  void (*affine)(std::uint32_t* words, std::size_t n, float factor, float offset) noexcept;

  // x < low to low, x > high to high; all others keep their bits, NaN and -0.0 among them.
  // Requires: low <= high.
  void (*clip)(std::uint32_t* words, std::size_t n, float low, float high) noexcept;

  // x < limit, x > limit, or |x| < limit to value; all others keep their bits, NaN among them.
  void (*replace_below)(std::uint32_t* words, std::size_t n, float limit, float value) noexcept;
  void (*replace_above)(std::uint32_t* words, std::size_t n, float limit, float value) noexcept;
  void (*replace_small)(std::uint32_t* words, std::size_t n, float limit, float value) noexcept;

  // asinh(x / scale) and log(1 + x), within 1 ulp: the quotient is rounded to float32, all else is
  // float64. -0.0 stays, NaN stays NaN; log1p of what is below -1 is NaN, of -1 -infinity.
  // Requires: finite scale above 0.
  void (*asinh)(std::uint32_t* words, std::size_t n, float scale) noexcept;
  void (*log1p)(std::uint32_t* words, std::size_t n) noexcept;

  // Words at `from` (of any alignment) that are not zero, and `first` plus the number of each;
  // there is room for n + kPositionSlack of both. Returns how many.
  std::size_t (*list_nonzero32)(const std::byte* from, std::size_t n, std::uint32_t first,
                                std::uint32_t* positions, std::uint32_t* words) noexcept;
  std::size_t (*list_nonzero64)(const std::byte* from, std::size_t n, std::uint32_t first,
                                std::uint32_t* positions, std::uint64_t* words) noexcept;

  // Writes values (4 or 2 bytes each) at positions and flags the cache lines.
  void (*scatter32)(const PixelTarget& target, const std::uint32_t* positions,
                    const std::uint32_t* values, std::size_t n) noexcept;
  void (*scatter16)(const PixelTarget& target, const std::uint32_t* positions,
                    const std::uint16_t* values, std::size_t n) noexcept;

  // Moves touched lines out and clears lines that were written and are not touched: `out` then
  // equals the staged sample. Streams past the caches; the caller fences before it publishes.
  void (*stream_lines)(const LineTransfer& transfer) noexcept;
  // The same through the caches, for batches that fit there.
  void (*store_lines)(const LineTransfer& transfer) noexcept;
};

// The sets this build holds and this CPU runs, best first; "scalar" is always the last.
[[nodiscard]] std::vector<const KernelSet*> available_kernels();

// The best one, or the one that the environment variable E2EIO_KERNELS names.
// Throws: Error(kInvalidArgument) if it names one that is not available.
[[nodiscard]] const KernelSet& selected_kernels();

// Sets of single instruction sets; null where the build has none.
[[nodiscard]] const KernelSet* scalar_kernels() noexcept;
[[nodiscard]] const KernelSet* avx2_kernels() noexcept;
[[nodiscard]] const KernelSet* avx512_kernels() noexcept;
[[nodiscard]] const KernelSet* neon_kernels() noexcept;

}  // namespace e2eio
