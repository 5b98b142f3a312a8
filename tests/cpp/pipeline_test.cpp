#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <thread>

#include "e2eio/base/error.hpp"
#include "e2eio/pipeline/batch_pipeline.hpp"
#include "test_shard.hpp"

namespace e2eio {
namespace {

using std::chrono::seconds;

class PipelineTest : public ::testing::Test {
 protected:
  void SetUp() override {
    test::write_shard(directory_.file("a.e2e"), 0, 30);
    test::write_shard(directory_.file("b.e2e"), 30, 33);
    shards_ = open();
  }
  std::shared_ptr<const ShardSet> open() {
    return std::make_shared<const ShardSet>(std::vector{
        test::open_shard(directory_.file("a.e2e")), test::open_shard(directory_.file("b.e2e"))});
  }
  static PipelineConfig config() {
    PipelineConfig config;
    config.plan = {.batch_size = 8, .shuffle = true, .key = 9};
    config.channels = {0, 1};
    config.threads = 3;
    return config;
  }
  static void expect_right(const Batch& batch) {
    for (std::size_t i = 0; i < batch.ids().size(); ++i) {
      const std::vector<float> expected = test::small_image(batch.ids()[i]);
      const auto* const got = reinterpret_cast<const float*>(batch.data()) + i * 128;
      ASSERT_TRUE(std::equal(expected.begin(), expected.end(), got)) << "sample " << batch.ids()[i];
    }
  }
  // Checks a whole epoch; returns the ids in order.
  static std::vector<std::uint64_t> run(BatchPipeline& pipeline, std::uint64_t epoch) {
    std::vector<std::uint64_t> ids;
    pipeline.start(epoch, 0);
    while (!pipeline.exhausted()) {
      const auto batch = pipeline.next(seconds(20));
      if (batch == nullptr) {
        ADD_FAILURE() << "no batch";
        break;
      }
      expect_right(*batch);
      ids.insert(ids.end(), batch->ids().begin(), batch->ids().end());
    }
    return ids;
  }
  test::TemporaryDirectory directory_;
  std::shared_ptr<const ShardSet> shards_;
};

TEST_F(PipelineTest, DeliversEverySampleOfEveryEpochExactly) {
  BatchPipeline pipeline(shards_, config());
  for (std::uint64_t epoch = 0; epoch < 50; ++epoch) {
    std::vector<std::uint64_t> ids = run(pipeline, epoch);
    std::sort(ids.begin(), ids.end());
    ASSERT_EQ(ids.size(), 63U);
    for (std::uint64_t i = 0; i < 63; ++i) {
      ASSERT_EQ(ids[i], i);
    }
  }
  EXPECT_LE(pipeline.stats().slots_made, 3U);
}

TEST_F(PipelineTest, RecyclesTheSlotsOfALoopThatHoldsItsBatchUntilTheNext) {
  BatchPipeline pipeline(shards_, config());
  std::unique_ptr<Batch> held;
  for (std::uint64_t epoch = 0; epoch < 20; ++epoch) {
    pipeline.start(epoch, 0);
    while (!pipeline.exhausted()) {
      held = pipeline.next(seconds(20));
    }
    held.reset();
  }
  EXPECT_LE(pipeline.stats().slots_made, 4U);  // prefetch, and two that are lent
}

TEST_F(PipelineTest, OrderDoesNotDependOnThreads) {
  PipelineConfig one = config();
  one.threads = 1;
  BatchPipeline first(shards_, one);
  BatchPipeline second(shards_, config());
  EXPECT_EQ(run(first, 4), run(second, 4));
}

TEST_F(PipelineTest, NoCallToWorkIsLostAtAnyNumberOfThreadsBatchesAndSamples) {
  for (const int threads : {1, 2, 7, 33}) {
    for (const int prefetch : {1, 2, 9}) {
      for (const std::uint64_t batch_size : {1U, 5U, 63U, 1000U}) {
        PipelineConfig many = config();
        many.threads = threads;
        many.prefetch = prefetch;
        many.plan.batch_size = batch_size;
        many.auto_threads = threads % 2 == 1;
        many.auto_prefetch = many.auto_threads;
        BatchPipeline pipeline(shards_, many);
        for (std::uint64_t epoch = 0; epoch < 3; ++epoch) {
          ASSERT_EQ(run(pipeline, epoch).size(), 63U)
              << threads << " threads, prefetch " << prefetch << ", batches of " << batch_size;
        }
      }
    }
  }
}

// A consumer that takes long: the threads but one are parked. One that does not: they come back.
TEST_F(PipelineTest, ParksThreadsThatASlowConsumerHasNoUseFor) {
  PipelineConfig adaptive = config();
  adaptive.threads = 4;
  adaptive.prefetch = 8;
  adaptive.auto_threads = true;
  adaptive.auto_prefetch = true;
  BatchPipeline pipeline(shards_, adaptive);
  BatchPipeline fixed(shards_, config());
  const auto epoch_of = [](BatchPipeline& any, std::uint64_t epoch,
                           std::chrono::milliseconds wait) {
    std::vector<std::uint64_t> ids;
    any.start(epoch, 0);
    while (!any.exhausted()) {
      const auto batch = any.next(seconds(20));
      expect_right(*batch);
      ids.insert(ids.end(), batch->ids().begin(), batch->ids().end());
      std::this_thread::sleep_for(wait);
    }
    return ids;
  };
  EXPECT_EQ(pipeline.stats().threads, 4);
  EXPECT_EQ(pipeline.stats().threads_limit, 4);
  std::uint64_t epoch = 0;
  for (; epoch < 200 && pipeline.stats().threads > 1; ++epoch) {
    ASSERT_EQ(epoch_of(pipeline, epoch, std::chrono::milliseconds(4)),
              epoch_of(fixed, epoch, std::chrono::milliseconds(0)));
  }
  EXPECT_EQ(pipeline.stats().threads, 1);
  EXPECT_GE(pipeline.stats().setting_changes, 1U);
  EXPECT_EQ(fixed.stats().setting_changes, 0U);
  EXPECT_EQ(fixed.stats().threads, 3);
  for (int more = 0; more < 200; ++more, ++epoch) {
    ASSERT_EQ(epoch_of(pipeline, epoch, std::chrono::milliseconds(0)).size(), 63U);
  }
}

TEST_F(PipelineTest, AnAdaptivePrefetchStaysWithinTheMemoryLimit) {
  PipelineConfig limited = config();
  limited.prefetch = 8;
  limited.auto_prefetch = true;
  limited.memory_limit_bytes = 5 * 8 * 512;
  BatchPipeline pipeline(shards_, limited);
  EXPECT_EQ(pipeline.stats().prefetch, 2);
  EXPECT_EQ(pipeline.stats().prefetch_limit, 3);  // five slots, of which two are lent
  limited.memory_limit_bytes = 2 * 8 * 512;
  EXPECT_EQ(BatchPipeline(shards_, limited).stats().prefetch_limit, 2);
}

TEST_F(PipelineTest, BatchesHeldAgainAndAgainFindTheirSlotsWaiting) {
  BatchPipeline pipeline(shards_, config());
  const auto hold_all = [&](std::uint64_t epoch) {
    std::vector<std::unique_ptr<Batch>> held;
    pipeline.start(epoch, 0);
    while (!pipeline.exhausted()) {
      held.push_back(pipeline.next(seconds(20)));
    }
  };
  hold_all(0);
  EXPECT_EQ(pipeline.stats().slots_made, 8U);
  for (std::uint64_t epoch = 1; epoch < 50; ++epoch) {
    hold_all(epoch);
  }
  EXPECT_EQ(pipeline.stats().slots_made, 8U);
  // Who stops holding them gets the memory back.
  for (std::uint64_t epoch = 0; epoch < 100; ++epoch) {
    (void)run(pipeline, epoch);
  }
  EXPECT_LE(pipeline.stats().slots, 4U);
}

TEST_F(PipelineTest, HeldBatchesStayWhatTheyWere) {
  std::vector<std::unique_ptr<Batch>> held;
  {
    BatchPipeline pipeline(shards_, config());
    pipeline.start(0, 0);
    while (!pipeline.exhausted()) {
      held.push_back(pipeline.next(seconds(20)));
    }
    EXPECT_EQ(pipeline.stats().slots_lent, 8U);
  }
  for (const auto& batch : held) {
    expect_right(*batch);  // after the pipeline is gone
  }
}

TEST_F(PipelineTest, ClearsAWrittenBatchThatIsDeclaredDirty) {
  BatchPipeline pipeline(shards_, config());
  for (std::uint64_t epoch = 0; epoch < 3; ++epoch) {
    pipeline.start(epoch, 0);
    while (!pipeline.exhausted()) {
      const auto batch = pipeline.next(seconds(20));
      expect_right(*batch);
      std::fill_n(batch->data(), batch->ids().size() * 512, std::byte{1});
      batch->release(true);
    }
  }
}

// Images with one pixel each: nearly all lines of a batch stay blank.
std::shared_ptr<const ShardSet> blank_shards(const std::string& path) {
  Schema schema = test::small_schema();
  schema.height = 32;
  schema.width = 32;
  ShardWriter writer(path, schema, {});
  for (std::int32_t i = 0; i < 40; ++i) {
    std::vector<float> image(2 * 32 * 32, 0.0F);
    image[static_cast<std::size_t>(i) * 17] = 1.0F;
    const std::vector<ByteView> scalars{std::as_bytes(std::span(&i, 1))};
    writer.append({reinterpret_cast<const std::byte*>(image.data()), false, {4096, 128, 4}},
                  scalars);
  }
  writer.finish();
  return std::make_shared<const ShardSet>(std::vector{test::open_shard(path)});
}

TEST_F(PipelineTest, NoticesAWrittenBatchThatIsNotDeclared) {
  BatchPipeline pipeline(blank_shards(directory_.file("blank.e2e")), config());
  const auto write_over = [&] {
    for (std::uint64_t epoch = 0; epoch < 3; ++epoch) {
      pipeline.start(epoch, 0);
      while (!pipeline.exhausted()) {
        const auto batch = pipeline.next(seconds(20));
        std::fill_n(batch->data(), batch->ids().size() * 8192, std::byte{1});
      }
    }
  };
  EXPECT_THROW(write_over(), Error);
}

// What is written where a pixel was stored cannot stay: that line is written or cleared anyway.
TEST_F(PipelineTest, OverwritesWhatWasWrittenIntoStoredLines) {
  BatchPipeline pipeline(shards_, config());
  for (std::uint64_t epoch = 0; epoch < 3; ++epoch) {
    pipeline.start(epoch, 0);
    while (!pipeline.exhausted()) {
      const auto batch = pipeline.next(seconds(20));
      expect_right(*batch);
      auto* const pixels = reinterpret_cast<float*>(batch->data());
      for (std::size_t p = 0; p < batch->ids().size() * 128; ++p) {
        pixels[p] = pixels[p] != 0.0F ? 7.0F : 0.0F;
      }
    }
  }
}

TEST_F(PipelineTest, RestartsInTheMiddleOfAnEpoch) {
  BatchPipeline pipeline(shards_, config());
  const std::vector<std::uint64_t> whole = run(pipeline, 1);
  for (std::uint64_t begin = 0; begin <= 63; begin += 7) {
    pipeline.start(0, 0);
    (void)pipeline.next(seconds(20));
    pipeline.start(1, begin);
    std::vector<std::uint64_t> rest;
    while (!pipeline.exhausted()) {
      const auto batch = pipeline.next(seconds(20));
      expect_right(*batch);
      rest.insert(rest.end(), batch->ids().begin(), batch->ids().end());
    }
    ASSERT_TRUE(std::equal(rest.begin(), rest.end(),
                           whole.end() - static_cast<std::ptrdiff_t>(rest.size())));
    ASSERT_EQ(rest.size(), 63 - begin);
  }
}

TEST_F(PipelineTest, RefusesPlacesAndSamplesThatAreNotThere) {
  BatchPipeline pipeline(shards_, config());
  EXPECT_THROW(pipeline.start(0, 64), Error);
  PipelineConfig beyond = config();
  beyond.plan.order = std::make_shared<const FileOrder>(64);
  EXPECT_THROW(BatchPipeline(shards_, beyond), Error);
}

TEST_F(PipelineTest, ThrowsADamagedRecordInItsBatchsPlace) {
  {
    std::fstream file(directory_.file("b.e2e"), std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(
        test::open_shard(directory_.file("b.e2e"))->record_begin(10) + 8));
    file.put('\x55');
  }
  PipelineConfig sequential = config();
  sequential.plan.shuffle = false;
  BatchPipeline pipeline(open(), sequential);
  pipeline.start(0, 0);
  for (int b = 0; b < 5; ++b) {
    expect_right(*pipeline.next(seconds(20)));  // samples 0 to 39
  }
  EXPECT_THROW((void)pipeline.next(seconds(20)), Error);  // 40 is the damaged one
  expect_right(*pipeline.next(seconds(20)));
}

TEST_F(PipelineTest, SaysSoWhenHeldBatchesUseUpTheMemory) {
  PipelineConfig limited = config();
  limited.memory_limit_bytes = 3 * 8 * 512;
  BatchPipeline pipeline(shards_, limited);
  pipeline.start(0, 0);
  std::vector<std::unique_ptr<Batch>> held;
  for (int b = 0; b < 3; ++b) {
    held.push_back(pipeline.next(seconds(20)));
  }
  EXPECT_THROW((void)pipeline.next(seconds(20)), Error);
  std::this_thread::sleep_for(std::chrono::milliseconds(20));  // until all threads have gone idle
  held.clear();
  EXPECT_NE(pipeline.next(seconds(20)), nullptr);
  limited.memory_limit_bytes = 10;
  EXPECT_THROW(BatchPipeline(shards_, limited), Error);
}

TEST_F(PipelineTest, CastsAndReordersAsAsked) {
  PipelineConfig half = config();
  half.channels = {1, 0};
  half.dtype = DType::kFloat16;
  half.channels_last = true;
  BatchPipeline pipeline(shards_, half);
  pipeline.start(0, 0);
  while (!pipeline.exhausted()) {
    const auto batch = pipeline.next(seconds(20));
    for (std::size_t i = 0; i < batch->ids().size(); ++i) {
      const std::vector<float> image = test::small_image(batch->ids()[i]);
      for (std::size_t p = 0; p < 64; ++p) {
        for (std::size_t c = 0; c < 2; ++c) {
          std::uint16_t expected = 0;
          const auto word = std::bit_cast<std::uint32_t>(image[(1 - c) * 64 + p]);
          scalar_kernels()->cast_float16(&word, 1, &expected);
          ASSERT_EQ(load<std::uint16_t>(batch->data() + ((i * 64 + p) * 2 + c) * 2), expected);
        }
      }
    }
  }
}

TEST_F(PipelineTest, StopsInEveryState) {
  for (int taken = 0; taken < 8; ++taken) {
    BatchPipeline pipeline(shards_, config());
    pipeline.start(0, 0);
    for (int b = 0; b < taken; ++b) {
      (void)pipeline.next(seconds(20));
    }
    pipeline.close();
    pipeline.close();
    EXPECT_TRUE(pipeline.exhausted());
  }
}

TEST_F(PipelineTest, BeginsAgainAfterItWasClosedInMidEpoch) {
  BatchPipeline pipeline(shards_, config());
  const std::vector<std::uint64_t> all = run(pipeline, 3);
  for (int taken = 0; taken < 8; ++taken) {
    pipeline.start(3, 0);
    for (int b = 0; b < taken; ++b) {
      expect_right(*pipeline.next(seconds(20)));
    }
    pipeline.close();
    EXPECT_EQ(pipeline.stats().slots_lent, 0U);
    EXPECT_EQ(run(pipeline, 3), all);
  }
}

TEST_F(PipelineTest, ThreadsThatShareItGetEachBatchOnce) {
  BatchPipeline pipeline(shards_, config());
  for (std::uint64_t epoch = 0; epoch < 50; ++epoch) {
    pipeline.start(epoch, 0);
    std::vector<std::vector<std::uint64_t>> shares(4);
    {
      std::vector<std::jthread> consumers;
      for (std::vector<std::uint64_t>& share : shares) {
        consumers.emplace_back([&pipeline, &share] {
          while (const auto batch = pipeline.next(seconds(20))) {
            expect_right(*batch);
            share.insert(share.end(), batch->ids().begin(), batch->ids().end());
          }
        });
      }
    }
    std::vector<std::uint64_t> ids;
    for (const std::vector<std::uint64_t>& share : shares) {
      ids.insert(ids.end(), share.begin(), share.end());
    }
    std::sort(ids.begin(), ids.end());
    ASSERT_EQ(ids.size(), 63U);
    ASSERT_EQ(std::adjacent_find(ids.begin(), ids.end()), ids.end());
  }
}

TEST_F(PipelineTest, CloseEndsTheWaitOfOthers) {
  PipelineConfig fed = config();
  fed.fed = true;  // nothing ever comes
  BatchPipeline pipeline(shards_, fed);
  for (int i = 0; i < 20; ++i) {
    pipeline.start_fed(0);
    std::vector<std::jthread> others;
    for (int k = 0; k < 2; ++k) {
      others.emplace_back([&pipeline] { EXPECT_EQ(pipeline.next(seconds(1000)), nullptr); });
      others.emplace_back([&pipeline] { pipeline.close(); });
    }
  }
  EXPECT_TRUE(pipeline.exhausted());
}

}  // namespace
}  // namespace e2eio
