// One image to the parts of its record, before it is decided where each plane goes.
#pragma once

#include <vector>

#include "e2eio/base/bytes.hpp"
#include "e2eio/codec/code_book.hpp"
#include "e2eio/codec/image_layout.hpp"
#include "e2eio/codec/image_scan.hpp"

namespace e2eio {

struct EncodedPlane {
  PlaneRole role = PlaneRole::kValue0;
  Bytes bytes;
};

// A channel as docs/format.md section 3.1 describes it.
struct EncodedChannel {
  PixelKind kind = PixelKind::kEmpty;
  ValueCoding coding = ValueCoding::kFloat32;
  bool wide = false;
  std::uint32_t block = 1;
  std::uint32_t n = 0;
  std::uint32_t escapes = 0;
  std::uint32_t source = 0;
  Bytes exceptions;                  // of ValueCoding::kMostlyOneInteger, as stored
  std::vector<EncodedPlane> planes;  // in the order of the format: gaps, then values from the top
};

using EncodedImage = std::vector<EncodedChannel>;

// Rounds all values to the nearest float16, ties to even; what becomes +0.0 is no longer stored.
// Throws: Error(kInvalidArgument) if a finite value does not fit.
void round_to_float16(std::vector<ChannelScan>& channels);

// Chooses kind, coding, block and gap width per channel by size. Any thread.
// Requires: with Precision::kFloat16, values that round_to_float16() has left.
[[nodiscard]] EncodedImage encode_image(const std::vector<ChannelScan>& channels,
                                        const ImageShape& shape, Precision precision);

}  // namespace e2eio
