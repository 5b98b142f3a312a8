// One operation on images, as a caller describes it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace e2eio {

// What an operation does to one delivered channel; channels that are not named are left alone.
struct ChannelArguments {
  std::uint32_t channel = 0;  // among the delivered ones
  double a = 0;
  double b = 0;
  double c = 0;
  std::uint32_t cell = 1;  // edge of a readout cell in pixels, for smear and dead cells
};

// What the pixels of a channel are when the granularity changes.
enum class ChannelRole : std::uint8_t {
  kEnergy = 0,  // spread evenly over the pixels of a cell; summed
  kPoint = 1,   // hits and track pT: stand in the centre pixel; summed
  kMean = 2,    // d0, dz: stand in the centre pixel; averaged over the pixels that have one
};

// `x` is a pixel, float32; `a`, `b`, `c` are rounded to float32 except in smear.
//
//   op             per channel                       integers
//   scale          x * a
//   divide         x / a
//   offset         x + a
//   below          x < a -> 0
//   abs_below      |x| < a -> 0
//   above          x > a -> b
//   abs_above      |x| > a -> b
//   clip           x < a -> a, x > b -> b
//   log1p, sqrt
//   asinh          asinh(x / a)
//   standardise    (x - a) / b
//   over_max       x / max * a, max over the channel
//   over_sum       x / sum * a, sum over the channel
//   flip_eta       sign changes
//   roll_phi                                         least, most, step: by step * [least, most];
//                                                    or step alone: by up to half the width
//   rot90                                            least, most: quarter turns
//   crop, pad                                        height, width, random (0 or 1)
//   drop_channel   may be dropped
//   smear          a stochastic, b constant, c noise clip at zero (0 or 1)
//   dead_cells     dead with probability p
//   dead_list      the first channel's               y, x of each cell
//   refine         a: a ChannelRole; each pixel becomes 3 x 3
//   coarsen        a: a ChannelRole; 3 x 3 pixels become one
//
// Sequence rule: applied in the order given. Thread rule: plain data.
struct TransformSpec {
  std::string op;
  std::uint64_t number = 0;  // distinguishes the random draws of operations
  double p = 1;              // probability that a random operation happens
  std::vector<ChannelArguments> channels;
  std::vector<std::int64_t> integers;
};

}  // namespace e2eio
