#include "e2eio/transform/geometry_steps.hpp"

#include <numeric>

namespace e2eio {
namespace {

// Calls move(y, x) with the place of each block's first pixel, which it changes; `width` is that
// of the new image. It returns false for a block to leave out.
template <typename Move>
void move_blocks(PixelChannel& channel, PixelExtent to, Move move) {
  const std::uint32_t width = channel.extent().width;
  std::vector<std::uint32_t>& positions = channel.positions();
  std::vector<std::uint32_t>& words = channel.words();
  std::size_t kept = 0;
  for (std::size_t i = 0; i < words.size(); ++i) {
    std::int64_t y = positions[i] / width;
    std::int64_t x = positions[i] % width;
    if (move(y, x)) {
      positions[kept] = static_cast<std::uint32_t>(y * to.width + x);
      words[kept++] = words[i];
    }
  }
  positions.resize(kept);
  words.resize(kept);
  channel.set_extent(to);
}

}  // namespace

void flip_rows(PixelChannel& channel) {
  channel.make_list();
  const PixelExtent extent = channel.extent();
  const std::int64_t last = std::int64_t{extent.height} - channel.block();
  move_blocks(channel, extent, [last](std::int64_t& y, std::int64_t&) {
    y = last - y;
    return true;
  });
}

void negate(PixelChannel& channel) {
  constexpr std::uint32_t kSign = 0x80000000U;
  for (std::uint32_t& word : channel.words()) {
    word ^= word != 0 ? kSign : 0U;
  }
  channel.set_background(channel.background() != 0 ? channel.background() ^ kSign : 0U);
}

void roll_columns(PixelChannel& channel, std::uint32_t shift, PixelScratch& scratch) {
  if (shift == 0) {
    return;
  }
  channel.make_list();
  channel.split(std::gcd(channel.block(), shift), scratch);
  const std::int64_t width = channel.extent().width;
  move_blocks(channel, channel.extent(), [=](std::int64_t&, std::int64_t& x) {
    x += shift;
    x -= x >= width ? width : 0;
    return true;
  });
}

void rotate(PixelChannel& channel, std::uint32_t turns) {
  const PixelExtent from = channel.extent();
  if (turns == 0) {
    return;
  }
  channel.make_list();
  const std::int64_t block = channel.block();
  const std::int64_t last_y = from.height - block;
  const std::int64_t last_x = from.width - block;
  const PixelExtent to = turns % 2 == 0 ? from : PixelExtent{from.width, from.height};
  move_blocks(channel, to, [=](std::int64_t& y, std::int64_t& x) {
    const std::int64_t old_y = y;
    const std::int64_t old_x = x;
    switch (turns) {
      case 1:
        y = last_x - old_x;
        x = old_y;
        break;
      case 2:
        y = last_y - old_y;
        x = last_x - old_x;
        break;
      default:
        y = old_x;
        x = last_y - old_y;
        break;
    }
    return true;
  });
}

void cut(PixelChannel& channel, const PixelWindow& window, PixelScratch& scratch) {
  const PixelExtent from = channel.extent();
  if (window.to == from) {
    return;
  }
  if (channel.background() != 0 &&
      (window.y < 0 || window.x < 0 || window.to.height > from.height ||
       window.to.width > from.width)) {
    channel.make_dense(scratch);  // what is new is zero, not the background
  }
  channel.make_list();
  const auto edge = std::gcd(std::gcd(std::int64_t{channel.block()}, std::gcd(window.y, window.x)),
                             std::gcd(window.to.height, window.to.width));
  channel.split(static_cast<std::uint32_t>(edge), scratch);
  move_blocks(channel, window.to, [&window](std::int64_t& y, std::int64_t& x) {
    y -= window.y;
    x -= window.x;
    return y >= 0 && x >= 0 && y < window.to.height && x < window.to.width;
  });
}

}  // namespace e2eio
