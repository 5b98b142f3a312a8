// Operations that imitate a detector: resolution, dead cells, and normalisation to one sample.
#pragma once

#include <span>

#include "e2eio/transform/pixel_channel.hpp"
#include "e2eio/transform/random_stream.hpp"
#include "e2eio/transform/transform_spec.hpp"

namespace e2eio {

// One draw per cell of `cell` x `cell` pixels, numbered row by row; draws of channels are apart.
// Requires: the cell divides the extent and the channel's blocks have stayed aligned with it.
struct CellDraws {
  const RandomStream* stream = nullptr;
  std::uint32_t channel = 0;  // of the schema, so that a selection of channels draws the same
  std::uint32_t cell = 1;
  [[nodiscard]] std::uint64_t counter(PixelExtent extent, std::uint32_t position) const noexcept {
    const std::uint32_t y = position / extent.width / cell;
    const std::uint32_t x = position % extent.width / cell;
    return std::uint64_t{channel} << 36U | (std::uint64_t{y} * (extent.width / cell) + x);
  }
};

// Resolution of a calorimeter: with E = x * cell^2, the energy of the cell whose even share x is,
// x -> (E + sqrt(a^2 E + b^2 E^2 + c^2) * normal) / cell^2, in double, for finite x > 0.
// (a stochastic, b constant and c noise term: R. Wigmans, Calorimetry, 2nd ed., 2017, chapter 4.)
struct Resolution {
  double stochastic = 0;
  double constant = 0;
  double noise = 0;
  bool clip_at_zero = true;
};
void smear(PixelChannel& channel, const Resolution& resolution, const CellDraws& draws,
           PixelScratch& scratch);

// Each cell is +0.0 with probability p.
void kill_cells(PixelChannel& channel, double p, const CellDraws& draws, PixelScratch& scratch);

// The cells of which `dead` holds the number (ascending) are +0.0.
void kill_listed(PixelChannel& channel, std::span<const std::uint64_t> dead, std::uint32_t cell,
                 PixelScratch& scratch);

// x -> x / s * factor with the largest pixel, or the sum of all, as s: the latter taken in double
// and rounded to float32. An image whose s is not above 0 and finite stays what it is.
void divide_by_largest(PixelChannel& channel, float factor);
void divide_by_sum(PixelChannel& channel, float factor);

}  // namespace e2eio
