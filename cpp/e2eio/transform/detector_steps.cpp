#include "e2eio/transform/detector_steps.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>

namespace e2eio {
namespace {

float value_of(std::uint32_t word) { return std::bit_cast<float>(word); }
std::uint32_t bits_of(float value) { return std::bit_cast<std::uint32_t>(value); }

// No block holds pixels of two cells, and each pixel that may change is stored.
void separate_cells(PixelChannel& channel, std::uint32_t cell, bool with_background,
                    PixelScratch& scratch) {
  if (with_background) {
    channel.make_dense(scratch);
  }
  channel.split(std::gcd(channel.block(), cell), scratch);
}

void divide(PixelChannel& channel, float by, float factor) {
  if (!(by > 0) || by > std::numeric_limits<float>::max()) {
    return;
  }
  const auto divided = [=](std::uint32_t word) {
    return word == 0 ? word : bits_of(value_of(word) / by * factor);
  };
  for (std::uint32_t& word : channel.words()) {
    word = divided(word);
  }
  channel.set_background(divided(channel.background()));
}

// Pixels that are not stored.
std::size_t empty_pixels(PixelChannel& channel) {
  const std::size_t area = std::size_t{channel.block()} * channel.block();
  return channel.extent().pixels() - channel.words().size() * area;
}

}  // namespace

void smear(PixelChannel& channel, const Resolution& resolution, const CellDraws& draws,
           PixelScratch& scratch) {
  separate_cells(channel, draws.cell, value_of(channel.background()) > 0, scratch);
  const double area = static_cast<double>(draws.cell) * draws.cell;
  for (std::size_t i = 0; i < channel.words().size(); ++i) {
    std::uint32_t& word = channel.words()[i];
    const float x = value_of(word);
    if (!(x > 0) || x > std::numeric_limits<float>::max()) {
      continue;
    }
    const double energy = x * area;
    const double stochastic = resolution.stochastic * std::sqrt(energy);
    const double constant = resolution.constant * energy;
    const double sigma = std::sqrt(stochastic * stochastic + constant * constant +
                                   resolution.noise * resolution.noise);
    const double normal =
        draws.stream->normal(draws.counter(channel.extent(), channel.position(i)));
    const double smeared = (energy + sigma * normal) / area;
    word = smeared <= 0 && resolution.clip_at_zero ? 0 : bits_of(static_cast<float>(smeared));
  }
}

void kill_cells(PixelChannel& channel, double p, const CellDraws& draws, PixelScratch& scratch) {
  separate_cells(channel, draws.cell, channel.background() != 0, scratch);
  for (std::size_t i = 0; i < channel.words().size(); ++i) {
    const std::uint64_t counter = draws.counter(channel.extent(), channel.position(i));
    if (draws.stream->uniform(counter) < p) {
      channel.words()[i] = 0;
    }
  }
}

void kill_listed(PixelChannel& channel, std::span<const std::uint64_t> dead, std::uint32_t cell,
                 PixelScratch& scratch) {
  separate_cells(channel, cell, channel.background() != 0, scratch);
  const CellDraws numbers{.cell = cell};
  for (std::size_t i = 0; i < channel.words().size(); ++i) {
    const std::uint64_t number = numbers.counter(channel.extent(), channel.position(i));
    if (std::binary_search(dead.begin(), dead.end(), number)) {
      channel.words()[i] = 0;
    }
  }
}

void divide_by_largest(PixelChannel& channel, float factor) {
  float largest = empty_pixels(channel) > 0 ? value_of(channel.background())
                                            : -std::numeric_limits<float>::infinity();
  for (const std::uint32_t word : channel.words()) {
    const float x = value_of(word);
    largest = x > largest || std::isnan(x) ? x : largest;
    if (std::isnan(largest)) {
      return;
    }
  }
  divide(channel, largest, factor);
}

void divide_by_sum(PixelChannel& channel, float factor) {
  const double area = static_cast<double>(channel.block()) * channel.block();
  double sum = 0;
  for (const std::uint32_t word : channel.words()) {
    sum += value_of(word) * area;
  }
  sum += static_cast<double>(value_of(channel.background())) *
         static_cast<double>(empty_pixels(channel));
  divide(channel, static_cast<float>(sum), factor);
}

}  // namespace e2eio
