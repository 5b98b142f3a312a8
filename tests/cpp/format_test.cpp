#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <fstream>
#include <iterator>
#include <random>

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

TEST(Shard, DigestsWhatWasGivenAndWhatIsStoredAlike) {
  const test::TemporaryDirectory directory;
  ShardWriter writer(directory.file("a.e2e"), test::small_schema(), {});
  for (std::uint64_t i = 0; i < 20; ++i) {
    const std::vector<float> image = test::small_image(i);
    const auto y = static_cast<std::int32_t>(i);
    const std::vector<ByteView> scalars{std::as_bytes(std::span(&y, 1))};
    EXPECT_TRUE(writer.append(
        {reinterpret_cast<const std::byte*>(image.data()), false, {256, 32, 4}}, scalars));
  }
  // It can be read, and has no name, until finish().
  const auto early = test::open_shard(writer.complete());
  EXPECT_EQ(early->sample_digests(0, 20), writer.sample_digests());
  EXPECT_FALSE(std::filesystem::exists(directory.file("a.e2e")));
  EXPECT_THROW(writer.append({}, {}), Error);
  writer.finish();
  const auto reader = test::open_shard(directory.file("a.e2e"));
  const std::vector<std::uint64_t> all = reader->sample_digests(0, 20);
  EXPECT_EQ(all, writer.sample_digests());
  EXPECT_EQ(reader->sample_digests(7, 9), (std::vector<std::uint64_t>{all[7], all[8]}));
}

TEST(Shard, MayBeEmpty) {
  const test::TemporaryDirectory directory;
  test::write_shard(directory.file("a.e2e"), 0, 0);
  EXPECT_EQ(test::open_shard(directory.file("a.e2e"))->n_samples(), 0U);
}

TEST(Shard, CodesFitTheSamplesAfterTheFirstOnes) {
  const test::TemporaryDirectory directory;
  test::write_shard(directory.file("many.e2e"), 0, 600);
  const Bytes bytes = file_bytes(directory.file("many.e2e"));
  EXPECT_EQ(layout::decode_header(ByteView(bytes).first(64)).required_features,
            layout::kFeatureCodes);
  const auto reader = test::open_shard(directory.file("many.e2e"));
  ImageDecoder decoder(reader->schema().shape(), Precision::kFloat32, selected_kernels());
  DecodedImage image;
  Bytes buffer;
  const std::vector<std::uint32_t> wanted{0};
  for (std::uint64_t i = 0; i < 600; ++i) {
    reader->decode(i, reader->read_records(i, i + 1, buffer), wanted, true, decoder, image);
    std::vector<float> got(64, 0.0F);
    ASSERT_FALSE(image.channels[0].dense);
    for (std::uint32_t k = 0; k < image.channels[0].n; ++k) {
      got[image.positions[k]] = std::bit_cast<float>(image.words[k]);
    }
    const std::vector<float> expected = test::small_image(i);
    ASSERT_EQ(got, std::vector<float>(expected.begin(), expected.begin() + 64)) << "sample " << i;
  }
}

// The same file with right checksums, whatever was changed in records and sections.
void reseal(Bytes& bytes, const ShardReader& good) {
  const std::size_t trailer_at = bytes.size() - layout::kTrailerBytes;
  layout::Trailer trailer = layout::decode_trailer(ByteView(bytes).subspan(trailer_at));
  const Sealer sealer(trailer.shard_id);
  for (std::uint64_t i = 0; i < good.n_samples(); ++i) {
    const std::uint64_t begin = good.record_begin(i);
    store(bytes.data() + begin,
          sealer.seal(i, ByteView(bytes).subspan(begin + 4, good.record_end(i) - begin - 4)));
  }
  const auto directory_at = static_cast<std::size_t>(trailer.directory_offset);
  auto directory =
      layout::decode_directory(ByteView(bytes).subspan(directory_at, trailer_at - directory_at));
  for (layout::SectionEntry& entry : directory) {
    entry.crc = sealer.seal(layout::section_seal(entry.kind),
                            ByteView(bytes).subspan(entry.offset_bytes, entry.n_bytes));
  }
  const Bytes directory_bytes = layout::encode(directory);
  trailer.directory_crc = sealer.seal(layout::kDirectorySeal, directory_bytes);
  Bytes tail = directory_bytes;
  append_bytes(tail, layout::encode(trailer));
  std::copy(tail.begin(), tail.end(), bytes.begin() + trailer.directory_offset);
}

TEST(Shard, RefusesOrReadsEveryMutationUnderRightChecksums) {
  const test::TemporaryDirectory directory;
  test::write_shard(directory.file("a.e2e"), 0, 80);
  const Bytes good = file_bytes(directory.file("a.e2e"));
  const auto reader = test::open_shard(directory.file("a.e2e"));
  Bytes resealed = good;
  reseal(resealed, *reader);
  ASSERT_EQ(resealed, good);
  const layout::Trailer trailer =
      layout::decode_trailer(ByteView(good).last(layout::kTrailerBytes));
  const std::uint64_t records_end = trailer.records_end;
  const std::uint64_t n_changeable = trailer.directory_offset - layout::kHeaderBytes;
  std::mt19937 random(11);
  std::size_t n_read = 0;
  for (int repeat = 0; repeat < 1500; ++repeat) {
    Bytes bad = good;
    // Every second one in the sections, which are short.
    const std::uint64_t at = repeat % 2 == 0
                                 ? records_end + random() % (trailer.directory_offset - records_end)
                                 : layout::kHeaderBytes + random() % n_changeable;
    bad[at] = static_cast<std::byte>(random());
    reseal(bad, *reader);
    try {
      read_all(std::move(bad));
      ++n_read;
    } catch (const Error& error) {
      // A record is in its place, a section is what it says: either can be refused.
      EXPECT_TRUE(error.kind() == ErrorKind::kCorrupt || error.kind() == ErrorKind::kDecode)
          << error.what();
    }
  }
  EXPECT_GT(n_read, 0U);
  EXPECT_LT(n_read, 1500U);
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
