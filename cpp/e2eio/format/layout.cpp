#include "e2eio/format/layout.hpp"

#include <algorithm>

#include "e2eio/base/checksum.hpp"

namespace e2eio {
namespace layout {
namespace {

// PNG's trick: a text-mode transfer, a cut at 7 bits or an end-of-line conversion breaks it.
constexpr std::string_view kMagic(
    "\x89"
    "E2E\r\n\x1a\n",
    8);
constexpr std::string_view kEndMagic("E2E\n", 4);
constexpr std::size_t kHeaderReserved = 12;
constexpr std::size_t kChecksumAtHeader = 60;
constexpr std::size_t kChecksumAtTrailer = 56;

void append_id(Bytes& to, const ShardId& id) { append_bytes(to, ByteView(id)); }

ShardId take_id(ByteCursor& cursor) {
  ShardId id{};
  const ByteView bytes = cursor.take_bytes(id.size());
  std::copy(bytes.begin(), bytes.end(), id.begin());
  return id;
}

void require_equal(std::uint32_t got, std::uint32_t expected, const char* part) {
  if (got != expected) {
    throw Error(ErrorKind::kCorrupt,
                cat(part, ": crc32c ", hex32(got), ", expected ", hex32(expected)));
  }
}

bool starts_with(ByteView bytes, std::string_view text) {
  const ByteView expected = as_bytes(text);
  return bytes.size() >= expected.size() &&
         std::equal(expected.begin(), expected.end(), bytes.begin());
}

}  // namespace

Bytes encode(const Header& header) {
  Bytes bytes;
  append_bytes(bytes, as_bytes(kMagic));
  append<std::uint16_t>(bytes, kVersion);
  append<std::uint16_t>(bytes, kHeaderBytes);
  append<std::uint32_t>(bytes, 0);
  append(bytes, header.required_features);
  append(bytes, header.optional_features);
  append_id(bytes, header.shard_id);
  bytes.resize(bytes.size() + kHeaderReserved);
  append(bytes, crc32c(bytes));
  return bytes;
}

Header decode_header(ByteView bytes) {
  if (!starts_with(bytes, kMagic)) {
    throw Error(ErrorKind::kCorrupt, "header: does not begin like an e2eio shard");
  }
  require_equal(crc32c(bytes.first(kChecksumAtHeader)),
                load<std::uint32_t>(bytes.data() + kChecksumAtHeader), "header");
  ByteCursor cursor(bytes);
  (void)cursor.take_bytes(kMagic.size());
  const auto version = cursor.take<std::uint16_t>();
  if (version != kVersion) {
    throw Error(ErrorKind::kUnsupported,
                cat("format version ", version, ", this build reads version ", kVersion,
                    "; install a newer e2eio"));
  }
  const auto header_bytes = cursor.take<std::uint16_t>();
  const auto reserved = cursor.take<std::uint32_t>();
  Header header;
  header.required_features = cursor.take<std::uint64_t>();
  header.optional_features = cursor.take<std::uint64_t>();
  header.shard_id = take_id(cursor);
  const ByteView rest = cursor.take_bytes(kHeaderReserved);
  if ((header.required_features & ~kKnownFeatures) != 0) {
    throw Error(ErrorKind::kUnsupported,
                cat("required features ", header.required_features, ", this build knows ",
                    kKnownFeatures, "; install a newer e2eio"));
  }
  const bool zero =
      std::all_of(rest.begin(), rest.end(), [](std::byte b) { return b == std::byte{0}; });
  if (header_bytes != kHeaderBytes || reserved != 0 || !zero) {
    throw Error(ErrorKind::kCorrupt, "header: reserved bytes are not zero");
  }
  return header;
}

Bytes encode(const Trailer& trailer) {
  Bytes bytes;
  append(bytes, trailer.records_end);
  append(bytes, trailer.directory_offset);
  append(bytes, trailer.n_samples);
  append(bytes, trailer.file_size);
  append_id(bytes, trailer.shard_id);
  append(bytes, trailer.n_sections);
  append(bytes, trailer.directory_crc);
  append(bytes, crc32c(bytes));
  append_bytes(bytes, as_bytes(kEndMagic));
  return bytes;
}

std::uint32_t trailer_crc(ByteView trailer) {
  return load<std::uint32_t>(trailer.data() + kChecksumAtTrailer);
}

Trailer decode_trailer(ByteView bytes) {
  if (!starts_with(bytes.subspan(kTrailerBytes - kEndMagic.size()), kEndMagic)) {
    throw Error(ErrorKind::kCorrupt,
                "trailer: the file does not end like an e2eio shard; it is truncated, or longer "
                "than it was written");
  }
  require_equal(crc32c(bytes.first(kChecksumAtTrailer)), trailer_crc(bytes), "trailer");
  ByteCursor cursor(bytes);
  Trailer trailer;
  trailer.records_end = cursor.take<std::uint64_t>();
  trailer.directory_offset = cursor.take<std::uint64_t>();
  trailer.n_samples = cursor.take<std::uint64_t>();
  trailer.file_size = cursor.take<std::uint64_t>();
  trailer.shard_id = take_id(cursor);
  trailer.n_sections = cursor.take<std::uint32_t>();
  trailer.directory_crc = cursor.take<std::uint32_t>();
  return trailer;
}

Bytes encode(const std::vector<SectionEntry>& directory) {
  Bytes bytes;
  for (const SectionEntry& entry : directory) {
    append(bytes, entry.kind);
    append(bytes, entry.crc);
    append(bytes, entry.offset_bytes);
    append(bytes, entry.n_bytes);
  }
  return bytes;
}

std::vector<SectionEntry> decode_directory(ByteView bytes) {
  std::vector<SectionEntry> directory(bytes.size() / kEntryBytes);
  ByteCursor cursor(bytes);
  for (SectionEntry& entry : directory) {
    entry.kind = cursor.take<std::uint32_t>();
    entry.crc = cursor.take<std::uint32_t>();
    entry.offset_bytes = cursor.take<std::uint64_t>();
    entry.n_bytes = cursor.take<std::uint64_t>();
  }
  return directory;
}

}  // namespace layout

Sealer::Sealer(const ShardId& shard_id) : shard_crc_(crc32c(ByteView(shard_id))) {}

std::uint32_t Sealer::start(std::uint64_t number) const noexcept {
  std::array<std::byte, sizeof(number)> encoded{};
  store(encoded.data(), number);
  return crc32c(ByteView(encoded), shard_crc_);
}

std::uint32_t Sealer::seal(std::uint64_t number, ByteView bytes) const noexcept {
  return crc32c(bytes, start(number));
}

}  // namespace e2eio
