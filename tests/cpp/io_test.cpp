#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <filesystem>

#include "e2eio/base/error.hpp"
#include "e2eio/io/file_sink.hpp"
#include "e2eio/io/file_source.hpp"
#include "e2eio/io/memory_source.hpp"

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

}  // namespace
}  // namespace e2eio
