#include "e2eio/pipeline/slot.hpp"

#include <algorithm>
#include <cstring>

#include "e2eio/base/bytes.hpp"
#include "e2eio/kernels/clear.hpp"
#include "e2eio/plan/permutation.hpp"

namespace e2eio {
namespace {

constexpr std::size_t kLine = 64;

// Cache lines looked at per sample when it is used again: 2,048 in a batch of 64.
constexpr std::size_t kCanaries = 32;

// Above this share of written pixels, streaming zeros over the whole sample beats visiting them.
constexpr std::size_t kFullClearDivisor = 6;

std::size_t written_pixels(const std::vector<ChannelPixels>& channels) {
  std::size_t total = 0;
  for (const ChannelPixels& channel : channels) {
    // Pixels of a block share lines: a block of edge k touches k lines, not k * k.
    total += std::size_t{channel.n} * channel.block;
  }
  return total;
}

}  // namespace

PixelTarget channel_target(const BatchGeometry& geometry, std::byte* sample, std::uint32_t channel,
                           std::uint32_t block) noexcept {
  const std::size_t item = size_of(geometry.dtype);
  const std::size_t plane = std::size_t{geometry.height} * geometry.width;
  const std::size_t first = geometry.channels_last ? channel : channel * plane;
  return {.plane = sample + first * item,
          .stride = geometry.channels_last ? geometry.n_channels : 1,
          .width = geometry.width,
          .block = block};
}

void ImageScatter::write(const DecodedImage& image, std::byte* sample) {
  for (std::uint32_t c = 0; c < image.channels.size(); ++c) {
    const ChannelPixels& channel = image.channels[c];
    if (channel.n == 0) {
      continue;
    }
    const PixelTarget target = channel_target(geometry_, sample, c, channel.block);
    const std::uint32_t* const words = image.words.data() + channel.first_word;
    if (channel.dense) {
      write_dense(channel, target, words);
      continue;
    }
    const std::uint32_t* const positions = image.positions.data() + channel.first_position;
    if (geometry_.dtype == DType::kFloat32) {
      kernels_->scatter32(target, positions, words, channel.n);
      continue;
    }
    narrow_.resize(std::max<std::size_t>(narrow_.size(), channel.n));
    const auto cast =
        geometry_.dtype == DType::kFloat16 ? kernels_->cast_float16 : kernels_->cast_bfloat16;
    cast(words, channel.n, narrow_.data());
    kernels_->scatter16(target, positions, narrow_.data(), channel.n);
  }
}

void ImageScatter::write_dense(const ChannelPixels& channel, const PixelTarget& target,
                               const std::uint32_t* words) {
  const std::uint32_t columns = geometry_.width / channel.block;
  grid_positions_.resize(channel.n);
  for (std::uint32_t i = 0; i < channel.n; ++i) {
    grid_positions_[i] = (i / columns * geometry_.width + i % columns) * channel.block;
  }
  if (geometry_.dtype == DType::kFloat32) {
    kernels_->scatter32(target, grid_positions_.data(), words, channel.n);
    return;
  }
  narrow_.resize(std::max<std::size_t>(narrow_.size(), channel.n));
  const auto cast =
      geometry_.dtype == DType::kFloat16 ? kernels_->cast_float16 : kernels_->cast_bfloat16;
  cast(words, channel.n, narrow_.data());
  kernels_->scatter16(target, grid_positions_.data(), narrow_.data(), channel.n);
}

Slot::Slot(const BatchGeometry& geometry, std::size_t n_samples)
    : geometry_(geometry), memory_(n_samples * geometry.sample_bytes()), written_(n_samples) {}

void Slot::clear_written(std::size_t i, const Written& written, const KernelSet& kernels) const {
  for (std::uint32_t c = 0; c < written.channels.size(); ++c) {
    const ChannelPixels& channel = written.channels[c];
    if (channel.n == 0) {
      continue;
    }
    const PixelTarget target = channel_target(geometry_, sample(i), c, channel.block);
    const std::uint32_t* const positions = written.positions.data() + channel.first_position;
    const auto clear = geometry_.dtype == DType::kFloat32 ? kernels.clear32 : kernels.clear16;
    clear(target, positions, channel.n);
  }
}

bool Slot::canaries_live(std::size_t i, std::uint64_t key) const noexcept {
  const std::size_t lines = geometry_.sample_bytes() / kLine;
  std::uint64_t any = 0;
  for (std::size_t k = 0; k < std::min(kCanaries, lines); ++k) {
    const std::byte* const line = sample(i) + mix64(key + k) % lines * kLine;
    for (std::size_t at = 0; at < kLine; at += sizeof(std::uint64_t)) {
      any |= load<std::uint64_t>(line + at);
    }
  }
  return any == 0;
}

bool Slot::clear(std::size_t i, const KernelSet& kernels, std::uint64_t canary_key) {
  Written& written = written_[i];
  const std::size_t pixels = geometry_.sample_bytes() / size_of(geometry_.dtype);
  const bool has_dense = std::any_of(written.channels.begin(), written.channels.end(),
                                     [](const ChannelPixels& channel) { return channel.dense; });
  const bool in_full = written.anywhere || has_dense ||
                       written_pixels(written.channels) > pixels / kFullClearDivisor;
  if (in_full) {
    clear_nontemporal({sample(i), geometry_.sample_bytes()});
  } else {
    clear_written(i, written, kernels);
  }
  written.channels.clear();
  written.anywhere = false;
  return in_full || canaries_live(i, canary_key);
}

void Slot::remember(std::size_t i, DecodedImage& image) {
  std::swap(written_[i].channels, image.channels);
  std::swap(written_[i].positions, image.positions);
}

void Slot::distrust() noexcept {
  for (Written& written : written_) {
    written.anywhere = true;
  }
}

}  // namespace e2eio
