#include <gtest/gtest.h>

#include <fstream>
#include <iterator>

#include "e2eio/io/memory_source.hpp"
#include "test_shard.hpp"

namespace e2eio {
namespace {

Bytes file_bytes(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  const std::vector<char> chars((std::istreambuf_iterator<char>(stream)), {});
  const ByteView view = std::as_bytes(std::span(chars));
  return {view.begin(), view.end()};
}

// Opens, reads every column and decodes every record.
void read_all(Bytes bytes) {
  const ShardReader reader(std::make_unique<MemorySource>(std::move(bytes)));
  (void)reader.column(0);
  reader.check(0, reader.n_samples());
}

TEST(Shard, KeepsSchemaScalarsAndCount) {
  const test::TemporaryDirectory directory;
  test::write_shard(directory.file("a.e2e"), 3, 20);
  const auto reader = test::open_shard(directory.file("a.e2e"));
  EXPECT_EQ(reader->schema(), test::small_schema());
  EXPECT_EQ(reader->n_samples(), 20U);
  const Bytes column = reader->column(0);
  EXPECT_EQ(load<std::int32_t>(column.data() + 4 * 19), 22);
  reader->check(0, 20);
}

TEST(Shard, MayBeEmpty) {
  const test::TemporaryDirectory directory;
  test::write_shard(directory.file("a.e2e"), 0, 0);
  EXPECT_EQ(test::open_shard(directory.file("a.e2e"))->n_samples(), 0U);
}

TEST(Shard, UsesDictionariesWhereTheyPay) {
  const test::TemporaryDirectory directory;
  test::write_shard(directory.file("few.e2e"), 0, 2);
  test::write_shard(directory.file("many.e2e"), 0, 600);
  const auto features = [&](const char* name) {
    return layout::decode_header(ByteView(file_bytes(directory.file(name))).first(64))
        .required_features;
  };
  EXPECT_EQ(features("few.e2e"), 0U);
  EXPECT_EQ(features("many.e2e"), layout::kFeatureDictionaries);
  test::open_shard(directory.file("many.e2e"))->check(0, 600);
}

TEST(Shard, RefusesEveryFlippedBitAndEveryTruncation) {
  const test::TemporaryDirectory directory;
  test::write_shard(directory.file("a.e2e"), 0, 6);
  const Bytes good = file_bytes(directory.file("a.e2e"));
  read_all(good);
  for (std::size_t bit = 0; bit < 8 * good.size(); ++bit) {
    Bytes bad = good;
    bad[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
    EXPECT_THROW(read_all(std::move(bad)), Error) << "bit " << bit;
  }
  for (std::size_t size = 0; size < good.size(); ++size) {
    EXPECT_THROW(read_all(Bytes(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(size))),
                 Error);
  }
}

TEST(Shard, NamesFileSampleAndByteOfADamagedRecord) {
  const test::TemporaryDirectory directory;
  test::write_shard(directory.file("a.e2e"), 0, 6);
  Bytes bytes = file_bytes(directory.file("a.e2e"));
  const auto good = test::open_shard(directory.file("a.e2e"));
  bytes[good->record_begin(4) + 9] ^= std::byte{1};
  const ShardReader reader(std::make_unique<MemorySource>(bytes, "damaged.e2e"));
  reader.check(0, 4);
  try {
    reader.check(0, 6);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kCorrupt);
    EXPECT_EQ(error.where().path, "damaged.e2e");
    EXPECT_EQ(error.where().sample, 4U);
    EXPECT_EQ(error.where().offset_bytes, good->record_begin(4));
  }
}

TEST(Schema, RefusesWhatTheFormatForbids) {
  const auto refused = [](auto change) {
    Schema schema = test::small_schema();
    change(schema);
    EXPECT_THROW(validate(schema), Error);
  };
  refused([](Schema& s) { s.height = 0; });
  refused([](Schema& s) { s.channels.clear(); });
  refused([](Schema& s) { s.channels[1].name = "a"; });
  refused([](Schema& s) { s.scalars[0].name = "X"; });
  refused([](Schema& s) { s.image_name = "\xC0\x80"; });
  refused([](Schema& s) { s.height = s.width = 60000; });
}

}  // namespace
}  // namespace e2eio
