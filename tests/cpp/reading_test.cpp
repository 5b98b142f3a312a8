// Reading of records: in few reads, ahead of need, and its errors and ends.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <fstream>
#include <iterator>
#include <mutex>
#include <numeric>

#include "e2eio/base/error.hpp"
#include "e2eio/io/memory_source.hpp"
#include "e2eio/io/throttled_source.hpp"
#include "e2eio/pipeline/batch_pipeline.hpp"
#include "e2eio/pipeline/record_fetcher.hpp"
#include "e2eio/plan/window_order.hpp"
#include "test_shard.hpp"

namespace e2eio {
namespace {

using std::chrono::seconds;

// A source on which reads wait for the test. Thread rule: as Source.
class GatedSource final : public Source {
 public:
  explicit GatedSource(const std::string& path) : file_(path) {}
  void read(std::uint64_t offset_bytes, std::span<std::byte> to) const override {
    file_.read(offset_bytes, to);
  }
  ReadReport read_many(std::span<const ReadRequest> requests,
                       const std::stop_token& stop) const override {
    std::unique_lock lock(mutex_);
    ++n_waiting_;
    changed_.notify_all();
    const bool opened = changed_.wait(lock, stop, [this] { return open_; });
    --n_waiting_;
    if (!opened) {
      return {.n_waited = requests.size(), .stopped = true};
    }
    const bool broken = std::any_of(requests.begin(), requests.end(), [this](const auto& request) {
      return request.offset_bytes <= broken_byte_ &&
             broken_byte_ < request.offset_bytes + request.to.size();
    });
    if (broken) {
      throw_io("cannot read 1 byte", path(), EIO);
    }
    lock.unlock();
    return Source::read_many(requests, stop);
  }
  [[nodiscard]] bool always_waits() const noexcept override { return true; }
  [[nodiscard]] std::uint64_t n_bytes() const noexcept override { return file_.n_bytes(); }
  [[nodiscard]] const std::string& path() const noexcept override { return file_.path(); }
  [[nodiscard]] std::string kind() const override { return "gated"; }

  void set_open(bool open) {
    const std::lock_guard lock(mutex_);
    open_ = open;
    changed_.notify_all();
  }
  void break_byte(std::uint64_t offset) { broken_byte_ = offset; }
  // Returns once so many reads wait.
  void await(int n) const {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return n_waiting_ >= n; });
  }

 private:
  FileSource file_;
  mutable std::mutex mutex_;
  mutable std::condition_variable_any changed_;
  mutable int n_waiting_ = 0;
  bool open_ = true;
  std::uint64_t broken_byte_ = ~std::uint64_t{0};
};

constexpr std::uint64_t kSamples = 700;

class ReadingTest : public ::testing::Test {
 protected:
  void SetUp() override {
    test::write_shard(directory_.file("a.e2e"), 0, 300);
    test::write_shard(directory_.file("b.e2e"), 300, 400);
  }
  std::shared_ptr<const ShardSet> files() {
    return std::make_shared<const ShardSet>(std::vector{
        test::open_shard(directory_.file("a.e2e")), test::open_shard(directory_.file("b.e2e"))});
  }
  // Of shard b alone.
  std::shared_ptr<const ShardSet> gated() {
    auto source = std::make_unique<GatedSource>(directory_.file("b.e2e"));
    gate_ = source.get();
    return one(std::move(source));
  }
  static std::shared_ptr<const ShardSet> one(std::unique_ptr<Source> source) {
    return std::make_shared<const ShardSet>(
        std::vector{std::make_shared<const ShardReader>(std::move(source))});
  }
  static PipelineConfig config(std::uint64_t batch_size, int threads) {
    PipelineConfig config;
    config.plan = {.batch_size = batch_size, .shuffle = true, .key = 9};
    config.channels = {0, 1};
    config.threads = threads;
    return config;
  }
  // Checks an epoch; the ids plus `first` are the numbers of the images.
  static void expect_epoch(BatchPipeline& pipeline, std::uint64_t epoch, std::uint64_t first,
                           std::uint64_t n) {
    std::vector<bool> seen(n, false);
    pipeline.start(epoch, 0);
    while (!pipeline.exhausted()) {
      const auto batch = pipeline.next(seconds(60));
      ASSERT_NE(batch, nullptr);
      for (std::size_t i = 0; i < batch->ids().size(); ++i) {
        const std::vector<float> expected = test::small_image(first + batch->ids()[i]);
        const auto* const got = reinterpret_cast<const float*>(batch->data()) + i * 128;
        ASSERT_TRUE(std::equal(expected.begin(), expected.end(), got)) << batch->ids()[i];
        seen[batch->ids()[i]] = true;
      }
      ASSERT_LE(pipeline.stats().reads.ahead_bytes, pipeline.stats().reads.ahead_limit_bytes);
    }
    EXPECT_EQ(std::count(seen.begin(), seen.end(), true), static_cast<std::ptrdiff_t>(n));
  }
  test::TemporaryDirectory directory_;
  GatedSource* gate_ = nullptr;
};

