#include "e2eio/pipeline/sparse_batch.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <numeric>
#include <utility>

namespace e2eio {
namespace {

constexpr std::uint64_t kLine = 64;

constexpr std::uint64_t round_up(std::uint64_t n_bytes) {
  return (n_bytes + kLine - 1) / kLine * kLine;
}

// An eighth more than needed now, so that batches of about this size fit from now on.
constexpr std::uint64_t with_headroom(std::uint64_t n_bytes) {
  return round_up(n_bytes + n_bytes / 8);
}

std::uint64_t payload_offset_of(std::size_t n_samples, std::uint32_t n_channels) {
  return sizeof(WireHeader) + round_up(sizeof(WireChannel) * n_samples * n_channels);
}

void copy_bytes(std::byte* to, const void* from, std::size_t n_bytes) {
  if (n_bytes > 0) {
    std::memcpy(to, from, n_bytes);
  }
}

void write_values(DType dtype, std::span<const std::uint32_t> words, std::byte* to,
                  const KernelSet& kernels) {
  if (dtype == DType::kFloat32) {
    copy_bytes(to, words.data(), 4 * words.size());
    return;
  }
  const auto cast = dtype == DType::kFloat16 ? kernels.cast_float16 : kernels.cast_bfloat16;
  cast(words.data(), words.size(), reinterpret_cast<std::uint16_t*>(to));
}

// Image pixels that are not +0.0, of all channels.
template <typename T>
std::uint64_t count_pixels(const std::vector<ChannelPixels>& channels, const std::byte* values) {
  std::uint64_t total = 0;
  for (const ChannelPixels& channel : channels) {
    const T* const first = reinterpret_cast<const T*>(values) + channel.first_word;
    std::uint32_t n = 0;
    for (std::uint32_t i = 0; i < channel.n; ++i) {
      n += first[i] != 0 ? 1U : 0U;
    }
    total += std::uint64_t{n} * channel.block * channel.block;
  }
  return total;
}

// position / width by a multiplication: exact where position * width < 2^46, and ImageShape allows
// positions below 2^28 and widths below 2^16. Thread rule: immutable; any thread.
class RowFinder {
 public:
  explicit RowFinder(std::uint32_t width) : inverse_((std::uint64_t{1} << kShift) / width + 1) {}
  [[nodiscard]] std::uint32_t operator()(std::uint32_t position) const noexcept {
    return static_cast<std::uint32_t>(position * inverse_ >> kShift);
  }

 private:
  static constexpr unsigned kShift = 46;
  std::uint64_t inverse_;
};

// One channel of one sample, and where its pixels go.
template <typename T>
struct Expansion {
  explicit Expansion(std::uint32_t image_width) : width(image_width), row_of(image_width) {}

  const T* values = nullptr;
  std::uint32_t n = 0;
  std::uint32_t block = 1;
  std::uint32_t width;
  RowFinder row_of;
  Coordinate at;  // sample and channel
  Coordinate* coordinates = nullptr;
  T* out = nullptr;

