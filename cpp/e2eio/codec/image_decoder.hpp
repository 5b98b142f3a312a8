// The streams of a record to pixel lists; refuses whatever docs/format.md section 3 does not allow.
#pragma once

#include <array>
#include <span>
#include <vector>

#include "e2eio/base/bytes.hpp"
#include "e2eio/codec/code_book.hpp"
#include "e2eio/codec/image_layout.hpp"
#include "e2eio/codec/zstd_stream.hpp"
#include "e2eio/kernels/kernel_set.hpp"

namespace e2eio {

// Pixels of one channel inside DecodedImage.
struct ChannelPixels {
  bool dense = false;              // words only: the native grid in row-major order
  std::uint32_t block = 1;         // edge of the square that each word fills
  std::uint32_t n = 0;             // words
  std::size_t first_position = 0;  // into DecodedImage::positions
  std::size_t first_word = 0;      // into DecodedImage::words
};

// Thread rule: as a vector. Reused from record to record, so that its memory is. The vectors may be
// longer than what the channels use: what lies beyond is scratch.
struct DecodedImage {
  std::vector<ChannelPixels> channels;   // one per wanted channel, in the order wanted
  std::vector<std::uint32_t> positions;  // y * W + x of the (first) image pixel of a word
  std::vector<std::uint32_t> words;      // float32 bits
};

// Thread rule: one thread at a time; make one per thread. Keeps scratch memory.
class ImageDecoder {
 public:
  ImageDecoder(const ImageShape& shape, Precision precision, const KernelSet& kernels);

  // `payload` is a record without its checksum, which the caller has verified. `book`: the codes of
  // the shard, null if it has none.
  // Requires: each of `wanted` < channels. Throws: Error(kCorrupt) without a place.
  void decode(ByteView payload, const CodeBook* book, std::span<const std::uint32_t> wanted,
              DecodedImage& image);

 private:
  struct Descriptor {
    PixelKind kind = PixelKind::kEmpty;
    ValueCoding coding = ValueCoding::kFloat32;
    bool wide = false;
    std::uint32_t block = 1;
    std::uint32_t n = 0;
    std::uint32_t escapes = 0;
    std::uint32_t source = 0;
    unsigned in_lanes = 0;  // bit [role]
    unsigned in_value = 0;  // bit [value plane]
    std::uint32_t base = 0;
    std::size_t first_exception = 0;
    std::size_t n_exceptions = 0;
    std::array<const std::uint8_t*, kPlaneRoles> plane{};  // by role
    bool positions_done = false;
    std::size_t first_position = 0;
  };
  struct Exception {
    std::uint32_t word = 0;
    std::uint8_t value = 0;
  };
  struct Streams;

  [[nodiscard]] ByteView inflate(ByteView stored, std::uint32_t raw_bytes, Bytes& scratch,
                                 const char* name);
  void read_descriptor(ByteCursor& cursor, std::uint32_t channel, bool coded);
  void read_places(ByteCursor& cursor, Descriptor& descriptor, std::uint32_t channel, bool coded);
  void read_exceptions(ByteCursor& cursor, Descriptor& descriptor, std::uint32_t channel);
  void place_streams(Streams& streams);
  void decode_lanes(Streams& streams, const CodeBook& book);
  void decode_positions(Descriptor& descriptor, std::uint32_t channel, std::uint32_t* positions);
  void decode_words(const Descriptor& descriptor, std::uint32_t* words) const;
  void deliver(std::span<const std::uint32_t> wanted, DecodedImage& image);
  [[nodiscard]] std::uint32_t grid_pixels(std::uint32_t block) const noexcept;

  ImageShape shape_;
  Precision precision_;
  const KernelSet* kernels_;
  Inflater inflater_;
  Bytes index_;
  Bytes value_;
  std::vector<std::uint8_t> symbols_;
  std::vector<Descriptor> descriptors_;
  std::vector<Exception> exceptions_;
};

}  // namespace e2eio
