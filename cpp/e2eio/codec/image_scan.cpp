#include "e2eio/codec/image_scan.hpp"

#include <algorithm>
#include <bit>

#include "e2eio/base/bytes.hpp"

namespace e2eio {
namespace {

// Values that are listed at a time: they, and what is listed of them, stay in the second cache.
constexpr std::size_t kStrip = 8192;

// Divides as D. Lemire et al., Faster remainder by direct computation (2019); exact for 32 bits.
// Thread rule: immutable; any thread.
class Divider {
 public:
  explicit Divider(std::uint32_t divisor) noexcept
      : reciprocal_(Wide{~std::uint64_t{0} / divisor} + 1) {}
  [[nodiscard]] std::uint32_t quotient(std::uint32_t value) const noexcept {
    return static_cast<std::uint32_t>(reciprocal_ * value >> 64U);
  }

 private:
  __extension__ using Wide = unsigned __int128;
  Wide reciprocal_;
};

}  // namespace

ImageScanner::ImageScanner(const KernelSet& kernels)
    : kernels_(&kernels),
      positions_(kStrip + kPositionSlack),
      words_(kStrip + kPositionSlack),
      doubles_(kStrip + kPositionSlack) {}

// Lists the values of at most kStrip that are not +0.0 as float32.
template <typename T>
std::uint64_t ImageScanner::list(const std::byte* data, std::size_t n, std::uint32_t first) {
  if constexpr (sizeof(T) == 4) {
    n_ = kernels_->list_nonzero32(data, n, first, positions_.data(), words_.data());
    return 0;
  } else {
    const std::size_t found =
        kernels_->list_nonzero64(data, n, first, positions_.data(), doubles_.data());
    std::uint64_t rounded = 0;
    n_ = 0;
    for (std::size_t i = 0; i < found; ++i) {
      const auto narrow = static_cast<float>(std::bit_cast<double>(doubles_[i]));
      rounded += std::bit_cast<std::uint64_t>(static_cast<double>(narrow)) != doubles_[i] ? 1 : 0;
      const auto word = std::bit_cast<std::uint32_t>(narrow);
      words_[n_] = word;
      positions_[n_] = positions_[i];
      n_ += word != 0 ? 1 : 0;  // the smallest become +0.0
    }
    return rounded;
  }
}

// Values one after the other in memory, of one channel.
template <typename T>
std::uint64_t ImageScanner::scan_run(const std::byte* data, std::size_t n, std::uint32_t first,
                                     ChannelScan& channel) {
  std::uint64_t rounded = 0;
  for (std::size_t at = 0; at < n; at += kStrip) {
    rounded += list<T>(data + at * sizeof(T), std::min(kStrip, n - at),
                       first + static_cast<std::uint32_t>(at));
    const auto end = static_cast<std::ptrdiff_t>(n_);
    channel.positions.insert(channel.positions.end(), positions_.begin(), positions_.begin() + end);
    channel.words.insert(channel.words.end(), words_.begin(), words_.begin() + end);
  }
  return rounded;
}

// All channels of a pixel one after the other: [H, W, C].
template <typename T>
std::uint64_t ImageScanner::scan_interleaved(const std::byte* data, const ImageShape& shape,
                                             std::vector<ChannelScan>& channels) {
  const Divider by_channels(shape.channels);
  std::uint64_t rounded = 0;
  for (std::size_t at = 0; at < shape.pixels(); at += kStrip) {
    rounded += list<T>(data + at * sizeof(T), std::min(kStrip, shape.pixels() - at),
                       static_cast<std::uint32_t>(at));
    for (std::size_t i = 0; i < n_; ++i) {
      const std::uint32_t pixel = by_channels.quotient(positions_[i]);
      ChannelScan& channel = channels[positions_[i] - pixel * shape.channels];
      channel.positions.push_back(pixel);
      channel.words.push_back(words_[i]);
    }
  }
  return rounded;
}

template <typename T>
std::uint64_t ImageScanner::scan_as(const StridedImage& image, const ImageShape& shape,
                                    std::vector<ChannelScan>& channels) {
  constexpr auto kItem = static_cast<std::ptrdiff_t>(sizeof(T));
  const auto [by_channel, by_row, by_column] = image.stride_bytes;
  const auto width = static_cast<std::ptrdiff_t>(shape.width);
  const auto n_channels = static_cast<std::ptrdiff_t>(shape.channels);
  if (by_channel == kItem && by_column == n_channels * kItem && by_row == width * by_column) {
    return scan_interleaved<T>(image.data, shape, channels);
  }
  std::uint64_t rounded = 0;
  std::vector<std::byte> row(shape.width * sizeof(T));
  for (std::uint32_t c = 0; c < shape.channels; ++c) {
    const std::byte* const plane = image.data + static_cast<std::ptrdiff_t>(c) * by_channel;
    if (by_column == kItem && by_row == width * kItem) {
      rounded += scan_run<T>(plane, shape.plane_pixels(), 0, channels[c]);
      continue;
    }
    for (std::uint32_t y = 0; y < shape.height; ++y) {
      const std::byte* at = plane + static_cast<std::ptrdiff_t>(y) * by_row;
      for (std::size_t x = 0; x < shape.width; ++x, at += by_column) {
        std::copy_n(at, sizeof(T), row.data() + x * sizeof(T));
      }
      rounded += scan_run<T>(row.data(), shape.width, y * shape.width, channels[c]);
    }
  }
  return rounded;
}

std::uint64_t ImageScanner::scan(const StridedImage& image, const ImageShape& shape,
                                 std::vector<ChannelScan>& channels) {
  channels.resize(shape.channels);
  for (ChannelScan& channel : channels) {
    channel.positions.clear();
    channel.words.clear();
  }
  return image.is_double ? scan_as<double>(image, shape, channels)
                         : scan_as<float>(image, shape, channels);
}

}  // namespace e2eio
