#include <gtest/gtest.h>

#include <bit>
#include <limits>
#include <numeric>
#include <random>

#include "e2eio/codec/image_decoder.hpp"
#include "e2eio/codec/image_encoder.hpp"
#include "e2eio/codec/image_scan.hpp"
#include "e2eio/codec/zstd_stream.hpp"

namespace e2eio {
namespace {

using Words = std::vector<std::uint32_t>;  // float32 bits [C, H, W]

std::uint32_t bits(float value) { return std::bit_cast<std::uint32_t>(value); }

std::vector<ChannelScan> scan(const Words& image, const ImageShape& shape) {
  std::vector<ChannelScan> channels;
  const auto row = static_cast<std::ptrdiff_t>(4 * shape.width);
  (void)scan_image({reinterpret_cast<const std::byte*>(image.data()),
                    false,
                    {row * static_cast<std::ptrdiff_t>(shape.height), row, 4}},
                   shape, channels);
  return channels;
}

Bytes payload_of(const ImageStreams& streams) {
  Bytes payload;
  append_varint(payload, static_cast<std::uint32_t>(streams.index.size()));
  append_varint(payload, 0);
  append_varint(payload, static_cast<std::uint32_t>(streams.value.size()));
  append_varint(payload, 0);
  append_bytes(payload, streams.index);
  append_bytes(payload, streams.value);
  append_bytes(payload, streams.noise);
  return payload;
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

DecodedImage decode(ByteView payload, const ImageShape& shape,
                    Precision precision = Precision::kFloat32) {
  ImageDecoder decoder(shape, precision, *scalar_kernels());
  std::vector<std::uint32_t> all(shape.channels);
  std::iota(all.begin(), all.end(), 0U);
  DecodedImage image;
  decoder.decode(payload, InflateDictionary(), InflateDictionary(), all, image);
  return image;
}

void expect_round_trip(const Words& image, const ImageShape& shape) {
  const ImageStreams streams = encode_image(scan(image, shape), shape, Precision::kFloat32);
  EXPECT_EQ(dense(decode(payload_of(streams), shape), shape), image);
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
  const ImageStreams streams = encode_image(scan(image, shape), shape, Precision::kFloat32);
  const DecodedImage decoded = decode(payload_of(streams), shape);
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
  const ImageStreams streams = encode_image(scan(image, shape), shape, Precision::kFloat32);
  EXPECT_EQ(dense(decode(payload_of(streams), shape), shape), image);
  // Two descriptors of 4 and 3 bytes and one of 2, and one gap list of 11.
  EXPECT_EQ(streams.index.size(), 4U + 3U + 2U + 11U);
}

TEST(ImageCodec, RoundsToFloat16OnlyWhenAsked) {
  const ImageShape shape{1, 4, 4};
  Words image(16, 0);
  image[5] = bits(0.1F);
  image[6] = bits(1e-9F);  // less than half of the least float16
  std::vector<ChannelScan> channels = scan(image, shape);
  round_to_float16(channels);
  EXPECT_EQ(channels[0].positions, std::vector<std::uint32_t>{5});
  const ImageStreams streams = encode_image(channels, shape, Precision::kFloat16);
  EXPECT_EQ(decode(payload_of(streams), shape, Precision::kFloat16).words,
            std::vector<std::uint32_t>{bits(0.0999755859375F)});
  EXPECT_THROW((void)decode(payload_of(streams), shape), Error);
  image[5] = bits(70000.5F);
  channels = scan(image, shape);
  EXPECT_THROW(round_to_float16(channels), Error);
}

TEST(ImageCodec, RefusesOrDecodesEveryMutationWithoutLeavingTheImage) {
  std::mt19937 random(5);
  const ImageShape shape{2, 10, 10};
  Words image(200, 0);
  for (std::uint32_t p = 0; p < 200; p += 3) {
    image[p] = bits(0.37F * static_cast<float>(p + 1));
  }
  const Bytes good = payload_of(encode_image(scan(image, shape), shape, Precision::kFloat32));
  for (int repeat = 0; repeat < 20000; ++repeat) {
    Bytes bad = good;
    for (int flips = 0; flips < 1 + repeat % 3; ++flips) {
      bad[random() % bad.size()] = static_cast<std::byte>(random());
    }
    bad.resize(bad.size() - (repeat % 7 == 0 ? random() % 5 : 0));
    try {
      const DecodedImage decoded = decode(bad, shape);
      for (const std::uint32_t position : decoded.positions) {
        ASSERT_LT(position, shape.plane_pixels());
      }
    } catch (const Error& error) {
      ASSERT_EQ(error.kind(), ErrorKind::kCorrupt);
    }
  }
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
  EXPECT_EQ(
      scan_image({reinterpret_cast<const std::byte*>(hwc.data()), true, {8, 80, 16}}, shape, got),
      1U);
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
  inflater.inflate(frame, InflateDictionary(), out);
  EXPECT_EQ(out, Bytes(1000, std::byte{5}));
  Bytes small(999);
  Bytes large(1001);
  EXPECT_THROW(inflater.inflate(frame, InflateDictionary(), small), Error);
  EXPECT_THROW(inflater.inflate(frame, InflateDictionary(), large), Error);
  EXPECT_THROW(inflater.inflate(ByteView(frame).first(5), InflateDictionary(), out), Error);
  EXPECT_THROW(Deflater(0), Error);
}

}  // namespace
}  // namespace e2eio
