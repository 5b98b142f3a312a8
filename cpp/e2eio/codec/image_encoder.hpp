// One image to the two streams and the noise of its record.
#pragma once

#include <vector>

#include "e2eio/base/bytes.hpp"
#include "e2eio/codec/image_layout.hpp"
#include "e2eio/codec/image_scan.hpp"

namespace e2eio {

// The three parts of docs/format.md section 3, before zstd.
struct ImageStreams {
  Bytes index;
  Bytes value;
  Bytes noise;
};

// Rounds all values to the nearest float16, ties to even; what becomes +0.0 is no longer stored.
// Throws: Error(kInvalidArgument) if a finite value does not fit.
void round_to_float16(std::vector<ChannelScan>& channels);

// Chooses kind, coding, block, gap width and planes per channel by size. Any thread.
// Requires: with Precision::kFloat16, values that round_to_float16() has left.
[[nodiscard]] ImageStreams encode_image(const std::vector<ChannelScan>& channels,
                                        const ImageShape& shape, Precision precision);

}  // namespace e2eio
