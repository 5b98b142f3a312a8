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

ByteView ImageDecoder::inflate(ByteView stored, std::uint32_t raw_bytes,
                               const InflateDictionary& dictionary, Bytes& scratch,
                               const char* name) {
  if (stored.size() == raw_bytes) {
    return stored;
  }
  if (scratch.size() < raw_bytes) {
    scratch.resize(raw_bytes);
  }
  try {
    inflater_.inflate(stored, dictionary, std::span(scratch).first(raw_bytes));
  } catch (const Error& error) {
    refuse(name, " stream: ", error.what());
  }
  return ByteView(scratch).first(raw_bytes);
}

void ImageDecoder::read_descriptor(ByteCursor& cursor, std::uint32_t channel) {
  Descriptor& d = descriptors_[channel];
  d = Descriptor{};
  const unsigned tag = cursor.take<std::uint8_t>();
  const unsigned coding = tag >> il::kCodingShift & il::kCodingMask;
  d.kind = static_cast<PixelKind>(tag & il::kKindMask);
  d.wide = (tag & il::kWideGaps) != 0;
  const bool has_block = (tag & il::kBlock) != 0;
  if ((tag & il::kReserved) != 0 || coding > 2 || (d.kind == PixelKind::kEmpty && tag != 0) ||
      (d.kind == PixelKind::kShared && (d.wide || has_block)) ||
      (d.kind == PixelKind::kDense && d.wide)) {
    refuse("channel ", channel, ": malformed tag ", hex32(tag));
  }
  d.coding = static_cast<ValueCoding>(coding);
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
  } else if (d.kind == PixelKind::kDense) {
    d.n = pixels;
  }
  const unsigned n_planes = il::planes_of(d.coding);
  if (d.kind != PixelKind::kEmpty && n_planes > 0) {
    d.planes = cursor.take<std::uint8_t>();
    if (d.planes >= 1U << n_planes) {
      refuse("channel ", channel, ": plane mask ", d.planes, " for ", n_planes, " planes");
    }
  }
}

void ImageDecoder::place_values(Descriptor& d, ByteCursor& value, ByteCursor& noise) const {
  if (d.coding == ValueCoding::kSmallInteger) {
    d.plane[0] = bytes_of(value.take_bytes(d.n));
    return;
  }
  for (unsigned p = il::planes_of(d.coding); p-- > 0;) {
    ByteCursor& from = (d.planes >> p & 1U) != 0 ? value : noise;
    d.plane[p] = bytes_of(from.take_bytes(d.n));
  }
}

void ImageDecoder::place_streams(ByteCursor& index, ByteCursor& value, ByteCursor& noise) {
  for (std::uint32_t c = 0; c < shape_.channels; ++c) {
    read_descriptor(index, c);
  }
  for (Descriptor& d : descriptors_) {
    if (d.kind == PixelKind::kSparse) {
      const std::size_t entries = std::size_t{d.n} + d.escapes;
      d.gaps = bytes_of(index.take_bytes(d.wide ? 2 * entries : entries));
    }
    if (d.kind != PixelKind::kEmpty) {
      place_values(d, value, noise);
    }
  }
  if (index.remaining() + value.remaining() + noise.remaining() > 0) {
    refuse("bytes left over: ", index.remaining(), " in the index stream, ", value.remaining(),
           " in the value stream, ", noise.remaining(), " of noise");
  }
}

void ImageDecoder::decode_positions(Descriptor& d, std::uint32_t channel,
                                    DecodedImage& image) const {
  const std::uint32_t entries = d.n + d.escapes;
  d.first_position = image.positions.size();
  image.positions.resize(d.first_position + entries);
  std::uint32_t* const positions = image.positions.data() + d.first_position;
  const std::uint8_t* const high = d.wide ? d.gaps + entries : nullptr;
  const GapResult result = kernels_->decode_gaps(d.gaps, high, entries, positions);
  const std::uint32_t escape = d.wide ? il::kWideEscape : il::kNarrowEscape;
  const std::uint32_t last =
      d.gaps[entries - 1] | (d.wide ? std::uint32_t{high[entries - 1]} << 8U : 0U);
  if (result.n_positions != d.n || last == escape) {
    refuse("channel ", channel, ": ", result.n_positions, " gaps, expected ", d.n);
  }
  // Positions ascend, so the last one bounds all.
  if (result.end > grid_pixels(d.block)) {
    refuse("channel ", channel, ": position ", result.end - 1, " on a grid of ",
           grid_pixels(d.block));
  }
  image.positions.resize(d.first_position + d.n);
  if (d.block > 1) {
    const std::uint32_t columns = shape_.width / d.block;
    for (std::uint32_t i = 0; i < d.n; ++i) {
      const std::uint32_t y = positions[i] / columns;
      positions[i] = (y * shape_.width + (positions[i] - y * columns)) * d.block;
    }
  }
  d.positions_done = true;
}

void ImageDecoder::decode_words(const Descriptor& d, std::uint32_t* words) const {
  switch (d.coding) {
    case ValueCoding::kFloat32:
      kernels_->merge_float32(d.plane, d.n, words);
      break;
    case ValueCoding::kFloat16:
      kernels_->merge_float16({d.plane[0], d.plane[1]}, d.n, words);
      break;
    case ValueCoding::kSmallInteger:
      for (std::uint32_t i = 0; i < d.n; ++i) {
        words[i] = std::bit_cast<std::uint32_t>(static_cast<float>(d.plane[0][i]));
      }
      break;
  }
}

void ImageDecoder::decode(ByteView payload, const InflateDictionary& index_dictionary,
                          const InflateDictionary& value_dictionary,
                          std::span<const std::uint32_t> wanted, DecodedImage& image) {
  ByteCursor cursor(payload);
  const std::uint32_t index_raw = cursor.take_varint();
  const std::uint32_t index_stored = cursor.take_varint();
  const std::uint32_t value_raw = cursor.take_varint();
  const std::uint32_t value_stored = cursor.take_varint();
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
  ByteCursor noise(cursor.take_bytes(cursor.remaining()));
  ByteCursor index(inflate(index_bytes, index_raw, index_dictionary, index_, "index"));
  ByteCursor value(inflate(value_bytes, value_raw, value_dictionary, value_, "value"));
  descriptors_.resize(shape_.channels);
  place_streams(index, value, noise);

  image.channels.clear();
  image.positions.clear();
  image.words.clear();
  for (const std::uint32_t channel : wanted) {
    Descriptor& d = descriptors_[channel];
    ChannelPixels pixels{.dense = d.kind == PixelKind::kDense, .block = d.block, .n = d.n};
    if (d.kind == PixelKind::kSparse || d.kind == PixelKind::kShared) {
      Descriptor& own = d.kind == PixelKind::kShared ? descriptors_[d.source] : d;
      if (!own.positions_done) {
        decode_positions(own, channel, image);
      }
      pixels.first_position = own.first_position;
    }
    pixels.first_word = image.words.size();
    image.words.resize(pixels.first_word + d.n);
    decode_words(d, image.words.data() + pixels.first_word);
    image.channels.push_back(pixels);
  }
}

}  // namespace e2eio
