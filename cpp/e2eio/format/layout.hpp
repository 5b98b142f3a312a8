// The bytes of a shard around its records (docs/format.md section 2), and only here.
//
//   header 64 | records | sections | directory 24 per section | trailer 64
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "e2eio/base/bytes.hpp"

namespace e2eio {

using ShardId = std::array<std::byte, 16>;

namespace layout {

inline constexpr std::uint16_t kVersion = 1;
inline constexpr std::size_t kHeaderBytes = 64;
inline constexpr std::size_t kTrailerBytes = 64;
inline constexpr std::size_t kEntryBytes = 24;
inline constexpr std::size_t kMaxSections = 65536;
inline constexpr std::size_t kMaxSchemaBytes = std::size_t{16} << 20U;
inline constexpr std::size_t kRecordCrcBytes = 4;

inline constexpr std::uint64_t kFeatureCodes = 1;
inline constexpr std::uint64_t kFeatureFloat16 = 2;
inline constexpr std::uint64_t kKnownFeatures = kFeatureCodes | kFeatureFloat16;

inline constexpr std::uint32_t kSchemaKind = 1;
inline constexpr std::uint32_t kSizesKind = 2;
inline constexpr std::uint32_t kCodesKind = 3;
inline constexpr std::uint32_t kFirstColumnKind = 0x100;

// Seal numbers of what is not a record.
inline constexpr std::uint64_t kDirectorySeal = std::uint64_t{1} << 63U;
[[nodiscard]] constexpr std::uint64_t section_seal(std::uint32_t kind) noexcept {
  return kDirectorySeal + kind;
}

struct Header {
  std::uint64_t required_features = 0;
  std::uint64_t optional_features = 0;
  ShardId shard_id{};
};

struct SectionEntry {
  std::uint32_t kind = 0;
  std::uint32_t crc = 0;
  std::uint64_t offset_bytes = 0;
  std::uint64_t n_bytes = 0;
};

struct Trailer {
  std::uint64_t records_end = 0;
  std::uint64_t directory_offset = 0;
  std::uint64_t n_samples = 0;
  std::uint64_t file_size = 0;
  ShardId shard_id{};
  std::uint32_t n_sections = 0;
  std::uint32_t directory_crc = 0;
};

[[nodiscard]] Bytes encode(const Header& header);
[[nodiscard]] Bytes encode(const Trailer& trailer);
[[nodiscard]] Bytes encode(const std::vector<SectionEntry>& directory);

// Throw: Error(kCorrupt) or Error(kUnsupported) without a place.
[[nodiscard]] Header decode_header(ByteView bytes);
[[nodiscard]] Trailer decode_trailer(ByteView bytes);
[[nodiscard]] std::vector<SectionEntry> decode_directory(ByteView bytes);

// The trailer's checksum: what tells this shard from others in digests.
[[nodiscard]] std::uint32_t trailer_crc(ByteView trailer);

}  // namespace layout

// seal(n, x) of docs/format.md section 1. Thread rule: immutable; any thread.
class Sealer {
 public:
  explicit Sealer(const ShardId& shard_id);
  [[nodiscard]] std::uint32_t seal(std::uint64_t number, ByteView bytes) const noexcept;

  // For bytes that come in pieces: start(n), then crc32c(piece, value) of each.
  [[nodiscard]] std::uint32_t start(std::uint64_t number) const noexcept;

 private:
  std::uint32_t shard_crc_;
};

}  // namespace e2eio
