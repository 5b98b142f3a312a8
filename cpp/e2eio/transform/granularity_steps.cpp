#include "e2eio/transform/granularity_steps.hpp"

#include <algorithm>
#include <bit>

namespace e2eio {
namespace {

constexpr std::uint32_t kFactor = 3;
constexpr float kArea = 9.0F;

float value_of(std::uint32_t word) { return std::bit_cast<float>(word); }
std::uint32_t bits_of(float value) { return std::bit_cast<std::uint32_t>(value); }

// The pixels of a list, block 1, that fall into one pixel of the coarser image.
struct Group {
  std::uint32_t position = 0;
  std::uint32_t first = 0;  // bits
  float sum = 0;
  std::uint32_t n = 0;
  bool equal = true;

  void add(std::uint32_t word) {
    equal = equal && word == first;
    sum += value_of(word);
    ++n;
  }
  [[nodiscard]] std::uint32_t result(ChannelRole role) const {
    if (role == ChannelRole::kMean) {
      return equal ? first : bits_of(sum / static_cast<float>(n));
    }
    const bool full = equal && n == kFactor * kFactor;
    return full ? bits_of(value_of(first) * kArea) : bits_of(sum);
  }
};

// Positions ascend, so each group sees its pixels in row-major order.
void coarsen_pixels(PixelChannel& channel, PixelExtent to, ChannelRole role,
                    PixelScratch& scratch) {
  const std::uint32_t width = channel.extent().width;
  std::vector<std::uint32_t>& lookup = scratch.lookup;  // 1 + index of a group, or 0
  lookup.resize(std::max(lookup.size(), to.pixels()));
  std::vector<Group> groups;
  for (std::size_t i = 0; i < channel.words().size(); ++i) {
    const std::uint32_t word = channel.words()[i];
    if (word == 0) {
      continue;
    }
    const std::uint32_t y = channel.positions()[i] / width;
    const std::uint32_t x = channel.positions()[i] - y * width;
    const std::uint32_t position = y / kFactor * to.width + x / kFactor;
    std::uint32_t& index = lookup[position];
    if (index == 0) {
      groups.push_back({.position = position, .first = word, .sum = value_of(word), .n = 1});
      index = static_cast<std::uint32_t>(groups.size());
    } else {
      groups[index - 1].add(word);
    }
  }
  channel.positions().resize(groups.size());
  channel.words().resize(groups.size());
  for (std::size_t i = 0; i < groups.size(); ++i) {
    lookup[groups[i].position] = 0;
    channel.positions()[i] = groups[i].position;
    channel.words()[i] = groups[i].result(role);
  }
}

}  // namespace

void refine(PixelChannel& channel, ChannelRole role, PixelScratch& scratch) {
  const PixelExtent from = channel.extent();
  const PixelExtent to{from.height * kFactor, from.width * kFactor};
  const bool spread = role == ChannelRole::kEnergy;
  if (!spread) {
    channel.make_list();
    channel.split(1, scratch);
  }
  const std::uint32_t centre = spread ? 0 : to.width + 1;
  for (std::uint32_t& position : channel.positions()) {
    const std::uint32_t y = position / from.width;
    const std::uint32_t x = position - y * from.width;
    position = (y * to.width + x) * kFactor + centre;
  }
  channel.set_extent(to);
  if (spread) {
    channel.set_block(channel.block() * kFactor);
    for (std::uint32_t& word : channel.words()) {
      word = bits_of(value_of(word) / kArea);
    }
  }
}

void coarsen(PixelChannel& channel, ChannelRole role, PixelScratch& scratch) {
  const PixelExtent from = channel.extent();
  const PixelExtent to{from.height / kFactor, from.width / kFactor};
  if (channel.block() % kFactor != 0) {
    channel.make_list();
    channel.split(1, scratch);
    channel.sort(scratch);
    coarsen_pixels(channel, to, role, scratch);
    channel.set_extent(to);
    return;
  }
  for (std::uint32_t& position : channel.positions()) {
    const std::uint32_t y = position / from.width;
    const std::uint32_t x = position - y * from.width;
    position = y / kFactor * to.width + x / kFactor;
  }
  channel.set_extent(to);
  channel.set_block(channel.block() / kFactor);
  if (role != ChannelRole::kMean) {
    for (std::uint32_t& word : channel.words()) {
      word = bits_of(value_of(word) * kArea);
    }
  }
}

}  // namespace e2eio
