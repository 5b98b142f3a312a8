// The forms coo and wire, against the dense images.
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <random>
#include <thread>

#include "e2eio/pipeline/batch_pipeline.hpp"
#include "test_shard.hpp"

namespace e2eio {
namespace {

using std::chrono::seconds;

constexpr BatchGeometry kGeometry{.n_channels = 4, .height = 12, .width = 18};
constexpr std::size_t kPlane = 12 * 18;

// Channels: sparse; sharing its positions; blocks of 3 x 3; dense in blocks of 2 x 2. With some
// +0.0, -0.0 and NaN among the values.
DecodedImage random_image(std::mt19937& random, std::uint32_t share_of_64) {
  DecodedImage image;
  const auto word = [&random] {
    constexpr std::array<std::uint32_t, 4> kSpecial{0, 0x80000000U, 0x7FC12345U, 0x00000001U};
    const auto draw = static_cast<std::uint32_t>(random());
    return draw % 8 < 4 ? kSpecial[draw % 4] : draw;
  };
  const auto append_channel = [&](std::uint32_t block, bool dense, bool shared) {
    ChannelPixels pixels{.dense = dense, .block = block, .first_word = image.words.size()};
    pixels.first_position = shared ? image.channels.back().first_position : image.positions.size();
    for (std::uint32_t y = 0; y < 12 && !dense && !shared; y += block) {
      for (std::uint32_t x = 0; x < 18; x += block) {
        if (random() % 64 < share_of_64) {
          image.positions.push_back(y * 18 + x);
        }
      }
    }
    pixels.n = dense ? static_cast<std::uint32_t>(kPlane) / (block * block)
                     : static_cast<std::uint32_t>(image.positions.size() - pixels.first_position);
    for (std::uint32_t i = 0; i < pixels.n; ++i) {
      image.words.push_back(word());
    }
    image.channels.push_back(pixels);
  };
  append_channel(1, false, false);
  append_channel(1, false, true);
  append_channel(3, false, false);
  append_channel(2, true, false);
  return image;
}

// The same by the definition, channel by channel: bits of the delivered dtype.
std::vector<std::uint32_t> dense_bits(const DecodedImage& image, DType dtype) {
  std::vector<std::uint32_t> result(4 * kPlane, 0);
  for (std::size_t c = 0; c < 4; ++c) {
    const ChannelPixels& channel = image.channels[c];
    for (std::uint32_t i = 0; i < channel.n; ++i) {
      const std::uint32_t columns = 18 / channel.block;
      const std::uint32_t position = channel.dense
                                         ? (i / columns * 18 + i % columns) * channel.block
                                         : image.positions[channel.first_position + i];
      std::uint32_t bits = image.words[channel.first_word + i];
      if (dtype != DType::kFloat32) {
        std::uint16_t half = 0;
        (dtype == DType::kFloat16 ? scalar_kernels()->cast_float16
                                  : scalar_kernels()->cast_bfloat16)(&bits, 1, &half);
        bits = half;
      }
      for (std::uint32_t k = 0; k < channel.block * channel.block; ++k) {
        result[c * kPlane + position + k / channel.block * 18 + k % channel.block] = bits;
      }
    }
  }
  return result;
}

std::uint32_t value_at(const std::byte* values, std::size_t i, DType dtype) {
  return size_of(dtype) == 4 ? load<std::uint32_t>(values + 4 * i)
                             : load<std::uint16_t>(values + 2 * i);
}

// What a device does with the wire form, from its bytes alone.
std::vector<std::uint32_t> from_wire(std::span<const std::byte> wire) {
  const auto header = load<WireHeader>(wire.data());
  EXPECT_EQ(header.version, 1U);
  EXPECT_EQ(header.n_bytes, wire.size());
  EXPECT_EQ(header.payload_offset % 64, 0U);
  const auto dtype = static_cast<DType>(header.dtype);
  const std::byte* const payload = wire.data() + header.payload_offset;
  const std::size_t plane = std::size_t{header.height} * header.width;
  std::vector<std::uint32_t> result(header.n_samples * header.n_channels * plane, 0);
  for (std::size_t e = 0; e < std::size_t{header.n_samples} * header.n_channels; ++e) {
    const auto channel = load<WireChannel>(wire.data() + 64 + 16 * e);
    for (std::uint32_t i = 0; i < channel.n; ++i) {
      const std::uint32_t columns = header.width / channel.block;
      const std::uint32_t position =
          channel.dense != 0
              ? (i / columns * header.width + i % columns) * channel.block
              : load<std::uint32_t>(payload + 4 * (std::size_t{channel.first_position} + i));
      for (std::uint32_t k = 0; k < std::uint32_t{channel.block} * channel.block; ++k) {
        result[e * plane + position + k / channel.block * header.width + k % channel.block] =
            value_at(payload, std::size_t{channel.first_value} + i, dtype);
      }
    }
  }
  return result;
}

// Requires: sorted, no +0.0, nothing twice.
std::vector<std::uint32_t> from_coo(const SparseBatch& batch, std::size_t n_samples,
                                    const BatchGeometry& geometry) {
  const std::size_t plane = std::size_t{geometry.height} * geometry.width;
  std::vector<std::uint32_t> result(n_samples * geometry.n_channels * plane, 0);
  std::size_t next = 0;
  for (std::size_t i = 0; i < batch.n_pixels(); ++i) {
    const Coordinate& at = batch.coordinates()[i];
    const std::size_t index = (static_cast<std::size_t>(at.sample) * geometry.n_channels +
                               static_cast<std::size_t>(at.channel)) *
                                  plane +
                              static_cast<std::size_t>(at.y) * geometry.width +
                              static_cast<std::size_t>(at.x);
    EXPECT_TRUE(i == 0 || index >= next) << "pixel " << i;
    next = index + 1;
    result.at(index) = value_at(batch.values(), i, geometry.dtype);
    EXPECT_NE(result[index], 0U);
  }
  return result;
}

class SparseBatchTest : public ::testing::TestWithParam<DType> {};

TEST_P(SparseBatchTest, BothFormsHoldTheImagesBitForBitHoweverSmallTheGuess) {
  BatchGeometry geometry = kGeometry;
  geometry.dtype = GetParam();
  std::mt19937 random(7);
  for (const std::uint64_t expected_bytes : {0U, 3000U, 1000000U}) {
    SparseBatch batch(geometry, true, expected_bytes);
    for (const std::size_t n_samples : {5, 40, 1, 17}) {
      std::vector<DecodedImage> images;
      std::vector<std::uint32_t> dense;
      for (std::size_t i = 0; i < n_samples; ++i) {
        images.push_back(random_image(random, i % 3 == 0 ? 0 : 20));
        const std::vector<std::uint32_t> bits = dense_bits(images.back(), geometry.dtype);
        dense.insert(dense.end(), bits.begin(), bits.end());
      }
      batch.begin(n_samples);
      for (std::size_t i = n_samples; i-- > 0;) {
        batch.put(i, images[i], selected_kernels());
      }
      batch.seal();
      ASSERT_EQ(from_wire(batch.wire()), dense);
      for (std::size_t i = 0; i < n_samples; i += 3) {
        batch.expand(i, std::min<std::size_t>(3, n_samples - i));
      }
      ASSERT_EQ(from_coo(batch, n_samples, geometry), dense);
      ASSERT_EQ(batch.n_pixels(), dense.size() - static_cast<std::size_t>(
                                                     std::count(dense.begin(), dense.end(), 0U)));
    }
  }
}
INSTANTIATE_TEST_SUITE_P(DTypes, SparseBatchTest,
                         ::testing::Values(DType::kFloat32, DType::kFloat16, DType::kBFloat16),
                         [](const auto& test) { return std::string(name_of(test.param)); });

TEST(SparseBatch, SharesThePositionsOfChannelsThatShareThem) {
  std::mt19937 random(1);
  const DecodedImage image = random_image(random, 30);
  SparseBatch batch(kGeometry, false, 0);
  batch.begin(1);
  batch.put(0, image, selected_kernels());
  batch.seal();
  const auto first = load<WireChannel>(batch.wire().data() + 64);
  const auto second = load<WireChannel>(batch.wire().data() + 80);
  EXPECT_EQ(first.first_position, second.first_position);
  EXPECT_NE(first.first_value, second.first_value);
}

TEST(SparseBatch, SortsPixelsThatWereMovedAbout) {
  std::mt19937 random(3);
  DecodedImage image = random_image(random, 30);
  image.channels.resize(3);
  BatchGeometry geometry = kGeometry;
  geometry.n_channels = 3;
  // Flipped: the same pixels, listed backwards.
  std::reverse(image.positions.begin(),
               image.positions.begin() + static_cast<std::ptrdiff_t>(image.channels[0].n));
  SparseBatch batch(geometry, true, 0);
  batch.begin(1);
  batch.put(0, image, selected_kernels());
  batch.seal();
  batch.expand(0, 1);
  ASSERT_EQ(from_coo(batch, 1, geometry), from_wire(batch.wire()));
}

TEST(SparseBatch, FindsRowAndColumnOfAnyPositionOfAnyImage) {
  for (const auto& [height, width] : {std::pair{1U, 1U},
                                      {65535U, 1U},
                                      {1U, 65535U},
                                      {4096U, 65535U},
                                      {65535U, 4095U},
                                      {375U, 375U},
                                      {997U, 31U}}) {
    DecodedImage image;
    for (std::uint32_t y = 0; y < height; y += 1 + height / 100) {
      for (const std::uint32_t x : {0U, width / 2, width - 1}) {
        image.positions.push_back(y * width + x);
      }
    }
    image.positions.push_back(height * width - 1);
    std::sort(image.positions.begin(), image.positions.end());
    const auto n = static_cast<std::uint32_t>(image.positions.size());
    image.words.assign(n, 7);
    image.channels = {{.n = n}};
    const BatchGeometry geometry{.n_channels = 1, .height = height, .width = width};
    SparseBatch batch(geometry, true, 0);
    batch.begin(1);
    batch.put(0, image, selected_kernels());
    batch.seal();
    batch.expand(0, 1);
    for (std::uint32_t i = 0; i < n; ++i) {
      ASSERT_EQ(batch.coordinates()[i].y, static_cast<int>(image.positions[i] / width));
      ASSERT_EQ(batch.coordinates()[i].x, static_cast<int>(image.positions[i] % width));
    }
  }
}

TEST(SparseBatch, IsFilledByThreadsAtOnce) {
  std::mt19937 random(5);
  std::vector<DecodedImage> images;
  std::vector<std::uint32_t> dense;
  for (int i = 0; i < 64; ++i) {
    images.push_back(random_image(random, 25));
    const std::vector<std::uint32_t> bits = dense_bits(images.back(), DType::kFloat32);
    dense.insert(dense.end(), bits.begin(), bits.end());
  }
  SparseBatch batch(kGeometry, true, 20000);
  for (int round = 0; round < 20; ++round) {
    batch.begin(images.size());
    std::vector<std::jthread> threads;
    for (std::size_t t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] {
        for (std::size_t i = t; i < images.size(); i += 4) {
          batch.put(i, images[i], selected_kernels());
        }
      });
    }
    threads.clear();
    batch.seal();
    for (std::size_t t = 0; t < 4; ++t) {
      threads.emplace_back([&, t] { batch.expand(16 * t, 16); });
    }
    threads.clear();
    ASSERT_EQ(from_wire(batch.wire()), dense);
    ASSERT_EQ(from_coo(batch, images.size(), kGeometry), dense);
  }
}

