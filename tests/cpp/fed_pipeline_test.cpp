#include <gtest/gtest.h>

#include <algorithm>

#include "e2eio/base/error.hpp"
#include "e2eio/io/open_source.hpp"
#include "e2eio/pipeline/batch_pipeline.hpp"
#include "test_shard.hpp"

namespace e2eio {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using Ids = std::vector<std::uint64_t>;

class FedPipelineTest : public ::testing::Test {
 protected:
  void SetUp() override {
    test::write_shard(directory_.file("a.e2e"), 0, 30);
    test::write_shard(directory_.file("b.e2e"), 30, 33);
    shards_ = std::make_shared<const ShardSet>(std::vector{
        test::open_shard(directory_.file("a.e2e")), test::open_shard(directory_.file("b.e2e"))});
  }
  [[nodiscard]] static PipelineConfig config() {
    PipelineConfig config;
    config.plan.batch_size = 8;
    config.fed = true;
    config.channels = {0, 1};
    config.threads = 3;
    config.prefetch = 3;
    return config;
  }
  // The next batch holds these samples.
  static void expect_next(BatchPipeline& pipeline, const Ids& ids) {
    const auto batch = pipeline.next(seconds(20));
    ASSERT_NE(batch, nullptr);
    ASSERT_EQ(batch->ids(), ids);
    for (std::size_t i = 0; i < ids.size(); ++i) {
      const std::vector<float> expected = test::small_image(ids[i]);
      const auto* const got = reinterpret_cast<const float*>(batch->data()) + i * 128;
      ASSERT_TRUE(std::equal(expected.begin(), expected.end(), got)) << "sample " << ids[i];
    }
  }
  test::TemporaryDirectory directory_;
  std::shared_ptr<const ShardSet> shards_;
};

TEST_F(FedPipelineTest, DeliversBatchesInTheOrderInWhichTheyCame) {
  BatchPipeline pipeline(shards_, config());
  for (std::uint64_t epoch = 0; epoch < 20; ++epoch) {
    pipeline.start_fed(epoch);
    std::vector<Ids> waiting;
    for (std::uint64_t i = 0; i < 40; ++i) {
      Ids ids(1 + i * 3 % 8);
      std::generate(ids.begin(), ids.end(), [&, n = i + epoch]() mutable { return n++ * 7 % 63; });
      pipeline.feed(ids);
      waiting.push_back(ids);
      if (i % 3 == 2) {
        expect_next(pipeline, waiting.front());
        waiting.erase(waiting.begin());
      }
    }
    pipeline.end_feed();
    for (const Ids& ids : waiting) {
      ASSERT_FALSE(pipeline.exhausted());
      expect_next(pipeline, ids);
    }
    ASSERT_TRUE(pipeline.exhausted());
    ASSERT_EQ(pipeline.next(milliseconds(1)), nullptr);
  }
}

TEST_F(FedPipelineTest, IsNotExhaustedWhileMoreMayCome) {
  BatchPipeline pipeline(shards_, config());
  pipeline.start_fed(0);
  EXPECT_EQ(pipeline.next(milliseconds(5)), nullptr);
  EXPECT_FALSE(pipeline.exhausted());
  pipeline.feed({62, 0, 62});  // a sample twice
  expect_next(pipeline, {62, 0, 62});
  EXPECT_FALSE(pipeline.exhausted());
  pipeline.end_feed();
  EXPECT_TRUE(pipeline.exhausted());
}

TEST_F(FedPipelineTest, HasRoomForBatchesThatAreLargerThanTheDataset) {
  PipelineConfig large = config();
  large.plan.batch_size = 200;
  BatchPipeline pipeline(shards_, large);
  pipeline.start_fed(0);
  Ids ids(200);
  std::generate(ids.begin(), ids.end(), [n = 0U]() mutable { return n++ % 63; });
  pipeline.feed(ids);
  expect_next(pipeline, ids);
}

TEST_F(FedPipelineTest, ReadsAheadOfWhatIsFed) {
  std::vector<std::shared_ptr<const ShardReader>> slow;
  for (const char* const name : {"a.e2e", "b.e2e"}) {
    slow.push_back(std::make_shared<const ShardReader>(
        open_source(directory_.file(name), "pread", Throttle{.bytes_per_s = 1e9, .seek_s = 1e-4})));
  }
  BatchPipeline pipeline(std::make_shared<const ShardSet>(std::move(slow)), config());
  for (std::uint64_t epoch = 0; epoch < 3; ++epoch) {
    pipeline.start_fed(epoch);
    for (std::uint64_t i = 0; i < 6; ++i) {
      pipeline.feed({i, 62 - i, 2 * i});
    }
    for (std::uint64_t i = 0; i < 6; ++i) {
      expect_next(pipeline, {i, 62 - i, 2 * i});
    }
  }
  EXPECT_GT(pipeline.stats().reads.records_ahead, 0U);
}

TEST_F(FedPipelineTest, RefusesBatchesThatCannotBe) {
  BatchPipeline pipeline(shards_, config());
  EXPECT_THROW(pipeline.feed({1}), Error);  // before the start
  pipeline.start_fed(0);
  EXPECT_THROW(pipeline.feed({}), Error);
  EXPECT_THROW(pipeline.feed(Ids(9, 1)), Error);
  EXPECT_THROW(pipeline.feed({63}), Error);
  EXPECT_THROW(pipeline.start(0, 0), Error);
  pipeline.end_feed();
  EXPECT_THROW(pipeline.feed({1}), Error);
  pipeline.close();
  EXPECT_THROW(pipeline.feed({1}), Error);
}

TEST_F(FedPipelineTest, DropsWhatWasFedAtAStart) {
  BatchPipeline pipeline(shards_, config());
  for (std::uint64_t epoch = 0; epoch < 30; ++epoch) {
    pipeline.start_fed(epoch);
    for (std::uint64_t i = 0; i < 9; ++i) {
      pipeline.feed({i, epoch});
    }
    if (epoch % 2 == 0) {
      expect_next(pipeline, {0, epoch});
    }
  }
}

}  // namespace
}  // namespace e2eio
