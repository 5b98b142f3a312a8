#include "e2eio/codec/image_scan.hpp"

#include <algorithm>
#include <bit>

#include "e2eio/base/bytes.hpp"

namespace e2eio {
namespace {

// Adds the value at `at` if it is not +0.0.
template <typename T>
class Collector {
 public:
  void add(ChannelScan& channel, std::uint32_t position, const std::byte* at) {
    std::uint32_t word = 0;
    if constexpr (sizeof(T) == 4) {
      word = load<std::uint32_t>(at);
    } else {
      const auto bits = load<std::uint64_t>(at);
      if (bits != 0) {
        const auto narrow = static_cast<float>(std::bit_cast<double>(bits));
        rounded_ += std::bit_cast<std::uint64_t>(static_cast<double>(narrow)) != bits ? 1 : 0;
        word = std::bit_cast<std::uint32_t>(narrow);
      }
    }
    if (word != 0) {
      channel.positions.push_back(position);
      channel.words.push_back(word);
    }
  }
  [[nodiscard]] std::uint64_t rounded() const noexcept { return rounded_; }

 private:
  std::uint64_t rounded_ = 0;
};

// True if n_bytes (a multiple of 4) at `at` are all zero.
bool all_zero(const std::byte* at, std::size_t n_bytes) noexcept {
  std::uint64_t any = 0;
  std::size_t i = 0;
  for (; i + 8 <= n_bytes; i += 8) {
    any |= load<std::uint64_t>(at + i);
  }
  if (i < n_bytes) {
    any |= load<std::uint32_t>(at + i);
  }
  return any == 0;
}

// Values one after the other in memory: [C, H, W] planes.
template <typename T>
void scan_plane(const std::byte* data, std::size_t n_pixels, ChannelScan& channel,
                Collector<T>& collect) {
  constexpr std::size_t kRun = 16;  // most runs of this many are empty
  for (std::size_t first = 0; first < n_pixels; first += kRun) {
    const std::size_t count = std::min(kRun, n_pixels - first);
    if (all_zero(data + first * sizeof(T), count * sizeof(T))) {
      continue;
    }
    for (std::size_t i = first; i < first + count; ++i) {
      collect.add(channel, static_cast<std::uint32_t>(i), data + i * sizeof(T));
    }
  }
}

// All channels of a pixel one after the other: [H, W, C].
template <typename T>
void scan_interleaved(const std::byte* data, const ImageShape& shape,
                      std::vector<ChannelScan>& channels, Collector<T>& collect) {
  const std::size_t pixel_bytes = shape.channels * sizeof(T);
  for (std::size_t i = 0; i < shape.plane_pixels(); ++i, data += pixel_bytes) {
    if (all_zero(data, pixel_bytes)) {
      continue;
    }
    for (std::uint32_t c = 0; c < shape.channels; ++c) {
      collect.add(channels[c], static_cast<std::uint32_t>(i), data + c * sizeof(T));
    }
  }
}

template <typename T>
std::uint64_t scan(const StridedImage& image, const ImageShape& shape,
                   std::vector<ChannelScan>& channels) {
  constexpr auto kItem = static_cast<std::ptrdiff_t>(sizeof(T));
  const auto [by_channel, by_row, by_column] = image.stride_bytes;
  const auto width = static_cast<std::ptrdiff_t>(shape.width);
  const auto n_channels = static_cast<std::ptrdiff_t>(shape.channels);
  Collector<T> collect;
  if (by_channel == kItem && by_column == n_channels * kItem && by_row == width * by_column) {
    scan_interleaved(image.data, shape, channels, collect);
    return collect.rounded();
  }
  for (std::uint32_t c = 0; c < shape.channels; ++c) {
    const std::byte* const plane = image.data + static_cast<std::ptrdiff_t>(c) * by_channel;
    if (by_column == kItem && by_row == width * kItem) {
      scan_plane(plane, shape.plane_pixels(), channels[c], collect);
      continue;
    }
    for (std::uint32_t y = 0; y < shape.height; ++y) {
      for (std::uint32_t x = 0; x < shape.width; ++x) {
        collect.add(channels[c], y * shape.width + x,
                    plane + static_cast<std::ptrdiff_t>(y) * by_row +
                        static_cast<std::ptrdiff_t>(x) * by_column);
      }
    }
  }
  return collect.rounded();
}

}  // namespace

std::uint64_t scan_image(const StridedImage& image, const ImageShape& shape,
                         std::vector<ChannelScan>& channels) {
  channels.resize(shape.channels);
  for (ChannelScan& channel : channels) {
    channel.positions.clear();
    channel.words.clear();
  }
  return image.is_double ? scan<double>(image, shape, channels)
                         : scan<float>(image, shape, channels);
}

}  // namespace e2eio