class SparsePipelineTest : public ::testing::TestWithParam<BatchForm> {
 protected:
  void SetUp() override {
    test::write_shard(directory_.file("a.e2e"), 0, 30);
    test::write_shard(directory_.file("b.e2e"), 30, 33);
  }
  [[nodiscard]] std::shared_ptr<const ShardSet> open() const {
    return std::make_shared<const ShardSet>(std::vector{
        test::open_shard(directory_.file("a.e2e")), test::open_shard(directory_.file("b.e2e"))});
  }
  static PipelineConfig config() {
    PipelineConfig config;
    config.plan = {.batch_size = 8, .shuffle = true, .key = 9};
    config.channels = {0, 1};
    config.form = GetParam();
    config.threads = 3;
    config.prefetch = 3;
    return config;
  }
  static void expect_right(const Batch& batch) {
    ASSERT_EQ(batch.data(), nullptr);
    std::vector<std::uint32_t> expected;
    for (const std::uint64_t id : batch.ids()) {
      for (const float value : test::small_image(id)) {
        expected.push_back(std::bit_cast<std::uint32_t>(value));
      }
    }
    ASSERT_EQ(from_wire(batch.sparse()->wire()), expected);
    if (GetParam() == BatchForm::kCoo) {
      ASSERT_EQ(from_coo(*batch.sparse(), batch.ids().size(), batch.geometry()), expected);
    }
  }
  test::TemporaryDirectory directory_;
};

