// Puts an encoded image into a record: each plane where it is smallest (docs/format.md 3.3).
#pragma once

#include <vector>

#include "e2eio/codec/code_book.hpp"
#include "e2eio/codec/image_encoder.hpp"
#include "e2eio/codec/zstd_stream.hpp"

namespace e2eio {

// Fits the codes of a shard to its first images.
[[nodiscard]] CodeBook fit_code_book(const std::vector<EncodedImage>& images,
                                     std::uint32_t n_channels);

// Thread rule: one thread at a time.
class RecordPacker {
 public:
  // level: of zstd, 1 to 19. Throws: Error(kInvalidArgument) otherwise.
  explicit RecordPacker(int level) : deflater_(level) {}

  // The record without its checksum.
  [[nodiscard]] Bytes pack(const EncodedImage& image, const CodeBook& book);

 private:
  [[nodiscard]] unsigned places_of(const EncodedChannel& channel, std::uint32_t number,
                                   const CodeBook& book);

  Deflater deflater_;
};

}  // namespace e2eio
