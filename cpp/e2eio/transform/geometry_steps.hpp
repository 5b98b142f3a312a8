// Operations that move pixels. They act on positions; blocks stay blocks where they stay aligned.
#pragma once

#include <cstdint>

#include "e2eio/transform/pixel_channel.hpp"

namespace e2eio {

// Rows in reverse order: eta -> -eta.
void flip_rows(PixelChannel& channel);

// The sign of each pixel that is not +0.0 changes, NaN's too: z -> -z.
void negate(PixelChannel& channel);

// Columns move by `shift` to the right and come in again on the left: phi -> phi + shift.
// Requires: 0 <= shift < width.
void roll_columns(PixelChannel& channel, std::uint32_t shift, PixelScratch& scratch);

// numpy.rot90 of [H, W]: `turns` quarter turns counterclockwise, 0 to 3.
void rotate(PixelChannel& channel, std::uint32_t turns);

// A window of `to` rows and columns whose first pixel is (y, x); what it has beyond the image is
// +0.0. `to` is not larger than the image in both directions and (y, x) >= 0, or not smaller and
// (y, x) <= 0.
struct PixelWindow {
  PixelExtent to;
  std::int64_t y = 0;
  std::int64_t x = 0;
};
void cut(PixelChannel& channel, const PixelWindow& window, PixelScratch& scratch);

}  // namespace e2eio
