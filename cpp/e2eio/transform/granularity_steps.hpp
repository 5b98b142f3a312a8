// Changes of granularity by a factor of 3: x1 images (one pixel per ECAL crystal) to x3, and back.
#pragma once

#include "e2eio/transform/pixel_channel.hpp"
#include "e2eio/transform/transform_spec.hpp"

namespace e2eio {

// Three times as many rows and columns. kEnergy: each of the 3 x 3 pixels holds x / 9, and blocks
// grow threefold, so that nothing is stored or written twice. kPoint, kMean: x stands in the
// centre pixel, as what an x1 image does not know cannot be placed.
void refine(PixelChannel& channel, ChannelRole role, PixelScratch& scratch);

// A third of the rows and columns. kEnergy, kPoint: nine pixels that are all equal become x * 9;
// others are added in float32, in row-major order, starting with the first that is not +0.0.
// kMean: the pixels that are not +0.0, all equal: their value; else that sum, divided by their
// number. None of this depends on how a channel is stored.
// Requires: height and width are multiples of 3.
void coarsen(PixelChannel& channel, ChannelRole role, PixelScratch& scratch);

}  // namespace e2eio