TEST_P(SparsePipelineTest, DeliversEveryEpochAndRecyclesItsMemory) {
  BatchPipeline pipeline(open(), config());
  std::unique_ptr<Batch> held;
  std::uint64_t largest = 0;
  for (std::uint64_t epoch = 0; epoch < 20; ++epoch) {
    std::vector<std::uint64_t> ids;
    pipeline.start(epoch, 0);
    while (!pipeline.exhausted()) {
      held = pipeline.next(seconds(20));
      expect_right(*held);
      largest = std::max(largest, held->sparse()->n_bytes());
      ids.insert(ids.end(), held->ids().begin(), held->ids().end());
    }
    std::sort(ids.begin(), ids.end());
    ASSERT_EQ(ids.size(), 63U);
    ASSERT_EQ(std::adjacent_find(ids.begin(), ids.end()), ids.end());
  }
  EXPECT_LE(pipeline.stats().slots_made, 5U);       // prefetch, and two that are lent
  EXPECT_EQ(pipeline.stats().slot_bytes, largest);  // learnt, not guessed
}

TEST_P(SparsePipelineTest, HeldBatchesOutliveThePipeline) {
  std::vector<std::unique_ptr<Batch>> held;
  {
    BatchPipeline pipeline(open(), config());
    pipeline.start(0, 0);
    while (!pipeline.exhausted()) {
      held.push_back(pipeline.next(seconds(20)));
    }
    EXPECT_EQ(pipeline.stats().slots_lent, 8U);
  }
  for (const auto& batch : held) {
    expect_right(*batch);
  }
}

