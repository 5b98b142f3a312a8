#include "e2eio/codec/image_encoder.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <bitset>
#include <cmath>
#include <optional>

#include "e2eio/kernels/kernel_set.hpp"

namespace e2eio {
namespace {

namespace il = image_layout;

// A channel on its native grid.
struct NativeChannel {
  std::uint32_t block = 1;
  std::size_t grid_pixels = 0;
  std::vector<std::uint32_t> positions;
  std::vector<std::uint32_t> words;
};

// The channel on a grid k times coarser, if every k x k block holds one value.
std::optional<NativeChannel> coarsened(const ChannelScan& scan, const ImageShape& shape,
                                       std::uint32_t k) {
  const std::uint32_t columns = shape.width / k;
  const std::size_t grid_pixels = std::size_t{columns} * (shape.height / k);
  std::vector<std::uint32_t> grid(grid_pixels, 0);
  NativeChannel native{.block = k, .grid_pixels = grid_pixels, .positions = {}, .words = {}};
  for (std::size_t i = 0; i < scan.positions.size(); ++i) {
    const std::uint32_t y = scan.positions[i] / shape.width;
    const std::uint32_t x = scan.positions[i] % shape.width;
    const std::uint32_t cell = y / k * columns + x / k;
    if (y % k == 0 && x % k == 0) {
      grid[cell] = scan.words[i];
      native.positions.push_back(cell);
      native.words.push_back(scan.words[i]);
    } else if (grid[cell] != scan.words[i]) {
      return std::nullopt;  // the block's first pixel comes first in row-major order
    }
  }
  const bool all_pixels = native.words.size() * k * k == scan.words.size();
  return all_pixels ? std::optional(std::move(native)) : std::nullopt;
}

NativeChannel to_native(const ChannelScan& scan, const ImageShape& shape) {
  const std::size_t n = scan.positions.size();
  const std::uint32_t largest = std::min({il::kMaxBlock, shape.height, shape.width});
  for (std::uint32_t k = largest; k >= 2; --k) {
    const bool divides = shape.height % k == 0 && shape.width % k == 0;
    if (divides && n >= std::size_t{k} * k && n % (std::size_t{k} * k) == 0) {
      if (auto native = coarsened(scan, shape, k)) {
        return *std::move(native);
      }
    }
  }
  return {1, shape.plane_pixels(), scan.positions, scan.words};
}

struct Gaps {
  Bytes bytes;
  std::uint32_t escapes = 0;
};

Gaps encode_gaps(const std::vector<std::uint32_t>& positions, bool wide) {
  const std::uint32_t escape = wide ? il::kWideEscape : il::kNarrowEscape;
  Gaps gaps;
  Bytes high;
  const auto put = [&](std::uint32_t entry) {
    gaps.bytes.push_back(static_cast<std::byte>(entry));
    high.push_back(static_cast<std::byte>(entry >> 8U));
  };
  std::uint32_t next = 0;
  for (const std::uint32_t position : positions) {
    std::uint32_t gap = position - next;
    for (; gap >= escape; gap -= escape, ++gaps.escapes) {
      put(escape);
    }
    put(gap);
    next = position + 1;
  }
  if (wide) {
    append_bytes(gaps.bytes, high);
  }
  return gaps;
}

// A plane goes to zstd if it has clearly fewer distinct bytes than random ones would have:
// n random bytes show 256 (1 - (255/256)^n) distinct values on average.
bool compresses(ByteView plane) {
  std::bitset<256> seen;
  for (const std::byte byte : plane) {
    seen.set(static_cast<std::size_t>(byte));
  }
  const double expected =
      256.0 * (1.0 - std::pow(255.0 / 256.0, static_cast<double>(plane.size())));
  return static_cast<double>(seen.count()) < 0.75 * expected;
}

bool small_integers(const std::vector<std::uint32_t>& words) {
  return std::all_of(words.begin(), words.end(), [](std::uint32_t word) {
    const auto value = std::bit_cast<float>(word);
    if (!(value >= 0.0F && value <= 255.0F)) {
      return false;
    }
    return std::bit_cast<std::uint32_t>(static_cast<float>(static_cast<int>(value))) == word;
  });
}

std::uint16_t to_half(std::uint32_t word) {
  std::uint16_t half = 0;
  scalar_kernels()->cast_float16(&word, 1, &half);
  return half;
}

// The float32 bits of the float16 nearest to a value.
std::uint32_t rounded_to_half(std::uint32_t word) {
  const std::uint16_t half = to_half(word);
  const auto value = std::bit_cast<float>(word);
  if (std::isfinite(value) && (half & 0x7FFFU) == 0x7C00U) {
    throw Error(ErrorKind::kInvalidArgument,
                cat("value ", value,
                    " does not fit float16 (largest 65504); write with precision float32"));
  }
  const std::uint16_t rotated = std::rotl(half, 1);
  const auto low = static_cast<std::uint8_t>(rotated);
  const auto high = static_cast<std::uint8_t>(rotated >> 8U);
  std::uint32_t rounded = 0;
  scalar_kernels()->merge_float16({&low, &high}, 1, &rounded);
  return rounded;
}

// Appends the values and returns the plane mask.
unsigned encode_planes(const std::vector<std::uint32_t>& words, ValueCoding coding,
                       ImageStreams& streams) {
  const unsigned n_planes = il::planes_of(coding);
  std::vector<std::uint32_t> rotated(words.size());
  std::transform(words.begin(), words.end(), rotated.begin(), [coding](std::uint32_t word) {
    return coding == ValueCoding::kFloat16 ? std::uint32_t{std::rotl(to_half(word), 1)}
                                           : std::rotl(word, 1);
  });
  unsigned mask = 0;
  Bytes plane(words.size());
  for (unsigned p = n_planes; p-- > 0;) {
    std::transform(rotated.begin(), rotated.end(), plane.begin(),
                   [p](std::uint32_t word) { return static_cast<std::byte>(word >> (8 * p)); });
    const bool to_zstd = compresses(plane);
    mask |= to_zstd ? 1U << p : 0U;
    append_bytes(to_zstd ? streams.value : streams.noise, plane);
  }
  return mask;
}

// Bytes of the gaps and values of a channel before zstd, to choose between sparse and dense.
bool dense_is_smaller(const NativeChannel& channel, std::size_t gap_bytes, bool integers) {
  const std::size_t value_bytes = integers ? 1 : 4;
  return channel.words.size() * value_bytes + gap_bytes > channel.grid_pixels * value_bytes;
}

NativeChannel filled(const NativeChannel& channel) {
  NativeChannel full{channel.block, channel.grid_pixels, {}, {}};
  full.words.assign(channel.grid_pixels, 0);
  for (std::size_t i = 0; i < channel.words.size(); ++i) {
    full.words[channel.positions[i]] = channel.words[i];
  }
  return full;
}

// Thread rule: one thread; made for one image.
class Encoder {
 public:
  Encoder(const ImageShape& shape, Precision precision) : shape_(shape), precision_(precision) {}