  // Requires: position(i) ascends. What is +0.0 after the cast is left out.
  template <typename Position>
  void run(Position position) {
    if (block == 1) {
      run_pixels(position);
      return;
    }
    for (std::uint32_t begin = 0; begin < n;) {
      const std::uint32_t row = row_of(position(begin));
      const std::uint32_t row_end = (row + 1) * width;
      std::uint32_t end = begin + 1;
      while (end < n && position(end) < row_end) {
        ++end;
      }
      for (std::uint32_t dy = 0; dy < block; ++dy) {
        at.y = static_cast<std::int32_t>(row + dy);
        for (std::uint32_t i = begin; i < end; ++i) {
          if (values[i] != 0) {
            emit(position(i) - row * width, values[i]);
          }
        }
      }
      begin = end;
    }
  }
  template <typename Position>
  void run_pixels(Position position) {
    for (std::uint32_t i = 0; i < n; ++i) {
      if (values[i] != 0) {
        const std::uint32_t row = row_of(position(i));
        const auto x = static_cast<std::int32_t>(position(i) - row * width);
        *coordinates++ = {at.sample, at.channel, static_cast<std::int32_t>(row), x};
        *out++ = values[i];
      }
    }
  }
  void emit(std::uint32_t x, T value) {
    for (std::uint32_t dx = 0; dx < block; ++dx) {
      at.x = static_cast<std::int32_t>(x + dx);
      *coordinates++ = at;
      *out++ = value;
    }
  }
};

template <typename T>
void expand_channel(Expansion<T>& to, const WireChannel& channel, const std::byte* payload) {
  to.values = reinterpret_cast<const T*>(payload) + channel.first_value;
  to.n = channel.n;
  to.block = channel.block;
  if (channel.dense != 0) {
    const std::uint32_t columns = to.width / to.block;
    to.run([&](std::uint32_t i) { return (i / columns * to.width + i % columns) * to.block; });
    return;
  }
  const std::uint32_t* const positions =
      reinterpret_cast<const std::uint32_t*>(payload) + channel.first_position;
  if (std::is_sorted(positions, positions + channel.n)) {
    to.run([positions](std::uint32_t i) { return positions[i]; });
    return;
  }
  // A record's positions ascend; those that were moved about since may not.
  std::vector<std::uint32_t> order(channel.n);
  std::iota(order.begin(), order.end(), 0U);
  std::sort(order.begin(), order.end(),
            [positions](std::uint32_t a, std::uint32_t b) { return positions[a] < positions[b]; });
  std::vector<T> values(channel.n);
  std::transform(order.begin(), order.end(), values.begin(),
                 [&to](std::uint32_t i) { return to.values[i]; });
  to.values = values.data();
  to.run([&](std::uint32_t i) { return positions[order[i]]; });
}

}  // namespace

SparseBatch::SparseBatch(const BatchGeometry& geometry, bool with_coordinates,
                         std::uint64_t expected_bytes, const PageLock& page_lock)
    : geometry_(geometry),
      with_coordinates_(with_coordinates),
      page_lock_(page_lock),
      buffer_(expected_bytes, page_lock),
      coordinates_(0),
      values_(0) {}

WireChannel* SparseBatch::channels_of(std::size_t i) const noexcept {
  return reinterpret_cast<WireChannel*>(buffer_.data() + sizeof(WireHeader)) +
         i * geometry_.n_channels;
}

void SparseBatch::begin(std::size_t n_samples) {
  n_samples_ = n_samples;
  payload_offset_ = payload_offset_of(n_samples, geometry_.n_channels);
  if (payload_offset_ > buffer_.n_bytes()) {
    buffer_ = ZeroedMemory(with_headroom(payload_offset_), page_lock_);
  }
  payload_bytes_ = 0;
  wire_bytes_ = 0;
  n_pixels_ = 0;
  overflow_.clear();  // of a batch that was given up
  overflow_.resize(n_samples);
  pixel_ends_.resize(n_samples);
}

void SparseBatch::put(std::size_t i, const DecodedImage& image, const KernelSet& kernels) {
  const std::size_t item = size_of(geometry_.dtype);
  std::size_t n_positions = 0;
  std::size_t n_words = 0;
  for (const ChannelPixels& pixels : image.channels) {
    n_positions = std::max(n_positions, pixels.dense ? 0 : pixels.first_position + pixels.n);
    n_words = std::max(n_words, pixels.first_word + pixels.n);
  }
  const std::size_t position_bytes = sizeof(std::uint32_t) * n_positions;
  const std::uint64_t n_bytes = round_up(position_bytes + item * n_words);
  const std::uint64_t at = payload_bytes_.fetch_add(n_bytes, std::memory_order_relaxed);
  if ((at + n_bytes) / item > std::numeric_limits<std::uint32_t>::max()) {
    throw Error(ErrorKind::kInvalidArgument,
                cat("a sparse batch of more than 2^32 values: sample ", i, " of ", n_samples_,
                    "; lower batch_size, or pass form=\"dense\""));
  }
  const bool fits = payload_offset_ + at + n_bytes <= buffer_.n_bytes();
  if (!fits) {
    overflow_[i].at = at;
    overflow_[i].bytes.resize(n_bytes);
  }
  std::byte* const to = fits ? buffer_.data() + payload_offset_ + at : overflow_[i].bytes.data();
  copy_bytes(to, image.positions.data(), position_bytes);
  write_values(geometry_.dtype, std::span(image.words).first(n_words), to + position_bytes,
               kernels);
  const auto first_position = static_cast<std::uint32_t>(at / sizeof(std::uint32_t));
  const auto first_value = static_cast<std::uint32_t>((at + position_bytes) / item);
  for (std::size_t c = 0; c < image.channels.size(); ++c) {
    const ChannelPixels& pixels = image.channels[c];
    channels_of(i)[c] = {
        .first_position = first_position + static_cast<std::uint32_t>(pixels.first_position),
        .first_value = first_value + static_cast<std::uint32_t>(pixels.first_word),
        .n = pixels.n,
        .block = static_cast<std::uint16_t>(pixels.block),
        .dense = static_cast<std::uint16_t>(pixels.dense ? 1 : 0)};
  }
  if (with_coordinates_) {
    const std::byte* const values = to + position_bytes;
    pixel_ends_[i] = item == 4 ? count_pixels<std::uint32_t>(image.channels, values)
                               : count_pixels<std::uint16_t>(image.channels, values);
  }
}

void SparseBatch::seal() {
  wire_bytes_ = payload_offset_ + payload_bytes_;
  if (wire_bytes_ > buffer_.n_bytes()) {
    ZeroedMemory larger(with_headroom(wire_bytes_), page_lock_);
    std::memcpy(larger.data(), buffer_.data(), buffer_.n_bytes());
    for (Overflow& chunk : overflow_) {
      copy_bytes(larger.data() + payload_offset_ + chunk.at, chunk.bytes.data(),
                 chunk.bytes.size());
      chunk.bytes = {};
    }
    buffer_ = std::move(larger);
  }
  const WireHeader header{.dtype = static_cast<std::uint32_t>(geometry_.dtype),
                          .n_samples = static_cast<std::uint32_t>(n_samples_),
                          .n_channels = geometry_.n_channels,
                          .height = geometry_.height,
                          .width = geometry_.width,
                          .payload_offset = payload_offset_,
                          .n_bytes = wire_bytes_};
  std::memcpy(buffer_.data(), &header, sizeof(header));
  if (!with_coordinates_) {
    return;
  }
  std::partial_sum(pixel_ends_.begin(), pixel_ends_.end(), pixel_ends_.begin());
  n_pixels_ = pixel_ends_.empty() ? 0 : pixel_ends_.back();
  if (n_pixels_ * sizeof(Coordinate) > coordinates_.n_bytes()) {
    coordinates_ = ZeroedMemory(with_headroom(n_pixels_ * sizeof(Coordinate)));
    values_ = ZeroedMemory(with_headroom(n_pixels_ * size_of(geometry_.dtype)));
  }
}

template <typename T>
void SparseBatch::expand_as(std::size_t first, std::size_t count) {
  const std::byte* const payload = buffer_.data() + payload_offset_;
  const std::uint64_t begin = first == 0 ? 0 : pixel_ends_[first - 1];
  Expansion<T> to(geometry_.width);
  to.coordinates = reinterpret_cast<Coordinate*>(coordinates_.data()) + begin;
  to.out = reinterpret_cast<T*>(values_.data()) + begin;
  for (std::size_t i = first; i < first + count; ++i) {
    for (std::uint32_t c = 0; c < geometry_.n_channels; ++c) {
      to.at.sample = static_cast<std::int32_t>(i);
      to.at.channel = static_cast<std::int32_t>(c);
      expand_channel(to, channels_of(i)[c], payload);
    }
  }
}

void SparseBatch::expand(std::size_t first, std::size_t count) {
  if (size_of(geometry_.dtype) == sizeof(std::uint32_t)) {
    expand_as<std::uint32_t>(first, count);
  } else {
    expand_as<std::uint16_t>(first, count);
  }
}

}  // namespace e2eio
