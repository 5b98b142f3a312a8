#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <thread>

#include "e2eio/base/error.hpp"
#include "e2eio/io/file_sink.hpp"
#include "e2eio/io/file_source.hpp"
#include "e2eio/io/memory_source.hpp"
#include "e2eio/io/open_source.hpp"
#include "e2eio/io/throttled_source.hpp"
#include "e2eio/io/uring_source.hpp"

namespace e2eio {
namespace {

class Directory : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "e2eio-io-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    path_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(path_); }
  [[nodiscard]] std::string file(const char* name) const { return (path_ / name).string(); }
  [[nodiscard]] std::size_t n_files() const {
    return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(path_), {}));
  }
  std::filesystem::path path_;
};

using FileSinkTest = Directory;
using FileSourceTest = Directory;

TEST_F(FileSinkTest, ShowsTheFileOnlyAfterCommit) {
  FileSink sink(file("a"), false);
  sink.write(as_bytes("hello"));
  EXPECT_FALSE(std::filesystem::exists(file("a")));
  sink.commit();
  EXPECT_EQ(FileSource(file("a")).n_bytes(), 5U);
  EXPECT_EQ(n_files(), 1U);
}

TEST_F(FileSinkTest, LeavesNothingWhenDropped) {
  {
    FileSink(file("a"), false).write(as_bytes("hello"));
  }
  EXPECT_EQ(n_files(), 0U);
}

TEST_F(FileSinkTest, KeepsAnExistingTarget) {
  FileSink first(file("a"), false);
  FileSink second(file("a"), false);
  first.write(as_bytes("first"));
  first.commit();
  EXPECT_THROW(FileSink(file("a"), false), Error);
  EXPECT_THROW(second.commit(), Error);  // it appeared while the second was writing
  EXPECT_EQ(FileSource(file("a")).n_bytes(), 5U);
}

TEST_F(FileSinkTest, ReplacesTheTargetWhenAsked) {
  for (const char* text : {"one", "three"}) {
    FileSink sink(file("a"), true);
    sink.write(as_bytes(text));
    sink.commit();
  }
  EXPECT_EQ(FileSource(file("a")).n_bytes(), 5U);
  EXPECT_EQ(n_files(), 1U);
}

TEST_F(FileSourceTest, RefusesWhatIsNoRegularFile) {
  EXPECT_THROW(FileSource(file("missing")), Error);
  EXPECT_THROW(FileSource(path_.string()), Error);
  ASSERT_EQ(::mkfifo(file("fifo").c_str(), 0600), 0);
  EXPECT_THROW(FileSource(file("fifo")), Error);  // and does not wait for a writer
}

TEST_F(FileSourceTest, NamesTheByteAtWhichAFileEndsTooSoon) {
  FileSink sink(file("a"), false);
  sink.write(as_bytes("hello"));
  sink.commit();
  const FileSource source(file("a"));
  Bytes bytes(4);
  source.read(1, bytes);
  EXPECT_EQ(bytes[0], std::byte{'e'});
  try {
    source.read(2, bytes);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kCorrupt);
    EXPECT_EQ(error.where().offset_bytes, 5U);
  }
}

TEST(MemorySourceTest, ReadsWithinItsBytesOnly) {
  const MemorySource source(Bytes(8, std::byte{7}));
  Bytes bytes(3);
  source.read(5, bytes);
  EXPECT_EQ(bytes, Bytes(3, std::byte{7}));
  EXPECT_THROW(source.read(6, bytes), Error);
  EXPECT_THROW(source.read(~std::uint64_t{0}, bytes), Error);
}

// What every source has to do, whatever its way of reading.
struct Way {
  const char* name;
  std::function<std::unique_ptr<Source>(const std::string&)> open;
};

std::ostream& operator<<(std::ostream& stream, const Way& way) { return stream << way.name; }

class AnySource : public Directory, public ::testing::WithParamInterface<Way> {
 protected:
  void SetUp() override {
    if (std::string(GetParam().name) == "uring" && !uring_refusal().empty()) {
      GTEST_SKIP() << uring_refusal();
    }
    Directory::SetUp();
    bytes_.resize(3 << 20);
    for (std::size_t i = 0; i < bytes_.size(); ++i) {
      bytes_[i] = static_cast<std::byte>((i * 2654435761U) >> 13U);
    }
    FileSink sink(file("a"), false);
    sink.write(bytes_);
    sink.commit();
  }
  // 300 reads, more than a ring holds, of all sizes from nothing to all of it, in no order.
  void expect_right(const Source& source) const {
    std::vector<Bytes> got;
    std::vector<ReadRequest> requests;
    for (std::size_t i = 0; i < 300; ++i) {
      const std::size_t offset = i * 7919 * 131 % bytes_.size();
      got.emplace_back(i == 0 ? bytes_.size() : std::min(bytes_.size() - offset, i * i % 20000));
    }
    for (std::size_t i = 0; i < got.size(); ++i) {
      requests.push_back({i * 7919 * 131 % bytes_.size(), got[i]});
    }
    EXPECT_FALSE(source.read_many(requests, {}).stopped);
    for (std::size_t i = 0; i < got.size(); ++i) {
      const auto* const from = bytes_.data() + requests[i].offset_bytes;
      ASSERT_TRUE(std::equal(got[i].begin(), got[i].end(), from)) << "request " << i;
    }
  }
  Bytes bytes_;
};

