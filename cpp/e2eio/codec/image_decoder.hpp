// The streams of a record to pixel lists; refuses whatever docs/format.md section 3 does not allow.
#pragma once

#include <array>
#include <span>
#include <vector>

#include "e2eio/base/bytes.hpp"
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

// Thread rule: as a vector. Reused from record to record, so that its memory is.
struct DecodedImage {
  std::vector<ChannelPixels> channels;   // one per wanted channel, in the order wanted
  std::vector<std::uint32_t> positions;  // y * W + x of the (first) image pixel of a word
  std::vector<std::uint32_t> words;      // float32 bits
};

// Thread rule: one thread at a time; make one per thread. Keeps scratch memory.
class ImageDecoder {
 public:
  ImageDecoder(const ImageShape& shape, Precision precision, const KernelSet& kernels);

  // `payload` is a record without its checksum, which the caller has verified.
  // Requires: each of `wanted` < channels. Throws: Error(kCorrupt) without a place.
  void decode(ByteView payload, const InflateDictionary& index_dictionary,
              const InflateDictionary& value_dictionary, std::span<const std::uint32_t> wanted,
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
    unsigned planes = 0;
    const std::uint8_t* gaps = nullptr;
    std::array<const std::uint8_t*, 4> plane{};
    bool positions_done = false;
    std::size_t first_position = 0;
  };

  ByteView inflate(ByteView stored, std::uint32_t raw_bytes, const InflateDictionary& dictionary,
                   Bytes& scratch, const char* name);
  void read_descriptor(ByteCursor& cursor, std::uint32_t channel);
  void place_streams(ByteCursor& index, ByteCursor& value, ByteCursor& noise);
  void place_values(Descriptor& descriptor, ByteCursor& value, ByteCursor& noise) const;
  void decode_positions(Descriptor& descriptor, std::uint32_t channel, DecodedImage& image) const;
  void decode_words(const Descriptor& descriptor, std::uint32_t* words) const;
  [[nodiscard]] std::uint32_t grid_pixels(std::uint32_t block) const noexcept;

  ImageShape shape_;
  Precision precision_;
  const KernelSet* kernels_;
  Inflater inflater_;
  Bytes index_;
  Bytes value_;
  std::vector<Descriptor> descriptors_;
};

}  // namespace e2eio
