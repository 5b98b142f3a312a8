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

// Chooses kind, coding, block, gap width and planes per channel by size.
// Throws: Error(kInvalidArgument) if a finite value does not fit a float16 where that was asked
// for. Any thread.
[[nodiscard]] ImageStreams encode_image(const std::vector<ChannelScan>& channels,
                                        const ImageShape& shape, Precision precision);

}  // namespace e2eio
