// One channel on its way through the operations: stored pixels and the value of all others.
#pragma once

#include <cstdint>
#include <vector>

#include "e2eio/codec/image_decoder.hpp"

namespace e2eio {

struct PixelExtent {
  std::uint32_t height = 0;
  std::uint32_t width = 0;
  [[nodiscard]] std::size_t pixels() const noexcept { return std::size_t{height} * width; }
  bool operator==(const PixelExtent&) const = default;
};

// Scratch of one thread, kept from sample to sample.
struct PixelScratch {
  std::vector<std::uint32_t> positions;
  std::vector<std::uint32_t> words;
  std::vector<std::uint32_t> counts;
  std::vector<std::uint32_t> lookup;  // all zero between uses
};

// A list of blocks, or all blocks of the grid (dense). Blocks are aligned: their edge divides the
// extent, and their first pixel's y and x. Positions of a list are distinct, in any order.
// Thread rule: one thread at a time.
class PixelChannel {
 public:
  // Takes the pixels of a decoded channel.
  void load(const DecodedImage& image, const ChannelPixels& channel, PixelExtent extent);

  // Appends the pixels to `image`, positions ascending, and no pixel of a list that is +0.0.
  void store(DecodedImage& image, PixelScratch& scratch);

  [[nodiscard]] PixelExtent extent() const noexcept { return extent_; }
  [[nodiscard]] std::uint32_t block() const noexcept { return block_; }
  [[nodiscard]] bool dense() const noexcept { return dense_; }
  [[nodiscard]] std::uint32_t background() const noexcept { return background_; }
  [[nodiscard]] std::vector<std::uint32_t>& words() noexcept { return words_; }
  [[nodiscard]] std::vector<std::uint32_t>& positions() noexcept { return positions_; }

  // float32 bits of the pixels that are not stored; a dense channel has none. -0.0 counts as +0.0.
  void set_background(std::uint32_t bits) noexcept {
    background_ = dense_ || bits == 0x80000000U ? 0 : bits;
  }
  void set_extent(PixelExtent extent) noexcept { extent_ = extent; }
  void set_block(std::uint32_t block) noexcept { block_ = block; }

  // All pixels +0.0.
  void clear() noexcept;

  // Position of word i's first pixel, dense or not.
  [[nodiscard]] std::uint32_t position(std::size_t i) const noexcept {
    if (!dense_) {
      return positions_[i];
    }
    const auto columns = extent_.width / block_;
    const auto at = static_cast<std::uint32_t>(i);
    return (at / columns * extent_.width + at % columns) * block_;
  }

  // Smaller blocks: `edge` divides block().
  void split(std::uint32_t edge, PixelScratch& scratch);

  // A list, if the background is +0.0 or the channel dense; its pixels that are +0.0 are dropped.
  void make_list();

  // All pixels stored; the background is +0.0 then.
  void make_dense(PixelScratch& scratch);

  // Positions of a list ascending.
  void sort(PixelScratch& scratch);

 private:
  PixelExtent extent_;
  std::uint32_t block_ = 1;
  bool dense_ = false;
  std::uint32_t background_ = 0;
  std::vector<std::uint32_t> positions_;
  std::vector<std::uint32_t> words_;
};

}  // namespace e2eio
