#include "e2eio/codec/image_decoder.hpp"

#include <algorithm>
#include <bit>

namespace e2eio {
namespace {

namespace il = image_layout;

const std::uint8_t* bytes_of(ByteView view) {
  return reinterpret_cast<const std::uint8_t*>(view.data());
}

template <typename... Parts>
[[noreturn]] void refuse(const Parts&... parts) {
  throw Error(ErrorKind::kCorrupt, cat(parts...));
}

}  // namespace

ImageDecoder::ImageDecoder(const ImageShape& shape, Precision precision, const KernelSet& kernels)
    : shape_(shape), precision_(precision), kernels_(&kernels) {}

std::uint32_t ImageDecoder::grid_pixels(std::uint32_t block) const noexcept {
  return (shape_.height / block) * (shape_.width / block);
}

// The parts of a record.
struct ImageDecoder::Streams {
  ByteCursor index;
  ByteCursor value;
  ByteCursor noise;
  LaneSet lanes;
  std::array<std::uint64_t, kLanes> lane_begin{};
  std::array<std::uint32_t, kLanes> lane_bytes{};
};

ByteView ImageDecoder::inflate(ByteView stored, std::uint32_t raw_bytes, Bytes& scratch,
                               const char* name) {
  if (stored.size() == raw_bytes) {
    return stored;
  }
  if (scratch.size() < raw_bytes) {
    scratch.resize(raw_bytes);
  }
  try {
    inflater_.inflate(stored, std::span(scratch).first(raw_bytes));
  } catch (const Error& error) {
    refuse(name, " stream: ", error.what());
  }
  return ByteView(scratch).first(raw_bytes);
}

void ImageDecoder::read_places(ByteCursor& cursor, Descriptor& d, std::uint32_t channel,
                               bool coded) {
  const unsigned n_planes = il::planes_of(d.coding);
  const unsigned all = (1U << n_planes) - 1U;
  if (!coded) {
    // Small integers have no choice: they are in the value stream.
    d.in_value = d.coding == ValueCoding::kSmallInteger ? all : cursor.take<std::uint8_t>();
    if ((d.in_value & ~all) != 0) {
      refuse("channel ", channel, ": plane mask ", d.in_value, " for ", n_planes, " planes");
    }
    return;
  }
  const unsigned places = cursor.take<std::uint8_t>();
  d.in_lanes = places & (il::kValuePlacesMask | il::kGapLowInLanes | il::kGapHighInLanes);
  d.in_value = (places & il::kRestInValueStream) != 0 ? all & ~d.in_lanes : 0U;
  const unsigned gaps = d.kind != PixelKind::kSparse ? 0U
                        : d.wide                     ? il::kGapLowInLanes | il::kGapHighInLanes
                                                     : il::kGapLowInLanes;
  const bool rest_but_none = (places & il::kRestInValueStream) != 0 && d.in_value == 0;
  if ((d.in_lanes & ~(all | gaps)) != 0 || places > 0x7FU || rest_but_none) {
    refuse("channel ", channel, ": malformed places ", hex32(places));
  }
}

void ImageDecoder::read_exceptions(ByteCursor& cursor, Descriptor& d, std::uint32_t channel) {
  d.base = cursor.take<std::uint8_t>();
  d.n_exceptions = cursor.take_varint();
  d.first_exception = exceptions_.size();
  std::uint64_t next = 0;
  for (std::size_t i = 0; i < d.n_exceptions; ++i) {
    next += cursor.take_varint();
    const auto value = cursor.take<std::uint8_t>();
    if (next >= d.n || value == d.base) {
      refuse("channel ", channel, ": exception ", unsigned{value}, " to ", d.base, " at word ",
             next, " of ", d.n);
    }
    exceptions_.push_back({static_cast<std::uint32_t>(next), value});
    ++next;
  }
}

void ImageDecoder::read_descriptor(ByteCursor& cursor, std::uint32_t channel, bool coded) {
  Descriptor& d = descriptors_[channel];
  d = Descriptor{};
  const unsigned tag = cursor.take<std::uint8_t>();
  const unsigned coding = tag >> il::kCodingShift & il::kCodingMask;
  d.kind = static_cast<PixelKind>(tag & il::kKindMask);
  d.coding = static_cast<ValueCoding>(coding);
  d.wide = (tag & il::kWideGaps) != 0;
  const bool has_block = (tag & il::kBlock) != 0;
  if ((tag & il::kReserved) != 0 || (coding == 3 && !coded) ||
      (d.kind == PixelKind::kEmpty && tag != 0) ||
      (d.kind == PixelKind::kShared && (d.wide || has_block)) ||
      (d.kind == PixelKind::kDense && d.wide)) {
    refuse("channel ", channel, ": malformed tag ", hex32(tag));
  }
  if (d.kind == PixelKind::kEmpty) {
    return;
  }
  if (d.coding == ValueCoding::kFloat16 && precision_ != Precision::kFloat16) {
    refuse("channel ", channel, ": float16 values in a float32 shard");
  }
  if (has_block) {
    d.block = cursor.take<std::uint8_t>();
    if (d.block < 2 || shape_.height % d.block != 0 || shape_.width % d.block != 0) {
      refuse("channel ", channel, ": block edge ", d.block, " does not divide ", shape_.height,
             " x ", shape_.width);
    }
  }
  const std::uint32_t pixels = grid_pixels(d.block);
  if (d.kind == PixelKind::kSparse) {
    d.n = cursor.take_varint();
    d.escapes = cursor.take_varint();
    if (d.n < 1 || d.n > pixels || d.escapes > pixels / il::kNarrowEscape) {
      refuse("channel ", channel, ": ", d.n, " pixels and ", d.escapes, " escapes on a grid of ",
             pixels);
    }
  } else if (d.kind == PixelKind::kShared) {
    d.source = cursor.take_varint();
    if (d.source >= channel || descriptors_[d.source].kind != PixelKind::kSparse) {
      refuse("channel ", channel, ": shares the pixels of channel ", d.source,
             ", which is not an earlier sparse one");
    }
    d.n = descriptors_[d.source].n;
    d.block = descriptors_[d.source].block;
  } else {
    d.n = pixels;
  }
  read_places(cursor, d, channel, coded);
  if (d.coding == ValueCoding::kMostlyOneInteger) {
    read_exceptions(cursor, d, channel);
  }
}

// Points every plane that is not in the lanes to its bytes.
void ImageDecoder::place_streams(Streams& streams) {
  for (Descriptor& d : descriptors_) {
    const std::size_t entries = std::size_t{d.n} + d.escapes;
    for (unsigned role = 4; d.kind == PixelKind::kSparse && role < (d.wide ? 6U : 5U); ++role) {
      if ((d.in_lanes >> role & 1U) == 0) {
        d.plane[role] = bytes_of(streams.index.take_bytes(entries));
      }
    }
    for (unsigned p = d.n > 0 ? il::planes_of(d.coding) : 0; p-- > 0;) {
      if ((d.in_lanes >> p & 1U) == 0) {
        ByteCursor& from = (d.in_value >> p & 1U) != 0 ? streams.value : streams.noise;
        d.plane[p] = bytes_of(from.take_bytes(d.n));
      }
    }
  }
  if (streams.index.remaining() + streams.value.remaining() + streams.noise.remaining() > 0) {
    refuse("bytes left over: ", streams.index.remaining(), " in the index stream, ",
           streams.value.remaining(), " in the value stream, ", streams.noise.remaining(),
           " of noise");
  }
}

void ImageDecoder::decode_lanes(Streams& streams, const CodeBook& book) {
  constexpr std::array<unsigned, kPlaneRoles> kOrder{4, 5, 3, 2, 1, 0};
  std::size_t n_symbols = 0;
  for (const Descriptor& d : descriptors_) {
    for (const unsigned role : kOrder) {
      const bool coded = (d.in_lanes >> role & 1U) != 0;
      n_symbols += coded ? d.n + (role >= 4 ? d.escapes : 0U) : 0U;
    }
  }
  if (symbols_.size() < n_symbols) {
    symbols_.resize(n_symbols);
  }
  std::uint8_t* next = symbols_.data();
  for (std::uint32_t c = 0; c < shape_.channels; ++c) {
    Descriptor& d = descriptors_[c];
    if (d.in_lanes == 0) {
      continue;
    }
    for (const unsigned role : kOrder) {
      if ((d.in_lanes >> role & 1U) == 0) {
        continue;
      }
      const CodeBook::Code* const code = book.find(c, static_cast<PlaneRole>(role));
      if (code == nullptr) {
        refuse("channel ", c, ": plane ", role, " is coded and the shard has no code for it");
      }
      const std::size_t n = d.n + (role >= 4 ? d.escapes : 0U);
      kernels_->decode_symbols(streams.lanes, code->table.entries(), code->table.bits(), n, next);
      d.plane[role] = next;
      next += n;
    }
  }
  for (std::size_t k = 0; k < kLanes; ++k) {
    const std::uint64_t bits = streams.lanes.at_bits[k] - 8 * streams.lane_begin[k];
    if ((bits + 7) / 8 != streams.lane_bytes[k]) {
      refuse("lane ", k, ": ", bits, " bits used of ", streams.lane_bytes[k], " bytes");
    }
    const std::uint8_t* const end =
        streams.lanes.record + streams.lane_begin[k] + streams.lane_bytes[k];
    if (bits % 8 != 0 && end[-1] >> bits % 8 != 0) {
      refuse("lane ", k, ": the bits after the last symbol are not zero");
    }
  }
}

void ImageDecoder::decode_positions(Descriptor& d, std::uint32_t channel,
                                    std::uint32_t* positions) {
  const std::uint32_t entries = d.n + d.escapes;
  const std::uint8_t* const low = d.plane[static_cast<std::size_t>(PlaneRole::kGapLow)];
  const std::uint8_t* const high =
      d.wide ? d.plane[static_cast<std::size_t>(PlaneRole::kGapHigh)] : nullptr;
  const GapResult result = kernels_->decode_gaps(low, high, entries, positions);
  const std::uint32_t escape = d.wide ? il::kWideEscape : il::kNarrowEscape;
  const std::uint32_t last =
      low[entries - 1] | (d.wide ? std::uint32_t{high[entries - 1]} << 8U : 0U);
  if (result.n_positions != d.n || last == escape) {
    refuse("channel ", channel, ": ", result.n_positions, " gaps, expected ", d.n);
  }
  // Positions ascend, so the last one bounds all.
  if (result.end > grid_pixels(d.block)) {
    refuse("channel ", channel, ": position ", result.end - 1, " on a grid of ",
           grid_pixels(d.block));
  }
  if (d.block > 1) {
    kernels_->place_blocks(positions, d.n, shape_.width / d.block, shape_.width, d.block);
  }
  d.positions_done = true;
}

void ImageDecoder::decode_words(const Descriptor& d, std::uint32_t* words) const {
  const auto word_of = [](std::uint32_t integer) {
    return std::bit_cast<std::uint32_t>(static_cast<float>(integer));
  };
  switch (d.coding) {
    case ValueCoding::kFloat32:
      kernels_->merge_float32({d.plane[0], d.plane[1], d.plane[2], d.plane[3]}, d.n, words);
      break;
    case ValueCoding::kFloat16:
      kernels_->merge_float16({d.plane[0], d.plane[1]}, d.n, words);
      break;
    case ValueCoding::kSmallInteger:
      for (std::uint32_t i = 0; i < d.n; ++i) {
        words[i] = word_of(d.plane[0][i]);
      }
      break;
    case ValueCoding::kMostlyOneInteger:
      std::fill_n(words, d.n, word_of(d.base));
      for (std::size_t i = 0; i < d.n_exceptions; ++i) {
        const Exception& exception = exceptions_[d.first_exception + i];
        words[exception.word] = word_of(exception.value);
      }
      break;
  }
}

void ImageDecoder::deliver(std::span<const std::uint32_t> wanted, DecodedImage& image) {
  std::size_t n_positions = 0;
  std::size_t n_words = 0;
  for (const std::uint32_t channel : wanted) {
    const Descriptor& d = descriptors_[channel];
    n_positions += std::size_t{d.n} + d.escapes + kPositionSlack;
    n_words += d.n;
    if (d.kind == PixelKind::kShared) {
      n_positions += descriptors_[d.source].escapes;
    }
  }
  // Never shorter: growing costs setting the new elements to zero.
  image.positions.resize(std::max(image.positions.size(), n_positions));
  image.words.resize(std::max(image.words.size(), n_words));
  image.channels.clear();
  std::size_t next_position = 0;
  std::size_t next_word = 0;
  for (const std::uint32_t channel : wanted) {
    Descriptor& d = descriptors_[channel];
    ChannelPixels pixels{.dense = d.kind == PixelKind::kDense, .block = d.block, .n = d.n};
    if (d.kind == PixelKind::kSparse || d.kind == PixelKind::kShared) {
      Descriptor& own = d.kind == PixelKind::kShared ? descriptors_[d.source] : d;
      if (!own.positions_done) {
        own.first_position = next_position;
        decode_positions(own, channel, image.positions.data() + next_position);
        next_position += own.n;
      }
      pixels.first_position = own.first_position;
    }
    pixels.first_word = next_word;
    decode_words(d, image.words.data() + next_word);
    next_word += d.n;
    image.channels.push_back(pixels);
  }
}

void ImageDecoder::decode(ByteView payload, const CodeBook* book,
                          std::span<const std::uint32_t> wanted, DecodedImage& image) {
  ByteCursor cursor(payload);
  const std::uint32_t index_raw = cursor.take_varint();
  const std::uint32_t index_stored = cursor.take_varint();
  const std::uint32_t value_raw = cursor.take_varint();
  const std::uint32_t value_stored = cursor.take_varint();
  std::array<std::uint32_t, kLanes> lane_bytes{};
  for (std::uint32_t& bytes : lane_bytes) {
    bytes = book != nullptr ? cursor.take_varint() : 0U;
  }
  if (index_raw > il::max_index_bytes(shape_) || value_raw > il::max_value_bytes(shape_)) {
    refuse("streams of ", index_raw, " and ", value_raw, " bytes, more than the image can need");
  }
  // A frame is only used where it is smaller; equal sizes would make inflate() take it for raw
  // bytes.
  if (index_stored >= index_raw + (index_stored == 0 ? 1U : 0U) ||
      value_stored >= value_raw + (value_stored == 0 ? 1U : 0U)) {
    refuse("a zstd frame not smaller than what it holds");
  }
  const ByteView index_bytes = cursor.take_bytes(index_stored == 0 ? index_raw : index_stored);
  const ByteView value_bytes = cursor.take_bytes(value_stored == 0 ? value_raw : value_stored);
  LaneSet lanes{.record = bytes_of(payload), .record_bytes = payload.size()};
  std::array<std::uint64_t, kLanes> lane_begin{};
  for (std::size_t k = 0; k < kLanes; ++k) {
    lane_begin[k] = cursor.position();
    lanes.at_bits[k] = 8 * cursor.position();
    (void)cursor.take_bytes(lane_bytes[k]);
  }
  Streams streams{.index = ByteCursor(inflate(index_bytes, index_raw, index_, "index")),
                  .value = ByteCursor(inflate(value_bytes, value_raw, value_, "value")),
                  .noise = ByteCursor(cursor.take_bytes(cursor.remaining())),
                  .lanes = lanes,
                  .lane_begin = lane_begin,
                  .lane_bytes = lane_bytes};
  descriptors_.resize(shape_.channels);
  exceptions_.clear();
  for (std::uint32_t c = 0; c < shape_.channels; ++c) {
    read_descriptor(streams.index, c, book != nullptr);
  }
  place_streams(streams);
  if (book != nullptr) {
    decode_lanes(streams, *book);
  }
  deliver(wanted, image);
}

}  // namespace e2eio
