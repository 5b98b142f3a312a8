#include "e2eio/codec/record_packer.hpp"

#include <algorithm>

namespace e2eio {
namespace {

namespace il = image_layout;

// Dense channels may hold repeated strings, which prefix codes do not see and zstd does.
constexpr std::size_t kWorthZstd = 256;

bool is_gap(PlaneRole role) { return role == PlaneRole::kGapLow || role == PlaneRole::kGapHigh; }

unsigned place_bit(PlaneRole role) {
  // The roles are numbered like the bits: values 0 to 3, gaps 4 and 5.
  return 1U << static_cast<unsigned>(role);
}

void append_descriptor(Bytes& index, const EncodedChannel& channel, unsigned places) {
  const bool has_block = channel.block > 1 && channel.kind != PixelKind::kShared;
  const unsigned tag = static_cast<unsigned>(channel.kind) |
                       static_cast<unsigned>(channel.coding) << il::kCodingShift |
                       (channel.wide ? il::kWideGaps : 0U) | (has_block ? il::kBlock : 0U);
  index.push_back(static_cast<std::byte>(tag));
  if (channel.kind == PixelKind::kEmpty) {
    return;
  }
  if (has_block) {
    index.push_back(static_cast<std::byte>(channel.block));
  }
  if (channel.kind == PixelKind::kSparse) {
    append_varint(index, channel.n);
    append_varint(index, channel.escapes);
  } else if (channel.kind == PixelKind::kShared) {
    append_varint(index, channel.source);
  }
  index.push_back(static_cast<std::byte>(places));
  append_bytes(index, channel.exceptions);
}

}  // namespace

CodeBook fit_code_book(const std::vector<EncodedImage>& images, std::uint32_t n_channels) {
  std::vector<SymbolCounts> counts(n_channels * kPlaneRoles, SymbolCounts{});
  for (const EncodedImage& image : images) {
    for (std::size_t c = 0; c < image.size(); ++c) {
      for (const EncodedPlane& plane : image[c].planes) {
        SymbolCounts& total = counts[c * kPlaneRoles + static_cast<std::size_t>(plane.role)];
        for (const std::byte byte : plane.bytes) {
          ++total[static_cast<std::size_t>(byte)];
        }
      }
    }
  }
  return CodeBook(counts);
}

unsigned RecordPacker::places_of(const EncodedChannel& channel, std::uint32_t number,
                                 const CodeBook& book) {
  unsigned places = 0;
  std::uint64_t value_bits = 0;
  Bytes values;
  for (const EncodedPlane& plane : channel.planes) {
    const CodeBook::Code* const code = book.find(number, plane.role);
    const std::uint64_t raw_bits = 8 * std::uint64_t{plane.bytes.size()};
    const std::uint64_t coded_bits =
        code == nullptr ? raw_bits : code->lengths.cost_bits(plane.bytes).value_or(raw_bits);
    const bool coded = coded_bits < raw_bits;
    places |= coded ? place_bit(plane.role) : 0U;
    if (!is_gap(plane.role)) {
      value_bits += std::min(coded_bits, raw_bits);
      if (channel.kind == PixelKind::kDense) {
        append_bytes(values, plane.bytes);
      }
    }
  }
  if (channel.kind == PixelKind::kDense && values.size() >= kWorthZstd) {
    const Bytes frame = deflater_.deflate(values);
    if (!frame.empty() && 8 * std::uint64_t{frame.size()} < value_bits) {
      places = (places & ~il::kValuePlacesMask) | il::kRestInValueStream;
    }
  }
  return places;
}

Bytes RecordPacker::pack(const EncodedImage& image, const CodeBook& book) {
  Bytes index;
  Bytes raw_gaps;
  Bytes value;
  Bytes noise;
  LaneWriter lanes;
  for (std::uint32_t c = 0; c < image.size(); ++c) {
    const unsigned places = places_of(image[c], c, book);
    append_descriptor(index, image[c], places);
    for (const EncodedPlane& plane : image[c].planes) {
      if ((places & place_bit(plane.role)) != 0) {
        const CodeBook::Code& code = *book.find(c, plane.role);
        lanes.write(plane.bytes, code.lengths, code.codes);
      } else if (is_gap(plane.role)) {
        append_bytes(raw_gaps, plane.bytes);
      } else {
        append_bytes((places & il::kRestInValueStream) != 0 ? value : noise, plane.bytes);
      }
    }
  }
  append_bytes(index, raw_gaps);
  const Bytes value_frame = deflater_.deflate(value);
  const std::array<Bytes, kLanes> coded = lanes.finish();
  Bytes payload;
  append_varint(payload, static_cast<std::uint32_t>(index.size()));
  append_varint(payload, 0);
  append_varint(payload, static_cast<std::uint32_t>(value.size()));
  append_varint(payload, static_cast<std::uint32_t>(value_frame.size()));
  for (const Bytes& lane : coded) {
    append_varint(payload, static_cast<std::uint32_t>(lane.size()));
  }
  append_bytes(payload, index);
  append_bytes(payload, value_frame.empty() ? ByteView(value) : ByteView(value_frame));
  for (const Bytes& lane : coded) {
    append_bytes(payload, lane);
  }
  append_bytes(payload, noise);
  return payload;
}

}  // namespace e2eio
