// Writes one shard.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "e2eio/codec/image_encoder.hpp"
#include "e2eio/codec/record_packer.hpp"
#include "e2eio/format/content.hpp"
#include "e2eio/format/layout.hpp"
#include "e2eio/format/schema.hpp"
#include "e2eio/format/statistics.hpp"
#include "e2eio/io/sink.hpp"

namespace e2eio {

// What is done with NaN and infinite pixels: kept bit for bit, made +0.0, or the sample left out.
enum class NonFinite : std::uint8_t { kKeep, kZero, kSkip };

struct WriterOptions {
  ShardId shard_id{};
  int compression_level = 3;  // zstd, 1 to 19
  bool overwrite = false;
  NonFinite nonfinite = NonFinite::kKeep;
};

// The first samples are held back: the codes of the shard are fitted to them.
// Thread rule: one thread at a time. Destroyed without finish(): nothing is left behind.
class ShardWriter {
 public:
  // Throws: Error(kInvalidArgument) for a bad schema or option, Error(kIo).
  ShardWriter(const std::string& path, Schema schema, const WriterOptions& options);
  // Into any sink; `options.overwrite` is the sink's concern.
  ShardWriter(std::unique_ptr<Sink> sink, Schema schema, const WriterOptions& options);

  // Adds one sample, or returns false: it was left out. `scalars` has, per scalar field, one value
  // of the field's dtype. Throws: Error(kInvalidArgument), Error(kIo).
  bool append(const StridedImage& image, std::span<const ByteView> scalars);

  // Writes the footer: the shard can be read at the path that is returned, until finish() gives it
  // its name. Throws: Error(kIo), then nothing is left.
  const std::string& complete();

  // complete(), syncs, and gives the file its name. Throws: Error(kIo), then nothing is left.
  void finish();

  // Removes what was written; idempotent.
  void abort() noexcept;

  [[nodiscard]] const Schema& schema() const noexcept { return schema_; }
  [[nodiscard]] std::uint64_t n_samples() const noexcept { return sizes_.size() + held_.size(); }
  [[nodiscard]] std::uint64_t n_bytes() const noexcept { return n_bytes_; }
  [[nodiscard]] std::uint64_t n_rounded() const noexcept { return n_rounded_; }
  // Pixels that NonFinite::kZero has changed.
  [[nodiscard]] std::uint64_t n_zeroed() const noexcept { return n_zeroed_; }
  // Of what was given, one per sample: format/content.hpp.
  [[nodiscard]] const std::vector<std::uint64_t>& sample_digests() const noexcept {
    return digests_;
  }
  [[nodiscard]] const std::vector<ChannelStatistics>& statistics() const noexcept {
    return statistics_;
  }
  // As in dataset.json. Requires: complete() or finish() was called.
  [[nodiscard]] std::string digest() const;

 private:
  void write_held();
  void write_record(const EncodedImage& image);
  void write(ByteView bytes);
  void write_sections();

  Schema schema_;
  WriterOptions options_;
  Sealer sealer_;
  RecordPacker packer_;
  std::unique_ptr<Sink> sink_;
  bool chosen_ = false;
  bool complete_ = false;
  CodeBook book_;
  std::vector<EncodedImage> held_;
  std::size_t held_bytes_ = 0;
  ImageScanner scanner_;
  std::vector<ChannelScan> scan_;
  std::vector<std::uint32_t> sizes_;
  std::vector<Bytes> columns_;
  std::vector<ChannelStatistics> statistics_;
  std::vector<ScalarDigest> scalar_digests_;
  std::vector<std::uint64_t> digests_;
  std::uint64_t n_rounded_ = 0;
  std::uint64_t n_zeroed_ = 0;
  std::uint64_t n_bytes_ = 0;
  std::uint32_t trailer_crc_ = 0;
};

// "<crc of the trailer>-<shard id>", in hex: tells one shard from any other.
[[nodiscard]] std::string shard_digest(std::uint32_t trailer_crc, const ShardId& shard_id);

}  // namespace e2eio