TEST_F(ReadingTest, ReadsTheBatchesOfAWindowTogether) {
  const auto shards = gated();
  PipelineConfig windows = config(7, 4);
  windows.plan.order = std::make_shared<const WindowOrder>(400, 3, 4);
  for (const std::uint64_t limit : {std::uint64_t{1} << 25U, std::uint64_t{1000}}) {
    windows.read_ahead.limit_bytes = limit;
    BatchPipeline pipeline(shards, windows);
    for (std::uint64_t epoch = 0; epoch < 20; ++epoch) {
      expect_epoch(pipeline, epoch, 300, 400);
      pipeline.start(epoch, 11 * epoch);  // and drops it
      ASSERT_NE(pipeline.next(seconds(60)), nullptr);
    }
    EXPECT_EQ(pipeline.stats().reads.records_ahead > 20 * 400 / 2, limit > 1000);
  }
}

TEST_F(ReadingTest, ThrowsAReadErrorOfAWindowInItsBatchsPlaceAndStopsWaitingForOne) {
  const auto shards = gated();
  PipelineConfig windows = config(400, 3);
  windows.plan.order = std::make_shared<const WindowOrder>(400, 3, 4);
  BatchPipeline pipeline(shards, windows);
  gate_->set_open(false);
  pipeline.start(0, 0);
  gate_->await(1);
  EXPECT_EQ(pipeline.next(std::chrono::milliseconds(1)), nullptr);
  pipeline.start(1, 0);
  gate_->await(1);
  pipeline.close();
  gate_->set_open(true);
  gate_->break_byte(shards->locate(0).shard->record_begin(0));
  pipeline.start(0, 0);
  EXPECT_THROW((void)pipeline.next(seconds(60)), Error);
  gate_->break_byte(~std::uint64_t{0});
  expect_epoch(pipeline, 2, 300, 400);
}

TEST_F(ReadingTest, FetchesRecordsInAnyOrderAndTwice) {
  const auto shards = files();
  for (const std::uint64_t gap : {0U, 100U, 1U << 20U}) {
    RecordFetcher fetcher(*shards, gap);
    FetchedRecords fetched;
    for (const std::size_t n : {0U, 1U, 5U, 700U, 31U}) {
      std::vector<std::uint64_t> ids;
      for (std::uint64_t i = 0; i < n; ++i) {
        ids.push_back(i * i * 37 % kSamples);
      }
      EXPECT_EQ(fetcher.fetch(ids, fetched, {}).n_records, n);
      ASSERT_EQ(fetched.all().size(), n);
      for (std::size_t i = 0; i < n; ++i) {
        const ShardSet::Place place = shards->locate(ids[i]);
        Bytes expected;
        const ByteView bytes = place.shard->read_records(place.sample, place.sample + 1, expected);
        const ByteView got = fetched.all()[i].bytes;
        ASSERT_TRUE(std::equal(bytes.begin(), bytes.end(), got.begin(), got.end()));
        ASSERT_EQ(fetched.all()[i].place.sample, place.sample);
      }
    }
  }
}