TEST_P(SparsePipelineTest, StopsAndRestartsInEveryState) {
  BatchPipeline pipeline(open(), config());
  for (std::uint64_t taken = 0; taken < 9; ++taken) {
    pipeline.start(taken, 0);
    for (std::uint64_t b = 0; b < taken && b < 8; ++b) {
      expect_right(*pipeline.next(seconds(20)));
    }
    if (taken % 3 == 2) {
      pipeline.close();
    }
  }
}

TEST_P(SparsePipelineTest, ThrowsADamagedRecordInItsBatchsPlace) {
  {
    std::fstream file(directory_.file("b.e2e"), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(
        test::open_shard(directory_.file("b.e2e"))->record_begin(10) + 8));
    file.put('\x55');
  }
  PipelineConfig sequential = config();
  sequential.plan.shuffle = false;
  BatchPipeline pipeline(open(), sequential);
  for (std::uint64_t epoch = 0; epoch < 3; ++epoch) {
    pipeline.start(epoch, 0);
    for (int b = 0; b < 5; ++b) {
      expect_right(*pipeline.next(seconds(20)));  // samples 0 to 39
    }
    EXPECT_THROW((void)pipeline.next(seconds(20)), Error);  // 40 is the damaged one
    expect_right(*pipeline.next(seconds(20)));
  }
}

TEST_P(SparsePipelineTest, SaysSoWhenHeldBatchesUseUpTheMemory) {
  PipelineConfig limited = config();
  {
    BatchPipeline pipeline(open(), config());
    pipeline.start(0, 0);
    while (!pipeline.exhausted()) {
      (void)pipeline.next(seconds(20));
    }
    limited.memory_limit_bytes = 4 * pipeline.stats().slot_bytes;
  }
  BatchPipeline pipeline(open(), limited);
  pipeline.start(0, 0);
  std::vector<std::unique_ptr<Batch>> held;
  EXPECT_THROW(
      while (!pipeline.exhausted()) { held.push_back(pipeline.next(seconds(20))); }, Error);
  EXPECT_GE(held.size(), 1U);
  held.clear();
  EXPECT_NE(pipeline.next(seconds(20)), nullptr);
  limited.memory_limit_bytes = 10;
  BatchPipeline starved(open(), limited);
  starved.start(0, 0);
  const std::unique_ptr<Batch> only = starved.next(seconds(20));
  EXPECT_THROW((void)starved.next(seconds(20)), Error);
}

INSTANTIATE_TEST_SUITE_P(Forms, SparsePipelineTest,
                         ::testing::Values(BatchForm::kCoo, BatchForm::kWire),
                         [](const auto& test) {
                           return test.param == BatchForm::kCoo ? "coo" : "wire";
                         });

}  // namespace
}  // namespace e2eio
