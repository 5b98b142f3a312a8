// Reads one shard.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "e2eio/codec/image_decoder.hpp"
#include "e2eio/format/layout.hpp"
#include "e2eio/format/schema.hpp"
#include "e2eio/io/source.hpp"

namespace e2eio {

// Opening reads and verifies header, trailer, directory, schema, record sizes and codes;
// columns and records are verified when they are read. Thread rule: immutable after construction;
// any thread.
class ShardReader {
 public:
  // Throws: Error(kCorrupt), Error(kUnsupported), Error(kIo), each with its place.
  explicit ShardReader(std::unique_ptr<Source> source);

  [[nodiscard]] const std::string& path() const noexcept { return source_->path(); }
  [[nodiscard]] const Schema& schema() const noexcept { return schema_; }
  [[nodiscard]] std::uint64_t n_samples() const noexcept { return n_samples_; }
  [[nodiscard]] std::uint64_t n_bytes() const noexcept { return source_->n_bytes(); }
  [[nodiscard]] const std::string& digest() const noexcept { return digest_; }

  // Bytes [begin, end) of the file that record `sample` takes. Requires: sample < n_samples().
  [[nodiscard]] std::uint64_t record_begin(std::uint64_t sample) const noexcept {
    return offsets_[sample];
  }
  [[nodiscard]] std::uint64_t record_end(std::uint64_t sample) const noexcept {
    return offsets_[sample + 1];
  }

  // What the shard is read from.
  [[nodiscard]] const Source& source() const noexcept { return *source_; }

  // Reads records [first, last) into `buffer` in one go; returns a view of the bytes.
  [[nodiscard]] ByteView read_records(std::uint64_t first, std::uint64_t last, Bytes& buffer) const;

  // Verifies (unless told not to) and decodes one record.
  // Throws: Error(kCorrupt) with path, sample and offset.
  void decode(std::uint64_t sample, ByteView record, std::span<const std::uint32_t> wanted,
              bool verify, ImageDecoder& decoder, DecodedImage& image) const;

  // A scalar column, n_samples values of its dtype. Requires: index < schema().scalars.size().
  [[nodiscard]] Bytes column(std::size_t index) const;

  // Reads, verifies and decodes records [begin, end). Throws at the first bad one.
  void check(std::uint64_t begin, std::uint64_t end) const;

  // The same, and what they hold, one number per sample: format/content.hpp.
  [[nodiscard]] std::vector<std::uint64_t> sample_digests(std::uint64_t begin,
                                                          std::uint64_t end) const;

 private:
  template <typename Use>
  void decode_all(std::uint64_t begin, std::uint64_t end, Use use) const;
  void open();
  void read_frame();
  void require_tiling(const layout::Trailer& trailer) const;
  void read_sizes(const layout::Trailer& trailer);
  void require_crc(const layout::SectionEntry& entry, std::uint32_t crc) const;
  [[nodiscard]] Bytes read_bytes(std::uint64_t offset_bytes, std::uint64_t n_bytes) const;
  [[nodiscard]] bool is_whole(std::uint64_t sample, ByteView record) const;
  [[nodiscard]] const layout::SectionEntry* find(std::uint32_t kind) const noexcept;
  [[nodiscard]] Bytes section(std::uint32_t kind, std::uint64_t max_bytes) const;
  [[noreturn]] void refuse(const Error& error, std::uint64_t offset_bytes) const;

  std::unique_ptr<Source> source_;
  layout::Header header_;
  std::string digest_;
  std::vector<layout::SectionEntry> directory_;
  Schema schema_;
  std::uint64_t n_samples_ = 0;
  std::unique_ptr<std::uint64_t[]> offsets_;  // n_samples + 1
  std::optional<CodeBook> book_;
  Sealer sealer_{ShardId{}};
};

}  // namespace e2eio