TEST_F(ReadingTest, MergesReadsOfRecordsThatLieCloseTogether) {
  const auto shards = files();
  FetchedRecords fetched;
  std::vector<std::uint64_t> ids(kSamples);
  std::iota(ids.begin(), ids.end(), 0U);
  std::reverse(ids.begin(), ids.end());
  EXPECT_EQ(RecordFetcher(*shards, 0).fetch(ids, fetched, {}).n_reads, 2U);  // one of each shard
  const std::vector<std::uint64_t> every_other{4, 0, 2, 6};
  const auto& shard = *shards->locate(0).shard;
  const auto apart = RecordFetcher(*shards, 0).fetch(every_other, fetched, {});
  EXPECT_EQ(apart.n_reads, 4U);
  const auto together = RecordFetcher(*shards, 1000).fetch(every_other, fetched, {});
  EXPECT_EQ(together.n_reads, 1U);
  EXPECT_EQ(together.n_bytes, shard.record_end(6) - shard.record_begin(0));
  EXPECT_LT(apart.n_bytes, together.n_bytes);
}

TEST_F(ReadingTest, StartsNoReaderWhileNothingHasToBeWaitedFor) {
  std::ifstream file(directory_.file("b.e2e"), std::ios::binary);
  const std::string text{std::istreambuf_iterator<char>(file), {}};
  const ByteView bytes = as_bytes(text);
  BatchPipeline pipeline(one(std::make_unique<MemorySource>(Bytes(bytes.begin(), bytes.end()))),
                         config(64, 2));
  expect_epoch(pipeline, 0, 300, 400);
  const ReadStats stats = pipeline.stats().reads;
  EXPECT_EQ(stats.kind, "memory");
  EXPECT_EQ(stats.records, 400U);
  EXPECT_EQ(stats.readers, 0U);
  EXPECT_EQ(stats.records_ahead, 0U);
}

TEST_F(ReadingTest, ReadsAheadOfTheDecodingThreads) {
  BatchPipeline pipeline(gated(), config(16, 1));
  gate_->set_open(false);
  pipeline.start(0, 0);
  gate_->await(9);  // one decoding thread and eight readers, each on a batch of its own
  gate_->set_open(true);
  for (std::uint64_t epoch = 0; epoch < 20; ++epoch) {
    expect_epoch(pipeline, epoch, 300, 400);
  }
  const ReadStats stats = pipeline.stats().reads;
  EXPECT_EQ(stats.kind, "gated");
  EXPECT_EQ(stats.readers, 8U);
  EXPECT_GT(stats.records_ahead, 0U);
  EXPECT_EQ(stats.ahead_bytes, 0U);  // everything was decoded
}

TEST_F(ReadingTest, ReadsEveryRecordOnceWhoeverIsFaster) {
  for (const int readers : {0, 1, 8}) {
    PipelineConfig quick = config(1, 3);  // each claim is a unit
    quick.prefetch = 20;
    quick.read_ahead.readers = readers;
    BatchPipeline pipeline(gated(), quick);
    gate_->set_open(false);
    pipeline.start(0, 0);
    gate_->await(3);  // units of decoding threads, before and after those of readers
    gate_->set_open(true);
    while (!pipeline.exhausted()) {
      ASSERT_NE(pipeline.next(seconds(60)), nullptr);
    }
    EXPECT_EQ(pipeline.stats().reads.records, 400U);
    EXPECT_EQ(pipeline.stats().reads.ahead_bytes, 0U);
    EXPECT_EQ(pipeline.stats().reads.records_ahead > 0, readers > 0);
  }
}

TEST_F(ReadingTest, DeliversBatchesOfSeveralUnits) {
  PipelineConfig whole = config(kSamples, 3);
  BatchPipeline pipeline(files(), whole);
  expect_epoch(pipeline, 0, 0, kSamples);
  BatchPipeline ahead(gated(), config(390, 3));  // units of 256 and 134, and a batch of 10
  for (std::uint64_t epoch = 0; epoch < 10; ++epoch) {
    expect_epoch(ahead, epoch, 300, 400);
  }
  EXPECT_EQ(ahead.stats().reads.ahead_bytes, 0U);
}

