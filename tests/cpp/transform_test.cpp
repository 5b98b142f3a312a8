#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "e2eio/base/error.hpp"
#include "e2eio/pipeline/batch_pipeline.hpp"
#include "e2eio/transform/geometry_steps.hpp"
#include "e2eio/transform/granularity_steps.hpp"
#include "e2eio/transform/transform_program.hpp"
#include "test_shard.hpp"

namespace e2eio {
namespace {

constexpr PixelExtent kExtent{20, 30};

std::uint32_t bits(float value) { return std::bit_cast<std::uint32_t>(value); }

// Channel 0: three pixels. Channel 1: two blocks of 5 x 5. Channel 2: dense. Channel 3: empty.
DecodedImage small() {
  DecodedImage image;
  image.positions = {3, 35, 599, 5, 310};
  image.words = {bits(1), bits(-2), bits(4), bits(8), bits(16)};
  image.channels = {{.n = 3},
                    {.block = 5, .n = 2, .first_position = 3, .first_word = 3},
                    {.dense = true, .n = 600, .first_word = 5},
                    {}};
  for (int i = 0; i < 600; ++i) {
    image.words.push_back(bits(static_cast<float>(i % 7)));
  }
  return image;
}

std::vector<float> render(const DecodedImage& image, std::size_t c, PixelExtent extent) {
  std::vector<float> plane(extent.pixels(), 0.0F);
  const ChannelPixels& channel = image.channels[c];
  for (std::uint32_t i = 0; i < channel.n; ++i) {
    const std::uint32_t columns = extent.width / channel.block;
    const std::uint32_t first = channel.dense
                                    ? (i / columns * extent.width + i % columns) * channel.block
                                    : image.positions[channel.first_position + i];
    for (std::uint32_t y = 0; y < channel.block; ++y) {
      for (std::uint32_t x = 0; x < channel.block; ++x) {
        plane.at(first + y * extent.width + x) =
            std::bit_cast<float>(image.words[channel.first_word + i]);
      }
    }
  }
  return plane;
}

std::vector<ChannelArguments> all(double a, double b = 0, std::uint32_t cell = 1) {
  std::vector<ChannelArguments> channels;
  for (std::uint32_t c = 0; c < 4; ++c) {
    channels.push_back({c, a, b, 0, cell});
  }
  return channels;
}

TransformSpec geometry(const std::string& op, std::vector<std::int64_t> integers, double p = 1) {
  return {.op = op, .p = p, .channels = {}, .integers = std::move(integers)};
}

TransformSpec values(const std::string& op, double a, double b = 0) {
  return {.op = op, .channels = all(a, b), .integers = {}};
}

TransformProgram program(const std::vector<TransformSpec>& specs) {
  return {specs, kExtent, {0, 1, 2, 3}, 77};
}

DecodedImage run(const std::vector<TransformSpec>& specs, const SampleKey& key = {}) {
  DecodedImage image = small();
  TransformScratch scratch;
  program(specs).apply(image, key, scratch);
  return image;
}

bool ascending(const DecodedImage& image) {
  return std::all_of(image.channels.begin(), image.channels.end(), [&](const ChannelPixels& c) {
    const auto first = image.positions.begin() + static_cast<std::ptrdiff_t>(c.first_position);
    return c.dense || std::is_sorted(first, first + c.n);
  });
}

TEST(RandomStreamTest, IsPinned) {
  const RandomStream stream(1, {2, 3}, 4);
  EXPECT_EQ(stream.word(0), 0x68055585A968B899U);
  EXPECT_EQ(stream.word(1), 0x9A72E9C958BD6B24U);
  EXPECT_EQ(RandomStream(0, {0, 0}, 0).word(0), 0x78AE5A9A6B5FD45EU);
}

TEST(RandomStreamTest, DrawsAreUniformAndNormal) {
  const RandomStream stream(9, {0, 1}, 2);
  constexpr int kDraws = 200'000;
  double sum = 0;
  double squares = 0;
  std::array<int, 7> counts{};
  for (std::uint64_t i = 0; i < kDraws; ++i) {
    const double z = stream.normal(i);
    sum += z;
    squares += z * z;
    ++counts.at(static_cast<std::size_t>(stream.integer(i, -3, 3) + 3));
  }
  EXPECT_NEAR(sum / kDraws, 0, 5 / std::sqrt(kDraws));
  EXPECT_NEAR(squares / kDraws, 1, 5 * std::sqrt(2.0 / kDraws));
  for (const int count : counts) {
    EXPECT_NEAR(count, kDraws / 7.0, 5 * std::sqrt(kDraws / 7.0));
  }
}

TEST(RandomStreamTest, EveryPartOfTheKeyCounts) {
  const std::uint64_t word = RandomStream(1, {2, 3}, 4).word(5);
  EXPECT_NE(word, RandomStream(0, {2, 3}, 4).word(5));
  EXPECT_NE(word, RandomStream(1, {0, 3}, 4).word(5));
  EXPECT_NE(word, RandomStream(1, {2, 0}, 4).word(5));
  EXPECT_NE(word, RandomStream(1, {2, 3}, 0).word(5));
  EXPECT_NE(word, RandomStream(1, {3, 2}, 4).word(5));
}

TEST(TransformProgramTest, OperationsThatKeepZeroTouchStoredPixelsOnly) {
  const DecodedImage image = run({values("scale", -2), values("log1p", 0), values("clip", -1, 3)});
  EXPECT_EQ(image.channels[0].n, 3U);
  EXPECT_EQ(image.channels[1].n, 2U);
  EXPECT_EQ(image.channels[1].block, 5U);
  EXPECT_EQ(image.channels[3].n, 0U);
}

TEST(TransformProgramTest, EmptyPixelsMayLeaveZeroAndComeBack) {
  // The z-score makes empty pixels negative, and the clip zero again: nothing becomes dense.
  const DecodedImage sparse = run({values("standardise", 0.5, 2), values("clip", 0, 500)});
  EXPECT_FALSE(sparse.channels[0].dense);
  EXPECT_EQ(sparse.channels[0].n, 2U);
  const DecodedImage filled = run({values("offset", 1)});
  EXPECT_TRUE(filled.channels[0].dense);
  EXPECT_EQ(filled.channels[0].n, 600U);
  EXPECT_TRUE(filled.channels[1].dense);
  EXPECT_EQ(filled.channels[1].n, 24U);  // 4 x 6 blocks
  EXPECT_EQ(render(filled, 1, kExtent)[0], 1.0F);
  EXPECT_EQ(render(filled, 1, kExtent)[5], 9.0F);
}

TEST(TransformProgramTest, BlocksSurviveWhereTheyStayAligned) {
  const DecodedImage flipped = run({geometry("flip_eta", {}), geometry("roll_phi", {10, 10, 1})});
  EXPECT_EQ(flipped.channels[1].block, 5U);
  EXPECT_EQ(flipped.channels[1].n, 2U);
  EXPECT_TRUE(ascending(flipped));
  const DecodedImage rolled = run({geometry("roll_phi", {7, 7, 1})});
  EXPECT_EQ(rolled.channels[1].block, 1U);
  EXPECT_EQ(rolled.channels[1].n, 50U);
  EXPECT_TRUE(ascending(rolled));
  const std::vector<float> before = render(small(), 1, kExtent);
  const std::vector<float> after = render(rolled, 1, kExtent);
  for (std::size_t i = 0; i < after.size(); ++i) {
    ASSERT_EQ(after[i], before[i / 30 * 30 + (i % 30 + 23) % 30]);
  }
}

TEST(TransformProgramTest, SuppressedPixelsAreNotStored) {
  const DecodedImage image = run({values("below", 2)});
  EXPECT_EQ(image.channels[0].n, 1U);
  EXPECT_EQ(render(image, 0, kExtent)[599], 4.0F);
}

TEST(TransformProgramTest, KnowsTheShapeItMakes) {
  EXPECT_EQ(program({geometry("rot90", {1, 1})}).output_extent(), (PixelExtent{30, 20}));
  EXPECT_EQ(program({geometry("crop", {7, 9, 1})}).output_extent(), (PixelExtent{7, 9}));
  EXPECT_EQ(program({values("refine", 0)}).output_extent(), (PixelExtent{60, 90}));
  EXPECT_EQ(compile_transforms({}, kExtent, {0}, 0), nullptr);
}

TEST(TransformProgramTest, RefusesWhatDoesNotFit) {
  const auto refused = [](const TransformSpec& spec) {
    EXPECT_THROW(program({spec}), Error) << spec.op;
  };
  refused(values("sharpen", 1));
  refused(values("coarsen", 0));  // 20 rows
  refused({.op = "scale", .channels = {{4}}, .integers = {}});
  refused({.op = "scale", .channels = {{.channel = 0, .cell = 0}}, .integers = {}});
  refused({.op = "refine", .channels = {{0}}, .integers = {}});
  refused(geometry("flip_eta", {}, 1.5));
  refused(geometry("flip_eta", {}, std::nan("")));
  refused(geometry("crop", {21, 30, 0}));
  refused(geometry("crop", {}));
  refused(geometry("pad", {20, 29, 0}));
  refused(geometry("pad", {65'535, 65'535, 0}));
  refused(geometry("roll_phi", {1, 0, 1}));
  refused(geometry("roll_phi", {0, 31, 1}));
  refused(geometry("rot90", {0, 4}));
  refused(geometry("rot90", {0, 3}));  // not square
  refused({.op = "dead_cells", .channels = all(0, 0, 3), .integers = {}});
  refused({.op = "dead_list", .channels = {{0}}, .integers = {1}});
  refused({.op = "dead_list", .channels = {{0}}, .integers = {20, 0}});
}

TEST(TransformProgramTest, GranularityKeepsBlocksAndSums) {
  const DecodedImage fine = run({values("refine", 0)});
  EXPECT_EQ(fine.channels[1].block, 15U);
  EXPECT_EQ(fine.channels[1].n, 2U);
  EXPECT_EQ(fine.channels[2].n, 600U);  // dense, in blocks of 3
  EXPECT_EQ(fine.channels[2].block, 3U);
  const DecodedImage back = run({values("refine", 0), values("coarsen", 0)});
  EXPECT_EQ(back.channels[1].block, 5U);
  for (std::size_t c = 0; c < 4; ++c) {
    const std::vector<float> before = render(small(), c, kExtent);
    const std::vector<float> after = render(back, c, kExtent);
    for (std::size_t i = 0; i < after.size(); ++i) {
      ASSERT_FLOAT_EQ(after[i], before[i]);
    }
  }
}

TEST(TransformProgramTest, CoarseningDoesNotDependOnHowAChannelIsStored) {
  constexpr PixelExtent kFine{6, 6};
  for (const auto role : {ChannelRole::kEnergy, ChannelRole::kPoint, ChannelRole::kMean}) {
    for (const float value : {0.1F, 1.0F / 3, 3e-45F, -0.0F}) {
      DecodedImage block;
      block.positions = {3};
      block.words = {bits(value)};
      block.channels = {{.block = 3, .n = 1}};
      DecodedImage pixels;
      for (std::uint32_t i = 0; i < 9; ++i) {
        pixels.positions.push_back(3 + i / 3 * 6 + i % 3);
        pixels.words.push_back(bits(value));
      }
      pixels.channels = {{.n = 9}};
      const TransformProgram coarsen(
          {{.op = "coarsen", .channels = {{0, static_cast<double>(role)}}, .integers = {}}}, kFine,
          {0}, 0);
      TransformScratch scratch;
      coarsen.apply(block, {}, scratch);
      coarsen.apply(pixels, {}, scratch);
      ASSERT_EQ(block.words, pixels.words);
      ASSERT_EQ(block.positions, pixels.positions);
    }
  }
}

TEST(TransformPipelineTest, ThreadsBatchesAndEpochsGiveTheSameSample) {
  const test::TemporaryDirectory directory;
  test::write_shard(directory.file("a.e2e"), 0, 40);
  const auto shards =
      std::make_shared<const ShardSet>(std::vector{test::open_shard(directory.file("a.e2e"))});
  const std::vector<TransformSpec> specs{
      {.op = "smear", .number = 0, .channels = {{0, 0.5, 0.1, 0.2}, {1, 0.5}}, .integers = {1}},
      {.op = "dead_cells", .number = 1, .p = 0.2, .channels = {{0}, {1}}, .integers = {}},
      {.op = "roll_phi", .number = 2, .p = 0.9, .channels = {}, .integers = {-4, 4, 1}}};
  const auto epoch_of = [&](int threads, std::uint64_t batch_size, std::uint64_t epoch) {
    PipelineConfig config;
    config.plan = {.batch_size = batch_size, .shuffle = true, .key = 5};
    config.channels = {0, 1};
    config.transforms = compile_transforms(specs, {8, 8}, config.channels, 3);
    config.threads = threads;
    BatchPipeline pipeline(shards, config);
    pipeline.start(epoch, 0);
    std::vector<std::vector<std::byte>> samples(40);
    while (!pipeline.exhausted()) {
      const auto batch = pipeline.next(std::chrono::seconds(20));
      for (std::size_t i = 0; i < batch->ids().size(); ++i) {
        const std::byte* const first = batch->data() + i * 512;
        samples[batch->ids()[i]].assign(first, first + 512);
      }
    }
    return samples;
  };
  const auto reference = epoch_of(1, 8, 6);
  EXPECT_EQ(epoch_of(3, 8, 6), reference);
  EXPECT_EQ(epoch_of(2, 7, 6), reference);
  EXPECT_NE(epoch_of(1, 8, 7), reference);
}

}  // namespace
}  // namespace e2eio
