#include "e2eio/codec/image_encoder.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <numeric>
#include <optional>
#include <utility>

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

// Whether the pixels come as runs of k neighbours of one value each.
bool in_runs(const ChannelScan& scan, std::uint32_t k) {
  for (std::size_t i = 0; i < scan.words.size(); i += k) {
    for (std::uint32_t j = 1; j < k; ++j) {
      if (scan.words[i + j] != scan.words[i] || scan.positions[i + j] != scan.positions[i] + j) {
        return false;
      }
    }
  }
  return true;
}

// The channel on a grid k times coarser, if every k x k block holds one value.
// Requires: k divides height and width, and its square the number of pixels.
std::optional<NativeChannel> coarsened(const ChannelScan& scan, const ImageShape& shape,
                                       std::uint32_t k) {
  if (!in_runs(scan, k)) {
    return std::nullopt;
  }
  const std::uint32_t columns = shape.width / k;
  const std::size_t grid_pixels = std::size_t{columns} * (shape.height / k);
  std::vector<std::uint32_t> grid(grid_pixels, 0);
  NativeChannel native{.block = k, .grid_pixels = grid_pixels, .positions = {}, .words = {}};
  std::uint32_t y = 0;
  std::uint32_t row = 0;  // first pixel of row y
  for (std::size_t i = 0; i < scan.positions.size(); i += k) {
    for (; scan.positions[i] - row >= shape.width; row += shape.width) {
      ++y;
    }
    const std::uint32_t x = scan.positions[i] - row;
    const std::uint32_t cell = y / k * columns + x / k;
    if (x % k != 0) {
      return std::nullopt;
    }
    if (y % k == 0) {
      grid[cell] = scan.words[i];
      native.positions.push_back(cell);
      native.words.push_back(scan.words[i]);
    } else if (grid[cell] != scan.words[i]) {
      return std::nullopt;  // the block's first row comes first
    }
  }
  const bool all_pixels = native.words.size() * k * k == scan.words.size();
  return all_pixels ? std::optional(std::move(native)) : std::nullopt;
}

// Edges that blocks can have, the largest first.
std::vector<std::uint32_t> block_edges(const ImageShape& shape) {
  const std::uint32_t common = std::gcd(shape.height, shape.width);
  std::vector<std::uint32_t> edges;
  for (std::uint32_t k = std::min(il::kMaxBlock, common); k >= 2; --k) {
    if (common % k == 0) {
      edges.push_back(k);
    }
  }
  return edges;
}

NativeChannel to_native(const ChannelScan& scan, const ImageShape& shape,
                        const std::vector<std::uint32_t>& edges) {
  const std::size_t n = scan.positions.size();
  for (const std::uint32_t k : edges) {
    if (n >= std::size_t{k} * k && n % (std::size_t{k} * k) == 0) {
      if (auto native = coarsened(scan, shape, k)) {
        return *std::move(native);
      }
    }
  }
  return {1, shape.plane_pixels(), scan.positions, scan.words};
}

struct Gaps {
  Bytes low;
  Bytes high;  // wide ones only
  std::uint32_t escapes = 0;
};

