// Parts of a sample put together in the caches, then moved out by whole cache lines.
//
// A batch lies far outside the caches. A pixel written there costs reading its line, and clearing
// it the next time costs that again. Staged, lines are only ever written: once, in full, past the
// caches (docs/design/0006-lines.md).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "e2eio/base/dtype.hpp"
#include "e2eio/base/memory.hpp"
#include "e2eio/codec/image_decoder.hpp"
#include "e2eio/kernels/kernel_set.hpp"

namespace e2eio {

inline constexpr std::size_t kLineBytes = 64;

// How a delivered batch lies in memory: [n, C, H, W], or [n, H, W, C] if channels_last.
struct BatchGeometry {
  std::uint32_t n_channels = 0;  // delivered ones
  std::uint32_t height = 0;
  std::uint32_t width = 0;
  DType dtype = DType::kFloat32;  // kFloat32, kFloat16 or kBFloat16
  bool channels_last = false;

  [[nodiscard]] std::size_t sample_bytes() const noexcept {
    return size_of(dtype) * n_channels * height * width;
  }

  // A sample is staged in parts of neighbouring bytes, small enough for the caches: its channels,
  // or, where these are interleaved, all of it.
  [[nodiscard]] std::size_t n_parts() const noexcept { return channels_last ? 1 : n_channels; }
  [[nodiscard]] std::size_t part_bytes() const noexcept { return sample_bytes() / n_parts(); }

  // Words of a mask with a bit for each cache line that a part can lie in.
  [[nodiscard]] std::size_t part_words() const noexcept;
  [[nodiscard]] std::size_t sample_words() const noexcept { return n_parts() * part_words(); }
};

// How lines leave: past the caches, or through them for batches that stay there.
enum class LinePath : std::uint8_t { kStream, kStore };

// Thread rule: one thread at a time; make one per thread. All zeros between samples.
class Staging {
 public:
  Staging(const BatchGeometry& geometry, const KernelSet& kernels);

  // Makes the sample at `out` hold `image`. `written` has sample_words() masks, part after part:
  // lines that are not all zero, before and after. Requires: `out` is aligned to the dtype.
  // After the last sample of a run: finish().
  void put(const DecodedImage& image, std::byte* out, std::span<std::uint64_t> written,
           LinePath path);

  // Makes what was streamed visible before anything that this thread does next.
  static void finish() noexcept;

 private:
  void write(const DecodedImage& image, std::uint32_t channel, std::size_t first_element);
  void write_pixels(const PixelTarget& target, const std::uint32_t* positions,
                    const std::uint32_t* words, std::size_t n);
  void write_dense(const ChannelPixels& channel, const PixelTarget& target,
                   const std::uint32_t* words);
  void move_out(std::byte* out, std::span<std::uint64_t> written, LinePath path);
  void move_partial(std::byte* line, std::size_t number, std::size_t begin, std::size_t end,
                    std::span<std::uint64_t> written);

  BatchGeometry geometry_;
  const KernelSet* kernels_;
  ZeroedMemory memory_;  // line 0 of the part is its first, whatever share of it is ours
  std::vector<std::uint8_t> touched_;
  std::size_t shift_bytes_ = 0;  // of the part within line 0
  std::vector<std::uint16_t> narrow_;
  std::vector<std::uint32_t> grid_positions_;
};

}  // namespace e2eio
