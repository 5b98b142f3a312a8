#include "e2eio/format/shard_writer.hpp"

#include <algorithm>
#include <limits>
#include <utility>

#include "e2eio/base/checksum.hpp"
#include "e2eio/io/file_sink.hpp"

namespace e2eio {
namespace {

// Codes are fitted to this many samples, or to fewer if they would take too much memory.
constexpr std::size_t kSamplesForCodes = 256;
constexpr std::size_t kBytesForCodes = std::size_t{64} << 20U;

std::size_t plane_bytes(const EncodedImage& image) {
  std::size_t n_bytes = 0;
  for (const EncodedChannel& channel : image) {
    for (const EncodedPlane& plane : channel.planes) {
      n_bytes += plane.bytes.size();
    }
  }
  return n_bytes;
}

// NaN or infinite.
bool is_nonfinite(std::uint32_t word) noexcept { return (word & 0x7F800000U) == 0x7F800000U; }

std::uint64_t count_nonfinite(const std::vector<ChannelScan>& scan) noexcept {
  std::uint64_t n = 0;
  for (const ChannelScan& channel : scan) {
    n += static_cast<std::uint64_t>(std::ranges::count_if(channel.words, is_nonfinite));
  }
  return n;
}

void remove_nonfinite(std::vector<ChannelScan>& scan) {
  for (ChannelScan& channel : scan) {
    std::size_t kept = 0;
    for (std::size_t i = 0; i < channel.words.size(); ++i) {
      if (!is_nonfinite(channel.words[i])) {
        channel.words[kept] = channel.words[i];
        channel.positions[kept] = channel.positions[i];
        ++kept;
      }
    }
    channel.words.resize(kept);
    channel.positions.resize(kept);
  }
}

}  // namespace

std::string shard_digest(std::uint32_t trailer_crc, const ShardId& shard_id) {
  std::string text = hex32(trailer_crc).substr(2) + "-";
  constexpr std::string_view kDigits = "0123456789abcdef";
  for (const std::byte byte : shard_id) {
    text += kDigits[static_cast<unsigned>(byte) >> 4U];
    text += kDigits[static_cast<unsigned>(byte) & 0xFU];
  }
  return text;
}

ShardWriter::ShardWriter(const std::string& path, Schema schema, const WriterOptions& options)
    : ShardWriter(std::unique_ptr<Sink>(), std::move(schema), options) {
  sink_ = std::make_unique<FileSink>(path, options_.overwrite);
}

ShardWriter::ShardWriter(std::unique_ptr<Sink> sink, Schema schema, const WriterOptions& options)
    : schema_(std::move(schema)),
      options_(options),
      sealer_(options.shard_id),
      packer_(options.compression_level),
      sink_(std::move(sink)),
      scanner_(selected_kernels()) {
  validate(schema_);
  columns_.resize(schema_.scalars.size());
  statistics_.resize(schema_.channels.size());
  for (const ScalarField& field : schema_.scalars) {
    scalar_digests_.emplace_back(field);
  }
}

void ShardWriter::write(ByteView bytes) {
  sink_->write(bytes);
  n_bytes_ += bytes.size();
}

bool ShardWriter::append(const StridedImage& image, std::span<const ByteView> scalars) {
  if (sink_ == nullptr || complete_) {
    throw Error(ErrorKind::kInvalidArgument, "append() after complete(), finish() or abort()");
  }
  const ImageShape shape = schema_.shape();
  const std::uint64_t n_rounded = scanner_.scan(image, shape, scan_);
  if (options_.nonfinite != NonFinite::kKeep) {
    const std::uint64_t n_nonfinite = count_nonfinite(scan_);
    if (n_nonfinite > 0 && options_.nonfinite == NonFinite::kSkip) {
      return false;
    }
    if (n_nonfinite > 0) {
      remove_nonfinite(scan_);
      n_zeroed_ += n_nonfinite;
    }
  }
  n_rounded_ += n_rounded;
  if (schema_.precision == Precision::kFloat16) {
    round_to_float16(scan_);
  }
  EncodedImage encoded = encode_image(scan_, shape, schema_.precision);
  add_statistics(scan_, statistics_);
  std::uint64_t digest = pixels_digest(scan_, shape);
  for (std::size_t s = 0; s < columns_.size(); ++s) {
    append_bytes(columns_[s], scalars[s]);
    digest += scalar_digests_[s](scalars[s].data());
  }
  digests_.push_back(digest);
  if (chosen_) {
    write_record(encoded);
    return true;
  }
  held_bytes_ += plane_bytes(encoded);
  held_.push_back(std::move(encoded));
  if (held_.size() >= kSamplesForCodes || held_bytes_ >= kBytesForCodes) {
    write_held();
  }
  return true;
}

void ShardWriter::write_held() {
  chosen_ = true;
  book_ = fit_code_book(held_, static_cast<std::uint32_t>(schema_.channels.size()));
  layout::Header header{.required_features = layout::kFeatureCodes,
                        .optional_features = 0,
                        .shard_id = options_.shard_id};
  if (schema_.precision == Precision::kFloat16) {
    header.required_features |= layout::kFeatureFloat16;
  }
  write(layout::encode(header));
  for (const EncodedImage& image : std::exchange(held_, {})) {
    write_record(image);
  }
}

void ShardWriter::write_record(const EncodedImage& image) {
  const Bytes payload = packer_.pack(image, book_);
  Bytes record;
  e2eio::append(record, sealer_.seal(sizes_.size(), payload));
  append_bytes(record, payload);
  if (record.size() > std::numeric_limits<std::uint32_t>::max()) {
    throw Error(ErrorKind::kInvalidArgument, "a record of more than 2^32 - 1 bytes");
  }
  write(record);
  sizes_.push_back(static_cast<std::uint32_t>(record.size()));
}

void ShardWriter::write_sections() {
  std::vector<layout::SectionEntry> directory;
  const auto put_section = [&](std::uint32_t kind, ByteView bytes) {
    directory.push_back({.kind = kind,
                         .crc = sealer_.seal(layout::section_seal(kind), bytes),
                         .offset_bytes = n_bytes_,
                         .n_bytes = bytes.size()});
    write(bytes);
  };
  layout::Trailer trailer{
      .records_end = n_bytes_, .n_samples = sizes_.size(), .shard_id = options_.shard_id};
  put_section(layout::kSchemaKind, encode_schema(schema_));
  put_section(layout::kSizesKind, std::as_bytes(std::span(sizes_)));
  put_section(layout::kCodesKind, book_.section());
  for (std::size_t s = 0; s < columns_.size(); ++s) {
    put_section(layout::kFirstColumnKind + static_cast<std::uint32_t>(s), columns_[s]);
  }
  const Bytes directory_bytes = layout::encode(directory);
  trailer.directory_offset = n_bytes_;
  trailer.n_sections = static_cast<std::uint32_t>(directory.size());
  trailer.directory_crc = sealer_.seal(layout::kDirectorySeal, directory_bytes);
  trailer.file_size = n_bytes_ + directory_bytes.size() + layout::kTrailerBytes;
  write(directory_bytes);
  const Bytes trailer_bytes = layout::encode(trailer);
  trailer_crc_ = layout::trailer_crc(trailer_bytes);
  write(trailer_bytes);
}

const std::string& ShardWriter::complete() {
  if (sink_ == nullptr) {
    throw Error(ErrorKind::kInvalidArgument, "complete() or finish() after finish() or abort()");
  }
  if (complete_) {
    return sink_->temporary_path();
  }
  try {
    if (!chosen_) {
      write_held();
    }
    write_sections();
    sink_->flush();
  } catch (...) {
    abort();
    throw;
  }
  complete_ = true;
  return sink_->temporary_path();
}

void ShardWriter::finish() {
  (void)complete();
  try {
    sink_->commit();
  } catch (...) {
    abort();
    throw;
  }
  sink_.reset();
}

void ShardWriter::abort() noexcept { sink_.reset(); }

std::string ShardWriter::digest() const { return shard_digest(trailer_crc_, options_.shard_id); }

}  // namespace e2eio
