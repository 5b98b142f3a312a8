#include <gtest/gtest.h>

#include <bit>
#include <limits>
#include <numeric>
#include <random>

#include "e2eio/codec/image_decoder.hpp"
#include "e2eio/codec/image_encoder.hpp"
#include "e2eio/codec/image_scan.hpp"
#include "e2eio/codec/record_packer.hpp"
#include "e2eio/codec/zstd_stream.hpp"

namespace e2eio {
namespace {

using Words = std::vector<std::uint32_t>;  // float32 bits [C, H, W]

std::uint32_t bits(float value) { return std::bit_cast<std::uint32_t>(value); }

std::vector<ChannelScan> scan(const Words& image, const ImageShape& shape) {
  std::vector<ChannelScan> channels;
  const auto row = static_cast<std::ptrdiff_t>(4 * shape.width);
  (void)ImageScanner(selected_kernels())
      .scan({reinterpret_cast<const std::byte*>(image.data()),
             false,
             {row * static_cast<std::ptrdiff_t>(shape.height), row, 4}},
            shape, channels);
  return channels;
}

EncodedImage encode(const Words& image, const ImageShape& shape) {
  return encode_image(scan(image, shape), shape, Precision::kFloat32);
}

// Codes as if the shard held many images like this one.
CodeBook book_for(const EncodedImage& image) {
  return fit_code_book(std::vector<EncodedImage>(50, image),
                       static_cast<std::uint32_t>(image.size()));
}

Bytes pack(const EncodedImage& image, const CodeBook& book) {
  return RecordPacker(3).pack(image, book);
}

Words dense(const DecodedImage& image, const ImageShape& shape) {
  Words out(shape.channels * shape.plane_pixels(), 0);
  for (std::size_t c = 0; c < image.channels.size(); ++c) {
    const ChannelPixels& channel = image.channels[c];
    for (std::uint32_t i = 0; i < channel.n; ++i) {
      const std::uint32_t columns = shape.width / channel.block;
      const std::uint32_t at = channel.dense
                                   ? (i / columns * shape.width + i % columns) * channel.block
                                   : image.positions[channel.first_position + i];
      for (std::uint32_t y = 0; y < channel.block; ++y) {
        for (std::uint32_t x = 0; x < channel.block; ++x) {
          out[c * shape.plane_pixels() + at + y * shape.width + x] =
              image.words[channel.first_word + i];
        }
      }
    }
  }
  return out;
}

DecodedImage decode(ByteView payload, const ImageShape& shape, const CodeBook* book,
                    Precision precision = Precision::kFloat32,
                    const KernelSet& kernels = *scalar_kernels()) {
  ImageDecoder decoder(shape, precision, kernels);
  std::vector<std::uint32_t> all(shape.channels);
  std::iota(all.begin(), all.end(), 0U);
  DecodedImage image;
  decoder.decode(payload, book, all, image);
  return image;
}

// With codes that fit, with none, and with those of another image.
void expect_round_trip(const Words& image, const ImageShape& shape) {
  const EncodedImage encoded = encode(image, shape);
  const CodeBook fitted = book_for(encoded);
  const CodeBook none;
  Words other(image.size());
  std::iota(other.begin(), other.end(), bits(1.0F));
  const CodeBook foreign = book_for(encode(other, shape));
  for (const CodeBook* book : {&fitted, &none, &foreign}) {
    const Bytes payload = pack(encoded, *book);
    EXPECT_LE(payload.size() + 4, image_layout::max_record_bytes(shape));
    for (const KernelSet* kernels : available_kernels()) {
      EXPECT_EQ(dense(decode(payload, shape, book, Precision::kFloat32, *kernels), shape), image);
    }
  }
}

TEST(ImageCodec, ReturnsEveryBitAtAnyOccupancy) {
  std::mt19937 random(3);
  const ImageShape shape{3, 12, 18};
  for (const double occupancy : {0.0, 0.01, 0.3, 0.9, 1.0}) {
    for (int repeat = 0; repeat < 20; ++repeat) {
      Words image(shape.channels * shape.plane_pixels(), 0);
      std::bernoulli_distribution filled(occupancy);
      for (std::uint32_t& word : image) {
        word = filled(random) ? static_cast<std::uint32_t>(random()) : 0U;
      }
      expect_round_trip(image, shape);
    }
  }
}

TEST(ImageCodec, KeepsNegativeZeroNanPayloadsAndDenormals) {
  const ImageShape shape{1, 4, 4};
  Words image(16, 0);
  image[0] = bits(-0.0F);
  image[3] = 0x7FC12345U;
  image[4] = 0xFF800001U;
  image[9] = 1;
  image[15] = bits(-std::numeric_limits<float>::infinity());
  expect_round_trip(image, shape);
}

TEST(ImageCodec, StoresBlocksAtNativeResolution) {
  const ImageShape shape{1, 30, 30};
  Words image(900, 0);
  for (std::uint32_t y = 0; y < 30; ++y) {
    for (std::uint32_t x = 0; x < 30; ++x) {
      image[y * 30 + x] = (y / 5 + x / 5) % 3 == 0 ? bits(0.1F * static_cast<float>(1 + y / 5)) : 0;
    }
  }
  const CodeBook none;
  const DecodedImage decoded = decode(pack(encode(image, shape), none), shape, &none);
  EXPECT_EQ(decoded.channels[0].block, 5U);
  EXPECT_EQ(decoded.channels[0].n, 12U);
  EXPECT_EQ(dense(decoded, shape), image);
  image[0] = 0;  // one pixel off: no block any more
  expect_round_trip(image, shape);
}

TEST(ImageCodec, SharesEqualSupportsAndPacksSmallIntegers) {
  const ImageShape shape{3, 20, 20};
  Words image(1200, 0);
  for (std::uint32_t p = 0; p < 400; p += 37) {
    image[p] = bits(1.25F * static_cast<float>(p + 1));
    image[400 + p] = bits(-0.01F * static_cast<float>(p + 1));
    image[800 + p] = bits(static_cast<float>(1 + p % 5));
  }
  const EncodedImage encoded = encode(image, shape);
  EXPECT_EQ(encoded[0].kind, PixelKind::kSparse);
  EXPECT_EQ(encoded[1].kind, PixelKind::kShared);
  EXPECT_EQ(encoded[2].kind, PixelKind::kShared);
  EXPECT_EQ(encoded[2].coding, ValueCoding::kSmallInteger);
  expect_round_trip(image, shape);
  // Descriptors of 4, 3 and 3 bytes, and one gap list of 11.
  EXPECT_EQ(pack(encoded, CodeBook())[0], std::byte{4 + 3 + 3 + 11});
}

TEST(ImageCodec, ListsExceptionsToOneInteger) {
  const ImageShape shape{1, 20, 20};
  Words image(400, 0);
  for (std::uint32_t p = 0; p < 400; p += 2) {
    image[p] = bits(p % 100 == 98 ? 255.0F : 1.0F);
  }
  const EncodedImage encoded = encode(image, shape);
  EXPECT_EQ(encoded[0].coding, ValueCoding::kMostlyOneInteger);
  EXPECT_EQ(encoded[0].exceptions.size(), 2U + 4U * 2U);
  expect_round_trip(image, shape);
  image[0] = bits(7.0F);
  image[398] = bits(0.5F);  // no integer
  EXPECT_EQ(encode(image, shape)[0].coding, ValueCoding::kFloat32);
  expect_round_trip(image, shape);
}

// All kinds and codings, narrow and wide gaps, a block, codes and a zstd frame.
Words mixed_image(const ImageShape& shape) {
  const std::size_t plane = shape.plane_pixels();
  Words image(shape.pixels(), 0);
  image[plane - 1] = bits(2.5F);  // behind an escape: wide gaps
  for (std::size_t p = 0; p < plane; ++p) {
    const std::size_t y = p / shape.width;
    const std::size_t x = p % shape.width;
    image[plane + p] = p % 3 == 0 ? bits(0.37F * static_cast<float>(p % 7 + 1)) : 0U;
    image[2 * plane + p] = p % 3 == 0 ? bits(static_cast<float>(p % 5 + 1)) : 0U;
    image[3 * plane + p] = bits(static_cast<float>(p % 11) + 0.25F);
    image[4 * plane + p] = (y / 5 + x / 5) % 2 == 0 ? bits(-0.1F) : 0U;
    image[5 * plane + p] = p % 4 == 0 ? bits(p % 80 == 0 ? 3.0F : 1.0F) : 0U;
  }
  return image;
}

TEST(ImageCodec, PutsEachPlaneWhereItIsSmallest) {
  const ImageShape shape{7, 20, 20};
  const Words image = mixed_image(shape);
  const EncodedImage encoded = encode(image, shape);
  EXPECT_TRUE(encoded[0].wide);
  EXPECT_EQ(encoded[2].kind, PixelKind::kShared);
  EXPECT_EQ(encoded[3].kind, PixelKind::kDense);
  EXPECT_EQ(encoded[4].block, 5U);
  EXPECT_EQ(encoded[5].coding, ValueCoding::kMostlyOneInteger);
  EXPECT_EQ(encoded[6].kind, PixelKind::kEmpty);
  expect_round_trip(image, shape);
  const CodeBook book = book_for(encoded);
  EXPECT_LT(2 * pack(encoded, book).size(), pack(encoded, CodeBook()).size());
}

TEST(ImageCodec, RoundsToFloat16OnlyWhenAsked) {
  const ImageShape shape{1, 4, 4};
  Words image(16, 0);
  image[5] = bits(0.1F);
  image[6] = bits(1e-9F);  // less than half of the least float16
  std::vector<ChannelScan> channels = scan(image, shape);
  round_to_float16(channels);
  EXPECT_EQ(channels[0].positions, std::vector<std::uint32_t>{5});
  const CodeBook none;
  const Bytes payload = pack(encode_image(channels, shape, Precision::kFloat16), none);
  EXPECT_EQ(decode(payload, shape, &none, Precision::kFloat16).words,
            std::vector<std::uint32_t>{bits(0.0999755859375F)});
  EXPECT_THROW((void)decode(payload, shape, &none), Error);
  image[5] = bits(70000.5F);
  channels = scan(image, shape);
  EXPECT_THROW(round_to_float16(channels), Error);
}

// Decodes, or refuses as corrupt; all pixels that it names are inside the image.
void expect_decoded_or_refused(ByteView payload, const ImageShape& shape, const CodeBook* book,
                               const KernelSet& kernels) {
  // In memory of just this size: a sanitizer sees a byte read beyond.
  const Bytes exact(payload.begin(), payload.end());
  DecodedImage image;
  try {
    image = decode(exact, shape, book, Precision::kFloat32, kernels);
  } catch (const Error& error) {
    ASSERT_EQ(error.kind(), ErrorKind::kCorrupt);
    return;
  }
  ASSERT_EQ(image.channels.size(), shape.channels);
  for (const ChannelPixels& channel : image.channels) {
    ASSERT_LE(channel.first_word + channel.n, image.words.size());
    if (channel.dense) {
      ASSERT_EQ(std::size_t{channel.n} * channel.block * channel.block, shape.plane_pixels());
      continue;
    }
    ASSERT_LE(channel.first_position + channel.n, image.positions.size());
    for (std::uint32_t i = 0; i < channel.n; ++i) {
      const std::uint32_t position = image.positions[channel.first_position + i];
      ASSERT_LE(position / shape.width + channel.block, shape.height);
      ASSERT_LE(position % shape.width + channel.block, shape.width);
    }
  }
}

void mutate_and_decode(const Bytes& good, const ImageShape& shape, const CodeBook* book) {
  const std::vector<const KernelSet*> sets = available_kernels();
  for (std::size_t bit = 0; bit < 8 * good.size(); ++bit) {
    Bytes bad = good;
    bad[bit / 8] ^= static_cast<std::byte>(1U << bit % 8);
    expect_decoded_or_refused(bad, shape, book, *sets[bit % sets.size()]);
  }
  for (std::size_t size = 0; size < good.size(); ++size) {
    expect_decoded_or_refused(ByteView(good).first(size), shape, book, *sets[size % sets.size()]);
  }
  std::mt19937 random(5);
  for (std::size_t repeat = 0; repeat < 10000; ++repeat) {
    Bytes bad = good;
    for (std::size_t changes = 0; changes < 1 + repeat % 4; ++changes) {
      // Every second one in the sizes and descriptors, which stand first.
      const std::size_t range =
          repeat % 2 == 0 ? std::min<std::size_t>(60, bad.size()) : bad.size();
      bad[random() % range] = static_cast<std::byte>(random());
    }
    expect_decoded_or_refused(bad, shape, book, *sets[repeat % sets.size()]);
  }
}

TEST(ImageCodec, RefusesOrDecodesEveryMutationOfACodedRecord) {
  const ImageShape shape{7, 20, 20};
  const EncodedImage encoded = encode(mixed_image(shape), shape);
  const CodeBook book = book_for(encoded);
  mutate_and_decode(pack(encoded, book), shape, &book);
}

TEST(ImageCodec, RefusesOrDecodesEveryMutationOfARecordWithoutCodes) {
  const ImageShape shape{2, 10, 10};
  // Sizes; sparse with 30 pixels, plane mask 15; shared small integers; gaps; values.
  Bytes good;
  for (const std::uint32_t size : {4 + 2 + 30, 0, 4 * 30 + 30, 0}) {
    append_varint(good, size);
  }
  for (const unsigned byte : {1U, 30U, 0U, 15U, 6U, 0U}) {
    good.push_back(static_cast<std::byte>(byte));
  }
  good.insert(good.end(), 30, std::byte{2});
  for (unsigned i = 0; i < 150; ++i) {
    good.push_back(static_cast<std::byte>(7 * i));
  }
  const DecodedImage image = decode(good, shape, nullptr);
  EXPECT_EQ(image.channels[1].n, 30U);
  EXPECT_EQ(image.positions[image.channels[1].first_position + 29], 89U);
  mutate_and_decode(good, shape, nullptr);
}

TEST(ImageCodec, RefusesLanesThatAreNotUsedUpExactly) {
  const ImageShape shape{1, 4, 4};
  SymbolCounts counts{};
  counts[0] = 2;
  counts[1] = counts[2] = 1;
  std::vector<SymbolCounts> all(kPlaneRoles, SymbolCounts{});
  all[static_cast<std::size_t>(PlaneRole::kGapLow)] = counts;
  for (std::uint64_t& count : all[static_cast<std::size_t>(PlaneRole::kGapLow)]) {
    count *= 1000;
  }
  const CodeBook book(all);
  // Coding 3, one pixel of 1, its gap of 0 in one bit of lane 0.
  Bytes good;
  for (const unsigned byte : {6U, 0U, 0U, 0U, 1U, 0U, 0U, 0U, 0x0DU, 1U, 0U, 0x10U, 1U, 0U, 0U}) {
    good.push_back(static_cast<std::byte>(byte));
  }
  EXPECT_EQ(decode(good, shape, &book).positions[0], 0U);
  for (unsigned bit = 1; bit < 8; ++bit) {
    Bytes bad = good;
    bad.back() = static_cast<std::byte>(1U << bit);
    EXPECT_THROW((void)decode(bad, shape, &book), Error) << "bit " << bit;
  }
  Bytes too_long = good;
  too_long[4] = std::byte{2};
  too_long.push_back(std::byte{0});
  EXPECT_THROW((void)decode(too_long, shape, &book), Error);
  Bytes too_short = good;
  too_short[4] = std::byte{0};
  too_short.pop_back();
  EXPECT_THROW((void)decode(too_short, shape, &book), Error);
  const CodeBook none;
  EXPECT_THROW((void)decode(good, shape, &none), Error);
}

TEST(ImageScanTest, FindsTheSamePixelsInEveryOrderAndPrecision) {
  const ImageShape shape{2, 3, 5};
  Words chw(30, 0);
  chw[4] = bits(2.5F);
  chw[15] = bits(-1.0F);
  chw[29] = bits(-0.0F);
  std::vector<double> hwc(30, 0.0);
  for (std::size_t c = 0; c < 2; ++c) {
    for (std::size_t p = 0; p < 15; ++p) {
      hwc[p * 2 + c] = static_cast<double>(std::bit_cast<float>(chw[c * 15 + p]));
    }
  }
  hwc[2] = 0.1;  // not a float32
  chw[1] = bits(0.1F);
  const std::vector<ChannelScan> expected = scan(chw, shape);
  std::vector<ChannelScan> got;
  const StridedImage image{reinterpret_cast<const std::byte*>(hwc.data()), true, {8, 80, 16}};
  EXPECT_EQ(ImageScanner(selected_kernels()).scan(image, shape, got), 1U);
  for (std::size_t c = 0; c < 2; ++c) {
    EXPECT_EQ(got[c].positions, expected[c].positions);
    EXPECT_EQ(got[c].words, expected[c].words);
  }
}

TEST(ZstdStream, InflatesOnlyToTheExactSize) {
  Deflater deflater(3);
  const Bytes frame = deflater.deflate(Bytes(1000, std::byte{5}));
  ASSERT_FALSE(frame.empty());
  Inflater inflater;
  Bytes out(1000);
  inflater.inflate(frame, out);
  EXPECT_EQ(out, Bytes(1000, std::byte{5}));
  Bytes small(999);
  Bytes large(1001);
  EXPECT_THROW(inflater.inflate(frame, small), Error);
  EXPECT_THROW(inflater.inflate(frame, large), Error);
  EXPECT_THROW(inflater.inflate(ByteView(frame).first(5), out), Error);
  EXPECT_THROW(Deflater(0), Error);
}

}  // namespace
}  // namespace e2eio