  ImageStreams encode(const std::vector<ChannelScan>& channels) {
    for (const ChannelScan& scan : channels) {
      if (scan.positions.empty()) {
        put_byte(0);
        sources_.push_back({});
      } else {
        encode_channel(to_native(scan, shape_));
      }
    }
    append_bytes(streams_.index, gaps_);
    return std::move(streams_);
  }

 private:
  void encode_channel(NativeChannel channel) {
    const bool integers = small_integers(channel.words);
    for (std::size_t source = 0; source < sources_.size(); ++source) {
      const NativeChannel& other = sources_[source];
      if (other.block == channel.block && other.positions == channel.positions) {
        put_tag(PixelKind::kShared, integers, 0);
        append_varint(streams_.index, static_cast<std::uint32_t>(source));
        put_values(channel.words, integers);
        sources_.push_back({});
        return;
      }
    }
    const Gaps narrow = encode_gaps(channel.positions, false);
    // An escape costs a byte of the stream, a wide gap one of each entry.
    const bool wide = narrow.escapes > channel.positions.size();
    const Gaps gaps = wide ? encode_gaps(channel.positions, true) : narrow;
    const unsigned block_bit = channel.block > 1 ? il::kBlock : 0U;
    if (dense_is_smaller(channel, gaps.bytes.size(), integers)) {
      const NativeChannel full = filled(channel);
      const bool full_integers = small_integers(full.words);
      put_tag(PixelKind::kDense, full_integers, block_bit);
      put_block(channel.block);
      put_values(full.words, full_integers);
      sources_.push_back({});
      return;
    }
    put_tag(PixelKind::kSparse, integers, block_bit | (wide ? il::kWideGaps : 0U));
    put_block(channel.block);
    append_varint(streams_.index, static_cast<std::uint32_t>(channel.positions.size()));
    append_varint(streams_.index, gaps.escapes);
    append_bytes(gaps_, gaps.bytes);
    put_values(channel.words, integers);
    sources_.push_back(std::move(channel));
  }

  void put_byte(unsigned value) { streams_.index.push_back(static_cast<std::byte>(value)); }

  [[nodiscard]] ValueCoding coding(bool integers) const {
    if (integers) {
      return ValueCoding::kSmallInteger;
    }
    return precision_ == Precision::kFloat16 ? ValueCoding::kFloat16 : ValueCoding::kFloat32;
  }

  void put_tag(PixelKind kind, bool integers, unsigned bits) {
    put_byte(static_cast<unsigned>(kind) |
             static_cast<unsigned>(coding(integers)) << il::kCodingShift | bits);
  }

  void put_block(std::uint32_t block) {
    if (block > 1) {
      put_byte(block);
    }
  }

  void put_values(const std::vector<std::uint32_t>& words, bool integers) {
    if (integers) {
      for (const std::uint32_t word : words) {
        streams_.value.push_back(
            static_cast<std::byte>(static_cast<unsigned>(std::bit_cast<float>(word))));
      }
      return;
    }
    put_byte(encode_planes(words, coding(false), streams_));
  }

  ImageShape shape_;
  Precision precision_;
  ImageStreams streams_;
  Bytes gaps_;
  std::vector<NativeChannel> sources_;  // of kind 1; others stand empty
};

}  // namespace

void round_to_float16(std::vector<ChannelScan>& channels) {
  for (ChannelScan& channel : channels) {
    std::size_t kept = 0;
    for (std::size_t i = 0; i < channel.words.size(); ++i) {
      const std::uint32_t word = rounded_to_half(channel.words[i]);
      if (word != 0) {
        channel.words[kept] = word;
        channel.positions[kept] = channel.positions[i];
        ++kept;
      }
    }
    channel.words.resize(kept);
    channel.positions.resize(kept);
  }
}

ImageStreams encode_image(const std::vector<ChannelScan>& channels, const ImageShape& shape,
                          Precision precision) {
  return Encoder(shape, precision).encode(channels);
}

}  // namespace e2eio
