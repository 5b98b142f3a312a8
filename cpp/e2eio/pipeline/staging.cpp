#include "e2eio/pipeline/staging.hpp"

#include <algorithm>
#include <cstring>
#include <utility>

#include "e2eio/kernels/clear.hpp"

namespace e2eio {

std::size_t BatchGeometry::part_words() const noexcept {
  // One line more than full ones, as a part may begin within a line.
  const std::size_t lines = (part_bytes() + kLineBytes - 1) / kLineBytes + 1;
  return (lines + 63) / 64;
}

Staging::Staging(const BatchGeometry& geometry, const KernelSet& kernels)
    : geometry_(geometry),
      kernels_(&kernels),
      memory_(geometry.part_words() * 64 * kLineBytes),
      touched_(geometry.part_words() * 64, 0) {}

void Staging::write_pixels(const PixelTarget& target, const std::uint32_t* positions,
                           const std::uint32_t* words, std::size_t n) {
  if (geometry_.dtype == DType::kFloat32) {
    kernels_->scatter32(target, positions, words, n);
    return;
  }
  narrow_.resize(std::max(narrow_.size(), n));
  const auto cast =
      geometry_.dtype == DType::kFloat16 ? kernels_->cast_float16 : kernels_->cast_bfloat16;
  cast(words, n, narrow_.data());
  kernels_->scatter16(target, positions, narrow_.data(), n);
}

void Staging::write_dense(const ChannelPixels& channel, const PixelTarget& target,
                          const std::uint32_t* words) {
  const std::uint32_t columns = geometry_.width / channel.block;
  grid_positions_.resize(channel.n);
  for (std::uint32_t i = 0; i < channel.n; ++i) {
    grid_positions_[i] = (i / columns * geometry_.width + i % columns) * channel.block;
  }
  write_pixels(target, grid_positions_.data(), words, channel.n);
}

void Staging::write(const DecodedImage& image, std::uint32_t channel, std::size_t first_element) {
  const ChannelPixels& pixels = image.channels[channel];
  if (pixels.n == 0) {
    return;
  }
  const PixelTarget target{
      .plane = memory_.data() + shift_bytes_ + first_element * size_of(geometry_.dtype),
      .stride = geometry_.channels_last ? geometry_.n_channels : 1,
      .width = geometry_.width,
      .block = pixels.block,
      .origin = memory_.data(),
      .touched = touched_.data()};
  const std::uint32_t* const words = image.words.data() + pixels.first_word;
  if (pixels.dense) {
    write_dense(pixels, target, words);
  } else {
    write_pixels(target, image.positions.data() + pixels.first_position, words, pixels.n);
  }
}

// Bytes [begin, end) of a line that another part, or somebody else, has the rest of.
void Staging::move_partial(std::byte* line, std::size_t number, std::size_t begin, std::size_t end,
                           std::span<std::uint64_t> written) {
  const std::uint64_t bit = std::uint64_t{1} << number % 64;
  std::uint64_t& mask = written[number / 64];
  const bool touched = std::exchange(touched_[number], std::uint8_t{0}) != 0;
  if (touched || (mask & bit) != 0) {
    std::byte* const staged = memory_.data() + number * kLineBytes;
    std::memcpy(line + begin, staged + begin, end - begin);
    std::memset(staged + begin, 0, end - begin);
  }
  mask = touched ? mask | bit : mask & ~bit;
}

void Staging::move_out(std::byte* out, std::span<std::uint64_t> written, LinePath path) {
  std::byte* const line0 = out - shift_bytes_;
  const std::size_t end = shift_bytes_ + geometry_.part_bytes();
  const std::size_t last = end / kLineBytes;  // one past the last full line
  // Lines that are partly ours go by themselves, and are kept from the others.
  const bool first_partial = shift_bytes_ > 0 || last == 0;
  const bool last_partial = last > 0 && end % kLineBytes != 0;
  if (first_partial) {
    move_partial(line0, 0, shift_bytes_, std::min(end, kLineBytes), written);
  }
  if (last_partial) {
    move_partial(line0 + last * kLineBytes, last, 0, end % kLineBytes, written);
  }
  const std::uint64_t first_bit = first_partial ? written[0] & 1U : 0U;
  const std::uint64_t last_bit =
      last_partial ? written[last / 64] & std::uint64_t{1} << last % 64 : 0U;
  written[0] &= ~first_bit;
  written[last / 64] &= ~last_bit;
  const LineTransfer transfer{.staged = memory_.data(),
                              .out = line0,
                              .touched = touched_.data(),
                              .written = written.data(),
                              .n_words = written.size()};
  (path == LinePath::kStream ? kernels_->stream_lines : kernels_->store_lines)(transfer);
  written[0] |= first_bit;
  written[last / 64] |= last_bit;
}

void Staging::put(const DecodedImage& image, std::byte* out, std::span<std::uint64_t> written,
                  LinePath path) {
  const std::size_t n_words = geometry_.part_words();
  for (std::size_t part = 0; part < geometry_.n_parts(); ++part) {
    std::byte* const begin = out + part * geometry_.part_bytes();
    shift_bytes_ = reinterpret_cast<std::uintptr_t>(begin) % kLineBytes;
    if (geometry_.channels_last) {
      for (std::uint32_t channel = 0; channel < geometry_.n_channels; ++channel) {
        write(image, channel, channel);
      }
    } else {
      write(image, static_cast<std::uint32_t>(part), 0);
    }
    move_out(begin, written.subspan(part * n_words, n_words), path);
  }
}

void Staging::finish() noexcept { fence_nontemporal(); }

}  // namespace e2eio
