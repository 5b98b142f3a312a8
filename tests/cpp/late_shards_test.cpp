// Shards that come when they are touched: waiting, making, failing, ends.
#include "e2eio/pipeline/late_shards.hpp"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <thread>

#include "e2eio/io/memory_sink.hpp"
#include "e2eio/io/memory_source.hpp"
#include "e2eio/pipeline/batch_pipeline.hpp"
#include "e2eio/pipeline/sample_reader.hpp"
#include "test_shard.hpp"

namespace e2eio {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Indices = std::vector<std::size_t>;

constexpr std::uint64_t kShards = 9;
constexpr std::uint64_t kPerShard = 20;

// Shard number `index`, made in memory: samples [20 index, 20 index + 20).
std::shared_ptr<const ShardReader> made(std::size_t index, std::uint64_t n = kPerShard) {
  const auto bytes = std::make_shared<Bytes>();
  ShardWriter writer(std::make_unique<MemorySink>(bytes), test::small_schema(), {});
  for (std::uint64_t i = index * kPerShard; i < index * kPerShard + n; ++i) {
    const std::vector<float> image = test::small_image(i);
    const auto label = static_cast<std::int32_t>(i);
    const std::vector<ByteView> scalars{std::as_bytes(std::span(&label, 1))};
    writer.append({reinterpret_cast<const std::byte*>(image.data()), false, {256, 32, 4}}, scalars);
  }
  writer.finish();
  return std::make_shared<const ShardReader>(
      std::make_unique<MemorySource>(*bytes, "late " + std::to_string(index)));
}

std::shared_ptr<LateShards> late(std::size_t ahead = 0) {
  return std::make_shared<LateShards>(test::small_schema(),
                                      std::vector<std::uint64_t>(kShards, kPerShard), ahead);
}

std::shared_ptr<const ShardSet> set_of(const std::shared_ptr<LateShards>& shards) {
  std::vector<ShardSet::Part> parts;
  for (std::size_t index = 0; index < shards->n_shards(); ++index) {
    parts.emplace_back(LateShard(shards, index));
  }
  return std::make_shared<const ShardSet>(std::move(parts));
}

// Makes what is wanted until nothing is left or the shards are closed.
void make_all(LateShards& shards) {
  while (const auto wanted = shards.next_wanted()) {
    shards.attach(wanted->index, made(wanted->index));
  }
}

PipelineConfig config(int threads, bool shuffle) {
  PipelineConfig config;
  config.plan = {.batch_size = 7, .shuffle = shuffle, .key = 3};
  config.channels = {0, 1};
  config.threads = threads;
  return config;
}

void expect_epoch(BatchPipeline& pipeline, std::uint64_t epoch) {
  std::size_t n = 0;
  pipeline.start(epoch, 0);
  while (!pipeline.exhausted()) {
    const auto batch = pipeline.next(seconds(60));
    ASSERT_NE(batch, nullptr);
    for (std::size_t i = 0; i < batch->ids().size(); ++i, ++n) {
      const std::vector<float> expected = test::small_image(batch->ids()[i]);
      const auto* const got = reinterpret_cast<const float*>(batch->data()) + i * 128;
      ASSERT_TRUE(std::equal(expected.begin(), expected.end(), got)) << batch->ids()[i];
    }
  }
  EXPECT_EQ(n, kShards * kPerShard);
}

TEST(LateShardsTest, HandsOutWhatSomebodyWaitsForFirst) {
  const auto shards = late(2);
  EXPECT_EQ(shards->find(4), nullptr);
  std::jthread waiter([&] {
    const Indices asked{4, 1, 4};
    EXPECT_TRUE(shards->await(asked, std::stop_token()));
  });
  for (const std::size_t expected : {4U, 1U}) {
    const auto wanted = shards->next_wanted();
    ASSERT_TRUE(wanted);
    EXPECT_EQ(wanted->index, expected);
    EXPECT_TRUE(wanted->awaited);
  }
  for (const std::size_t expected : {5U, 6U}) {  // ahead of the last one touched
    const auto wanted = shards->next_wanted();
    ASSERT_TRUE(wanted);
    EXPECT_EQ(wanted->index, expected);
    EXPECT_FALSE(wanted->awaited);
  }
  shards->attach(4, made(4));
  shards->attach(1, made(1));
  waiter.join();
  EXPECT_EQ(shards->find(4)->path(), "late 4");
  EXPECT_EQ(shards->n_missing(), kShards - 2);
}

TEST(LateShardsTest, EndsWaitingAtAStopATimeoutAndTheEnd) {
  const auto shards = late();
  const Indices asked{0};
  EXPECT_FALSE(shards->await(asked, milliseconds(1)));
  std::stop_source stop;
  std::atomic<bool> stopped = false;
  std::jthread waiter([&] { stopped = !shards->await(asked, stop.get_token()); });
  ASSERT_TRUE(shards->next_wanted());  // it waits
  stop.request_stop();
  waiter.join();
  EXPECT_TRUE(stopped);
  std::jthread maker([&] { EXPECT_FALSE(shards->next_wanted()); });
  std::jthread other([&] { EXPECT_THROW((void)shards->await(asked, std::stop_token()), Error); });
  shards->close();
}

TEST(LateShardsTest, ForgetsWhatNobodyWaitsForAnyMore) {
  const auto shards = late();
  EXPECT_FALSE(shards->await(Indices{3}, milliseconds(1)));
  std::jthread waiter([&] { EXPECT_TRUE(shards->await(Indices{5}, std::stop_token())); });
  const auto wanted = shards->next_wanted();
  ASSERT_TRUE(wanted);
  EXPECT_EQ(wanted->index, 5U);
  shards->attach(5, made(5));
}

TEST(LateShardsTest, KeepsErrorsButForThoseThatMayPass) {
  const auto shards = late();
  const auto kind_of = [&](std::size_t index) {
    try {
      (void)shards->await(Indices{index}, seconds(60));
    } catch (const Error& error) {
      return error.kind();
    }
    return ErrorKind::kInternal;
  };
  std::jthread maker([&] {
    for (int i = 0; i < 2; ++i) {
      const auto wanted = shards->next_wanted();
      shards->fail(wanted->index, Error(wanted->index == 2 ? ErrorKind::kImport : ErrorKind::kIo,
                                        "row 3", Where{.path = "a.parquet", .sample = 3}));
    }
    make_all(*shards);
  });
  EXPECT_EQ(kind_of(2), ErrorKind::kImport);
  EXPECT_EQ(kind_of(7), ErrorKind::kIo);
  EXPECT_EQ(kind_of(2), ErrorKind::kImport);
  EXPECT_TRUE(shards->await(Indices{7}, seconds(60)));  // made at the second try
  shards->close();
}

TEST(LateShardsTest, MakesAShardThatWasPutOffWhenItIsAwaited) {
  const auto shards = late(1);
  std::jthread waiter([&] { EXPECT_TRUE(shards->await(Indices{0}, std::stop_token())); });
  ASSERT_EQ(shards->next_wanted()->index, 0U);
  ASSERT_EQ(shards->next_wanted()->index, 1U);
  shards->put_off(1);
  shards->attach(0, made(0));
  std::jthread second([&] { EXPECT_TRUE(shards->await(Indices{1}, std::stop_token())); });
  const auto wanted = shards->next_wanted();
  ASSERT_TRUE(wanted);
  EXPECT_TRUE(wanted->index == 1 ? wanted->awaited : wanted->index == 2);
  shards->attach(1, made(1));
}

TEST(LateShardsTest, RefusesOtherShards) {
  const auto shards = late();
  EXPECT_THROW(shards->attach(0, made(0, 3)), Error);
  EXPECT_THROW(LateShards(test::small_schema(), {}, 0), Error);
  EXPECT_THROW(LateShards(test::small_schema(), {4, 0}, 0), Error);
}

TEST(LateShardsTest, GivesTheBatchesOfManyThreads) {
  for (const bool shuffle : {false, true}) {
    const auto shards = late(3);
    std::vector<std::jthread> makers;
    for (int i = 0; i < 3; ++i) {
      makers.emplace_back([&] { make_all(*shards); });
    }
    BatchPipeline pipeline(set_of(shards), config(4, shuffle));
    expect_epoch(pipeline, 0);
    EXPECT_EQ(shards->n_missing(), 0U);
    makers.clear();  // nothing is left to make
    expect_epoch(pipeline, 1);
  }
}

TEST(LateShardsTest, ASecondStartAndTheEndCutWaitsShort) {
  const auto shards = late();
  BatchPipeline pipeline(set_of(shards), config(2, true));
  pipeline.start(0, 0);
  ASSERT_TRUE(shards->next_wanted());  // a thread waits
  pipeline.start(1, 0);
  EXPECT_EQ(pipeline.next(milliseconds(1)), nullptr);
  pipeline.close();
}

TEST(LateShardsTest, AnErrorComesInItsBatchAlone) {
  const auto shards = late();
  std::jthread maker([&] {
    while (const auto wanted = shards->next_wanted()) {
      if (wanted->index == 0) {
        shards->fail(0, Error(ErrorKind::kImport, "row 3"));
      } else {
        shards->attach(wanted->index, made(wanted->index));
      }
    }
  });
  BatchPipeline pipeline(set_of(shards), config(2, false));
  pipeline.start(0, 0);
  int n_errors = 0;
  int n_batches = 0;
  while (!pipeline.exhausted()) {
    try {
      n_batches += pipeline.next(seconds(60)) != nullptr ? 1 : 0;
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kImport);
      ++n_errors;
    }
  }
  EXPECT_EQ(n_errors, 3);  // samples 0 to 19, seven at a time
  EXPECT_EQ(n_batches, 23);
  shards->close();
}

TEST(LateShardsTest, ServesSamplesOnRequest) {
  const auto shards = late();
  std::jthread maker([&] { make_all(*shards); });
  const SampleReader reader(set_of(shards));
  const std::array<std::uint64_t, 3> ids{170, 3, 90};
  std::vector<float> images(3 * 128, 0.0F);
  reader.read(ids, {0, 1}, 2, reinterpret_cast<std::byte*>(images.data()));
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const std::vector<float> expected = test::small_image(ids.at(i));
    EXPECT_TRUE(std::equal(expected.begin(), expected.end(), images.data() + i * 128));
  }
  shards->close();
}

}  // namespace
}  // namespace e2eio