Gaps encode_gaps(const std::vector<std::uint32_t>& positions, bool wide) {
  const std::uint32_t escape = wide ? il::kWideEscape : il::kNarrowEscape;
  Gaps gaps;
  gaps.low.reserve(positions.size() + positions.size() / 8 + 8);
  const auto put = [&](std::uint32_t entry) {
    gaps.low.push_back(static_cast<std::byte>(entry));
    if (wide) {
      gaps.high.push_back(static_cast<std::byte>(entry >> 8U));
    }
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
  return gaps;
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

Bytes integer_bytes(const std::vector<std::uint32_t>& words) {
  Bytes bytes(words.size());
  std::transform(words.begin(), words.end(), bytes.begin(), [](std::uint32_t word) {
    return static_cast<std::byte>(static_cast<unsigned>(std::bit_cast<float>(word)));
  });
  return bytes;
}

// Where few integers differ from the most frequent one, they are listed: u8 base, varint count,
// then a varint gap and u8 value each (pixel hits: nearly all are 1).
std::optional<Bytes> as_exceptions(const Bytes& values) {
  std::array<std::size_t, 256> counts{};
  for (const std::byte value : values) {
    ++counts[static_cast<std::size_t>(value)];
  }
  const auto most = std::max_element(counts.begin(), counts.end());
  const std::size_t n_others = values.size() - *most;
  if (n_others > values.size() / 16) {
    return std::nullopt;
  }
  const auto base = static_cast<std::byte>(most - counts.begin());
  Bytes list{base};
  append_varint(list, static_cast<std::uint32_t>(n_others));
  std::size_t next = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (values[i] != base) {
      append_varint(list, static_cast<std::uint32_t>(i - next));
      list.push_back(values[i]);
      next = i + 1;
    }
  }
  return list;
}

// Byte planes of the rotated words, the highest first.
void append_planes(const std::vector<std::uint32_t>& words, ValueCoding coding,
                   std::vector<EncodedPlane>& planes) {
  std::vector<std::uint32_t> rotated(words.size());
  std::transform(words.begin(), words.end(), rotated.begin(), [coding](std::uint32_t word) {
    return coding == ValueCoding::kFloat16 ? std::uint32_t{std::rotl(to_half(word), 1)}
                                           : std::rotl(word, 1);
  });
  for (unsigned p = il::planes_of(coding); p-- > 0;) {
    Bytes plane(words.size());
    std::transform(rotated.begin(), rotated.end(), plane.begin(),
                   [p](std::uint32_t word) { return static_cast<std::byte>(word >> (8 * p)); });
    planes.push_back({value_role(p), std::move(plane)});
  }
}

// Bytes of the gaps and values of a channel before coding, to choose between sparse and dense.
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
  Encoder(const ImageShape& shape, Precision precision)
      : shape_(shape), precision_(precision), edges_(block_edges(shape)) {}

  EncodedImage encode(const std::vector<ChannelScan>& scans) {
    EncodedImage image;
    for (const ChannelScan& scan : scans) {
      image.push_back(scan.positions.empty() ? EncodedChannel{}
                                             : encode_channel(to_native(scan, shape_, edges_)));
      sources_.resize(image.size());
    }
    return image;
  }

 private:
  EncodedChannel encode_channel(NativeChannel channel) {
    EncodedChannel encoded;
    encoded.kind = PixelKind::kShared;
    encoded.block = channel.block;
    encoded.n = static_cast<std::uint32_t>(channel.words.size());
    for (std::size_t source = 0; source < sources_.size(); ++source) {
      const NativeChannel& other = sources_[source];
      if (other.block == channel.block && other.positions == channel.positions) {
        encoded.source = static_cast<std::uint32_t>(source);
        put_values(channel.words, encoded);
        return encoded;
      }
    }
    Gaps gaps = encode_gaps(channel.positions, false);
    // An escape costs an entry, a wide gap a byte whose low half does not compress.
    if (gaps.escapes > channel.positions.size() / 2) {
      gaps = encode_gaps(channel.positions, true);
    }
    encoded.wide = !gaps.high.empty();
    const bool integers = small_integers(channel.words);
    if (dense_is_smaller(channel, gaps.low.size() + gaps.high.size(), integers)) {
      const NativeChannel full = filled(channel);
      encoded.kind = PixelKind::kDense;
      encoded.wide = false;
      encoded.n = static_cast<std::uint32_t>(full.words.size());
      put_values(full.words, encoded);
      return encoded;
    }
    encoded.kind = PixelKind::kSparse;
    encoded.escapes = gaps.escapes;
    encoded.planes.push_back({PlaneRole::kGapLow, std::move(gaps.low)});
    if (encoded.wide) {
      encoded.planes.push_back({PlaneRole::kGapHigh, std::move(gaps.high)});
    }
    put_values(channel.words, encoded);
    sources_.push_back(std::move(channel));
    return encoded;
  }

  void put_values(const std::vector<std::uint32_t>& words, EncodedChannel& encoded) const {
    if (!small_integers(words)) {
      encoded.coding =
          precision_ == Precision::kFloat16 ? ValueCoding::kFloat16 : ValueCoding::kFloat32;
      append_planes(words, encoded.coding, encoded.planes);
      return;
    }
    Bytes values = integer_bytes(words);
    if (auto exceptions = as_exceptions(values)) {
      encoded.coding = ValueCoding::kMostlyOneInteger;
      encoded.exceptions = *std::move(exceptions);
      return;
    }
    encoded.coding = ValueCoding::kSmallInteger;
    encoded.planes.push_back({PlaneRole::kValue0, std::move(values)});
  }

  ImageShape shape_;
  Precision precision_;
  std::vector<std::uint32_t> edges_;
  std::vector<NativeChannel> sources_;  // per channel; those not of kind 1 stand empty
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

EncodedImage encode_image(const std::vector<ChannelScan>& channels, const ImageShape& shape,
                          Precision precision) {
  return Encoder(shape, precision).encode(channels);
}

}  // namespace e2eio