TEST_F(ReadingTest, KeepsWithinItsMemory) {
  PipelineConfig small = config(4, 2);
  small.read_ahead.limit_bytes = 40000;  // of some units, not of all
  BatchPipeline pipeline(gated(), small);
  expect_epoch(pipeline, 0, 300, 400);  // looks at ahead_bytes
  EXPECT_GT(pipeline.stats().reads.records_ahead, 0U);

  PipelineConfig tight = config(16, 2);
  tight.memory_limit_bytes = 2 * 16 * 512;  // two slots, and nothing else
  BatchPipeline without(gated(), tight);
  expect_epoch(without, 0, 300, 400);
  EXPECT_EQ(without.stats().reads.records_ahead, 0U);
  EXPECT_EQ(without.stats().reads.ahead_limit_bytes, 0U);

  tight.memory_limit_bytes = 6 * 16 * 512;  // prefetch and two lent ones leave two
  EXPECT_EQ(BatchPipeline(gated(), tight).stats().reads.ahead_limit_bytes, 2U * 16 * 512);
}

TEST_F(ReadingTest, ThrowsAReadErrorInItsBatchsPlace) {
  PipelineConfig sequential = config(16, 2);
  sequential.plan.shuffle = false;
  const auto shards = gated();
  gate_->break_byte(shards->locate(200).shard->record_begin(200));
  for (const int readers : {8, 0}) {
    sequential.read_ahead.readers = readers;
    BatchPipeline pipeline(shards, sequential);
    pipeline.start(0, 0);
    for (std::uint64_t b = 0; !pipeline.exhausted(); ++b) {
      if (b != 200 / 16) {
        const auto batch = pipeline.next(seconds(60));
        ASSERT_NE(batch, nullptr) << b;
        EXPECT_EQ(batch->ids().front(), b * 16);
        continue;
      }
      try {
        (void)pipeline.next(seconds(60));
        ADD_FAILURE() << "batch " << b << " came without its error";
      } catch (const Error& error) {
        EXPECT_EQ(error.kind(), ErrorKind::kIo);
        EXPECT_EQ(error.where().path, directory_.file("b.e2e"));
      }
    }
  }
}

TEST_F(ReadingTest, ClosesAndRestartsWhileReadsWait) {
  const auto shards = gated();
  for (int taken = 0; taken < 4; ++taken) {
    BatchPipeline pipeline(shards, config(16, 2));
    gate_->set_open(true);
    pipeline.start(0, 0);
    for (int b = 0; b < taken; ++b) {
      ASSERT_NE(pipeline.next(seconds(60)), nullptr);
    }
    gate_->set_open(false);
    pipeline.start(1, 0);
    gate_->await(8);
    EXPECT_EQ(pipeline.next(std::chrono::milliseconds(1)), nullptr);
    pipeline.start(2, 3);
    gate_->await(8);
    if (taken % 2 == 0) {
      gate_->set_open(true);
      expect_epoch(pipeline, 3, 300, 400);
      gate_->set_open(false);
      pipeline.start(4, 0);
      gate_->await(8);
    }
    pipeline.close();
    EXPECT_TRUE(pipeline.exhausted());
    gate_->set_open(true);
    expect_epoch(pipeline, 5, 300, 400);  // and it can be used again
  }
}

TEST_F(ReadingTest, OverlapsTheSeeksOfASlowSource) {
  auto source = std::make_unique<ThrottledSource>(
      std::make_unique<FileSource>(directory_.file("b.e2e")), Throttle{.seek_s = 0.02});
  const ThrottledSource* const slow = source.get();
  BatchPipeline pipeline(one(std::move(source)), config(16, 1));
  expect_epoch(pipeline, 0, 300, 400);
  EXPECT_GE(slow->max_under_way(), 8);  // of several readers
  EXPECT_GT(pipeline.stats().reads.wait_s, 0);
}

TEST_F(ReadingTest, TakesAsLongAsTheBandwidthAllowsAndHardlyLonger) {
  constexpr double kBytesPerSecond = 200e3;
  auto source =
      std::make_unique<ThrottledSource>(std::make_unique<FileSource>(directory_.file("b.e2e")),
                                        Throttle{.bytes_per_s = kBytesPerSecond});
  const auto shards = one(std::move(source));
  BatchPipeline pipeline(shards, config(16, 2));
  const auto begin = std::chrono::steady_clock::now();
  expect_epoch(pipeline, 0, 300, 400);
  const double elapsed =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  const double least = static_cast<double>(pipeline.stats().reads.bytes) / kBytesPerSecond;
  EXPECT_GE(elapsed, 0.99 * least);
  EXPECT_LE(elapsed, 3 * least + 1);
}

}  // namespace
}  // namespace e2eio