TEST_P(AnySource, ReadsManyAsOneByOne) {
  const auto source = GetParam().open(file("a"));
  EXPECT_EQ(source->n_bytes(), bytes_.size());
  expect_right(*source);
  source->advise(0, 0, Advice::kDontNeed);  // and from the device, where there is one
  expect_right(*source);
  EXPECT_FALSE(source->read_many({}, {}).stopped);
}

TEST_P(AnySource, ReadsFromManyThreads) {
  const auto source = GetParam().open(file("a"));
  std::vector<std::jthread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] { expect_right(*source); });
  }
}

TEST_P(AnySource, NamesTheByteAtWhichItEndsTooSoon) {
  const auto source = GetParam().open(file("a"));
  Bytes all(100 * 16);
  std::vector<ReadRequest> requests;
  for (std::size_t i = 0; i < 100; ++i) {
    const std::size_t offset = i == 57 ? bytes_.size() - 5 : i * 1000;
    requests.push_back({offset, std::span(all).subspan(i * 16, 16)});
  }
  try {
    (void)source->read_many(requests, {});
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kCorrupt);
    EXPECT_EQ(error.where().offset_bytes, bytes_.size());
    EXPECT_EQ(std::string(error.what()),
              cat("truncated shard: ", source->path(), ": ends at byte ", bytes_.size(),
                  ", expected 11 more; the file changed since it was opened"));
  }
  expect_right(*source);  // and goes on
}

TEST_P(AnySource, ReadsInAForkedChildAndInTheParentAfterwards) {
  const auto source = GetParam().open(file("a"));
  expect_right(*source);
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    expect_right(*source);
    ::_exit(HasFailure() ? 1 : 0);
  }
  expect_right(*source);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  expect_right(*source);
}

INSTANTIATE_TEST_SUITE_P(
    Ways, AnySource,
    ::testing::Values(
        Way{"pread", [](const std::string& path) { return open_source(path, "pread"); }},
        Way{"uring", [](const std::string& path) { return open_source(path, "uring"); }},
        Way{"throttled",
            [](const std::string& path) { return open_source(path, "pread", Throttle{1e9, 0}); }}),
    [](const auto& way) { return std::string(way.param.name); });

using OpenSourceTest = Directory;

TEST_F(OpenSourceTest, ReadsAsAskedOrAsTheEnvironmentSays) {
  FileSink(file("a"), false).commit();
  const std::string uring = uring_refusal().empty() ? "uring" : "pread";
  EXPECT_EQ(open_source(file("a"))->kind(), "pread");
  EXPECT_EQ(open_source(file("a"), "uring")->kind(), uring);
  EXPECT_EQ(open_source(file("a"), "uring", Throttle{})->kind(), "throttled " + uring);
  EXPECT_THROW((void)open_source(file("a"), "mmap"), Error);
  ASSERT_EQ(::setenv("E2EIO_IO", "uring", 1), 0);
  EXPECT_EQ(open_source(file("a"))->kind(), uring);
  EXPECT_EQ(open_source(file("a"), "pread")->kind(), "pread");
  ASSERT_EQ(::setenv("E2EIO_IO", "mmap", 1), 0);
  try {
    (void)open_source(file("a"));
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kInvalidArgument);
    EXPECT_EQ(std::string(error.what()),
              "E2EIO_IO: unknown way of reading 'mmap', expected auto, pread or uring");
  }
  ASSERT_EQ(::unsetenv("E2EIO_IO"), 0);
}

std::unique_ptr<ThrottledSource> throttled(const Throttle& throttle) {
  return std::make_unique<ThrottledSource>(std::make_unique<MemorySource>(Bytes(100000)), throttle);
}

TEST(ThrottledSourceTest, SharesItsBandwidthAmongThreads) {
  const auto source = throttled({.bytes_per_s = 1e6});
  const auto begin = std::chrono::steady_clock::now();
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&] {
        Bytes bytes(25000);
        source->read(0, bytes);
      });
    }
  }
  EXPECT_GE(std::chrono::steady_clock::now() - begin, std::chrono::milliseconds(100));
}

TEST(ThrottledSourceTest, SeeksUnlessAReadBeginsWhereTheLastOneEnded) {
  const auto source = throttled({.seek_s = 0.02});
  Bytes bytes(10);
  const auto seconds = [&](std::uint64_t offset) {
    const auto begin = std::chrono::steady_clock::now();
    source->read(offset, bytes);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  };
  EXPECT_GE(seconds(50), 0.02);
  double least = 1;
  for (std::uint64_t i = 0; i < 20; ++i) {
    least = std::min(least, seconds(60 + 10 * i));
  }
  EXPECT_LT(least, 0.02);  // one of twenty at least is not held up by anything else
  EXPECT_GE(seconds(50), 0.02);
}

TEST(ThrottledSourceTest, StopsWaitingWhenAsked) {
  const auto source = throttled({.seek_s = 3000});
  Bytes bytes(10);
  const std::vector<ReadRequest> requests{{10, bytes}};
  std::jthread thread(
      [&](const std::stop_token& stop) { EXPECT_TRUE(source->read_many(requests, stop).stopped); });
  while (source->max_under_way() == 0) {
    std::this_thread::yield();
  }
  thread.request_stop();  // a test that waits 3000 s fails
}

TEST(ThrottledSourceTest, RefusesWhatIsNoRate) {
  EXPECT_THROW((void)throttled({.bytes_per_s = -1}), Error);
  EXPECT_THROW((void)throttled({.seek_s = -1}), Error);
  EXPECT_THROW((void)throttled({.seek_s = 1e9}), Error);
}

}  // namespace
}  // namespace e2eio
